#include "tests/simulation/datagrams.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WAITING_MAX 64
#define SOCKETS_MAX 4
#define PEERS_MAX 64

struct datagram {
    struct sockaddr_in from;
    size_t len;
    unsigned char data[DATAGRAM_MAX];
};

struct socket {
    struct file file;
    struct sockaddr_in name;
    struct datagram waiting[WAITING_MAX];
    unsigned from, len;
};

static struct socket *sockets[SOCKETS_MAX];
static struct datagram_peer *peers[PEERS_MAX];
static unsigned peers_len;

void *__real_calloc(size_t n, size_t size);
void __real_free(void *memory);

static uint32_t socket_poll(struct file *file)
{
    const struct socket *socket = (const struct socket *)file;

    return EPOLLOUT | (socket->len > 0 ? EPOLLIN : 0u);
}

static void socket_close(struct file *file)
{
    for (unsigned i = 0; i < SOCKETS_MAX; i++)
        if (sockets[i] == (struct socket *)file)
            sockets[i] = NULL;
    __real_free(file);
}

static const struct file_kind socket_kind = { "datagram socket", socket_poll, socket_close };

static struct socket *socket_of(int fd)
{
    struct file *file = file_of(fd);

    return file && file->kind == &socket_kind ? (struct socket *)file : NULL;
}

bool datagrams_is_one(int fd)
{
    return socket_of(fd) != NULL;
}

int datagrams_open(void)
{
    struct socket *socket = __real_calloc(1, sizeof(*socket));
    unsigned i = 0;
    int fd;

    while (i < SOCKETS_MAX && sockets[i])
        i++;
    if (!socket || i == SOCKETS_MAX)
        abort();
    file_init(&socket->file, &socket_kind);
    fd = file_open(&socket->file);
    if (fd < 0)
        __real_free(socket);
    else
        sockets[i] = socket;
    return fd;
}

int datagrams_bind(int fd, const struct sockaddr_in *name)
{
    socket_of(fd)->name = *name;
    return 0;
}

int datagrams_name(int fd, struct sockaddr_in *ret)
{
    *ret = socket_of(fd)->name;
    return 0;
}

/* ------------------------------------------------------------------ receiving --------- */

static void take_datagram(struct socket *socket, struct mmsghdr *message)
{
    const struct datagram *datagram = &socket->waiting[socket->from++ % WAITING_MAX];
    const struct iovec *part = &message->msg_hdr.msg_iov[0];
    size_t len = datagram->len < part->iov_len ? datagram->len : part->iov_len;

    socket->len--;
    memcpy(part->iov_base, datagram->data, len);
    memcpy(message->msg_hdr.msg_name, &datagram->from, sizeof(datagram->from));
    message->msg_hdr.msg_namelen = sizeof(datagram->from);
    message->msg_hdr.msg_controllen = 0;
    message->msg_hdr.msg_flags = datagram->len > part->iov_len ? MSG_TRUNC : 0;
    message->msg_len = (unsigned)len;
}

int datagrams_receive(int fd, struct mmsghdr *messages, unsigned len)
{
    struct socket *socket = socket_of(fd);
    unsigned n = 0;

    if (!socket)
        return file_of(fd) ? -ENOTSOCK : -EBADF;
    while (n < len && socket->len > 0)
        take_datagram(socket, &messages[n++]);
    return n > 0 ? (int)n : -EAGAIN;
}

bool datagrams_arrive(uint16_t port, const struct datagram_peer *peer, const unsigned char *data,
                      size_t len)
{
    struct socket *socket = NULL;
    struct datagram *datagram;

    for (unsigned i = 0; i < SOCKETS_MAX; i++)
        if (sockets[i] && sockets[i]->name.sin_port == htons(port))
            socket = sockets[i];
    if (!socket || socket->len == WAITING_MAX || len > DATAGRAM_MAX)
        return false;
    datagram = &socket->waiting[(socket->from + socket->len++) % WAITING_MAX];
    datagram->from = peer->name;
    datagram->len = len;
    memcpy(datagram->data, data, len);
    file_tell(&socket->file, EPOLLIN);
    return true;
}

unsigned datagrams_waiting(void)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < SOCKETS_MAX; i++)
        sum += sockets[i] ? sockets[i]->len : 0;
    return sum;
}

/* ------------------------------------------------------------------ sending ----------- */

void datagrams_meet(struct datagram_peer *peer)
{
    if (peers_len == PEERS_MAX)
        abort();
    peers[peers_len++] = peer;
}

int datagrams_send_one(int fd, const struct msghdr *message)
{
    const struct sockaddr_in *to = message->msg_name;

    if (!socket_of(fd))
        return file_of(fd) ? -ENOTSOCK : -EBADF;
    for (unsigned i = 0; i < peers_len; i++)
        if (peers[i]->name.sin_port == to->sin_port)
            peers[i]->receive(peers[i], message->msg_iov[0].iov_base, message->msg_iov[0].iov_len);
    return 0;
}

int datagrams_send(int fd, struct mmsghdr *messages, unsigned len)
{
    for (unsigned i = 0; i < len; i++) {
        int r = datagrams_send_one(fd, &messages[i].msg_hdr);

        if (r < 0)
            return i > 0 ? (int)i : r;
        messages[i].msg_len = (unsigned)messages[i].msg_hdr.msg_iov[0].iov_len;
    }
    return (int)len;
}
