/*
 * libuv_lines.c - line echo as libuv's users write it: what a read brought is sent back from the
 * buffer that it is in, by uv_try_write if the socket takes it. Nobody looks for the lines' ends.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "bench/peers/peer.h"

enum { INPUT_SIZE = 65536 };

struct late {
    uv_write_t request;
    char data[];
};

union handle {
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
};

static const char name[] = "libuv";
static char input[INPUT_SIZE];      /* one is enough: a read is done with before the next */

static void on_alloc(uv_handle_t *handle, size_t wanted, uv_buf_t *ret_buf)
{
    (void)handle;
    (void)wanted;
    *ret_buf = uv_buf_init(input, sizeof(input));
}

static void on_closed(uv_handle_t *handle)
{
    free(handle);
}

static void drop(uv_stream_t *stream)
{
    if (!uv_is_closing((uv_handle_t *)stream))
        uv_close((uv_handle_t *)stream, on_closed);
}

static void on_written(uv_write_t *request, int status)
{
    if (status < 0)
        drop(request->handle);
    free(request->data);
}

/* What the socket did not take at once is copied, and waits. */
static void write_later(uv_stream_t *stream, const char *data, size_t len)
{
    struct late *late = malloc(sizeof(*late) + len);
    uv_buf_t buf;

    if (!late) {
        drop(stream);
        return;
    }
    memcpy(late->data, data, len);
    late->request.data = late;
    buf = uv_buf_init(late->data, (unsigned)len);
    if (uv_write(&late->request, stream, &buf, 1, on_written) < 0) {
        free(late);
        drop(stream);
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    int sent;

    if (n < 0) {
        drop(stream);
        return;
    }
    sent = n > 0 ? uv_try_write(stream, &(uv_buf_t){ buf->base, (size_t)n }, 1) : 0;
    if (sent < 0 && sent != UV_EAGAIN)
        drop(stream);
    else if (sent < n)
        write_later(stream, buf->base + (sent > 0 ? sent : 0),
                    (size_t)(n - (sent > 0 ? sent : 0)));
}

/* A handle of the listener's kind. */
static void init(uv_loop_t *loop, union handle *handle, bool is_unix)
{
    if (is_unix)
        uv_pipe_init(loop, &handle->pipe, 0);
    else
        uv_tcp_init(loop, &handle->tcp);
}

static void on_connection(uv_stream_t *listener, int status)
{
    union handle *client = status < 0 ? NULL : malloc(sizeof(*client));

    if (!client)
        return;
    init(listener->loop, client, listener->type == UV_NAMED_PIPE);
    if (uv_accept(listener, &client->stream) < 0 ||
        uv_read_start(&client->stream, on_alloc, on_read) < 0)
        drop(&client->stream);
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : NULL;
    int fd = peer_listen(name, path);
    uv_loop_t *loop = uv_default_loop();
    union handle listener;

    signal(SIGPIPE, SIG_IGN);
    init(loop, &listener, path);
    if ((path ? uv_pipe_open(&listener.pipe, fd) : uv_tcp_open(&listener.tcp, fd)) < 0 ||
        uv_listen(&listener.stream, SOMAXCONN, on_connection) < 0)
        peer_fail(name, "cannot start");
    peer_announce(name, fd);
    uv_run(loop, UV_RUN_DEFAULT);
    return 1;
}
