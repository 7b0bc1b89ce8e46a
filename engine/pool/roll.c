#include "engine/pool/roll.h"

#include "engine/pool/crew.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROOM_MIN 64

void roll_lend(struct roll *roll, struct roll_entry *entries, size_t room)
{
    *roll = (struct roll){ .entries = entries, .room = room, .lent = true };
}

void roll_free(struct roll *roll)
{
    if (!roll->lent)
        free(roll->entries);
}

static bool double_room(struct roll *roll)
{
    size_t room = roll->room > 0 ? roll->room * 2 : ROOM_MIN;
    struct roll_entry *entries;

    if (roll->lent)
        return false;
    entries = reallocarray(roll->entries, room, sizeof(*entries));
    if (!entries)
        return false;
    roll->entries = entries;
    roll->room = room;
    return true;
}

struct roll_entry *roll_add(struct roll *roll)
{
    struct roll_entry *entry;

    if (roll->len == roll->room && !double_room(roll)) {
        roll->left_out++;
        return NULL;
    }
    entry = &roll->entries[roll->len++];
    memset(entry, 0, sizeof(*entry));
    return entry;
}

void roll_name(struct roll_entry *entry, const struct weir_handler *handler)
{
    size_t len = strnlen(handler->name, sizeof(entry->handler) - 1);

    memcpy(entry->handler, handler->name, len);
    entry->handler[len] = '\0';
}

/* ------------------------------------------------------------------ the call ---------- */

/* It has been accepted, and has not waited for anything since. */
static void judge_unnoted(struct roll_entry *entry)
{
    entry->since_ms = entry->begun_ms;
    entry->at_most = entry->state != CONNECTION_QUEUED;
}

/*
 *   state    its last note          it waits for             since the note
 *   IDLE     any                    idle                     exactly
 *   QUEUED   idle                   queue                    at most: it was idle until then
 *            another, or none       queue                    exactly
 *   RUNNING  idle, queue, or none   nothing                  at most: its turn had no note
 *            a wait for its client  turn, if handlers park   exactly
 *            another                what that says           exactly
 *   PARKED   idle, queue, or none   read                     at most: the note is on its way
 *            another                what that says           exactly
 */
void roll_judge(struct roll_entry *entry, enum connection_state state, uint64_t noted, bool parks)
{
    enum connection_wait wait = connection_wait_of(noted);
    /* It has left the wait, and runs as soon as its worker gets round to it. */
    bool is_ready = parks && state == CONNECTION_RUNNING && wait >= CONNECTION_WAITS_FOR_PEER;

    entry->state = (uint8_t)state;
    entry->since_ms = connection_since_ms(noted);
    if (noted == 0)
        judge_unnoted(entry);
    else
        entry->at_most = (wait == CONNECTION_WAITS_IDLE && state != CONNECTION_IDLE) ||
                         (wait == CONNECTION_WAITS_QUEUE && state != CONNECTION_QUEUED);
    if (state == CONNECTION_IDLE)
        entry->wait = CONNECTION_WAITS_IDLE;
    else if (state == CONNECTION_QUEUED)
        entry->wait = CONNECTION_WAITS_QUEUE;
    else if (is_ready)
        entry->wait = CONNECTION_WAITS_TURN;
    else if (wait != CONNECTION_WAITS_IDLE && wait != CONNECTION_WAITS_QUEUE)
        entry->wait = (uint8_t)wait;
    else if (state == CONNECTION_PARKED)
        entry->wait = CONNECTION_WAITS_READ;    /* the note is on its way */
    else
        entry->wait = CONNECTION_WAITS_NOTHING;
}

/* Until a greeting has told whom its client stands for, nobody may look at whom. */
static bool peer_is_settled(const struct connection *conn, uint64_t noted)
{
    return !conn->endpoint->greet ||
           (noted != 0 && connection_wait_of(noted) != CONNECTION_WAITS_GREETING);
}

struct calling {
    struct roll *roll;
    struct crew *crew;
    bool parks;
};

static void call(struct connection *conn, void *arg)
{
    const struct calling *calling = arg;
    uint64_t noted = connection_noted(conn);
    enum connection_state state = connection_state(conn);
    struct sockaddr_storage peer;
    struct roll_entry *entry;

    if (conn->kind != CONNECTION_ACCEPTED || state == CONNECTION_CLOSED)
        return;
    entry = roll_add(calling->roll);
    if (!entry)
        return;
    roll_name(entry, conn->handler);
    entry->endpoint = conn->endpoint;
    entry->fd = conn->fd;
    entry->pid = getpid();
    entry->begun_ms = connection_begun_ms(&calling->crew->table, conn);
    roll_judge(entry, state, noted, calling->parks && conn->handler->stack != WEIR_STACK_THREAD);
    if (!peer_is_settled(conn, noted))
        return;
    connection_peer(conn, &peer, &entry->peer_len);
    memcpy(&entry->peer, &peer, sizeof(entry->peer));
}

void roll_call(struct roll *roll, struct crew *crew, bool parks)
{
    connection_table_each(&crew->table, call, &(struct calling){ roll, crew, parks });
}

/* ------------------------------------------------------------------ reading it -------- */

static int compare(const void *a, const void *b)
{
    const struct roll_entry *one = a, *other = b;
    bool one_idle = one->state == CONNECTION_IDLE, other_idle = other->state == CONNECTION_IDLE;

    if (one_idle != other_idle)
        return one_idle ? 1 : -1;
    if (one->since_ms != other->since_ms)
        return one->since_ms < other->since_ms ? -1 : 1;
    return (one->fd > other->fd) - (one->fd < other->fd);
}

void roll_sort(struct roll *roll)
{
    if (roll->len > 0)
        qsort(roll->entries, roll->len, sizeof(*roll->entries), compare);
}

const char *roll_wait_name(const struct roll_entry *entry)
{
    static const char *const names[] = {
        [CONNECTION_WAITS_IDLE] = "idle", [CONNECTION_WAITS_NOTHING] = "nothing",
        [CONNECTION_WAITS_QUEUE] = "queue", [CONNECTION_WAITS_TURN] = "turn",
        [CONNECTION_WAITS_SLEEP] = "sleep", [CONNECTION_WAITS_OFFLOAD] = "offload",
        [CONNECTION_WAITS_POLL] = "poll", [CONNECTION_WAITS_LOCK] = "lock",
        [CONNECTION_WAITS_CONNECT] = "connect",
        [CONNECTION_WAITS_CHILDREN] = "children",
        [CONNECTION_WAITS_OPENED_READ] = "read_opened",
        [CONNECTION_WAITS_OPENED_WRITE] = "write_opened",
        [CONNECTION_WAITS_READ] = "read", [CONNECTION_WAITS_WRITE] = "write",
        [CONNECTION_WAITS_GREETING] = "greeting", [CONNECTION_WAITS_LINGER] = "linger",
    };

    return names[entry->wait];
}

const char *roll_state_name(const struct roll_entry *entry)
{
    static const char *const names[] = {
        [CONNECTION_QUEUED] = "queued", [CONNECTION_RUNNING] = "running",
        [CONNECTION_PARKED] = "parked", [CONNECTION_IDLE] = "idle",
        [CONNECTION_CLOSED] = "closed",
    };

    return names[entry->state];
}
