/*
 * compiler.h - what the compiler can be told, and what it tells us.
 *
 * Only things that the language cannot say and that more than one file needs.
 */
#ifndef WEIR_COMPILER_H
#define WEIR_COMPILER_H

#define WEIR_LIKELY(x) __builtin_expect(!!(x), 1)
#define WEIR_UNLIKELY(x) __builtin_expect(!!(x), 0)

/*
 * For calls that touch errno or anything thread-local: inlined into a function that parks, the
 * address of the variable could be kept across the switch.
 */
#define WEIR_NOINLINE __attribute__((noinline))

/*
 * For functions on each request's way that have no array and hand out no address but to the clock:
 * -fstack-protector-strong would have each of them pay six instructions for nothing to be found.
 */
#define WEIR_NO_CANARY __attribute__((no_stack_protector))

/* For what a system call is returned through: see syscall.h. */
#define WEIR_ALWAYS_INLINE inline __attribute__((always_inline))

/* Data that different threads write sits this far apart. */
#define WEIR_CACHE_LINE 64
#define WEIR_CACHE_ALIGNED __attribute__((aligned(WEIR_CACHE_LINE)))

/* Which sanitizer this is built for: gcc defines a macro, clang answers __has_feature. */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define WEIR_ASAN 1
#else
#define WEIR_ASAN 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define WEIR_TSAN 1
#else
#define WEIR_TSAN 0
#endif

#endif
