/*
 * hostile_syscall.h - in the place of engine/base/syscall.h, for hostile_test: the two system calls
 * of every request are made in the middle of the engine, and these have to be the test's as well.
 */
#ifndef WEIR_SYSCALL_H
#define WEIR_SYSCALL_H

long syscall_6(long number, long a, long b, long c, long d, long e, long f);

#endif
