#include "engine/share/deadlock.h"

#include "engine/base/misuse.h"
#include "engine/fiber/fiber.h"
#include "engine/pool/worker.h"
#include "engine/share/holder.h"

#include <pthread.h>
#include <stdio.h>

/* More than that wait for each other seldom, and then the last one that came to wait tells. */
#define LONGEST 16

/* Under the lock: the notes, and each note's link. */
static pthread_mutex_t notes_lock = PTHREAD_MUTEX_INITIALIZER;
static struct deadlock_note *notes;

/* Who has it. How many read is no address of a stack. */
static uintptr_t frame_of_holder(const struct deadlock_note *note)
{
    return wait_list_word(note->list) & HOLDER_MASK;
}

static bool is_on_stack_of(const struct deadlock_note *note, uintptr_t frame)
{
    const struct waiter *waiter = note->entry->waiter;

    return waiter_parks(waiter) ? fiber_holds(waiter->task->fiber, (const void *)frame)
                                : frame - waiter->stack_begin < waiter->stack_size;
}

/* What waits that has what this one waits for; NULL: that one doesn't wait, as far as is noted. */
static const struct deadlock_note *next_on_the_way(const struct deadlock_note *note)
{
    uintptr_t frame = frame_of_holder(note);
    const struct deadlock_note *next = notes;

    while (next && !is_on_stack_of(next, frame))
        next = next->next;
    return next;
}

/* Fills in the way from the first one back to it. Returns how many are on it; 0: it is none. */
static unsigned follow(const struct deadlock_note *first, const struct deadlock_note *way[LONGEST])
{
    const struct deadlock_note *note = first;

    for (unsigned n = 0; n < LONGEST; n++) {
        way[n] = note;
        note = next_on_the_way(note);
        if (!note)
            return 0;
        if (note == first)
            return n + 1;
    }
    return 0;
}

/* Of one that was handed over just now the waiter itself is the holder. */
static bool is_still_so(const struct deadlock_note *const way[], unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (n == 1 || next_on_the_way(way[i]) != way[(i + 1) % n])
            return false;
    return true;
}

/* ------------------------------------------------------------------ the line ---------- */

static void name_waiter(const struct waiter *waiter, char *text, size_t size)
{
    if (waiter->task)
        snprintf(text, size, "handler '%s'", waiter->task->conn->handler->name);
    else
        snprintf(text, size, "a thread");
}

static _Noreturn void die_of_deadlock(const struct deadlock_note *const way[], unsigned n)
{
    char text[400] = "", who[80], other[80];
    size_t len = 0;

    for (unsigned i = 0; i < n && len < sizeof(text); i++) {
        name_waiter(way[i]->entry->waiter, who, sizeof(who));
        name_waiter(way[(i + 1) % n]->entry->waiter, other, sizeof(other));
        len += (size_t)snprintf(text + len, sizeof(text) - len,
                                "%s%s waits for %s %p, which %s has", i > 0 ? "; " : "", who,
                                way[i]->entry->what, (const void *)way[i]->list, other);
    }
    misuse_die("a deadlock: %s", text);
}

/* ------------------------------------------------------------------ the calls --------- */

/*
 * The way was seen piece by piece, and the first pieces may have changed when the last was seen.
 * But its last one waits for something that the caller has, who doesn't let go meanwhile: so that
 * one stays, and therefore the one before it, and so on. A second look sees whether all are as they
 * were.
 */
void deadlock_note(struct deadlock_note *note)
{
    const struct deadlock_note *way[LONGEST];
    unsigned n;

    pthread_mutex_lock(&notes_lock);
    note->next = notes;
    notes = note;
    n = follow(note, way);
    if (n > 0 && is_still_so(way, n))
        die_of_deadlock(way, n);
    pthread_mutex_unlock(&notes_lock);
}

void deadlock_forget(const struct deadlock_note *note)
{
    struct deadlock_note **link = &notes;

    pthread_mutex_lock(&notes_lock);
    while (*link != note)
        link = &(*link)->next;
    *link = note->next;
    pthread_mutex_unlock(&notes_lock);
}
