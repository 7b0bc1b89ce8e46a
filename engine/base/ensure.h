/*
 * ensure.h - conditions that hold in every build, or the program ends.
 *
 * An assert is for thoughts: what it says may be wrong without harm, and a build with NDEBUG does
 * not look. Where memory would be written over, or a client forgotten, if the condition did not
 * hold, WEIR_ENSURE looks in every build: a branch that is never taken.
 *
 * Threads: any; not signal handlers. Blocks: never, but to write the last line.
 */
#ifndef WEIR_ENSURE_H
#define WEIR_ENSURE_H

#include "engine/base/compiler.h"

#define WEIR_ENSURE(condition) \
    (WEIR_LIKELY(condition) ? (void)0 : ensure_fail(#condition, __FILE__, __LINE__))

/* Says, in a line that begins with "weir: ", what does not hold, and aborts. */
_Noreturn void ensure_fail(const char *condition, const char *file, int line)
    __attribute__((cold));

#endif
