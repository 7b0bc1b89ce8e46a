/*
 * sandbox.c - see sandbox.h. Which files are left is landlock.c's.
 *
 * No call ends the process. A list can't know what the next C library will call, and a server that
 * dies of it in the midst of a request is worse off than one whose library is told ENOSYS, which is
 * what an old kernel says, and what libraries have another way for. What only who has taken over a
 * handler asks for (to execute a program, a new socket, memory that is executed) gets EPERM.
 *
 *   what                              what it is for
 *   memory, threads, locks, clocks    every server
 *   sockets that are there            every server; none is made, bound or connected any more
 *   files to be read                  --access at SIGHUP, the watchdog's look at /proc/self, and
 *                                     malloc's at /proc/sys/vm
 *   unlink                            Unix paths, at the end
 *   processes                         --concurrency fork and prefork
 *
 * A namespace can't be entered: clone3(2), whose flags no filter can read, gets ENOSYS, so that the
 * C library takes clone(2), whose flags are looked at.
 */
#include "tools/command/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "tools/command/landlock.h"
#include "tools/command/say.h"

/* ------------------------------------------------------------------ system calls ------ */

/* Whatever their arguments. A name that this architecture does not have is passed over. */
static const char *const served[] = {
    /* memory */
    "brk", "madvise", "mremap", "munmap",
    /* threads */
    "exit", "exit_group", "futex", "getpid", "gettid", "membarrier", "restart_syscall", "rseq",
    "sched_getaffinity", "sched_setaffinity", "sched_yield", "set_robust_list", "tgkill",
    /* time */
    "clock_gettime", "clock_nanosleep", "gettimeofday", "nanosleep", "timerfd_create",
    "timerfd_settime",
    /* descriptors */
    "accept4", "close", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait", "eventfd2",
    "fcntl", "fstat", "getpeername", "getsockname", "getsockopt", "poll", "ppoll", "pwritev2",
    "read", "recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt",
    "shutdown", "write", "writev",
    /* files */
    "lseek", "lstat", "newfstatat", "stat", "unlink", "unlinkat",
    /* signals */
    "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait",
    "sigaltstack",
    /* what it is */
    "getegid", "geteuid", "getgid", "getrandom", "getuid",
};

static const char *const served_by_children[] = {
    "getppid", "kill", "pidfd_open", "pidfd_send_signal", "wait4", "waitid",
};

static const char *const refused[] = {
    "bind", "connect", "execve", "execveat", "io_uring_setup", "listen", "mount",
    "process_vm_readv", "process_vm_writev", "ptrace", "setns", "socket", "socketpair", "unshare",
};

/* As many bits of the argument `at` as the mask says have this value. */
#define BITS(at, mask, value) \
    SCMP_CMP64(at, SCMP_CMP_MASKED_EQ, (scmp_datum_t)(mask), (scmp_datum_t)(value))

#define NAMESPACES (CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | \
                    CLONE_NEWUSER | CLONE_NEWUTS)
#define WRITES (O_ACCMODE | O_CREAT | O_TRUNC)

static int add_names(scmp_filter_ctx filter, uint32_t action, const char *const *names, size_t len)
{
    int r = 0;

    for (size_t i = 0; i < len && r == 0; i++) {
        int call = seccomp_syscall_resolve_name(names[i]);

        /* A library that is older than the call can't name it, and needs no rule for it then. */
        if (call != __NR_SCMP_ERROR)
            r = seccomp_rule_add(filter, action, call, 0);
    }
    return r;
}

#define ADD_NAMES(filter, action, names) \
    add_names(filter, action, names, sizeof(names) / sizeof((names)[0]))

static int add_narrow(scmp_filter_ctx filter)
{
    const struct {
        uint32_t action;
        int call;
        struct scmp_arg_cmp argument;
    } rules[] = {
        { SCMP_ACT_ALLOW, SCMP_SYS(ioctl), SCMP_CMP64(1, SCMP_CMP_EQ, SIOCOUTQ, 0) },
        { SCMP_ACT_ALLOW, SCMP_SYS(mmap), BITS(2, PROT_EXEC, 0) },
        { SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mmap), BITS(2, PROT_EXEC, PROT_EXEC) },
        { SCMP_ACT_ALLOW, SCMP_SYS(mprotect), BITS(2, PROT_EXEC, 0) },
        { SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mprotect), BITS(2, PROT_EXEC, PROT_EXEC) },
        { SCMP_ACT_ALLOW, SCMP_SYS(openat), BITS(2, WRITES, O_RDONLY) },
        { SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), SCMP_CMP64(2, SCMP_CMP_EQ, 0, 0) },    /* to ask */
    };
    int r = 0;

    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]) && r == 0; i++)
        r = seccomp_rule_add_array(filter, rules[i].action, rules[i].call, 1, &rules[i].argument);
    return r;
}

/* Threads always; processes only where they serve. */
static int add_clone(scmp_filter_ctx filter, bool forks)
{
    const struct scmp_arg_cmp thread = BITS(0, NAMESPACES | CLONE_THREAD, CLONE_THREAD);
    const struct scmp_arg_cmp anything = BITS(0, NAMESPACES, 0);
    const struct scmp_arg_cmp process = BITS(0, CLONE_THREAD, 0);
    int r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                                   forks ? &anything : &thread);

    if (r == 0 && !forks)
        r = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, &process);
    return r;
}

static int add_calls(scmp_filter_ctx filter, bool forks)
{
    int r = ADD_NAMES(filter, SCMP_ACT_ALLOW, served);

    if (r == 0 && forks)
        r = ADD_NAMES(filter, SCMP_ACT_ALLOW, served_by_children);
    if (r == 0)
        r = ADD_NAMES(filter, SCMP_ACT_ERRNO(EPERM), refused);
    if (r == 0)
        r = add_narrow(filter);
    if (r == 0)
        r = add_clone(filter, forks);
    return r;
}

static int filter_calls(bool forks)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    int r = filter ? add_calls(filter, forks) : -ENOMEM;

    if (r == 0)
        r = seccomp_load(filter);
    if (filter)
        seccomp_release(filter);
    if (r < 0)
        say("weir serve: --sandbox: system calls can't be filtered: %s", strerrordesc_np(-r));
    return r;
}

int sandbox_enter(struct weir_server *server, enum weir_concurrency concurrency, const char *rules)
{
    int r = landlock_enter(server, rules);

    return r == 0 ? filter_calls(concurrency == WEIR_FORK || concurrency == WEIR_PREFORK) : r;
}
