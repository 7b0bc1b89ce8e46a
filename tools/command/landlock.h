/*
 * landlock.h - the files that a process may still read or remove (Landlock).
 *
 * Threads: the main thread, while there is no other.
 * Owns:    nothing. Blocks: never.
 */
#ifndef WEIR_TOOLS_LANDLOCK_H
#define WEIR_TOOLS_LANDLOCK_H

#include <weir/weir.h>

/*
 * landlock_enter leaves the process, and all that it will fork, the files in the folder of the
 * rules (NULL: there are none), what the kernel tells in /proc, and the removal of files in the
 * folders of the server's Unix paths. No other file can be opened by its name, no TCP port bound,
 * no TCP connection made, and no signal sent but to these processes, as far as the kernel knows of
 * these things. It takes no_new_privs.
 *
 * Returns 0, also after a line that the kernel knows nothing of it; or -errno after a line.
 */
int landlock_enter(struct weir_server *server, const char *rules);

#endif
