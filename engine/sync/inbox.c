#include "engine/sync/inbox.h"

#include "engine/base/compiler.h"

#include <stdatomic.h>
#include <stddef.h>

#if WEIR_TSAN
#include <sanitizer/tsan_interface.h>
#define HAND_OVER(message) __tsan_release(message)
#define TAKE_OVER(message) __tsan_acquire(message)
#else
#define HAND_OVER(message) ((void)(message))
#define TAKE_OVER(message) ((void)(message))
#endif

void inbox_init(struct inbox *inbox)
{
    cds_wfcq_init(&inbox->head, &inbox->tail);
}

void inbox_fini(struct inbox *inbox)
{
    cds_wfcq_destroy(&inbox->head, &inbox->tail);
}

void inbox_put(struct inbox *inbox, struct message *message)
{
    cds_wfcq_node_init(&message->node);
    HAND_OVER(message);
    cds_wfcq_enqueue(&inbox->head, &inbox->tail, &message->node);
}

struct message *inbox_take(struct inbox *inbox)
{
    struct cds_wfcq_node *node = __cds_wfcq_dequeue_nonblocking(&inbox->head, &inbox->tail);
    struct message *message;

    if (!node || node == CDS_WFCQ_WOULDBLOCK)
        return NULL;
    message = caa_container_of(node, struct message, node);
    /* acquire: liburcu promises order only for what is reached through the node, and no barrier for
     * one that isn't the last. pairs: the exchange of inbox_put() */
    atomic_thread_fence(memory_order_acquire);
    TAKE_OVER(message);
    return message;
}

bool inbox_empty(struct inbox *inbox)
{
    return cds_wfcq_empty(&inbox->head, &inbox->tail);
}
