/*
 * offload.h - threads that may block, so that no worker does.
 *
 * None until the first job; then as many as there are jobs at once, up to a bound; a thread that
 * found nothing to do for a while ends. A lock and a condition are good enough here: what is
 * offloaded takes longer.
 *
 * A server has two: one for what its handlers offload, and one for the names that weir_connect
 * looks up, which shall not wait behind jobs of whatever length.
 *
 * Threads: offload_run from a task's fiber; create and destroy before and after all tasks; the
 *          counts from any, also in a child of fork(2).
 * Owns:    its threads. A job lives on the fiber's stack, which waits for it.
 */
#ifndef WEIR_OFFLOAD_H
#define WEIR_OFFLOAD_H

/* Names that are looked up at once, at most. */
#define OFFLOAD_NAMES_MAX 64

struct offload;
struct task;

struct offload *offload_create(unsigned threads_max);   /* NULL: no memory */
void offload_destroy(struct offload *offload);  /* waits for its threads; NULL is fine */

/* The jobs that no thread has taken yet, and the threads that there are. */
unsigned offload_waiting(const struct offload *offload);
unsigned offload_threads(const struct offload *offload);

/* Parks until fn(arg) has returned. What it returned, or -EAGAIN: no thread could be had. */
int offload_run(struct offload *offload, struct task *task, int (*fn)(void *arg), void *arg);

/* Whose job the calling thread runs, or NULL: that of one of these threads, and of which task. */
const struct offload *offload_self(void);
const struct task *offload_task_self(void);

#endif
