/*
 * inbox.h - messages to one worker, from any thread.
 *
 * liburcu's wait-free queue: to put is one exchange; the worker is the only one that takes, so
 * there is no lock. A message is embedded in what it is about; it may be put again once it has
 * been taken.
 *
 * Threads: inbox_put from any; inbox_take and inbox_empty from the owner.
 * Owns:    nothing. put gives the message to the inbox, take gives it to the caller.
 * Order:   what was written before inbox_put is seen after inbox_take.
 * Blocks:  never. take says NULL when the inbox is empty or its next put is half done; the
 *          thread that is half-way wakes the worker afterwards, so that it looks again.
 */
#ifndef WEIR_INBOX_H
#define WEIR_INBOX_H

#include <stdbool.h>
#include <urcu/wfcqueue.h>

struct worker;

struct message {
    struct cds_wfcq_node node;
    void (*deliver)(struct worker *worker, struct message *message);  /* on the worker's thread */
};

struct inbox {
    struct cds_wfcq_head head;
    struct cds_wfcq_tail tail;
};

void inbox_init(struct inbox *inbox);
void inbox_fini(struct inbox *inbox);
void inbox_put(struct inbox *inbox, struct message *message);
struct message *inbox_take(struct inbox *inbox);
bool inbox_empty(struct inbox *inbox);

#endif
