/*
 * say.h - the lines that the command writes to standard error.
 *
 * Each is one write, with the end of line, behind "weir"; bytes that control a terminal are
 * written as \xNN, whoever chose them: a line stays one.
 *
 * Threads: any. Needs SIGPIPE ignored, or a standard error that it may end the process for.
 */
#ifndef WEIR_TOOLS_SAY_H
#define WEIR_TOOLS_SAY_H

/* For who serves: without room for it at this moment, the line is left out. */
__attribute__((format(printf, 1, 2)))
void say_now(const char *format, ...);

/* For who only ends: waits until there is room. */
__attribute__((format(printf, 1, 2)))
void say(const char *format, ...);

#endif
