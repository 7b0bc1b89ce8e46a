#include "tests/simulation/upstream.h"

#include "tests/simulation/conversation.h"
#include "tests/simulation/dice.h"
#include "tests/simulation/report.h"
#include "tests/simulation/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HELD_MAX 512
#define PIECE_MAX 100

/* One connection. It is not freed: the handler's end knows its talk. */
struct link {
    struct conversation talk;
    struct stream *stream;      /* our end; NULL: it is over */
    struct link *next;          /* of those that are not */
    uint64_t at_ns;             /* it does something then; SCHEDULER_NEVER: nothing */
    bool established;
    bool ignored;
    bool spoiled;
    char held[HELD_MAX];        /* read, and not said back yet */
    size_t held_len;
};

static struct upstream_manners how;
static struct dice dice;
static struct actor actor;
static struct link *links;
static unsigned links_len;

void *__real_calloc(size_t n, size_t size);

static struct link *link_of(const struct stream *stream)
{
    struct conversation *talk = stream->user;

    return talk->client;
}

bool upstream_may_say(int error)
{
    return (error == -ECONNREFUSED && how.refuse_in > 0) ||
           (error == -ECONNRESET && how.spoil_in > 0);
}

bool upstream_has_spoiled(const struct stream *stream)
{
    return link_of(stream)->spoiled;
}

static void act_again(struct link *link)
{
    link->at_ns = scheduler_now_ns();
    if (how.think_ns > 0)
        link->at_ns += dice_around(&dice, how.think_ns);
    if (link->at_ns < actor.at_ns)
        actor_wake_at(&actor, link->at_ns);
}

static void on_change(struct stream *stream)
{
    act_again(link_of(stream));
}

static void note(const struct link *link, const char *format, long a, long b)
{
    trace_note("upstream", link->talk.number, format, a, b, 0);
}

static void let_go(struct link *link, const char *why)
{
    note(link, why, 0, 0);
    stream_let_go(link->stream);
    link->stream = NULL;
}

/* The rest is lost, or just the end comes early. Returns true if it is over. */
static bool spoils(struct link *link)
{
    if (!dice_once_in(&dice, how.spoil_in))
        return false;
    link->spoiled = true;
    if (dice_once_in(&dice, 2))
        stream_reset(link->stream);
    let_go(link, "breaks off");
    return true;
}

/* Returns false if the connection is broken. */
static bool say_back(struct link *link, bool *ret_did)
{
    size_t most = dice_between(&dice, 1, PIECE_MAX);
    ssize_t n;

    if (link->held_len == 0)
        return true;
    n = stream_send(link->stream, link->held, most < link->held_len ? most : link->held_len);
    if (n < 0)
        return n == -EAGAIN;
    note(link, "says %ld back", n, 0);
    *ret_did = true;
    link->held_len -= (size_t)n;
    memmove(link->held, link->held + n, link->held_len);
    return true;
}

/* Returns false behind the end. */
static bool hear(struct link *link, bool *ret_did)
{
    ssize_t n;

    if (link->held_len == HELD_MAX)
        return true;
    n = stream_receive(link->stream, link->held + link->held_len, HELD_MAX - link->held_len);
    *ret_did = n > 0;
    if (n > 0)
        link->held_len += (size_t)n;
    return n > 0 || n == -EAGAIN;
}

/* Returns true if there is nothing to do then. */
static bool answers_connect(struct link *link)
{
    if (dice_once_in(&dice, how.refuse_in)) {
        stream_reset(link->stream);
        let_go(link, "refuses");
        return true;
    }
    link->ignored = dice_once_in(&dice, how.ignore_in);
    link->established = !link->ignored;
    note(link, "answers: %ld", link->established, 0);
    if (link->established)
        stream_establish(link->stream);
    return link->ignored;
}

static void act(struct link *link)
{
    bool did = false;

    /* The handler has gone, from a connection that perhaps never was one. */
    if (link->stream->end_received && link->held_len == 0 && stream_unread(link->stream) == 0) {
        let_go(link, "is done");
        return;
    }
    if (link->ignored || (!link->established && answers_connect(link)))
        return;
    if (spoils(link))
        return;
    if (!hear(link, &did) && link->held_len == 0)
        let_go(link, "is done");
    else if (!say_back(link, &did))
        let_go(link, "is alone");
    else if (did)
        act_again(link);
}

static void forget_those_that_are_over(void)
{
    for (struct link **at = &links; *at;) {
        if ((*at)->stream)
            at = &(*at)->next;
        else
            *at = (*at)->next;
    }
}

/* All that are due, and then when the next one is. */
static void step(struct actor *self)
{
    uint64_t next_ns = SCHEDULER_NEVER;

    for (struct link *link = links; link; link = link->next) {
        if (link->at_ns > scheduler_now_ns())
            continue;
        link->at_ns = SCHEDULER_NEVER;
        act(link);
    }
    forget_those_that_are_over();
    for (struct link *link = links; link; link = link->next)
        if (link->at_ns < next_ns)
            next_ns = link->at_ns;
    actor_wake_at(self, next_ns);
}

static void on_connect(struct stream *stream)
{
    struct link *link = __real_calloc(1, sizeof(*link));

    if (!link)
        abort();
    link->stream = stream;
    link->next = links;
    links = link;
    link->talk = (struct conversation){
        .number = 100000 + links_len++, .phase = PHASE_WRITE, .client = link,
    };
    stream->user = &link->talk;
    stream->peer->user = &link->talk;
    stream->on_change = on_change;
    act_again(link);
}

void upstream_begin(const struct upstream_manners *manners, uint64_t seed)
{
    how = *manners;
    dice_init(&dice, seed);
    actor_init(&actor, step);
    streams_answer(how.port, on_connect);
}
