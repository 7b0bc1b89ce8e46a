#include "tests/simulation/report.h"

#include "tests/simulation/trace.h"

#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

int __real_sigaction(int number, const struct sigaction *action, struct sigaction *ret);
int __real_sigaltstack(const stack_t *stack, stack_t *ret);

/* Where the linker has put the program's first byte. */
extern const char __executable_start[];

static char crash_stack[64 << 10];

static struct {
    unsigned events;
    char *why;
    size_t why_size;
} report;

void report_prepare(unsigned events, char *why, size_t why_size)
{
    report.events = events;
    report.why = why;
    report.why_size = why_size;
}

static uintptr_t place_of(const void *context)
{
    const mcontext_t *machine = &((const ucontext_t *)context)->uc_mcontext;
#if defined(__x86_64__)
    uintptr_t at = (uintptr_t)machine->gregs[REG_RIP];
#else
    uintptr_t at = (uintptr_t)machine->pc;
#endif

    return at - (uintptr_t)__executable_start;
}

/* A crash inside of the printing itself is one that the parent tells of: see SA_RESETHAND. */
static void tell_crash(int number, siginfo_t *info, void *context)
{
    (void)info;
    report_failure("%s at place 0x%lx", strsignal(number), (unsigned long)place_of(context));
}

void report_crashes(void)
{
    static const int numbers[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
    const struct sigaction action = {
        .sa_sigaction = tell_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND,
    };

    __real_sigaltstack(&(const stack_t){
        .ss_sp = crash_stack, .ss_size = sizeof(crash_stack),
    }, NULL);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        __real_sigaction(numbers[i], &action, NULL);
}

void report_failure(const char *format, ...)
{
    va_list args;

    if (report.events > 0)
        trace_print(stdout, report.events);
    va_start(args, format);
    vsnprintf(report.why, report.why_size, format, args);
    va_end(args);
    fflush(stdout);
    _exit(REPORT_STATUS);
}
