#include "engine/pool/packet.h"

#include "engine/base/compiler.h"
#include "engine/base/sys.h"
#include "engine/pool/transport.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Room for what the listener asks for, one of a Unix sender's ids, a struct in_pktinfo and a struct
 * in6_pktinfo. For no descriptors behind the ids: the kernel drops those that come.
 */
#define CONTROL_SIZE CMSG_SPACE(sizeof(struct in6_pktinfo))

_Static_assert(CONTROL_SIZE < CMSG_SPACE(sizeof(struct ucred)) + CMSG_LEN(sizeof(int)),
               "there is no room for a descriptor");

struct packet_tray {
    struct packet_format format;
    struct buffers *buffers;
    unsigned stale;             /* messages, from the first, that have been received into */
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

/* ------------------------------------------------------------------ its local end ----- */

static bool is_multicast(const struct in6_addr *host)
{
    return IN6_IS_ADDR_MULTICAST(host) ||
           (IN6_IS_ADDR_V4MAPPED(host) && IN_MULTICAST(ntohl(host->s6_addr32[3])));
}

/* Of what was sent to a group or to all, the first tells an address of the interface's. */
static void note_local(struct packet_local *local, const struct cmsghdr *control)
{
    struct in_pktinfo info;
    struct in6_pktinfo info6;

    if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_PKTINFO) {
        memcpy(&info, CMSG_DATA(control), sizeof(info));
        local->family = AF_INET;
        memcpy(&local->host, &info.ipi_spec_dst, sizeof(info.ipi_spec_dst));
    } else if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_PKTINFO) {
        memcpy(&info6, CMSG_DATA(control), sizeof(info6));
        if (is_multicast(&info6.ipi6_addr))
            return;
        local->family = AF_INET6;
        local->host = info6.ipi6_addr;
        local->scope = IN6_IS_ADDR_LINKLOCAL(&info6.ipi6_addr) ? info6.ipi6_ifindex : 0;
    }
}

void packet_local_address(const struct packet *packet, struct sockaddr_storage *socket_address)
{
    const struct packet_local *local = &packet->local;

    if (local->family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)socket_address;

        memcpy(&in->sin_addr, &local->host, sizeof(in->sin_addr));
    } else if (local->family == AF_INET6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)socket_address;

        in6->sin6_addr = local->host;
        in6->sin6_scope_id = local->scope;
    }
}

/* ------------------------------------------------------------------ the reply --------- */

/* A message to be sent, and room for what goes with it. */
struct outgoing {
    struct iovec part;
    _Alignas(struct cmsghdr) unsigned char control[CONTROL_SIZE];
};

static void set_source(struct msghdr *header, int level, int type, const void *info, size_t len)
{
    struct cmsghdr *control = header->msg_control;

    control->cmsg_level = level;
    control->cmsg_type = type;
    control->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(control), info, len);
    header->msg_controllen = CMSG_SPACE(len);
}

/* The reply comes from where its peer has sent the datagram to. */
static void add_source(struct msghdr *header, struct outgoing *outgoing,
                       const struct packet_local *local)
{
    struct in6_pktinfo info6 = { .ipi6_addr = local->host, .ipi6_ifindex = local->scope };
    struct in_pktinfo info = { .ipi_ifindex = 0 };

    if (local->family == AF_UNSPEC)
        return;
    header->msg_control = outgoing->control;
    if (local->family == AF_INET6) {
        set_source(header, IPPROTO_IPV6, IPV6_PKTINFO, &info6, sizeof(info6));
        return;
    }
    memcpy(&info.ipi_spec_dst, &local->host, sizeof(info.ipi_spec_dst));
    set_source(header, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
}

static struct msghdr reply_header(struct packet *packet, struct outgoing *outgoing)
{
    outgoing->part = (struct iovec){ packet->reply, packet->reply_len };
    return (struct msghdr){
        .msg_name = &packet->peer, .msg_namelen = packet->peer_len,
        .msg_iov = &outgoing->part, .msg_iovlen = 1,
    };
}

int packet_send(struct packet *packet)
{
    struct outgoing outgoing;
    struct msghdr header = reply_header(packet, &outgoing);
    int r;

    add_source(&header, &outgoing, &packet->local);
    r = sys_send_message(packet->conn.fd, &header);
    if (r < 0 && r != -EAGAIN && header.msg_controllen > 0) {
        /* Perhaps nothing can be sent from there: it is for all of a network, or ours no more. */
        header.msg_controllen = 0;
        r = sys_send_message(packet->conn.fd, &header);
    }
    return r;
}

int packet_send_all(struct packet *const *packets, unsigned len)
{
    struct mmsghdr messages[PACKET_BATCH];
    struct outgoing outgoing[PACKET_BATCH];
    int n;

    for (unsigned i = 0; i < len; i++) {
        messages[i].msg_hdr = reply_header(packets[i], &outgoing[i]);
        add_source(&messages[i].msg_hdr, &outgoing[i], &packets[i]->local);
    }
    n = sys_sendmmsg(packets[0]->conn.fd, messages, len);
    if (WEIR_LIKELY(n > 0) || n == -EAGAIN || packets[0]->local.family == AF_UNSPEC)
        return n;
    n = packet_send(packets[0]);
    return n == 0 ? 1 : n;
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

/* The kernel says one thing at most: a listener asks for one. */
static void note_control(struct packet *packet, const struct msghdr *header)
{
    const struct cmsghdr *control = CMSG_FIRSTHDR(header);

    packet->local = (struct packet_local){ .family = AF_UNSPEC };
    packet->knows_sender = control && control->cmsg_level == SOL_SOCKET &&
                           control->cmsg_type == SCM_CREDENTIALS;
    if (packet->knows_sender)
        memcpy(&packet->sender, CMSG_DATA(control), sizeof(packet->sender));
    else if (control)
        note_local(&packet->local, control);
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
    note_control(packet, &message->msg_hdr);
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
    const struct weir_handler *handler = origin->endpoint->handler;

    memset(conn, 0, offsetof(struct connection, user_state) + handler->state_size);
    conn->kind = CONNECTION_PACKET;
    conn->transport = TRANSPORT_NONE;
    conn->fd = origin->fd;
    conn->handler = handler;
    conn->endpoint = origin->endpoint;
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
