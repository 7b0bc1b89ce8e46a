/*
 * said.h - in the place of tools/command/say.c: lines that nobody needs to read but a target.
 *
 * Threads: the one there is.
 */
#ifndef WEIR_TESTS_FUZZ_SAID_H
#define WEIR_TESTS_FUZZ_SAID_H

extern struct said {
    unsigned lines;             /* since a target has forgotten them */
    char last[8192];
} said;

#endif
