/*
 * queue_candidates.h - queues that could hand connections to workers, behind one set of calls, so
 * that ready_queue_benchmark.cc can put them side by side.
 *
 * Threads: push and pop from any thread that has called enter; each gives its own number, and
 *          those that pop have consecutive ones.
 * Owns:    nothing. push gives the item to the queue, pop gives it to the caller.
 */
#ifndef WEIR_QUEUE_CANDIDATES_H
#define WEIR_QUEUE_CANDIDATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { QUEUE_THREADS_MAX = 4 };

/* What stands for a connection. The link is the queue's while the item is in it. */
struct queue_item {
    void *link;
    uint64_t pushes;    /* the benchmark's: counted by whoever has the item */
    uint64_t pops;
    uint32_t in_queue;  /* set by the pusher, cleared by the popper */
} __attribute__((aligned(64)));

struct queue_candidate {
    const char *name;
    void *(*create)(size_t capacity, unsigned poppers);     /* NULL: no memory */
    void (*destroy)(void *queue);           /* it is empty, and no thread is inside */
    void (*enter)(void *queue);             /* what a thread must do before its first call */
    void (*leave)(void *queue);
    bool (*push)(void *queue, unsigned thread, struct queue_item *item);    /* false: full */
    struct queue_item *(*pop)(void *queue, unsigned thread);                /* NULL: empty */
};

extern const struct queue_candidate queue_candidates[];
extern const size_t queue_candidates_len;

#ifdef __cplusplus
}
#endif
#endif
