#include "tests/orders/scenarios.h"

#include "tests/orders/memory.h"

#include <stddef.h>

enum { CAPACITY_MAX = 4 };

void scenario_make_queue(struct ready_queue *ret, unsigned capacity)
{
    static struct ready_queue made[CAPACITY_MAX + 1];
    static const char *const slot_names[CAPACITY_MAX] = { "slot 0", "slot 1", "slot 2", "slot 3" };

    if (!made[capacity].slots)
        ready_queue_init(&made[capacity], capacity);
    *ret = made[capacity];
    memory_name(&ret->tail, "tail");
    memory_name(&ret->head, "head");
    for (unsigned i = 0; i < capacity; i++) {
        atomic_init(&ret->slots[i], 0);
        memory_name(&ret->slots[i], slot_names[i]);
    }
}

extern const struct scenario
    litmus_sb, litmus_sb_sc, litmus_sb_fences, litmus_sb_one_fence,
    litmus_sb_mixed, litmus_sb_changes, litmus_mp, litmus_mp_relaxed, litmus_mp_fences,
    litmus_mp_sequence, litmus_lb, litmus_ww, litmus_iriw, litmus_iriw_fences, litmus_corr,
    litmus_changes;
extern const struct scenario
    queue_order, queue_crossing, queue_laps, queue_three, queue_room, queue_empty;
extern const struct scenario
    handoff_one_worker, handoff_stuck, handoff_stuck_later, handoff_watch;
extern const struct scenario
    state_enter, state_park, state_timer, state_keep, state_drain, state_requeue, state_batch;
extern const struct scenario
    places_release, places_give_back, places_takers, places_want;

const struct scenario *const scenarios[] = {
    &litmus_sb, &litmus_sb_sc, &litmus_sb_fences, &litmus_sb_one_fence,
    &litmus_sb_mixed, &litmus_sb_changes, &litmus_mp, &litmus_mp_relaxed, &litmus_mp_fences,
    &litmus_mp_sequence, &litmus_lb, &litmus_ww, &litmus_iriw, &litmus_iriw_fences, &litmus_corr,
    &litmus_changes,
    &queue_order, &queue_crossing, &queue_laps, &queue_three, &queue_room, &queue_empty,
    &handoff_one_worker, &handoff_stuck, &handoff_stuck_later, &handoff_watch,
    &state_enter, &state_park, &state_timer, &state_keep, &state_drain, &state_requeue,
    &state_batch,
    &places_release, &places_give_back, &places_takers, &places_want,
    NULL,
};
