/*
 * handover.h - the sockets of a server, from the process that serves them to its successor.
 *
 * The successor is the same command line, started anew. It inherits the descriptors by the numbers
 * that they have, and the variable WEIR_HANDED_ON, in which the first line is the number of a pipe
 * that it tells by that it serves. Each further line is a listener: its descriptors, as fd://7,8;
 * device and inode of the file that bind(2) made at its Unix path, as 2049:131, or 0:0; and its
 * address as --listen had it. So what a new command line names again is not bound again.
 *
 * Threads: handover_read, handover_take and handover_finish are the main thread's, before there are
 *          others, since the environment is changed; handover_say_ready is the thread's that
 *          serves; successor_... is the attendant's.
 * Owns:    a handover owns its text, which lasts as long as the process, and descriptors that
 *          nobody has taken; a successor owns an end of its pipe.
 */
#ifndef WEIR_TOOLS_HANDOVER_H
#define WEIR_TOOLS_HANDOVER_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <weir/weir.h>

/* ------------------------------------------------------------------ the successor's --- */

enum { HANDOVER_LISTENERS_MAX = 64 };

/* Tells the file that was made for a Unix socket from what somebody else makes at its path. */
struct handover_file {
    uint64_t dev;
    uint64_t ino;               /* 0: the socket has no path, or nothing is there */
};

struct handover {
    int ready_fd;               /* -1: nobody has handed on anything, or it has been told */
    struct handed_on {
        const char *fds;        /* "fd://7,8" */
        const char *address;    /* as --listen had it */
        struct handover_file file;
        char *path;             /* nobody has taken it: a Unix path to remove, or NULL */
        bool taken;
    } lines[HANDOVER_LISTENERS_MAX];
    unsigned len;
};

/* Reads the variable, and removes it. What can't be understood is as if it were not there. */
void handover_read(struct handover *ret_handover);

/* The next listener that had this address; NULL: there is none left. */
const struct handed_on *handover_take(struct handover *handover, const char *address);

/* Returns true if its Unix path leads to a file that was not made for this socket. */
bool handover_path_is_anothers(const struct handed_on *line);

/* What is at the socket's Unix path now. */
struct handover_file handover_file_of(int fd);

/* Closes what nobody has taken, and notes its Unix paths. */
void handover_finish(struct handover *handover);

/*
 * Once this process has said that it is ready: these paths are nobody's any more, unless another
 * file is there by now. A line says which can't be removed.
 */
void handover_remove_paths(const struct handover *handover);

/* Returns true if there is a predecessor that has been told now that this process serves. */
bool handover_say_ready(struct handover *handover);

/* ------------------------------------------------------------------ the predecessor's - */

enum successor_state {
    SUCCESSOR_NONE,             /* none was started, or it has gone */
    SUCCESSOR_STARTS,
    SUCCESSOR_ENDS,             /* it has been told to */
    SUCCESSOR_SERVES,
};

struct successor {
    enum successor_state state;
    pid_t pid;
    int ready_fd;
    uint64_t until_ms;
};

/* What a successor is started with. */
struct succession {
    char *const *argv;          /* the program's own */
    char **environment;         /* before anything was removed from it */
    const char *const *addresses;   /* of each listener, as --listen had it */
    const struct handover_file *files;  /* of each listener, as it was made */
    sigset_t mask;              /* of signals, as it was */
};

/* The environment as it is now, for a successor. NULL: no memory. */
char **succession_note_environment(void);

/* Starts it: SUCCESSOR_STARTS. Returns 0, or -errno. */
int successor_start(struct successor *successor, const struct succession *succession,
                    struct weir_server *server);

/*
 * Looks how far one that starts or ends has come. If one that starts has ended, or takes longer
 * than a minute and is killed, one line says so: SUCCESSOR_NONE.
 */
void successor_look(struct successor *successor);

/*
 * Passes SIGHUP on to one that serves. If it has ended, a line says so: its number may be another
 * process's by now.
 */
void successor_hang_up(const struct successor *successor);

/* There is to be none after all: one that starts, or was stopped meanwhile, is told to end. */
void successor_drop(struct successor *successor);

/* Ends by force one that was told to end. */
void successor_kill(struct successor *successor);

#endif
