/*
 * dump.c - weir_server_dump: who is connected, and what each waits for.
 *
 * The roll is called first, and then printed, without a lock and outside of any reclaim section: a
 * program may take its time with the lines.
 */
#include "engine/server/server.h"

#include "engine/base/clock.h"
#include "engine/net/address.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A URI, a peer, the name of a handler, and some words and numbers. */
#define LINE_SIZE (2 * WEIR_ADDRESS_SIZE + ROLL_NAME_SIZE + 256)

struct dump {
    struct roll roll;
    uint64_t now_ms;
    void (*line)(void *arg, const char *text, size_t len);
    void *arg;
};

void server_call_roll(struct weir_server *server, struct roll *roll)
{
    struct mixin *mixin = server->mixin;
    struct crew *crew = &server->pool->crew;

    /* Where children accept, the table's are these children. */
    if (mixin->accepts_here && !mixin->ends_with_handler) {
        roll_call(roll, crew, mixin->has_workers);
        roll->datagrams += connection_table_lent(&crew->table);
    }
    mixin->add_roll(mixin, roll);
}

static __attribute__((format(printf, 2, 3)))
void print_words(const struct dump *dump, const char *format, ...)
{
    char line[LINE_SIZE] = "weir: dump ";
    size_t len = strlen(line);
    va_list args;

    va_start(args, format);
    vsnprintf(line + len, sizeof(line) - len, format, args);
    va_end(args);
    dump->line(dump->arg, line, strlen(line));
}

/* ------------------------------------------------------------------ groups ------------ */

static bool are_alike(const struct roll_entry *a, const struct roll_entry *b)
{
    return a->endpoint == b->endpoint && a->state == b->state && a->wait == b->wait &&
           strcmp(a->handler, b->handler) == 0;
}

/* The roll is in order: the first of a group waits longest of those that are idle, or are not. */
struct group {
    const struct roll_entry *first;
    size_t len;
};

/* Of more than these, each of a listener, a handler and a wait, the last ones are not told. */
#define GROUPS_MAX 64

static void count_in(struct group *groups, size_t *len, const struct roll_entry *entry)
{
    size_t i = 0;

    while (i < *len && !are_alike(groups[i].first, entry))
        i++;
    if (i == *len) {
        if (i == GROUPS_MAX)
            return;
        groups[(*len)++] = (struct group){ .first = entry };
    }
    groups[i].len++;
}

static void print_groups(const struct dump *dump)
{
    struct group groups[GROUPS_MAX];
    size_t len = 0;

    for (size_t i = 0; i < dump->roll.len; i++)
        count_in(groups, &len, &dump->roll.entries[i]);
    for (size_t i = 0; i < len; i++) {
        const struct roll_entry *first = groups[i].first;

        print_words(dump, "count=%zu state=%s waits=%s longest_ms=%" PRIu64 " listen=%s handler=%s",
              groups[i].len, roll_state_name(first), roll_wait_name(first),
              clock_since(first->since_ms, dump->now_ms), first->endpoint->uri, first->handler);
    }
}

/* ------------------------------------------------------------------ connections ------- */

static const char *peer_text(const struct roll_entry *entry, char *buf, size_t size)
{
    return entry->peer_len > 0 ? address_text(&entry->peer.any, entry->peer_len, buf, size) : "-";
}

static void print_entry(const struct dump *dump, const struct roll_entry *entry)
{
    char peer[WEIR_ADDRESS_SIZE];

    print_words(dump, "peer=%s age_ms=%" PRIu64 " state=%s waits=%s %s=%" PRIu64 " pid=%d fd=%d "
          "listen=%s handler=%s", peer_text(entry, peer, sizeof(peer)),
          clock_since(entry->begun_ms, dump->now_ms), roll_state_name(entry),
          roll_wait_name(entry), entry->at_most ? "at_most_ms" : "for_ms",
          clock_since(entry->since_ms, dump->now_ms), (int)entry->pid, entry->fd,
          entry->endpoint->uri, entry->handler);
}

static void print_all(const struct dump *dump, size_t most)
{
    const struct roll *roll = &dump->roll;
    size_t shown = roll->len < most ? roll->len : most;

    print_words(dump, "connections=%" PRIu64 " datagrams=%" PRIu64 " silent_children=%" PRIu64
          " shown=%zu", roll->len + roll->left_out, roll->datagrams, roll->silent_children, shown);
    print_groups(dump);
    for (size_t i = 0; i < shown; i++)
        print_entry(dump, &roll->entries[i]);
}

int weir_server_dump(struct weir_server *server, size_t most,
                     void (*line)(void *arg, const char *text, size_t len), void *arg)
{
    struct dump dump = { .line = line, .arg = arg };

    if (server_is_copy(server))
        return SERVER_REFUSE(-ESRCH, "who is connected can't be told: the server is another "
                             "process's, of which this one is a fork");
    server_call_roll(server, &dump.roll);
    roll_sort(&dump.roll);
    dump.now_ms = clock_ms();
    print_all(&dump, most);
    roll_free(&dump.roll);
    return 0;
}
