#include "engine/pool/transport.h"

/* ------------------------------------------------------------------ plain ------------- */

static ssize_t plain_recv(struct connection *conn, void *buf, size_t len, bool *ret_more)
{
    *ret_more = false;
    return sys_recv(conn->fd, buf, len);
}

static ssize_t plain_send(struct connection *conn, const void *buf, size_t len, int flags)
{
    return sys_send_with(conn->fd, buf, len, flags);
}

static ssize_t plain_sendv(struct connection *conn, const struct iovec *iov, size_t iov_len,
                           int flags)
{
    return sys_sendv(conn->fd, iov, iov_len, flags);
}

static ssize_t plain_sendfile(struct connection *conn, int file_fd, off_t offset, size_t len)
{
    return sys_sendfile(conn->fd, file_fd, offset, len);
}

static bool plain_cork(struct connection *conn)
{
    return sys_cork(conn->fd);
}

static void plain_push(struct connection *conn)
{
    sys_push(conn->fd);
}

static int plain_end_output(struct connection *conn)
{
    return sys_shutdown_write(conn->fd);
}

/* shutdown(2) would tell a TCP peer nothing, and have a reset answer what comes behind our FIN. */
static void plain_end_input(struct connection *conn)
{
    (void)conn;
}

static ssize_t plain_discard(struct connection *conn, size_t len)
{
    return sys_discard(conn->fd, len);
}

static size_t plain_unsent(struct connection *conn)
{
    return sys_unsent(conn->fd);
}

/* ------------------------------------------------------------------ unix -------------- */

/* A peer that sends descriptors along makes a read stop short, which only recvmsg(2) tells. */
static ssize_t unix_recv(struct connection *conn, void *buf, size_t len, bool *ret_more)
{
    return sys_recv_unix(conn->fd, buf, len, ret_more);
}

static void unix_end_input(struct connection *conn)
{
    sys_shutdown_read(conn->fd);
}

/* ------------------------------------------------------------------ none -------------- */

static int none_end_output(struct connection *conn)
{
    (void)conn;
    return 0;
}

/* ------------------------------------------------------------------ the table --------- */

const struct transport transports[] = {
    [TRANSPORT_PLAIN] = {
        .sends = true, .resets = true,
        .recv = plain_recv, .send = plain_send, .sendv = plain_sendv, .sendfile = plain_sendfile,
        .cork = plain_cork, .push = plain_push, .end_output = plain_end_output,
        .end_input = plain_end_input, .unsent = plain_unsent, .discard = plain_discard,
    },
    [TRANSPORT_UNIX] = {
        .sends = true,
        .recv = unix_recv, .send = plain_send, .sendv = plain_sendv, .sendfile = plain_sendfile,
        .cork = plain_cork, .push = plain_push, .end_output = plain_end_output,
        .end_input = unix_end_input, .unsent = plain_unsent,
    },
    [TRANSPORT_NONE] = { .end_output = none_end_output },
};
