/*
 * queue_candidates.c - the ready queue and four others, each as simple as it can honestly be.
 *
 * liburcu's calls are inlined here (_LGPL_SOURCE), which the engine does not do: a candidate should
 * lose by its algorithm, not by a function call.
 */
#define _LGPL_SOURCE
#include "bench/queue_candidates.h"

#include "engine/base/compiler.h"
#include "engine/sync/ready_queue.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <urcu.h>
#include <urcu/lfstack.h>
#include <urcu/rculfqueue.h>
#include <urcu/wfcqueue.h>

static void *allocate(size_t size)
{
    /* In whole lines: aligned_alloc wants that, and so do neighbours. */
    return aligned_alloc(WEIR_CACHE_LINE,
                         (size + WEIR_CACHE_LINE - 1) / WEIR_CACHE_LINE * WEIR_CACHE_LINE);
}

static void nothing_to_do(void *queue)
{
    (void)queue;
}

/* ------------------------------------------------------------------ ours -------------- */

static void *ours_create(size_t capacity, unsigned poppers)
{
    struct ready_queue *queue = allocate(sizeof(*queue));

    (void)poppers;
    if (queue && ready_queue_init(queue, capacity) < 0) {
        free(queue);
        return NULL;
    }
    return queue;
}

static void ours_destroy(void *queue)
{
    ready_queue_fini(queue);
    free(queue);
}

static bool ours_push(void *queue, unsigned thread, struct queue_item *item)
{
    (void)thread;
    return ready_queue_push(queue, (struct connection *)item);
}

static struct queue_item *ours_pop(void *queue, unsigned thread)
{
    (void)thread;
    return (struct queue_item *)ready_queue_pop(queue);
}

/* ------------------------------------------------------------------ mutex and ring ---- */

struct locked {
    pthread_mutex_t mutex;
    size_t head, tail, mask;
    struct queue_item **slots;
};

static size_t power_of_two(size_t n)
{
    size_t power = 1;

    while (power < n)
        power *= 2;
    return power;
}

static void *locked_create(size_t capacity, unsigned poppers)
{
    struct locked *queue = allocate(sizeof(*queue));

    (void)poppers;
    if (!queue)
        return NULL;
    *queue = (struct locked){ .mutex = PTHREAD_MUTEX_INITIALIZER,
                              .mask = power_of_two(capacity) - 1 };
    queue->slots = calloc(queue->mask + 1, sizeof(*queue->slots));
    if (!queue->slots) {
        free(queue);
        return NULL;
    }
    return queue;
}

static void locked_destroy(void *arg)
{
    struct locked *queue = arg;

    pthread_mutex_destroy(&queue->mutex);
    free(queue->slots);
    free(queue);
}

static bool locked_push(void *arg, unsigned thread, struct queue_item *item)
{
    struct locked *queue = arg;
    bool room;

    (void)thread;
    pthread_mutex_lock(&queue->mutex);
    room = queue->tail - queue->head <= queue->mask;
    if (room)
        queue->slots[queue->tail++ & queue->mask] = item;
    pthread_mutex_unlock(&queue->mutex);
    return room;
}

static struct queue_item *locked_pop(void *arg, unsigned thread)
{
    struct locked *queue = arg;
    struct queue_item *item = NULL;

    (void)thread;
    pthread_mutex_lock(&queue->mutex);
    if (queue->head != queue->tail)
        item = queue->slots[queue->head++ & queue->mask];
    pthread_mutex_unlock(&queue->mutex);
    return item;
}

/* ------------------------------------------------------------------ sequenced ring ---- */

/*
 * After Vyukov: a cell carries the position that may use it next. Positions are claimed first and
 * the cell filled afterwards, so a pusher that is stopped in between holds up every popper.
 */
struct cell {
    _Atomic size_t turn;
    struct queue_item *item;
};

struct sequenced {
    _Alignas(WEIR_CACHE_LINE) _Atomic size_t tail;
    _Alignas(WEIR_CACHE_LINE) _Atomic size_t head;
    _Alignas(WEIR_CACHE_LINE) struct cell *cells;
    size_t mask;
};

static void *sequenced_create(size_t capacity, unsigned poppers)
{
    struct sequenced *queue = allocate(sizeof(*queue));

    (void)poppers;
    if (!queue)
        return NULL;
    atomic_init(&queue->tail, 0);
    atomic_init(&queue->head, 0);
    queue->mask = power_of_two(capacity) - 1;
    queue->cells = calloc(queue->mask + 1, sizeof(*queue->cells));
    if (!queue->cells) {
        free(queue);
        return NULL;
    }
    for (size_t i = 0; i <= queue->mask; i++)
        atomic_init(&queue->cells[i].turn, i);
    return queue;
}

static void sequenced_destroy(void *arg)
{
    struct sequenced *queue = arg;

    free(queue->cells);
    free(queue);
}

/* Claims the position whose cell has come to turn `ahead` of it; NULL when it has not yet. */
static struct cell *claim(struct sequenced *queue, _Atomic size_t *counter, size_t ahead,
                          size_t *ret_position)
{
    size_t position = atomic_load_explicit(counter, memory_order_relaxed);

    for (;;) {
        struct cell *cell = &queue->cells[position & queue->mask];
        size_t turn = atomic_load_explicit(&cell->turn, memory_order_acquire);

        if (turn == position + ahead) {
            if (atomic_compare_exchange_weak_explicit(counter, &position, position + 1,
                                                      memory_order_relaxed,
                                                      memory_order_relaxed)) {
                *ret_position = position;
                return cell;
            }
        } else if ((ptrdiff_t)(turn - (position + ahead)) < 0) {
            return NULL;
        } else {
            position = atomic_load_explicit(counter, memory_order_relaxed);
        }
    }
}

static bool sequenced_push(void *arg, unsigned thread, struct queue_item *item)
{
    struct sequenced *queue = arg;
    size_t position;
    struct cell *cell = claim(queue, &queue->tail, 0, &position);

    (void)thread;
    if (!cell)
        return false;
    cell->item = item;
    atomic_store_explicit(&cell->turn, position + 1, memory_order_release);
    return true;
}

static struct queue_item *sequenced_pop(void *arg, unsigned thread)
{
    struct sequenced *queue = arg;
    size_t position;
    struct cell *cell = claim(queue, &queue->head, 1, &position);
    struct queue_item *item;

    (void)thread;
    if (!cell)
        return NULL;
    item = cell->item;
    atomic_store_explicit(&cell->turn, position + queue->mask + 1, memory_order_release);
    return item;
}

/* ------------------------------------------------------------------ cds_lfq ----------- */

/*
 * A node may be used again only a grace period after it was dequeued, so it can't be part of a
 * connection. Nodes go through call_rcu into a pool, from which pushers take all there are.
 */
struct lfq_node {
    struct cds_lfq_node_rcu node;
    struct rcu_head head;
    struct cds_lfs_node spare;
    struct lfq *queue;
    struct queue_item *item;
};

struct lfq {
    struct cds_lfq_queue_rcu nodes;
    _Alignas(WEIR_CACHE_LINE) struct __cds_lfs_stack spares;
};

static _Thread_local struct cds_lfs_node *own_spares;

static void *lfq_create(size_t capacity, unsigned poppers)
{
    struct lfq *queue = allocate(sizeof(*queue));

    (void)capacity;
    (void)poppers;
    if (!queue)
        return NULL;
    cds_lfq_init_rcu(&queue->nodes, call_rcu);
    __cds_lfs_init(&queue->spares);
    return queue;
}

static void free_spares(struct cds_lfs_node *spare)
{
    while (spare) {
        struct cds_lfs_node *next = spare->next;

        free(caa_container_of(spare, struct lfq_node, spare));
        spare = next;
    }
}

static struct cds_lfs_node *take_spares(struct lfq *queue)
{
    struct cds_lfs_head *all = __cds_lfs_pop_all(&queue->spares);

    return all ? &all->node : NULL;
}

static void lfq_destroy(void *arg)
{
    struct lfq *queue = arg;

    rcu_barrier();
    cds_lfq_destroy_rcu(&queue->nodes);
    free_spares(take_spares(queue));
    free(queue);
}

static void lfq_enter(void *queue)
{
    (void)queue;
    rcu_register_thread();
}

static void lfq_leave(void *queue)
{
    (void)queue;
    free_spares(own_spares);
    own_spares = NULL;
    rcu_unregister_thread();
}

static struct lfq_node *lfq_node_get(struct lfq *queue)
{
    struct cds_lfs_node *spare = own_spares;

    if (!spare)
        spare = take_spares(queue);
    if (!spare)
        return malloc(sizeof(struct lfq_node));
    own_spares = spare->next;
    return caa_container_of(spare, struct lfq_node, spare);
}

static void lfq_node_put(struct rcu_head *head)
{
    struct lfq_node *node = caa_container_of(head, struct lfq_node, head);

    cds_lfs_node_init(&node->spare);
    cds_lfs_push(&node->queue->spares, &node->spare);
}

static bool lfq_push(void *arg, unsigned thread, struct queue_item *item)
{
    struct lfq *queue = arg;
    struct lfq_node *node = lfq_node_get(queue);

    (void)thread;
    if (!node)
        return false;
    cds_lfq_node_init_rcu(&node->node);
    node->queue = queue;
    node->item = item;
    rcu_read_lock();
    cds_lfq_enqueue_rcu(&queue->nodes, &node->node);
    rcu_read_unlock();
    return true;
}

static struct queue_item *lfq_pop(void *arg, unsigned thread)
{
    struct lfq *queue = arg;
    struct cds_lfq_node_rcu *dequeued;
    struct lfq_node *node;
    struct queue_item *item;

    (void)thread;
    rcu_read_lock();
    dequeued = cds_lfq_dequeue_rcu(&queue->nodes);
    rcu_read_unlock();
    if (!dequeued)
        return NULL;
    node = caa_container_of(dequeued, struct lfq_node, node);
    item = node->item;
    call_rcu(&node->head, lfq_node_put);
    return item;
}

/* ------------------------------------------------------------------ wfcqueue ---------- */

/*
 * One queue a popper. Pushers deal the items out in turn; a popper whose own queue is empty moves
 * all of another's to its own. Taking out needs exclusion: who doesn't get it goes on.
 */
struct lane {
    _Alignas(WEIR_CACHE_LINE) struct __cds_wfcq_head head;
    atomic_flag taking;
    _Alignas(WEIR_CACHE_LINE) struct cds_wfcq_tail tail;
};

struct lanes {
    struct lane lanes[QUEUE_THREADS_MAX];
    struct {
        _Alignas(WEIR_CACHE_LINE) unsigned lane;
    } next[QUEUE_THREADS_MAX];                  /* to which one a pusher deals next */
    unsigned len;
};

static_assert(sizeof(struct cds_wfcq_node) <= sizeof(void *), "an item has room for its link");

static void *lanes_create(size_t capacity, unsigned poppers)
{
    struct lanes *queue = allocate(sizeof(*queue));

    (void)capacity;
    if (!queue)
        return NULL;
    for (unsigned i = 0; i < QUEUE_THREADS_MAX; i++) {
        __cds_wfcq_init(&queue->lanes[i].head, &queue->lanes[i].tail);
        atomic_flag_clear_explicit(&queue->lanes[i].taking, memory_order_relaxed);
        queue->next[i].lane = i;
    }
    queue->len = poppers;
    return queue;
}

static bool lanes_push(void *arg, unsigned thread, struct queue_item *item)
{
    struct lanes *queue = arg;
    struct lane *to = &queue->lanes[queue->next[thread].lane++ % queue->len];
    struct cds_wfcq_node *node = (struct cds_wfcq_node *)&item->link;

    cds_wfcq_node_init(node);
    cds_wfcq_enqueue(&to->head, &to->tail, node);
    return true;
}

static bool take_lane(struct lane *lane)
{
    return !atomic_flag_test_and_set_explicit(&lane->taking, memory_order_acquire);
}

static void leave_lane(struct lane *lane)
{
    atomic_flag_clear_explicit(&lane->taking, memory_order_release);
}

static struct queue_item *lane_pop(struct lane *lane)
{
    struct cds_wfcq_node *node;

    if (!take_lane(lane))
        return NULL;
    node = __cds_wfcq_dequeue_nonblocking(&lane->head, &lane->tail);
    leave_lane(lane);
    if (!node || node == CDS_WFCQ_WOULDBLOCK)
        return NULL;
    return caa_container_of((void *)node, struct queue_item, link);
}

static bool lane_steal(struct lane *own, struct lane *from)
{
    enum cds_wfcq_ret r;

    if (cds_wfcq_empty(&from->head, &from->tail) || !take_lane(from))
        return false;
    r = __cds_wfcq_splice_nonblocking(&own->head, &own->tail, &from->head, &from->tail);
    leave_lane(from);
    return r == CDS_WFCQ_RET_DEST_EMPTY || r == CDS_WFCQ_RET_DEST_NON_EMPTY;
}

static struct queue_item *lanes_pop(void *arg, unsigned thread)
{
    struct lanes *queue = arg;
    struct lane *own = &queue->lanes[thread % queue->len];
    struct queue_item *item = lane_pop(own);

    for (unsigned i = 1; !item && i < queue->len; i++)
        if (lane_steal(own, &queue->lanes[(thread + i) % queue->len]))
            item = lane_pop(own);
    return item;
}

const struct queue_candidate queue_candidates[] = {
    { "ready_queue", ours_create, ours_destroy, nothing_to_do, nothing_to_do,
      ours_push, ours_pop },
    { "mutex_ring", locked_create, locked_destroy, nothing_to_do, nothing_to_do,
      locked_push, locked_pop },
    { "sequenced_ring", sequenced_create, sequenced_destroy, nothing_to_do, nothing_to_do,
      sequenced_push, sequenced_pop },
    { "cds_lfq", lfq_create, lfq_destroy, lfq_enter, lfq_leave, lfq_push, lfq_pop },
    { "wfcqueue_lanes", lanes_create, free, nothing_to_do, nothing_to_do,
      lanes_push, lanes_pop },
};

const size_t queue_candidates_len = sizeof(queue_candidates) / sizeof(queue_candidates[0]);
