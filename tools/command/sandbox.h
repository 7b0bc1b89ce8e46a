/*
 * sandbox.h - what a server that serves may still ask of the kernel: a list of system calls
 * (seccomp), and the files that it may read (Landlock).
 *
 * Threads: the main thread, while there is no other.
 * Owns:    nothing. Blocks: never.
 */
#ifndef WEIR_TOOLS_SANDBOX_H
#define WEIR_TOOLS_SANDBOX_H

#include <weir/weir.h>

/*
 * sandbox_enter leaves the process, and all that it will fork, what it takes to serve by this
 * server, whose sockets are bound, in this concurrency, and to read the rules again (NULL: there
 * are none). There is no way back. It takes no_new_privs.
 *
 * A kernel without Landlock gets one line, and system calls are filtered all the same. Returns 0,
 * or -errno after one line, if they can't be: the process is then to end.
 */
int sandbox_enter(struct weir_server *server, enum weir_concurrency concurrency, const char *rules);

#endif
