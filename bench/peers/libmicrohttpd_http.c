/*
 * libmicrohttpd_http.c - libmicrohttpd in its epoll mode, with a pool of two threads.
 *
 *     libmicrohttpd_http                      says hello
 *     libmicrohttpd_http memory|file FILE     answers with the file: read before, or by sendfile
 *
 * One thread would be the like of the others' one worker, but with one alone libmicrohttpd 0.9.75
 * stops to read after a burst of some hundred new connections. Both share the server's CPU.
 */
#include <fcntl.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/peers/peer.h"

enum { THREADS = 2, CONNECTIONS_MAX = 20000 };

static const char name[] = "libmicrohttpd";
static char text[] = "Hello, world!\n";

/* Answering at the first of the two calls for a request would close its connection. */
static enum MHD_Result answer(void *reply, struct MHD_Connection *connection, const char *url,
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

static struct MHD_Response *reply_of_file(const char *how, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    char *data;

    if (fd < 0 || fstat(fd, &status) < 0)
        peer_fail(name, "no such file");
    if (strcmp(how, "file") == 0)
        return MHD_create_response_from_fd64((uint64_t)status.st_size, fd);
    data = malloc((size_t)status.st_size);
    if (!data || read(fd, data, (size_t)status.st_size) != status.st_size)
        peer_fail(name, "the file cannot be read");
    return MHD_create_response_from_buffer((size_t)status.st_size, data, MHD_RESPMEM_PERSISTENT);
}

static struct MHD_Response *reply_of(int argc, char **argv)
{
    if (argc == 3)
        return reply_of_file(argv[1], argv[2]);
    return MHD_create_response_from_buffer(sizeof(text) - 1, text, MHD_RESPMEM_PERSISTENT);
}

int main(int argc, char **argv)
{
    int fd = peer_listen(name, NULL);
    struct MHD_Response *reply = reply_of(argc, argv);

    if (!reply || MHD_add_response_header(reply, "Content-Type", "text/plain") != MHD_YES)
        peer_fail(name, "no memory");
    if (!MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, answer, reply,
                          MHD_OPTION_LISTEN_SOCKET, fd,
                          MHD_OPTION_THREAD_POOL_SIZE, (unsigned)THREADS,
                          MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
                          MHD_OPTION_END))
        peer_fail(name, "cannot start");
    peer_announce(name, fd);
    for (;;)
        pause();
}
