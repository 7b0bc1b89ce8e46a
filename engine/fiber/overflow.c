/*
 * overflow.c - the handler of SIGSEGV, and of the other signals that a fault raises.
 *
 * Everything that the handler does is async-signal-safe: it reads the stacks' records, which are
 * made for that, and calls write and abort. Where the program has a handler of its own for one of
 * the others when the first server starts, that signal is left alone.
 */
#include "engine/fiber/overflow.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "engine/base/misuse.h"
#include "engine/fiber/crash.h"
#include "engine/fiber/fiber.h"
#include "engine/fiber/last_words.h"
#include "engine/fiber/stack.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;    /* held across fork */
static unsigned users;                  /* under lock */

/* One of the signals that end a handler that is at fault. */
static struct link {
    int signal_number;
    bool in_chain;                      /* under lock: a signal may reach our handler */
    struct sigaction previous;          /* written while none can */
} links[] = {
    { .signal_number = SIGSEGV }, { .signal_number = SIGBUS }, { .signal_number = SIGILL },
    { .signal_number = SIGFPE }, { .signal_number = SIGABRT },
};

#define LINKS (sizeof(links) / sizeof(links[0]))

/* ------------------------------------------------------------------ the message ------- */

static _Noreturn void die_of_overflow(const struct fiber *fiber, size_t stack_size)
{
    struct last_words line = { .len = 0 };

    last_words_text(&line, "weir: stack overflow in handler '");
    last_words_label(&line, fiber_label(fiber));
    last_words_text(&line, "': ");
    last_words_number(&line, stack_size);
    last_words_text(&line, " bytes are not enough; raise stack_size\n");
    (void)!last_words_say(&line);
    misuse_note_told();
    abort();
}

/* ------------------------------------------------------------------ the chain --------- */

/* What the kernel would do if our handler weren't there. */
static void default_action(int signal_number, const siginfo_t *info, const struct link *link,
                           void *context)
{
    const struct sigaction fatal = { .sa_handler = SIG_DFL };
    bool sent = info->si_code <= 0;     /* by kill(2) or the like; no instruction faulted */
    if (sent && link->previous.sa_handler == SIG_IGN)
        return;
    if (!misuse_is_told())
        crash_tell(signal_number, info, context);
    sigaction(signal_number, &fatal, NULL);
    if (sent)
        raise(signal_number);           /* comes when the handler returns */
    /* A fault needs nothing more: the instruction is tried again, and faults for good. */
}

static void pass_on(int signal_number, siginfo_t *info, void *context)
{
    const struct sigaction fatal = { .sa_handler = SIG_DFL };
    const struct link *link = links;

    while (link->signal_number != signal_number)
        link++;
    if (link->previous.sa_flags & SA_RESETHAND)
        sigaction(signal_number, &fatal, NULL);
    if (link->previous.sa_handler == SIG_DFL || link->previous.sa_handler == SIG_IGN)
        default_action(signal_number, info, link, context);
    else if (link->previous.sa_flags & SA_SIGINFO)
        link->previous.sa_sigaction(signal_number, info, context);
    else
        link->previous.sa_handler(signal_number);
}

/*
 * The stack whose guard the thread has met with, if it is the thread's own: a wild pointer may lead
 * into any. NULL: it is not, or the address is another one.
 */
static void *overflowed_stack(const siginfo_t *info, const void *context, size_t *ret_size)
{
    const void *stack_pointer = crash_stack_pointer(context);
    void *top = stack_guarded_by(info->si_addr, ret_size);
    size_t size;

    if (!top || !stack_pointer)
        return top;
    /* It may have moved into the guard already. */
    if (stack_holding(stack_pointer, &size) == top || stack_guarded_by(stack_pointer, &size) == top)
        return top;
    return NULL;
}

static void on_fault(int signal_number, siginfo_t *info, void *context)
{
    size_t stack_size;
    void *top;

    crash_go_on(signal_number);
    if (signal_number == SIGSEGV && info->si_code > 0) {
        top = overflowed_stack(info, context, &stack_size);
        if (top)
            die_of_overflow(fiber_on_stack(top), stack_size);
    }
    pass_on(signal_number, info, context);
}

/* What the handler that we pass a fault on to expects: SA_NODEFER of one that may leave by jump. */
#define FLAGS_OF_PREVIOUS (SA_NODEFER | SA_RESTART)

static int install_locked(struct link *link)
{
    struct sigaction ours = { .sa_flags = SA_SIGINFO | SA_ONSTACK };

    if (link->in_chain)
        return 0;
    if (sigaction(link->signal_number, NULL, &link->previous) < 0)
        return -errno;
    if (link->previous.sa_handler != SIG_DFL && link->signal_number != SIGSEGV)
        return 0;       /* the program's own business: we have nothing to say */
    ours.sa_sigaction = on_fault;
    ours.sa_mask = link->previous.sa_mask;
    ours.sa_flags |= link->previous.sa_flags & FLAGS_OF_PREVIOUS;
    if (sigaction(link->signal_number, &ours, NULL) < 0)
        return -errno;
    link->in_chain = true;
    return 0;
}

static void uninstall_locked(struct link *link)
{
    struct sigaction now;

    if (!link->in_chain || sigaction(link->signal_number, NULL, &now) < 0)
        return;
    if (!(now.sa_flags & SA_SIGINFO) || now.sa_sigaction != on_fault)
        return;     /* somebody put theirs on top, and may pass on to us */
    if (sigaction(link->signal_number, &link->previous, NULL) == 0)
        link->in_chain = false;
}

static void uninstall_all_locked(void)
{
    for (size_t i = 0; i < LINKS; i++)
        uninstall_locked(&links[i]);
}

static int install_all_locked(void)
{
    for (size_t i = 0; i < LINKS; i++) {
        int r = install_locked(&links[i]);

        if (r < 0)
            return r;
    }
    return 0;
}

int overflow_install(void)
{
    int r;

    pthread_mutex_lock(&lock);
    r = install_all_locked();
    if (r == 0)
        users++;
    else if (users == 0)
        uninstall_all_locked();
    pthread_mutex_unlock(&lock);
    return r;
}

void overflow_uninstall(void)
{
    pthread_mutex_lock(&lock);
    assert(users > 0);
    if (--users == 0)
        uninstall_all_locked();
    pthread_mutex_unlock(&lock);
}

void overflow_before_fork(void)
{
    pthread_mutex_lock(&lock);
}

void overflow_after_fork(void)
{
    pthread_mutex_unlock(&lock);
}

/* ------------------------------------------------------------------ threads ----------- */

/* Room for the handlers that we pass on to, and for what a sanitizer adds to each frame. */
#define HANDLER_STACK_SIZE ((size_t)64 << 10)

int overflow_stack_map(struct overflow_stack *stack)
{
    void *base = mmap(NULL, HANDLER_STACK_SIZE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

    if (base == MAP_FAILED)
        return -ENOMEM;
    *stack = (struct overflow_stack){ .base = base };
    return 0;
}

void overflow_stack_unmap(struct overflow_stack *stack)
{
    munmap(stack->base, HANDLER_STACK_SIZE);
}

void overflow_thread_init(struct overflow_stack *stack)
{
    const stack_t ours = { .ss_sp = stack->base, .ss_size = HANDLER_STACK_SIZE };

    /*
     * Refused by a sandbox, or if it were too small for the CPU's registers: a handler whose stack
     * is too small then ends the process without a word.
     */
    stack->used = sigaltstack(&ours, &stack->before) == 0;
}

void overflow_thread_fini(struct overflow_stack *stack)
{
    if (stack->used)
        sigaltstack(&stack->before, NULL);
}
