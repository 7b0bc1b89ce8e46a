/*
 * load_datagram.c - lanes over datagram sockets: see load_lane.h.
 *
 * Each socket keeps a number of datagrams under way, one a slot. What has come is read by one
 * recvmmsg and answered by one sendmmsg, so that one CPU can keep a server on another busy.
 * Loss is no error: what has no answer after LOST_MS is sent again, as it was. So its answer may
 * come twice.
 */
#include "bench/load_lane.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    LOST_MS = 100,
    SLOT_BITS = 12,
    SLOTS_MAX = 1 << SLOT_BITS,
    BATCH_MAX = 64,
    REPLY_SIZE = LOAD_LINE_LEN + 1,     /* one more, so that a longer one shows */
};

/* A datagram: its number is how often the slot was used and, in the lower bits, which slot. */
struct slot {
    uint32_t number;
    bool waiting;
    uint64_t first_ns;          /* when it was sent first: loss is part of a latency */
    uint64_t sent_ns;           /* and last */
};

struct peer {
    int fd;                     /* -1: broken */
    struct slot *slots;         /* options->in_flight of them */
};

/* Datagrams that one system call receives or sends. */
struct batch {
    struct mmsghdr messages[BATCH_MAX];
    struct iovec pieces[BATCH_MAX];
    char texts[BATCH_MAX][REPLY_SIZE];
};

struct datagrams {
    int epoll_fd;
    uint32_t waiting;           /* datagrams under way */
    char answer[LOAD_LINE_LEN];
    struct batch in;
    struct batch out;
    unsigned out_len;
    struct slot *slots;
    struct peer peers[];
};

/* ------------------------------------------------------------------ batches ----------- */

static void batch_init(struct batch *batch, size_t len)
{
    for (size_t i = 0; i < BATCH_MAX; i++) {
        batch->pieces[i] = (struct iovec){ .iov_base = batch->texts[i], .iov_len = len };
        batch->messages[i].msg_hdr = (struct msghdr){
            .msg_iov = &batch->pieces[i], .msg_iovlen = 1,
        };
        line_init(batch->texts[i]);
    }
}

/* ------------------------------------------------------------------ peers ------------- */

/* A Unix socket needs a name to be answered: the kernel chooses one. */
static int name_unix(int fd)
{
    const struct sockaddr_un unnamed = { .sun_family = AF_UNIX };

    return bind(fd, (const struct sockaddr *)&unnamed, sizeof(unnamed.sun_family));
}

static int peer_open(const struct lane *lane, struct peer *peer)
{
    const struct address *address = lane->address;
    const struct datagrams *datagrams = lane->state;
    struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.ptr = peer };
    int fd = socket(address->sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if ((address->sa.sa_family == AF_UNIX && name_unix(fd) < 0) ||
        connect(fd, &address->sa, address->len) < 0 ||
        epoll_ctl(datagrams->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        int r = -errno;

        close(fd);
        return r;
    }
    peer->fd = fd;
    return 0;
}

static void peer_close(struct peer *peer)
{
    if (peer->fd >= 0)
        close(peer->fd);
    peer->fd = -1;
}

static void peer_fail(struct lane *lane, struct peer *peer, const char *what)
{
    struct datagrams *datagrams = lane->state;

    lane_failed(lane, what);
    for (uint32_t i = 0; i < lane->options->in_flight; i++) {
        datagrams->waiting -= peer->slots[i].waiting;
        peer->slots[i].waiting = false;
    }
    peer_close(peer);
}

/* ------------------------------------------------------------------ requests ---------- */

/* What the socket does not take counts as lost, and will be sent again. */
static void flush(struct lane *lane, struct peer *peer)
{
    struct datagrams *datagrams = lane->state;
    unsigned len = datagrams->out_len;

    datagrams->out_len = 0;
    if (len == 0 || peer->fd < 0)
        return;
    if (sendmmsg(peer->fd, datagrams->out.messages, len, MSG_NOSIGNAL) < 0 &&
        errno != EAGAIN && errno != ENOBUFS)
        peer_fail(lane, peer, "a datagram could not be sent");
}

static void queue(struct lane *lane, struct peer *peer, struct slot *slot, uint64_t now_ns)
{
    struct datagrams *datagrams = lane->state;

    slot->sent_ns = now_ns;
    line_stamp(datagrams->out.texts[datagrams->out_len++], slot->number);
    if (datagrams->out_len == BATCH_MAX)
        flush(lane, peer);
}

static void request(struct lane *lane, struct peer *peer, struct slot *slot, uint64_t now_ns)
{
    struct datagrams *datagrams = lane->state;

    slot->number += SLOTS_MAX;
    slot->first_ns = now_ns;
    datagrams->waiting += !slot->waiting;
    slot->waiting = true;
    queue(lane, peer, slot, now_ns);
}

/* False: it is nothing that this socket ever waited for. */
static bool reply_take(struct lane *lane, struct peer *peer, const char *reply, size_t len,
                       uint64_t now_ns)
{
    struct datagrams *datagrams = lane->state;
    uint32_t number, i;
    struct slot *slot;

    if (len != LOAD_LINE_LEN || !line_number(reply, &number))
        return false;
    line_stamp(datagrams->answer, number);
    i = number % SLOTS_MAX;
    if (i >= lane->options->in_flight || memcmp(reply, datagrams->answer, LOAD_LINE_LEN) != 0)
        return false;

    slot = &peer->slots[i];
    lane->reply_len = len;
    if (!slot->waiting || slot->number != number)
        return true;            /* it was sent twice, and answered twice */
    lane_answered(lane, slot->first_ns, now_ns);
    if (now_ns < lane->deadline_ns) {
        request(lane, peer, slot, now_ns);
        return true;
    }
    slot->waiting = false;
    datagrams->waiting--;
    return true;
}

static void replies_receive(struct lane *lane, struct peer *peer)
{
    struct datagrams *datagrams = lane->state;
    struct batch *in = &datagrams->in;
    int n;

    do {
        n = recvmmsg(peer->fd, in->messages, BATCH_MAX, MSG_DONTWAIT, NULL);
        if (n < 0) {
            if (errno != EAGAIN)
                peer_fail(lane, peer, "a socket broke");
            return;
        }
        uint64_t now_ns = lane_clock_ns();

        for (int i = 0; i < n; i++) {
            if (!reply_take(lane, peer, in->texts[i], in->messages[i].msg_len, now_ns)) {
                peer_fail(lane, peer, "a wrong reply");
                break;
            }
        }
        flush(lane, peer);
    } while (n == BATCH_MAX && peer->fd >= 0);
}

/* ------------------------------------------------------------------ losses ------------ */

static void peer_resend(struct lane *lane, struct peer *peer, uint64_t now_ns)
{
    for (uint32_t i = 0; i < lane->options->in_flight && peer->fd >= 0; i++) {
        struct slot *slot = &peer->slots[i];

        if (!slot->waiting || now_ns - slot->sent_ns < LOST_MS * 1000000ull)
            continue;
        if (now_ns - slot->first_ns > LANE_SILENCE_MS * 1000000ull) {
            peer_fail(lane, peer, "no answer for seconds");
            return;
        }
        lane->result.lost++;
        queue(lane, peer, slot, now_ns);
    }
    flush(lane, peer);
}

static void resend_lost(struct lane *lane, uint64_t now_ns)
{
    struct datagrams *datagrams = lane->state;

    for (uint32_t i = 0; i < lane->clients; i++)
        peer_resend(lane, &datagrams->peers[i], now_ns);
}

/* ------------------------------------------------------------------ running ----------- */

static void start(struct lane *lane)
{
    struct datagrams *datagrams = lane->state;

    for (uint32_t i = 0; i < lane->clients; i++) {
        struct peer *peer = &datagrams->peers[i];
        uint64_t now_ns = lane_clock_ns();

        for (uint32_t k = 0; k < lane->options->in_flight && peer->fd >= 0; k++)
            request(lane, peer, &peer->slots[k], now_ns);
        flush(lane, peer);
    }
}

static int datagrams_run(struct lane *lane)
{
    struct datagrams *datagrams = lane->state;
    struct epoll_event events[LANE_EVENTS_MAX];
    uint64_t looked_ns = lane_clock_ns();

    start(lane);
    while (datagrams->waiting > 0) {
        int n = epoll_wait(datagrams->epoll_fd, events, LANE_EVENTS_MAX, LOST_MS / 2);
        uint64_t now_ns;

        if (n < 0 && errno != EINTR)
            return -errno;
        for (int i = 0; i < n; i++)
            replies_receive(lane, events[i].data.ptr);
        now_ns = lane_clock_ns();
        if (now_ns - looked_ns >= LOST_MS / 2 * 1000000ull) {
            looked_ns = now_ns;
            resend_lost(lane, now_ns);
        }
    }
    return 0;
}

static int datagrams_stall(struct lane *lane)
{
    (void)lane;
    return -EOPNOTSUPP;         /* there is no half of a datagram */
}

/* ------------------------------------------------------------------ creating ---------- */

static int datagrams_create(struct lane *lane)
{
    uint32_t in_flight = lane->options->in_flight;
    struct datagrams *datagrams;

    if (lane->options->mode == LOAD_HTTP || in_flight > SLOTS_MAX)
        return -EINVAL;
    datagrams = calloc(1, sizeof(*datagrams) + lane->clients * sizeof(struct peer));
    if (!datagrams)
        return -ENOMEM;
    lane->state = datagrams;
    for (uint32_t i = 0; i < lane->clients; i++)
        datagrams->peers[i].fd = -1;
    batch_init(&datagrams->in, REPLY_SIZE);
    batch_init(&datagrams->out, LOAD_LINE_LEN);
    line_init(datagrams->answer);
    line_answer(datagrams->answer, lane->options->mode);

    datagrams->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (datagrams->epoll_fd < 0)
        return -errno;
    datagrams->slots = calloc((size_t)lane->clients * in_flight, sizeof(*datagrams->slots));
    if (!datagrams->slots)
        return -ENOMEM;
    for (uint32_t i = 0; i < lane->clients; i++) {
        struct peer *peer = &datagrams->peers[i];
        int r;

        peer->slots = datagrams->slots + (size_t)i * in_flight;
        for (uint32_t k = 0; k < in_flight; k++)
            peer->slots[k].number = k;
        r = peer_open(lane, peer);
        if (r < 0)
            return r;
    }
    return 0;
}

static void datagrams_destroy(struct lane *lane)
{
    struct datagrams *datagrams = lane->state;

    if (!datagrams)
        return;
    for (uint32_t i = 0; i < lane->clients; i++)
        peer_close(&datagrams->peers[i]);
    if (datagrams->epoll_fd >= 0)
        close(datagrams->epoll_fd);
    free(datagrams->slots);
    free(datagrams);
}

const struct lane_kind lane_of_datagrams = {
    .create = datagrams_create,
    .run = datagrams_run,
    .stall = datagrams_stall,
    .destroy = datagrams_destroy,
};
