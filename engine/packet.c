#include "engine/packet.h"

#include "engine/compiler.h"
#include "engine/sys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Room for the sender's ids, and for no descriptors: the kernel drops those that come. */
#define CONTROL_SIZE CMSG_SPACE(sizeof(struct ucred))

struct packet_tray {
    struct packet_format format;
    struct buffers *buffers;
    unsigned stale;             /* so many messages from the first have been received into */
    bool is_short;              /* had fewer places the last time than it was asked for */
    struct packet *packets[PACKET_BATCH];
    struct mmsghdr messages[PACKET_BATCH];
    struct iovec parts[PACKET_BATCH];
    _Alignas(struct cmsghdr) unsigned char control[PACKET_BATCH][CONTROL_SIZE];
};

/* ------------------------------------------------------------------ a packet ---------- */

static size_t data_offset(const struct packet_format *format)
{
    return offsetof(struct packet, conn.user_state) + format->state_size;
}

void packet_buffers_init(struct buffers *buffers, const struct packet_format *format)
{
    buffers_init_aligned(buffers, data_offset(format) + format->data_size,
                         _Alignof(struct packet));
}

static void give_back(char *block, struct buffers *buffers)
{
    if (buffers)
        buffers_put(buffers, block);
    else
        free(block);
}

void packet_end(struct packet *packet, struct buffers *packets, struct buffers *replies)
{
    if (packet->reply && replies)
        buffers_put_sized(replies, packet->reply, packet->reply_size);
    else
        free(packet->reply);
    give_back((char *)packet, packets);
}

int packet_send(const struct packet *packet)
{
    return sys_send_to(packet->conn.fd, packet->reply, packet->reply_len,
                       (const struct sockaddr *)&packet->peer, packet->peer_len);
}

int packet_send_all(struct packet *const *packets, unsigned len)
{
    struct mmsghdr messages[PACKET_BATCH];
    struct iovec parts[PACKET_BATCH];

    for (unsigned i = 0; i < len; i++) {
        struct packet *packet = packets[i];

        parts[i] = (struct iovec){ packet->reply, packet->reply_len };
        messages[i].msg_hdr = (struct msghdr){
            .msg_name = &packet->peer, .msg_namelen = packet->peer_len,
            .msg_iov = &parts[i], .msg_iovlen = 1,
        };
    }
    return sys_sendmmsg(packets[0]->conn.fd, messages, len);
}

/* ------------------------------------------------------------------ the tray ---------- */

struct packet_tray *packet_tray_create(const struct packet_format *format,
                                       struct buffers *buffers)
{
    struct packet_tray *tray = calloc(1, sizeof(*tray));

    if (!tray)
        return NULL;
    tray->format = *format;
    tray->buffers = buffers;
    tray->stale = PACKET_BATCH;
    return tray;
}

void packet_tray_destroy(struct packet_tray *tray)
{
    if (!tray)
        return;
    for (unsigned i = 0; i < PACKET_BATCH; i++)
        free(tray->packets[i]);
    free(tray);
}

/* An empty packet at the i-th place. */
static int fill_place(struct packet_tray *tray, unsigned i)
{
    struct packet *packet = (struct packet *)(void *)buffers_get(tray->buffers);

    if (!packet)
        return -ENOMEM;
    packet->data = (char *)packet + data_offset(&tray->format);
    tray->packets[i] = packet;
    tray->parts[i] = (struct iovec){ packet->data, tray->format.data_size };
    return 0;
}

/* The kernel has overwritten the lengths of what it received there last. */
static void ready_place(struct packet_tray *tray, unsigned i)
{
    tray->messages[i].msg_hdr = (struct msghdr){
        .msg_name = &tray->packets[i]->peer, .msg_namelen = sizeof(tray->packets[i]->peer),
        .msg_iov = &tray->parts[i], .msg_iovlen = 1,
        .msg_control = tray->control[i], .msg_controllen = CONTROL_SIZE,
    };
}

/* How many places from the first can be received into. */
static unsigned make_ready(struct packet_tray *tray)
{
    for (unsigned i = 0; i < tray->stale; i++) {
        if (!tray->packets[i] && fill_place(tray, i) < 0)
            return i;
        ready_place(tray, i);
    }
    tray->stale = 0;
    return PACKET_BATCH;
}

static void note_sender(struct packet *packet, const struct msghdr *header)
{
    struct cmsghdr *control = CMSG_FIRSTHDR(header);

    packet->knows_sender = control && control->cmsg_level == SOL_SOCKET &&
                           control->cmsg_type == SCM_CREDENTIALS;
    if (packet->knows_sender)
        memcpy(&packet->sender, CMSG_DATA(control), sizeof(packet->sender));
}

static void note_arrival(struct packet *packet, const struct mmsghdr *message)
{
    packet->peer_len = message->msg_hdr.msg_namelen;
    if (packet->peer_len == 0) {
        packet->peer.ss_family = AF_UNIX;
        packet->peer_len = sizeof(packet->peer.ss_family);
    }
    packet->len = message->msg_len;
    packet->truncated = message->msg_hdr.msg_flags & MSG_TRUNC;
    note_sender(packet, &message->msg_hdr);
}

int packet_tray_receive(struct packet_tray *tray, int fd, unsigned max)
{
    unsigned ready = make_ready(tray);
    int n;

    if (ready == 0)
        return -ENOMEM;
    tray->is_short = ready < max;
    n = sys_recvmmsg(fd, tray->messages, ready < max ? ready : max);
    for (int i = 0; i < n; i++)
        note_arrival(tray->packets[i], &tray->messages[i]);
    if (n > (int)tray->stale)
        tray->stale = (unsigned)n;
    return n;
}

bool packet_tray_was_short(const struct packet_tray *tray)
{
    return tray->is_short;
}

struct packet *packet_tray_look(struct packet_tray *tray, unsigned i)
{
    return tray->packets[i];
}

static void init_connection(struct connection *conn, const struct packet_origin *origin)
{
    memset(conn, 0, offsetof(struct connection, user_state) + origin->handler->state_size);
    conn->kind = CONNECTION_PACKET;
    conn->fd = origin->fd;
    conn->handler = origin->handler;
    conn->listen = origin->listen;
    atomic_init(&conn->state, CONNECTION_QUEUED);
}

struct packet *packet_tray_take(struct packet_tray *tray, unsigned i,
                                const struct packet_origin *origin)
{
    struct packet *packet = tray->packets[i];

    tray->packets[i] = NULL;
    packet->answered = false;
    packet->reply = NULL;
    packet->receiver = origin->receiver;
    init_connection(&packet->conn, origin);
    return packet;
}
