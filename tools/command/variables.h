/*
 * variables.h - the variables by which a service manager speaks to a process.
 *
 * Threads: the main thread, before there are others.
 * Owns:    nothing; a value is the environment's, until variables_forget.
 */
#ifndef WEIR_TOOLS_VARIABLES_H
#define WEIR_TOOLS_VARIABLES_H

#include <stdbool.h>
#include <stddef.h>

/* NULL if there is none of that name. */
const char *variable(const char *name);

/* Returns true if the value is this process's number. */
bool variable_is_own_pid(const char *value);

/* Removes them: no process that this one starts takes them for its own. */
void variables_forget(const char *const *names, size_t len);

#endif
