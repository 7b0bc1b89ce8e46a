/*
 * syscall.h - a system call right where it stands, without a function around it.
 *
 * The kernel's own calls overwrite the CPU's return predictor. So each function that a system call
 * is left through costs a mispredicted return, some 10 ns: for the two calls of every request that
 * would be as much as all that happens between them. And libc's wrappers are cancellation points,
 * which in a process of several threads cost two locked instructions each; nobody cancels a thread
 * here.
 *
 * There is no errno in it, so nothing that a compiler could keep across a fiber switch.
 */
#ifndef WEIR_SYSCALL_H
#define WEIR_SYSCALL_H

#if !defined(__x86_64__) && !defined(__aarch64__)
#include "engine/base/compiler.h"

#include <errno.h>
#include <unistd.h>
#endif

/* What the kernel returns: -errno for a failure. */
#if defined(__x86_64__)

static inline long syscall_6(long number, long a, long b, long c, long d, long e, long f)
{
    register long in_r10 __asm__("r10") = d;
    register long in_r8 __asm__("r8") = e;
    register long in_r9 __asm__("r9") = f;
    long r;

    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(in_r10), "r"(in_r8), "r"(in_r9)
                     : "rcx", "r11", "memory");
    return r;
}

#elif defined(__aarch64__)

static inline long syscall_6(long number, long a, long b, long c, long d, long e, long f)
{
    register long in_x8 __asm__("x8") = number;
    register long in_x0 __asm__("x0") = a;
    register long in_x1 __asm__("x1") = b;
    register long in_x2 __asm__("x2") = c;
    register long in_x3 __asm__("x3") = d;
    register long in_x4 __asm__("x4") = e;
    register long in_x5 __asm__("x5") = f;

    __asm__ volatile("svc #0"
                     : "+r"(in_x0)
                     : "r"(in_x8), "r"(in_x1), "r"(in_x2), "r"(in_x3), "r"(in_x4), "r"(in_x5)
                     : "memory");
    return in_x0;
}

#else

static WEIR_NOINLINE long syscall_6(long number, long a, long b, long c, long d, long e, long f)
{
    long r = syscall(number, a, b, c, d, e, f);

    return r < 0 ? -errno : r;
}

#endif

#endif
