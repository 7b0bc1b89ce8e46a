#include "tests/orders/events.h"

#include "tests/orders/explorer.h"
#include "tests/orders/memory.h"

#include <string.h>

enum { EVENTS = 16 };

static struct {
    bool signalled;
    struct view told;
} events[EVENTS];
static int events_len;

void events_reset(void)
{
    memset(events, 0, sizeof(events));
    events_len = 0;
}

int event_create(void)
{
    if (events_len == EVENTS)
        explorer_give_up("more than %d events", EVENTS);
    return events_len++;
}

static bool is_signalled(unsigned event)
{
    return events[event].signalled;
}

static void stop_before(enum explorer_kind kind, int event)
{
    explorer_stop_before(&(struct explorer_step){
        .kind = kind, .object = (unsigned)event, .may_go = is_signalled,
    });
}

void event_signal(int event)
{
    if (explorer_thread() < 0)
        return;
    stop_before(EXPLORER_EVENT, event);
    memory_give((unsigned)explorer_thread(), &events[event].told);
    events[event].signalled = true;
    explorer_note(EXPLORER_NOWHERE, "signals event %llu", (uint64_t)event, 0);
}

bool event_look(int event)
{
    bool was_signalled;

    stop_before(EXPLORER_EVENT, event);
    was_signalled = events[event].signalled;
    if (was_signalled)
        memory_take((unsigned)explorer_thread(), &events[event].told);
    events[event].signalled = false;
    explorer_note(EXPLORER_NOWHERE, was_signalled ? "sees event %llu" : "sees no event %llu",
                  (uint64_t)event, 0);
    return was_signalled;
}

void event_wait(int event)
{
    stop_before(EXPLORER_WAIT, event);
    memory_take((unsigned)explorer_thread(), &events[event].told);
    events[event].signalled = false;
    explorer_note(EXPLORER_NOWHERE, "is woken by event %llu", (uint64_t)event, 0);
}

/* ------------------------------------------------------------------ for the engine ---- */

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

int __wrap_sys_eventfd(void)
{
    return event_create();
}

void __wrap_sys_eventfd_signal(int fd)
{
    event_signal(fd);
}

int __wrap_sys_close(int fd)
{
    (void)fd;
    return 0;
}
