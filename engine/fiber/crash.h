/*
 * crash.h - says of a thread of weir's that crashes what it was at, for whom, and where:
 *
 *     weir: SIGSEGV at address 0x8 in handler 'upper', which serves 127.0.0.1:51234
 *     weir:   #0 0x55d0c3a1b2c4 program+0x1b2c4
 *     weir:   #1 0x55d0c3a1b307 program+0x1b307
 *
 * A line is that of a call: the instruction's address, and the file that it is in with the address
 * there, as addr2line(1) wants it. Threads that are not weir's end without a word.
 *
 * Threads: any, on a signal handler's stack; crash_find_scenes_by before there is a fiber;
 *          crash_set_role on the thread that it is about.
 * Blocks:  for room on standard error, a second at most; a second thread that crashes meanwhile,
 *          until the first has ended the process, for two seconds at most.
 */
#ifndef WEIR_CRASH_H
#define WEIR_CRASH_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct last_words;

/* What runs on the thread. */
struct crash_scene {
    const char *place;              /* "handler 'upper' ..." begins with these words */
    const char *handler;            /* whose name follows them; NULL: of none */
    struct sockaddr_storage peer;   /* whom it serves */
    socklen_t peer_len;             /* 0: nobody, or it is not known */
};

/*
 * Tells of the calling thread. task is what its fiber has been told of, NULL if it is on none.
 * place comes as the thread's role. Async-signal-safe.
 */
typedef void crash_find_scene(const void *task, struct crash_scene *scene);

void crash_find_scenes_by(crash_find_scene *find);

/*
 * What the calling thread is there for, as in "in ...": "a worker, outside of any handler"; NULL:
 * it is none of weir's. Returns what it was before.
 */
const char *crash_set_role(const char *role);

/*
 * In a signal handler, before the signal ends the process. Changes nothing in the context in the
 * end. Async-signal-safe.
 */
void crash_tell(int signal_number, const siginfo_t *info, void *context);

/* In the handler of a fault: does not return if it was the report itself that met with it. */
void crash_go_on(int signal_number);

/*
 * The same for who asks without a crash: the scene of the calling thread, and the addresses of its
 * calls, how many; both in a signal handler, which the context belongs to. Async-signal-safe.
 */
void crash_scene_here(const void *context, struct crash_scene *ret);
unsigned crash_frames_here(void *context, uintptr_t *ret, unsigned max);

/* Appends " program+0x1b2c4", or the address alone if no file has the instruction. */
void crash_put_place(struct last_words *line, uintptr_t instruction);

/* Returns true if it is in the code of a file, not where NULL or data has been called. */
bool crash_is_code(uintptr_t instruction);

/* The stack pointer of a signal's context; NULL: nobody has said where this CPU keeps it. */
const void *crash_stack_pointer(const void *context);

#endif
