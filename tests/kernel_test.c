/* kernel_test.c - what a sandbox takes away is found out, and called by its name. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/base/kernel.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel, but for one call, in whose place BUILD wraps syscall(2). */
static long missing;
static int error;

long __real_syscall(long number, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);

long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    if (missing != number)
        return __real_syscall(number, a, b, c, d, e, f);
    errno = error;
    return -1;
}

static char why[300];

static void what_this_kernel_has_is_enough(void **state)
{
    (void)state;
    missing = -1;
    assert_int_equal(kernel_check(false, why, sizeof(why)), 0);
}

static void a_call_that_is_refused_is_named(void **state)
{
    static const struct { long number; const char *name; } some[] = {
        { SYS_accept4, "accept4" }, { SYS_recvfrom, "recvfrom" }, { SYS_sendmmsg, "sendmmsg" },
        { SYS_epoll_create1, "epoll_create1" }, { SYS_epoll_ctl, "epoll_ctl" },
        { SYS_eventfd2, "eventfd2" }, { SYS_write, "write" }, { SYS_tgkill, "tgkill" },
        { SYS_rt_sigtimedwait, "rt_sigtimedwait" },
    };
    static const int errors[] = { ENOSYS, EPERM, EACCES };

    (void)state;
    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++)
        for (size_t k = 0; k < sizeof(errors) / sizeof(errors[0]); k++) {
            char sentence[300];

            missing = some[i].number;
            error = errors[k];
            snprintf(sentence, sizeof(sentence), "the system call %s is refused here, by a sandbox "
                     "or an old kernel, and nobody can be served without it: %s", some[i].name,
                     strerror(error));
            assert_int_equal(kernel_check(false, why, sizeof(why)), -error);
            assert_string_equal(why, sentence);
        }
}

/* Nothing but children needs these. */
static void calls_of_children_are_for_who_has_some(void **state)
{
    static const long some[] = { SYS_waitid, SYS_clone };

    (void)state;
    error = EPERM;
    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
        missing = some[i];
        assert_int_equal(kernel_check(false, why, sizeof(why)), 0);
        assert_int_equal(kernel_check(true, why, sizeof(why)), -EPERM);
    }
    missing = -1;
    assert_int_equal(kernel_check(true, why, sizeof(why)), 0);
}

static void an_argument_that_is_wrong_otherwise_is_no_refusal(void **state)
{
    (void)state;
    missing = SYS_recvmsg;
    error = EFAULT;
    assert_int_equal(kernel_check(false, why, sizeof(why)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_this_kernel_has_is_enough),
        cmocka_unit_test(a_call_that_is_refused_is_named),
        cmocka_unit_test(calls_of_children_are_for_who_has_some),
        cmocka_unit_test(an_argument_that_is_wrong_otherwise_is_no_refusal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
