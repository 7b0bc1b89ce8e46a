#include "engine/pool/overload.h"

#include "engine/base/clock.h"

void overload_note_queued(const struct overload *overload, const struct ready_queue *queue,
                          struct connection *conn)
{
    if (overload->target_ms > 0 && !ready_queue_empty(queue))
        connection_note_queued(conn, clock_coarse_ms());
}

/* This one has had its turn in time, or nobody would have been served earlier without it. */
static void note_in_time(struct overload *overload)
{
    /* Only if there is something to change: all workers read it. */
    if (overload_is_late(overload))
        /* relaxed: a moment, and any worker's word on it is good. pairs: overload_is_late() */
        atomic_store_explicit(&overload->late_since_ms, 0, memory_order_relaxed);
}

/* Returns since when all have come late, now_ms if this is the first one. */
static uint64_t note_lateness(struct overload *overload, uint64_t now_ms)
{
    uint64_t since_ms = 0;

    /* relaxed: a moment. Of several first ones one is noted. pairs: overload_is_late() */
    if (atomic_compare_exchange_strong_explicit(&overload->late_since_ms, &since_ms, now_ms,
                                                memory_order_relaxed, memory_order_relaxed))
        return now_ms;
    return since_ms;
}

bool overload_sheds(struct overload *overload, const struct ready_queue *queue,
                    const struct connection *conn)
{
    uint64_t target_ms = overload->target_ms;
    uint64_t queued_ms, now_ms, waited_ms;

    if (target_ms == 0 || !connection_is_new(conn))
        return false;
    queued_ms = connection_queued_ms(conn);
    if (queued_ms == 0 || ready_queue_empty(queue)) {
        note_in_time(overload);
        return false;
    }
    now_ms = clock_coarse_ms();
    waited_ms = clock_since(queued_ms, now_ms);
    if (waited_ms <= target_ms) {
        note_in_time(overload);
        return false;
    }
    return clock_since(note_lateness(overload, now_ms), now_ms) >= OVERLOAD_INTERVAL * target_ms &&
           waited_ms >= OVERLOAD_LIMIT * target_ms;
}

size_t overload_room(const struct overload *overload, const struct ready_queue *queue, size_t n)
{
    size_t len;

    if (overload->max_queued == 0 || overload->refuses)
        return n;
    len = ready_queue_len(queue);
    if (len >= overload->max_queued)
        return 0;
    return n < overload->max_queued - len ? n : overload->max_queued - len;
}

bool overload_refuses(const struct overload *overload, const struct ready_queue *queue)
{
    return overload->refuses && overload->max_queued > 0 &&
           ready_queue_len(queue) >= overload->max_queued;
}
