/*
 * ready_queue.c - a bounded queue, lock-free at both ends. ready_queue.h explains the algorithm;
 * here is why each memory order suffices.
 *
 * Two facts carry it. Both hold because a counter is moved past a position only by a thread that
 * has seen the position done, and each move is a release that later moves continue:
 *   T  A thread that reads tail == t (acquire) sees every position before t as pushed, and knows
 *      what their pushers knew.
 *   H  A thread that reads head == h (acquire) sees every position before h as popped.
 * A thread that pushes loads slots with acquire, for T: it may move the tail past another's push.
 * One that pops loads them relaxed: a thread never reads a word older than one that happened
 * before, so H holds for the loads too, and what a slot's connection contains is ordered by the
 * compare-and-swap that takes it. tests/orders explores all of it.
 */
#include "engine/sync/ready_queue.h"

#include "engine/base/ensure.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>

/*
 * A slot's word:  63            22 21          0
 *                 [ address / 64 ] [ lap ]        address 0: nothing
 */
enum { ADDRESS_BITS = 48, LAP_BITS = 22, ALIGNMENT_BITS = 6, MAX_CAPACITY_BITS = 40 };

/* Of an address: they are 0. */
#define BITS_NOT_KEPT (UINT64_MAX << ADDRESS_BITS | (READY_QUEUE_ALIGNMENT - 1))

#define LAP_MASK ((UINT64_C(1) << LAP_BITS) - 1)

static_assert(sizeof(uintptr_t) == sizeof(uint64_t), "a word holds an address and a lap");
static_assert(ADDRESS_BITS - ALIGNMENT_BITS + LAP_BITS == 64, "every bit of a word has one use");
static_assert(READY_QUEUE_ALIGNMENT == 1 << ALIGNMENT_BITS, "the low bits of an address are 0");

static uint64_t word_taken(const struct connection *conn, uint64_t lap)
{
    return (uint64_t)(uintptr_t)conn << (LAP_BITS - ALIGNMENT_BITS) | lap;
}

static uint64_t word_free(uint64_t lap)
{
    return lap;
}

static struct connection *word_connection(uint64_t word)
{
    return (struct connection *)(uintptr_t)(word >> LAP_BITS << ALIGNMENT_BITS);
}

/* The connection in a word, if it was put there in this lap; else NULL. */
static struct connection *word_connection_of(uint64_t word, uint64_t lap)
{
    return (word & LAP_MASK) == lap ? word_connection(word) : NULL;
}

static uint64_t lap_next(uint64_t lap)
{
    return (lap + 1) & LAP_MASK;
}

static uint64_t lap_previous(uint64_t lap)
{
    return (lap - 1) & LAP_MASK;
}

static uint64_t lap_at(const struct ready_queue *queue, uint64_t position)
{
    return position >> queue->lap_shift & LAP_MASK;
}

static _Atomic uint64_t *slot_at(const struct ready_queue *queue, uint64_t position)
{
    return &queue->slots[position & queue->mask];
}

/* Moves a counter past a position that the caller has seen done, unless another was faster. */
static void counter_pass(_Atomic uint64_t *counter, uint64_t position)
{
    /* release: hands on what we saw of the slot: facts T and H. Failing, we learn nothing that
     * we use. pairs: the acquire loads of tail and head in ready_queue_push(), ready_queue_pop(),
     * ready_queue_empty() */
    atomic_compare_exchange_strong_explicit(counter, &position, position + 1,
                                            memory_order_release, memory_order_relaxed);
}

int ready_queue_init(struct ready_queue *queue, size_t capacity)
{
    uint32_t lap_shift = 0;
    void *slots;

    if (capacity == 0 || capacity > UINT64_C(1) << MAX_CAPACITY_BITS)
        return -EINVAL;
    while (UINT64_C(1) << lap_shift < capacity)
        lap_shift++;

    /* Pages of zeros are what we need: every slot is free in lap 0. */
    slots = mmap(NULL, sizeof(*queue->slots) << lap_shift, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (slots == MAP_FAILED)
        return -ENOMEM;

    atomic_init(&queue->tail, 0);
    atomic_init(&queue->head, 0);
    queue->slots = slots;
    queue->mask = (UINT64_C(1) << lap_shift) - 1;
    queue->lap_shift = lap_shift;
    return 0;
}

void ready_queue_fini(struct ready_queue *queue)
{
    munmap(queue->slots, sizeof(*queue->slots) * (queue->mask + 1));
    queue->slots = NULL;
}

bool ready_queue_push(struct ready_queue *queue, struct connection *conn)
{
    /* Of another address a pop would make a connection that nobody has. */
    WEIR_ENSURE(conn && ((uintptr_t)conn & BITS_NOT_KEPT) == 0);

    for (;;) {
        /* acquire: fact T. pairs: counter_pass() */
        uint64_t tail = atomic_load_explicit(&queue->tail, memory_order_acquire);
        uint64_t lap = lap_at(queue, tail);
        _Atomic uint64_t *slot = slot_at(queue, tail);
        /* acquire: if we move the tail past another's push, fact T. pairs: the swap below */
        uint64_t word = atomic_load_explicit(slot, memory_order_acquire);

        if (word == word_free(lap)) {
            /* release: the connection's contents go with it. Failing: we look again.
             * pairs: the swap in ready_queue_pop() */
            if (atomic_compare_exchange_strong_explicit(slot, &word, word_taken(conn, lap),
                                                        memory_order_release,
                                                        memory_order_relaxed)) {
                counter_pass(&queue->tail, tail);
                return true;
            }
            continue;
        }

        /*
         * By T all the positions of the lap before ours were pushed, and its oldest is not
         * popped: full. We cannot mistake an old word for this when there are no more connections
         * than slots: then this one, or one of that lap, was pushed twice, and popped in between.
         * By H that pop came after this slot's, the second pusher knew of it, and so do we by T.
         */
        if (word_connection_of(word, lap_previous(lap)))
            return false;

        counter_pass(&queue->tail, tail);
    }
}

struct connection *ready_queue_pop(struct ready_queue *queue)
{
    for (;;) {
        /* acquire: fact H. pairs: counter_pass() */
        uint64_t head = atomic_load_explicit(&queue->head, memory_order_acquire);
        uint64_t lap = lap_at(queue, head);
        _Atomic uint64_t *slot = slot_at(queue, head);
        /* relaxed: see the top of the file. pairs: none, the swap below decides */
        uint64_t word = atomic_load_explicit(slot, memory_order_relaxed);
        struct connection *conn = word_connection_of(word, lap);

        if (conn) {
            /* acquire: we see what the pusher wrote to the connection. Failing: we look again.
             * pairs: the swap in ready_queue_push() */
            if (atomic_compare_exchange_strong_explicit(slot, &word, word_free(lap_next(lap)),
                                                        memory_order_acquire,
                                                        memory_order_relaxed)) {
                counter_pass(&queue->head, head);
                return conn;
            }
            continue;
        }

        /* By H everything before is popped, and tail cannot have passed a free position: empty. */
        if (word == word_free(lap))
            return NULL;

        counter_pass(&queue->head, head);
    }
}

/*
 * Why the sleeper's question is answered right: a push at p happens after all pushes before it
 * (T), hence all of them before the pusher's fence, and the sleeper, whose fence comes later,
 * reads none of their slots as it was before. So it cannot stop at a free position before p.
 */
bool ready_queue_empty(const struct ready_queue *queue)
{
    /* acquire: fact H. pairs: counter_pass() */
    uint64_t position = atomic_load_explicit(&queue->head, memory_order_acquire);

    for (;; position++) {
        uint64_t lap = lap_at(queue, position);
        /* relaxed: the caller's fence orders it. pairs: the swap in ready_queue_push() */
        uint64_t word = atomic_load_explicit(slot_at(queue, position), memory_order_relaxed);

        if (word == word_free(lap))
            return true;
        if (word_connection_of(word, lap))
            return false;
        /* This one is over, and head lags behind: look at the next. */
    }
}

size_t ready_queue_len(const struct ready_queue *queue)
{
    /* acquire: keeps the tail older than the head, so that the difference exceeds the capacity by
     * one at most (head may lag). pairs: counter_pass() */
    uint64_t tail = atomic_load_explicit(&queue->tail, memory_order_acquire);
    /* relaxed: a hint. pairs: none */
    uint64_t head = atomic_load_explicit(&queue->head, memory_order_relaxed);

    return tail > head ? (size_t)(tail - head) : 0;
}
