/*
 * libmicrohttpd_hello.c - HTTP hello by libmicrohttpd: its epoll mode with a pool of two threads.
 *
 * One thread would be the like of the others' one worker, but with one alone libmicrohttpd 0.9.75
 * stops to read after a burst of some hundred new connections. Both share the server's CPU.
 */
#include <microhttpd.h>
#include <stddef.h>
#include <unistd.h>

#include "bench/peers/peer.h"

enum { THREADS = 2, CONNECTIONS_MAX = 20000 };

static const char name[] = "libmicrohttpd";
static char text[] = "Hello, world!\n";

/* Answering at the first of the two calls for a request would close its connection. */
static enum MHD_Result hello(void *reply, struct MHD_Connection *connection, const char *url,
                             const char *method, const char *version, const char *upload,
                             size_t *upload_len, void **seen)
{
    (void)url;
    (void)method;
    (void)version;
    (void)upload;
    (void)upload_len;
    if (!*seen) {
        *seen = text;
        return MHD_YES;
    }
    return MHD_queue_response(connection, MHD_HTTP_OK, reply);
}

int main(void)
{
    int fd = peer_listen(name, NULL);
    struct MHD_Response *reply =
        MHD_create_response_from_buffer(sizeof(text) - 1, text, MHD_RESPMEM_PERSISTENT);

    if (!reply || MHD_add_response_header(reply, "Content-Type", "text/plain") != MHD_YES)
        peer_fail(name, "no memory");
    if (!MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, hello, reply,
                          MHD_OPTION_LISTEN_SOCKET, fd,
                          MHD_OPTION_THREAD_POOL_SIZE, (unsigned)THREADS,
                          MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
                          MHD_OPTION_END))
        peer_fail(name, "cannot start");
    peer_announce(name, fd);
    for (;;)
        pause();
}
