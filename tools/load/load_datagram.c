/*
 * load_datagram.c - lanes over datagram sockets: see load_lane.h.
 *
 * Each socket keeps a number of datagrams under way, one a slot. What has come is read by one
 * recvmmsg and answered by one sendmmsg, so that one CPU can keep a server on another busy.
 * Loss is no error: what has no answer after LOST_MS is sent again, as it was. So its answer may
 * come twice. Nor is a socket that takes no more, as one whose Unix receiver has its queue full:
 * the rest goes out when the kernel says that there is room.
 *
 *   a slot    is free -> waits in its socket's `out` to be sent -> has been sent -> is free ...
 *
 * The open loop takes the free ones in turn.
 */
#include "tools/load/load_lane.h"
#include "tools/load/load_line.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LOST_MS = 100,
    READS_MAX = 16,             /* of one socket, then the others and the clock have a turn */
    SLOT_BITS = 12,
    SLOTS_MAX = 1 << SLOT_BITS,
    BATCH_MAX = 64,
};

static_assert((int)SLOTS_MAX >= (int)LOAD_IN_FLIGHT_MAX, "a slot for each");

/* A datagram: its number is how often the slot was used and, in the lower bits, which slot. */
struct slot {
    uint32_t number;
    bool waiting;               /* for its answer */
    bool out;                   /* and to be sent */
    uint64_t first_ns;          /* what its latency counts from: loss is part of that */
    uint64_t begun_ns;          /* when it was sent first */
    uint64_t sent_ns;           /* and last */
};

/* Slots by their place in an array, oldest first. */
struct ring {
    uint32_t *slots;
    uint32_t size;
    uint32_t head, len;
};

struct peer {
    int fd;                     /* -1: broken */
    bool waits_out;             /* for EPOLLOUT */
    struct slot *slots;         /* options->in_flight of them */
    struct ring out;            /* of them, those that are to be sent */
};

/* Datagrams that one system call receives or sends. */
struct batch {
    struct mmsghdr messages[BATCH_MAX];
    struct iovec pieces[BATCH_MAX];
    char *texts;
    size_t text_size;           /* of each */
};

struct datagrams {
    uint32_t open;              /* sockets that are not broken */
    uint32_t waiting;           /* datagrams under way */
    size_t len;                 /* of a datagram */
    char *answer;
    struct batch in;
    struct batch out;
    struct slot *slots;
    uint32_t *places;           /* what the rings consist of */
    struct ring free;           /* of slots */
    struct peer peers[];
};

/* ------------------------------------------------------------------ rings ------------- */

static void ring_push(struct ring *ring, uint32_t slot)
{
    ring->slots[(ring->head + ring->len++) % ring->size] = slot;
}

/* The i-th from the front. */
static uint32_t ring_at(const struct ring *ring, uint32_t i)
{
    return ring->slots[(ring->head + i) % ring->size];
}

static void ring_drop(struct ring *ring, uint32_t count)
{
    ring->head = (ring->head + count) % ring->size;
    ring->len -= count;
}

/* ------------------------------------------------------------------ batches ----------- */

static char *batch_text(const struct batch *batch, unsigned i)
{
    return batch->texts + i * batch->text_size;
}

/* Texts of size bytes, of which len are a line's. */
static int batch_init(struct batch *batch, size_t len, size_t size)
{
    batch->text_size = size;
    batch->texts = malloc(BATCH_MAX * size);
    if (!batch->texts)
        return -ENOMEM;
    for (unsigned i = 0; i < BATCH_MAX; i++) {
        batch->pieces[i] = (struct iovec){ .iov_base = batch_text(batch, i), .iov_len = size };
        batch->messages[i].msg_hdr = (struct msghdr){
            .msg_iov = &batch->pieces[i], .msg_iovlen = 1,
        };
        line_init(batch_text(batch, i), len);
    }
    return 0;
}

/* ------------------------------------------------------------------ peers ------------- */

/* A Unix socket needs a name to be answered: the kernel chooses one. */
static int name_unix(int fd)
{
    const struct sockaddr_un unnamed = { .sun_family = AF_UNIX };

    return bind(fd, (const struct sockaddr *)&unnamed, sizeof(unnamed.sun_family));
}

static int name_socket(const struct lane *lane, int fd, uint32_t index)
{
    const struct load_options *options = lane->options;
    const struct address *source;

    if (lane->address->kind == ADDRESS_UNIX)
        return name_unix(fd);
    if (options->sources_len == 0)
        return 0;
    source = &options->sources[(index * options->threads + lane->number) % options->sources_len];
    return bind(fd, &source->sa, source->len);
}

/* EPOLLOUT comes with each datagram that the kernel is done with: it is asked for when needed. */
static int watch_peer(const struct lane *lane, struct peer *peer, int op)
{
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLET | (peer->waits_out ? EPOLLOUT : 0), .data.ptr = peer,
    };

    return epoll_ctl(lane->epoll_fd, op, peer->fd, &event) < 0 ? -errno : 0;
}

static int set_peer_waits_out(const struct lane *lane, struct peer *peer, bool waits_out)
{
    if (peer->waits_out == waits_out)
        return 0;
    peer->waits_out = waits_out;
    return watch_peer(lane, peer, EPOLL_CTL_MOD);
}

static int peer_open(const struct lane *lane, struct peer *peer)
{
    const struct address *address = lane->address;
    struct datagrams *datagrams = lane->state;
    int fd = socket(address->sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    peer->fd = fd;
    datagrams->open++;
    if (name_socket(lane, fd, (uint32_t)(peer - datagrams->peers)) < 0 ||
        connect(fd, &address->sa, address->len) < 0)
        return -errno;
    return watch_peer(lane, peer, EPOLL_CTL_ADD);
}

static void peer_close(struct datagrams *datagrams, struct peer *peer)
{
    if (peer->fd < 0)
        return;
    close(peer->fd);
    peer->fd = -1;
    datagrams->open--;
}

/* Nothing is under way any more; returns how many were. */
static uint32_t peer_forget(struct lane *lane, struct peer *peer)
{
    struct datagrams *datagrams = lane->state;
    uint32_t under_way = 0;

    for (uint32_t i = 0; i < lane->options->in_flight; i++) {
        under_way += peer->slots[i].waiting;
        peer->slots[i].waiting = peer->slots[i].out = false;
    }
    peer->out.len = 0;
    datagrams->waiting -= under_way;
    return under_way;
}

static void peer_fail(struct lane *lane, struct peer *peer, enum load_error what)
{
    lane_failed(lane, what, peer_forget(lane, peer));
    peer_close(lane->state, peer);
}

/* ------------------------------------------------------------------ requests ---------- */

/* Writes the datagrams at the front of those that are to be sent; returns how many. */
static uint32_t fill_datagrams(struct datagrams *datagrams, const struct peer *peer)
{
    uint32_t count = peer->out.len < BATCH_MAX ? peer->out.len : BATCH_MAX;

    for (uint32_t i = 0; i < count; i++)
        line_stamp(batch_text(&datagrams->out, i), peer->slots[ring_at(&peer->out, i)].number);
    return count;
}

static void datagrams_went_out(struct lane *lane, struct peer *peer, uint32_t count,
                               uint64_t now_ns)
{
    const struct datagrams *datagrams = lane->state;

    for (uint32_t i = 0; i < count; i++) {
        struct slot *slot = &peer->slots[ring_at(&peer->out, i)];

        slot->out = false;
        slot->sent_ns = now_ns;
    }
    ring_drop(&peer->out, count);
    lane->result.bytes_out += count * datagrams->len;
}

/* Sends what is to be sent; what the socket has no room for waits until it has. */
static void flush(struct lane *lane, struct peer *peer, uint64_t now_ns)
{
    struct datagrams *datagrams = lane->state;

    while (peer->out.len > 0) {
        uint32_t count = fill_datagrams(datagrams, peer);
        int n = sendmmsg(peer->fd, datagrams->out.messages, count, MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN && set_peer_waits_out(lane, peer, true) == 0)
            return;
        if (n < 0 && errno == ENOBUFS)
            n = (int)count;     /* a device's queue, and nobody tells when it has room: lost */
        if (n < 0) {
            peer_fail(lane, peer,
                      errno == ECONNREFUSED ? LOAD_CANNOT_CONNECT : LOAD_CANNOT_SEND);
            return;
        }
        datagrams_went_out(lane, peer, (uint32_t)n, now_ns);
    }
    if (peer->fd >= 0 && set_peer_waits_out(lane, peer, false) < 0)
        peer_fail(lane, peer, LOAD_CANNOT_SEND);
}

/* One that is to be sent again may have been answered meanwhile: it goes out as what it is then. */
static void queue(struct peer *peer, struct slot *slot)
{
    if (slot->out)
        return;
    slot->out = true;
    ring_push(&peer->out, (uint32_t)(slot - peer->slots));
}

/* False: none may begin now. */
static bool request(struct lane *lane, struct peer *peer, struct slot *slot, uint64_t now_ns,
                    bool first)
{
    struct datagrams *datagrams = lane->state;

    if (!lane_begin(lane, now_ns, first, &slot->first_ns))
        return false;
    slot->number += SLOTS_MAX;
    slot->begun_ns = now_ns;
    slot->waiting = true;
    datagrams->waiting++;
    queue(peer, slot);
    return true;
}

/* The slot may be used again: at once in a closed loop, when something is due in an open one. */
static void release_slot(struct lane *lane, struct peer *peer, struct slot *slot, uint64_t now_ns)
{
    struct datagrams *datagrams = lane->state;

    if (lane->arrivals.count == 0)
        request(lane, peer, slot, now_ns, false);
    else
        ring_push(&datagrams->free, (uint32_t)(slot - datagrams->slots));
}

/* The open loop: what is due. */
static void dispatch(struct lane *lane, uint64_t now_ns)
{
    struct datagrams *datagrams = lane->state;
    struct ring *ring = &datagrams->free;
    struct peer *last = NULL;

    while (ring->len > 0 && lane_backlog(lane, now_ns) > 0) {
        uint32_t i = ring_at(ring, 0);
        struct peer *peer = &datagrams->peers[i / lane->options->in_flight];

        ring_drop(ring, 1);
        if (last && last != peer)
            flush(lane, last, now_ns);
        last = peer;
        if (peer->fd >= 0)
            request(lane, peer, &datagrams->slots[i], now_ns, false);
    }
    if (last)
        flush(lane, last, now_ns);
}

/* False: it is nothing that this socket ever waited for. */
static bool reply_take(struct lane *lane, struct peer *peer, const char *reply, size_t len,
                       uint64_t now_ns)
{
    struct datagrams *datagrams = lane->state;
    uint32_t number, i;
    struct slot *slot;

    if (len != datagrams->len || !line_number(reply, &number))
        return false;
    line_stamp(datagrams->answer, number);
    i = number % SLOTS_MAX;
    if (i >= lane->options->in_flight || memcmp(reply, datagrams->answer, len) != 0)
        return false;

    slot = &peer->slots[i];
    lane->reply_len = len;
    if (!slot->waiting || slot->number != number)
        return true;            /* it was sent twice, and answered twice */
    lane_answered(lane, slot->first_ns, now_ns);
    slot->waiting = false;
    datagrams->waiting--;
    release_slot(lane, peer, slot, now_ns);
    return true;
}

static void replies_receive(struct lane *lane, struct peer *peer)
{
    struct datagrams *datagrams = lane->state;
    struct batch *in = &datagrams->in;
    int reads = 0;
    int n;

    do {
        if (reads++ == READS_MAX) {
            if (watch_peer(lane, peer, EPOLL_CTL_MOD) < 0)   /* what is still there is told again */
                peer_fail(lane, peer, LOAD_BROKEN);
            return;
        }
        n = recvmmsg(peer->fd, in->messages, BATCH_MAX, MSG_DONTWAIT, NULL);
        if (n < 0) {
            if (errno != EAGAIN)
                peer_fail(lane, peer, errno == ECONNREFUSED ? LOAD_CANNOT_CONNECT : LOAD_BROKEN);
            return;
        }
        uint64_t now_ns = lane_clock_ns();

        for (int i = 0; i < n; i++) {
            lane->result.bytes_in += in->messages[i].msg_len;
            if (!reply_take(lane, peer, batch_text(in, (unsigned)i), in->messages[i].msg_len,
                            now_ns)) {
                peer_fail(lane, peer, LOAD_WRONG_REPLY);
                break;
            }
        }
        flush(lane, peer, now_ns);
    } while (n == BATCH_MAX && peer->fd >= 0);
}

static void handle_peer(struct lane *lane, struct peer *peer, uint32_t events)
{
    if (events & EPOLLOUT && peer->waits_out)
        flush(lane, peer, lane_clock_ns());
    if (events & ~(uint32_t)EPOLLOUT && peer->fd >= 0)
        replies_receive(lane, peer);
}

/* ------------------------------------------------------------------ losses ------------ */

static void peer_resend(struct lane *lane, struct peer *peer, uint64_t now_ns)
{
    for (uint32_t i = 0; i < lane->options->in_flight && peer->fd >= 0; i++) {
        struct slot *slot = &peer->slots[i];

        if (!slot->waiting)
            continue;
        if (clock_since(slot->begun_ns, now_ns) > lane_timeout_ns(lane)) {
            peer_fail(lane, peer, LOAD_TIMEOUT);
            break;
        }
        if (slot->out || clock_since(slot->sent_ns, now_ns) < LANE_MS(LOST_MS))
            continue;
        lane->result.lost++;
        queue(peer, slot);
    }
    flush(lane, peer, now_ns);
}

static void resend_lost(struct lane *lane, uint64_t now_ns)
{
    struct datagrams *datagrams = lane->state;

    for (uint32_t i = 0; i < lane->clients; i++)
        peer_resend(lane, &datagrams->peers[i], now_ns);
}

/* ------------------------------------------------------------------ running ----------- */

static void begin_datagrams(struct lane *lane)
{
    struct datagrams *datagrams = lane->state;

    datagrams->free.len = 0;
    for (uint32_t i = 0; i < lane->clients; i++) {
        struct peer *peer = &datagrams->peers[i];
        uint64_t now_ns = lane_clock_ns();

        for (uint32_t k = 0; k < lane->options->in_flight && peer->fd >= 0; k++) {
            if (lane->arrivals.count > 0)
                release_slot(lane, peer, &peer->slots[k], now_ns);
            else
                request(lane, peer, &peer->slots[k], now_ns, true);
        }
        flush(lane, peer, now_ns);
    }
}

/* The sockets stay for the next run: answers that come too late are known as such. */
static void give_up_peers(struct lane *lane, uint64_t now_ns)
{
    struct datagrams *datagrams = lane->state;

    for (uint32_t i = 0; i < lane->clients; i++) {
        uint32_t under_way = peer_forget(lane, &datagrams->peers[i]);

        if (under_way > 0)
            lane_failed(lane, LOAD_TIMEOUT, under_way);
    }
    lane_give_up(lane, now_ns);
}

static bool datagrams_are_over(const struct lane *lane, uint64_t now_ns)
{
    const struct datagrams *datagrams = lane->state;

    return lane->stopped || datagrams->open == 0 ||
           (datagrams->waiting == 0 && lane_is_over(lane, now_ns));
}

static uint64_t next_datagram_ns(const struct lane *lane, uint64_t now_ns, uint64_t looked_ns)
{
    const struct datagrams *datagrams = lane->state;
    uint64_t at_ns = looked_ns + LANE_MS(LOST_MS / 2);

    if (now_ns < lane->deadline_ns && lane->deadline_ns < at_ns)
        at_ns = lane->deadline_ns;
    if (now_ns < lane->deadline_ns && datagrams->free.len > 0 &&
        pace_next_ns(&lane->arrivals) < at_ns)
        at_ns = pace_next_ns(&lane->arrivals);
    return at_ns;
}

static int datagrams_run(struct lane *lane)
{
    struct epoll_event events[LANE_EVENTS_MAX];
    uint64_t looked_ns = lane_clock_ns();

    begin_datagrams(lane);
    for (;;) {
        uint64_t now_ns = lane_clock_ns();
        int n;

        dispatch(lane, now_ns);
        if (clock_since(looked_ns, now_ns) >= LANE_MS(LOST_MS / 2)) {
            looked_ns = now_ns;
            resend_lost(lane, now_ns);
        }
        if (!lane->stopped && lane_late(lane, now_ns))
            give_up_peers(lane, now_ns);
        if (datagrams_are_over(lane, now_ns))
            return 0;
        n = lane_wait(lane, events, now_ns, next_datagram_ns(lane, now_ns, looked_ns));
        if (n < 0)
            return n;
        for (int i = 0; i < n; i++)
            handle_peer(lane, events[i].data.ptr, events[i].events);
    }
}

/* ------------------------------------------------------------------ creating ---------- */

static int prepare_texts(const struct lane *lane, struct datagrams *datagrams)
{
    int r;

    datagrams->len = line_len(lane);
    if (datagrams->len > LOAD_DATAGRAM_MAX)
        return -EINVAL;
    datagrams->answer = malloc(datagrams->len);
    if (!datagrams->answer)
        return -ENOMEM;
    line_init(datagrams->answer, datagrams->len);
    line_answer(datagrams->answer, datagrams->len, lane->options->mode);
    r = batch_init(&datagrams->in, datagrams->len, datagrams->len + 1);    /* a longer one shows */
    return r < 0 ? r : batch_init(&datagrams->out, datagrams->len, datagrams->len);
}

static int open_peers(struct lane *lane, struct datagrams *datagrams)
{
    uint32_t in_flight = lane->options->in_flight;

    for (uint32_t i = 0; i < lane->clients; i++) {
        struct peer *peer = &datagrams->peers[i];
        int r;

        peer->slots = datagrams->slots + (size_t)i * in_flight;
        peer->out = (struct ring){ datagrams->places + (size_t)i * in_flight, .size = in_flight };
        for (uint32_t k = 0; k < in_flight; k++)
            peer->slots[k].number = k;
        r = peer_open(lane, peer);
        if (r < 0)
            return r;
    }
    return 0;
}

static int datagrams_create(struct lane *lane)
{
    const struct load_options *options = lane->options;
    struct datagrams *datagrams;
    size_t slots;
    int r;

    /* There is no half of a datagram, and no end of a conversation. */
    if (options->mode == LOAD_HTTP || options->per_connection > 0 || options->stalled > 0 ||
        options->trickled > 0)
        return -EINVAL;
    datagrams = calloc(1, sizeof(*datagrams) + lane->clients * sizeof(struct peer));
    if (!datagrams)
        return -ENOMEM;
    lane->state = datagrams;
    for (uint32_t i = 0; i < lane->clients; i++)
        datagrams->peers[i].fd = -1;
    r = prepare_texts(lane, datagrams);
    if (r < 0)
        return r;
    slots = (size_t)lane->clients * options->in_flight;
    datagrams->slots = calloc(slots, sizeof(*datagrams->slots));
    datagrams->places = calloc(2 * slots, sizeof(*datagrams->places));
    if (!datagrams->slots || !datagrams->places)
        return -ENOMEM;
    datagrams->free = (struct ring){ datagrams->places + slots, .size = (uint32_t)slots };
    return open_peers(lane, datagrams);
}

static void datagrams_destroy(struct lane *lane)
{
    struct datagrams *datagrams = lane->state;

    if (!datagrams)
        return;
    for (uint32_t i = 0; i < lane->clients; i++)
        peer_close(datagrams, &datagrams->peers[i]);
    free(datagrams->slots);
    free(datagrams->places);
    free(datagrams->in.texts);
    free(datagrams->out.texts);
    free(datagrams->answer);
    free(datagrams);
}

const struct lane_kind lane_of_datagrams = {
    .create = datagrams_create,
    .run = datagrams_run,
    .destroy = datagrams_destroy,
};
