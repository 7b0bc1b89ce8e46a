/*
 * trace.c - the one question that is open, of all servers: whom it is put to, and its state.
 *
 *   state     leaves by
 *   FREE      trace_ask       -> ASKED      the watching thread, which sends the signal
 *   ASKED     on_signal       -> ANSWERING  the thread that was asked
 *             trace_forget    -> FREE       the watching thread
 *   ANSWERING on_signal       -> ANSWERED   the thread that was asked
 *             trace_forget    -> FORGOTTEN  the watching thread
 *   ANSWERED  trace_take      -> FREE       the watching thread; so does trace_forget
 *   FORGOTTEN on_signal       -> FREE       the thread that was asked
 *
 * Both are in one word, which each step exchanges as a whole. For a signal may come late, when its
 * question has been forgotten and another thread is asked: if the thread that it comes to compared
 * the state alone, it would answer in the other one's stead.
 */
#include "engine/fiber/trace.h"

#include "engine/fiber/last_words.h"
#include "engine/fiber/stack.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ASK_BY SIGURG

/* Of a stack, read for return addresses: what a handler's own calls take, and no more. */
#define SCAN_MAX ((size_t)16 << 10)

enum state { FREE, ASKED, ANSWERING, ANSWERED, FORGOTTEN };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;    /* held across fork */
static unsigned users;                  /* under lock */
static bool is_installed;               /* under lock */
static struct sigaction previous;       /* under lock */

static _Atomic uint64_t question;       /* a question_to(); 0: FREE */
static struct trace answer;             /* the asked thread's while ANSWERING */

/* ------------------------------------------------------------------ asking ------------ */

#define STATE_BITS 3

static uint64_t question_to(pid_t tid, enum state state)
{
    return (uint64_t)tid << STATE_BITS | state;
}

/* The question to this thread, if it is in this state, is in another one from now on. */
static bool pass(pid_t tid, enum state from, enum state to)
{
    uint64_t expected = question_to(tid, from);
    uint64_t desired = to == FREE ? 0 : question_to(tid, to);

    /* acq_rel: the answer, from who writes it to who reads it. pairs: itself */
    return atomic_compare_exchange_strong_explicit(&question, &expected, desired,
                                                   memory_order_acq_rel, memory_order_relaxed);
}

static void on_signal(int signal_number, siginfo_t *info, void *context)
{
    int error = errno;
    pid_t tid = gettid();

    (void)signal_number;
    (void)info;
    if (pass(tid, ASKED, ANSWERING)) {
        answer.call = -1;
        crash_scene_here(context, &answer.scene);
        answer.len = crash_frames_here(context, answer.frames, TRACE_FRAMES);
        if (!pass(tid, ANSWERING, ANSWERED))
            pass(tid, FORGOTTEN, FREE);
    }
    errno = error;
}

static bool is_ours(void)
{
    struct sigaction now;

    return sigaction(ASK_BY, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) &&
           now.sa_sigaction == on_signal;
}

/* Returns true if there is no other question. */
static bool ask(pid_t tid)
{
    uint64_t none = 0;

    /* acq_rel: what was answered last has been read. pairs: pass() */
    return atomic_compare_exchange_strong_explicit(&question, &none, question_to(tid, ASKED),
                                                   memory_order_acq_rel, memory_order_relaxed);
}

bool trace_ask(pid_t tid)
{
    /* One server's watching thread at a time: another's may have asked first. */
    if (!is_ours() || !ask(tid))
        return false;
    if (syscall(SYS_tgkill, getpid(), tid, ASK_BY) == 0)
        return true;
    trace_forget();
    return false;
}

/* The question is the caller's own: whom it is put to does not change. */
static pid_t asked_tid(void)
{
    /* relaxed: the caller has written it. pairs: ask() */
    return (pid_t)(atomic_load_explicit(&question, memory_order_relaxed) >> STATE_BITS);
}

bool trace_take(struct trace *trace)
{
    pid_t tid = asked_tid();

    /* acquire: the answer. pairs: pass() */
    if (atomic_load_explicit(&question, memory_order_acquire) != question_to(tid, ANSWERED))
        return false;
    *trace = answer;
    pass(tid, ANSWERED, FREE);
    return true;
}

void trace_forget(void)
{
    pid_t tid = asked_tid();

    if (!pass(tid, ASKED, FREE) && !pass(tid, ANSWERING, FORGOTTEN))
        pass(tid, ANSWERED, FREE);
}

/* ------------------------------------------------------------------ looking ----------- */

bool trace_look(pid_t tid, struct trace *trace)
{
    char path[64];
    char text[256] = "";
    const char *stack_pointer;
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", (int)tid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return false;
    *trace = (struct trace){ .call = strncmp(text, "running", 7) == 0 ? -1
                                                                      : strtol(text, NULL, 10) };
    /* "NUMBER ARGUMENT... STACK_POINTER INSTRUCTION" */
    stack_pointer = strrchr(text, ' ');
    while (stack_pointer && stack_pointer > text && *--(stack_pointer) != ' ')
        ;
    if (stack_pointer)
        trace->stack_pointer = strtoul(stack_pointer, NULL, 16);
    return true;
}

/*
 * Returns true if the instruction before this address is a call. Where nobody knows, never. Some
 * linkers put constants beside code, between which AddressSanitizer wants nobody to read.
 */
static __attribute__((no_sanitize("address"), noinline)) bool follows_call(uintptr_t address)
{
    const unsigned char *code = (const unsigned char *)address;

    if (!crash_is_code(address - 8) || !crash_is_code(address - 1))
        return false;
#if !defined(DLFO_STRUCT_HAS_EH_DBASE)
    (void)code;
    return false;
#elif defined(__x86_64__)
    /* To a place that it names; by a register or by memory, with as many bytes of address. */
    if (code[-5] == 0xe8)
        return true;
    for (int i = 2; i <= 7; i++)
        if (code[-i] == 0xff && (code[1 - i] & 0x38) == 0x10)
            return true;
    return false;
#elif defined(__aarch64__)
    uint32_t instruction = *(const uint32_t *)(code - 4);

    return (instruction & 0xfc000000) == 0x94000000 || (instruction & 0xfffffc1f) == 0xd63f0000;
#else
    (void)code;
    return false;
#endif
}

/*
 * Copies what lies on the stack of another thread, which may be going on just now, and returns how
 * many bytes. The kernel reads it: a handler may have changed to a stack of its own, of which
 * nobody here knows where it ends, and what is unmapped there must not end the process.
 */
static size_t copy_stack(uintptr_t at, void *buf, size_t size)
{
    int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return 0;
    /* And not pread(2), which a server in its sandbox has no other use for. */
    n = lseek(fd, (off_t)at, SEEK_SET) < 0 ? -1 : read(fd, buf, size);
    close(fd);
    return n > 0 ? (size_t)n : 0;
}

void trace_scan(struct trace *trace, const void *base)
{
    uintptr_t words[SCAN_MAX / sizeof(uintptr_t)];
    uintptr_t at = trace->stack_pointer & -sizeof(uintptr_t);
    size_t size;
    uintptr_t end = (uintptr_t)stack_holding((const void *)at, &size);

    if (end == 0)
        end = (uintptr_t)base;
    if (at == 0 || at >= end)
        return;
    size = copy_stack(at, words, end - at < SCAN_MAX ? end - at : SCAN_MAX);
    for (size_t i = 0; i < size / sizeof(words[0]) && trace->len < TRACE_FRAMES; i++)
        if (words[i] > 8 && follows_call(words[i]))
            trace->frames[trace->len++] = words[i] - 1;
}

unsigned trace_text(const struct trace *trace, unsigned i, char *buf, size_t size)
{
    size_t len = 0;

    buf[0] = '\0';
    for (; i < trace->len; i++) {
        struct last_words place = { .len = 0 };

        crash_put_place(&place, trace->frames[i]);
        if (len + place.len + 1 > size)
            break;
        memcpy(buf + len, place.text, place.len);
        len += place.len;
        buf[len] = '\0';
    }
    return i;
}

/* ------------------------------------------------------------------ begin and end ----- */

/* SA_RESTART: a call that was begun after the look goes on, if it is one that can. */
static int begin_locked(void)
{
    const struct sigaction ours = { .sa_sigaction = on_signal,
                                    .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };

    if (sigaction(ASK_BY, NULL, &previous) < 0)
        return -errno;
    if (previous.sa_handler != SIG_DFL)
        return 0;               /* the program's own business: nobody is asked */
    if (sigaction(ASK_BY, &ours, NULL) < 0)
        return -errno;
    is_installed = true;
    return 0;
}

int trace_install(void)
{
    int r = 0;

    pthread_mutex_lock(&lock);
    if (users == 0)
        r = begin_locked();
    users += r == 0;
    pthread_mutex_unlock(&lock);
    return r;
}

void trace_uninstall(void)
{
    pthread_mutex_lock(&lock);
    users--;
    if (users == 0 && is_installed && is_ours())
        sigaction(ASK_BY, &previous, NULL);
    if (users == 0)
        is_installed = false;
    pthread_mutex_unlock(&lock);
}

void trace_before_fork(void)
{
    pthread_mutex_lock(&lock);
}

void trace_after_fork(void)
{
    pthread_mutex_unlock(&lock);
}

void trace_after_fork_in_child(void)
{
    /* relaxed: there is one thread. pairs: none */
    atomic_store_explicit(&question, 0, memory_order_relaxed);
    trace_after_fork();
}
