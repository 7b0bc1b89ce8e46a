#include "tests/simulation/streams.h"

#include "tests/simulation/report.h"
#include "tests/simulation/trace.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define BACKLOG_MAX 256
#define LISTENERS 8

struct listener {
    struct file file;
    struct sockaddr_in name;
    bool is_unix, is_bound, listens;
    struct stream *waiting[BACKLOG_MAX];
    unsigned waiting_from, waiting_len, backlog;
};

static struct streams_options how = { .size = 4096, .window = 2048 };
static struct stream *accepted[FILES_MAX], *opened[FILES_MAX];
static unsigned accepted_len, accept_most, opened_len;
static void (*answer)(struct stream *theirs);
static uint16_t answered_port;
static struct listener *listeners[LISTENERS];
static unsigned listeners_len;
static uint16_t next_port = 20000;

void *__real_calloc(size_t n, size_t size);
void *__real_malloc(size_t size);
void __real_free(void *memory);

void streams_set(const struct streams_options *options)
{
    how = *options;
}

/* ------------------------------------------------------------------ an end ------------ */

static uint32_t stream_poll(struct file *file);
static void stream_close(struct file *file);

static const struct file_kind stream_kind = { "stream", stream_poll, stream_close };

static struct stream *new_stream(void)
{
    struct stream *stream = __real_calloc(1, sizeof(*stream));

    if (!stream)
        abort();
    file_init(&stream->file, &stream_kind);
    stream->size = how.size;
    stream->window = how.window < how.size ? how.window : how.size;
    stream->data = __real_malloc(stream->size);
    if (!stream->data)
        abort();
    return stream;
}

static void free_stream(struct stream *stream)
{
    __real_free(stream->data);
    __real_free(stream);
}

static void make_unix(struct stream *stream)
{
    stream->is_unix = true;
    stream->window = stream->size;
}

static void marry(struct stream *a, struct stream *b)
{
    a->peer = b;
    b->peer = a;
    a->peer_name = b->name;
    b->peer_name = a->name;
}

size_t stream_unread(const struct stream *stream)
{
    return (size_t)(stream->received - stream->read);
}

size_t stream_room(const struct stream *stream)
{
    return stream->peer ? stream->peer->size - stream_unread(stream->peer) : SIZE_MAX;
}

size_t stream_unsent(const struct stream *stream)
{
    size_t unread = stream->peer ? stream_unread(stream->peer) : 0;

    return stream->peer && unread > stream->peer->window ? unread - stream->peer->window : 0;
}

/* For TCP it is a third of the buffer, for a Unix socket all but a quarter. */
bool stream_is_writable(const struct stream *stream)
{
    const struct stream *peer = stream->peer;

    if (!peer)
        return true;
    return stream->is_unix ? stream_unread(peer) <= peer->size / 4
                           : stream_room(stream) >= peer->size / 3;
}

static uint32_t stream_poll(struct file *file)
{
    struct stream *stream = (struct stream *)file;
    uint32_t events = 0;

    if (stream->connecting)
        return 0;
    if (stream->error != 0)
        events |= EPOLLERR;
    if (stream->end_received && stream->end_sent)
        events |= EPOLLHUP;
    if (stream->end_received)
        events |= EPOLLIN | EPOLLRDHUP;
    if (stream_unread(stream) > 0)
        events |= EPOLLIN;
    if (stream->end_sent || stream_is_writable(stream))
        events |= EPOLLOUT;
    else
        stream->wants_room = true;
    return events;
}

static void tell(struct stream *stream, uint32_t events)
{
    file_tell(&stream->file, events);
    if (stream->on_change)
        stream->on_change(stream);
}

/* ------------------------------------------------------------------ bytes ------------- */

static void put_bytes(struct stream *stream, const unsigned char *buf, size_t len)
{
    for (size_t done = 0; done < len;) {
        size_t at = (size_t)(stream->received % stream->size);
        size_t span = stream->size - at < len - done ? stream->size - at : len - done;

        memcpy(stream->data + at, buf + done, span);
        stream->received += span;
        done += span;
    }
}

static void get_bytes(struct stream *stream, unsigned char *buf, size_t len)
{
    for (size_t done = 0; done < len;) {
        size_t at = (size_t)(stream->read % stream->size);
        size_t span = stream->size - at < len - done ? stream->size - at : len - done;

        if (buf)
            memcpy(buf + done, stream->data + at, span);
        stream->read += span;
        done += span;
    }
}

static void receive_reset(struct stream *stream)
{
    /* What lies in the window can still be read; the sender has forgotten the rest. */
    if (stream_unread(stream) > stream->window)
        stream->received = stream->read + stream->window;
    stream->error = stream->connecting ? ECONNREFUSED : stream->end_received ? EPIPE : ECONNRESET;
    stream->connecting = false;
    if (!stream->end_received)
        stream->ended_ns = scheduler_now_ns();
    stream->was_reset = true;
    stream->end_received = true;
    stream->end_sent = true;
    stream->peer = NULL;
    tell(stream, EPOLLERR);
    tell(stream, 0);
}

static void send_reset(struct stream *stream)
{
    struct stream *peer = stream->peer;

    stream->peer = NULL;
    if (peer)
        receive_reset(peer);
}

/* 0, or what is to be told once. */
static int take_error(struct stream *stream)
{
    int error = stream->error;

    stream->error = 0;
    return -error;
}

ssize_t stream_send(struct stream *stream, const void *buf, size_t len)
{
    struct stream *peer = stream->peer;
    size_t room = stream_room(stream);

    if (stream->is_unix && stream->end_sent)
        return -EPIPE;
    if (stream->error != 0)
        return take_error(stream);
    if (stream->end_sent)
        return -EPIPE;
    if (stream->connecting)
        return -ENOTCONN;
    if (!peer) {
        /* It goes on its way, and a reset comes back: nobody is there. */
        receive_reset(stream);
        return (ssize_t)len;
    }
    if (room == 0 && !stream->was_refused)
        stream->refused_ns = scheduler_now_ns();
    stream->was_refused = room == 0;
    if (room == 0) {
        stream->wants_room = true;
        peer->peer_lacked_room = true;
        return -EAGAIN;
    }
    if (len > room)
        len = room;
    if (stream_unread(peer) == 0)
        peer->since_ns = scheduler_now_ns();
    peer->arrived_ns = stream->sent_ns = scheduler_now_ns();
    put_bytes(peer, buf, len);
    stream->sent += len;
    tell(peer, EPOLLIN);
    return (ssize_t)len;
}

ssize_t stream_receive(struct stream *stream, void *buf, size_t len)
{
    struct stream *peer = stream->peer;
    size_t unread = stream_unread(stream);

    if (unread == 0) {
        if (stream->error != 0)
            return take_error(stream);
        return stream->end_received ? 0 : -EAGAIN;
    }
    if (len > unread)
        len = unread;
    if (stream->cut > stream->read && len > stream->cut - stream->read)
        len = stream->cut - stream->read;
    stream->was_cut = stream->cut == stream->read + len;
    get_bytes(stream, buf, len);
    if (peer && peer->wants_room && stream_is_writable(peer)) {
        peer->wants_room = false;
        tell(peer, EPOLLOUT);
    }
    return (ssize_t)len;
}

void stream_end(struct stream *stream)
{
    struct stream *peer = stream->peer;

    if (stream->end_sent)
        return;
    stream->end_sent = true;
    if (peer) {
        peer->end_received = true;
        peer->ended_ns = scheduler_now_ns();
        tell(peer, 0);
    }
    /* Its own poll says EPOLLHUP from now on, if the other end has come before. */
    file_tell(&stream->file, 0);
}

void stream_send_descriptors(struct stream *stream)
{
    struct stream *peer = stream->peer;

    if (peer && stream->is_unix && peer->cut <= peer->read)
        peer->cut = peer->received;
}

/* The other end can send no more, either, and hears of what was left unread. */
static void part(struct stream *stream)
{
    struct stream *peer = stream->peer;

    stream->peer = NULL;
    if (!peer)
        return;
    peer->peer = NULL;
    peer->error = stream_unread(stream) > 0 ? ECONNRESET : 0;
    peer->end_received = peer->end_sent = true;
    peer->ended_ns = scheduler_now_ns();
    tell(peer, 0);
}

void stream_reset(struct stream *stream)
{
    stream->end_sent = true;
    stream->end_received = true;
    if (stream->is_unix) {
        part(stream);
        return;
    }
    stream->read = stream->received;
    send_reset(stream);
}

/* With input that nobody has read a close is a reset. */
static void hang_up(struct stream *stream)
{
    struct stream *peer = stream->peer;

    if (stream->is_unix || stream_unread(stream) > 0) {
        stream_reset(stream);
        return;
    }
    stream_end(stream);
    stream->peer = NULL;
    if (peer)
        peer->peer = NULL;
}

void stream_let_go(struct stream *stream)
{
    stream->on_change = NULL;
    hang_up(stream);
    free_stream(stream);
}

static void forget(struct stream **streams, unsigned *len, const struct stream *stream)
{
    for (unsigned i = 0; i < *len; i++) {
        if (streams[i] != stream)
            continue;
        streams[i] = streams[--*len];
        return;
    }
}

static void stream_close(struct file *file)
{
    struct stream *stream = (struct stream *)file;

    forget(accepted, &accepted_len, stream);
    forget(opened, &opened_len, stream);
    hang_up(stream);
    free_stream(stream);
}

/* ------------------------------------------------------------------ listeners --------- */

static uint32_t listener_poll(struct file *file)
{
    const struct listener *listener = (const struct listener *)file;

    return listener->waiting_len > 0 ? EPOLLIN : 0;
}

static void listener_close(struct file *file)
{
    struct listener *listener = (struct listener *)file;

    while (listener->waiting_len > 0) {
        struct stream *stream = listener->waiting[listener->waiting_from++ % BACKLOG_MAX];

        listener->waiting_len--;
        stream_reset(stream);
        free_stream(stream);
    }
    for (unsigned i = 0; i < listeners_len; i++)
        if (listeners[i] == listener)
            listeners[i] = listeners[--listeners_len];
    __real_free(listener);
}

static const struct file_kind listener_kind = { "listener", listener_poll, listener_close };

static struct listener *listener_of(int fd)
{
    struct file *file = file_of(fd);

    return file && file->kind == &listener_kind ? (struct listener *)file : NULL;
}

/* Of several that share the port, as with SO_REUSEPORT, each gets its part of the clients. */
static struct listener *listener_at(uint16_t port, unsigned client_port)
{
    struct listener *found[LISTENERS];
    unsigned n = 0;

    for (unsigned i = 0; i < listeners_len; i++)
        if (listeners[i]->listens && ntohs(listeners[i]->name.sin_port) == port)
            found[n++] = listeners[i];
    return n > 0 ? found[client_port % n] : NULL;
}

static bool put_into_backlog(struct listener *listener, struct stream *stream)
{
    if (listener->waiting_len > listener->backlog || listener->waiting_len == BACKLOG_MAX)
        return false;
    listener->waiting[(listener->waiting_from + listener->waiting_len++) % BACKLOG_MAX] = stream;
    file_tell(&listener->file, EPOLLIN);
    return true;
}

/* The other end of a connection to the listener, in its backlog. */
static bool answer_connect(struct listener *listener, struct stream *client)
{
    struct stream *server = new_stream();

    server->name = listener->name;
    server->user = client->user;
    if (listener->is_unix)
        make_unix(client), make_unix(server);
    marry(client, server);
    if (put_into_backlog(listener, server))
        return true;
    client->peer = NULL;
    free_stream(server);
    return false;
}

struct stream *stream_connect(uint16_t port, const struct sockaddr_in *name, void *user)
{
    struct listener *listener = listener_at(port, ntohs(name->sin_port));
    struct stream *client;

    if (!listener)
        return NULL;
    client = new_stream();
    client->name = *name;
    client->user = user;
    if (answer_connect(listener, client))
        return client;
    free_stream(client);
    return NULL;
}

int streams_socket(void)
{
    struct listener *listener = __real_calloc(1, sizeof(*listener));
    int fd;

    if (!listener)
        abort();
    file_init(&listener->file, &listener_kind);
    fd = file_open(&listener->file);
    if (fd < 0)
        __real_free(listener);
    return fd;
}

int streams_bind(int fd, const struct sockaddr *name)
{
    struct listener *listener = listener_of(fd);

    if (!listener)
        return -EBADF;
    listener->is_unix = name->sa_family == AF_UNIX;
    if (listener->is_unix)
        listener->name.sin_port = htons(STREAMS_UNIX_PORT);
    else
        listener->name = *(const struct sockaddr_in *)name;
    if (listener->name.sin_port == 0)
        listener->name.sin_port = htons(next_port++);
    listener->is_bound = true;
    return 0;
}

int streams_listen(int fd, int backlog)
{
    struct listener *listener = listener_of(fd);

    if (!listener)
        return -EBADF;
    listener->backlog = backlog < BACKLOG_MAX ? (unsigned)backlog : BACKLOG_MAX;
    if (!listener->listens)
        listeners[listeners_len++] = listener;
    listener->listens = true;
    return 0;
}

void streams_accept_at_most(unsigned most)
{
    accept_most = most;
}

int streams_accept(int fd)
{
    struct listener *listener = listener_of(fd);
    struct stream *stream;
    int r;

    if (!listener)
        return file_of(fd) ? -EINVAL : -EBADF;
    if (listener->waiting_len == 0)
        return -EAGAIN;
    stream = listener->waiting[listener->waiting_from % BACKLOG_MAX];
    r = file_open(&stream->file);
    if (r < 0)
        return r;
    listener->waiting_from++;
    listener->waiting_len--;
    stream->is_accepted = true;
    accepted[accepted_len++] = stream;
    if (accept_most > 0 && accepted_len > accept_most)
        report_failure("%u connections are open, and max_connections is %u", accepted_len,
                       accept_most);
    return r;
}

void streams_answer(uint16_t port, void (*wanted)(struct stream *theirs))
{
    answered_port = port;
    answer = wanted;
}

void stream_establish(struct stream *theirs)
{
    struct stream *stream = theirs->peer;

    if (!stream)
        return;
    stream->connecting = false;
    tell(stream, EPOLLOUT);
}

/* A socket that connects becomes a stream. */
static int begin_connecting(int fd, const struct sockaddr_in *name)
{
    struct stream *stream = new_stream(), *theirs = new_stream();

    stream->name = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(next_port++),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    theirs->name = *name;
    marry(stream, theirs);
    stream->connecting = true;
    file_replace(fd, &stream->file);
    opened[opened_len++] = stream;
    answer(theirs);
    return -EINPROGRESS;
}

int streams_connect(int fd, const struct sockaddr_in *name)
{
    struct stream *stream = stream_of(fd);

    if (!file_of(fd))
        return -EBADF;
    if (stream)
        return stream->connecting ? -EALREADY : take_error(stream);
    if (!answer || ntohs(name->sin_port) != answered_port)
        return -ECONNREFUSED;
    return begin_connecting(fd, name);
}

/* The client of a Unix socket has none. */
static int tell_name(const struct sockaddr_in *name, bool is_unix, bool is_named,
                     struct sockaddr *ret, socklen_t *ret_len)
{
    static const char text[] = "\0simulation";
    struct sockaddr_un *un = (struct sockaddr_un *)ret;

    if (!is_unix) {
        memcpy(ret, name, sizeof(*name));
        *ret_len = sizeof(*name);
        return 0;
    }
    un->sun_family = AF_UNIX;
    *ret_len = offsetof(struct sockaddr_un, sun_path);
    if (!is_named)
        return 0;
    memcpy(un->sun_path, text, sizeof(text) - 1);
    *ret_len += sizeof(text) - 1;
    return 0;
}

int streams_name(int fd, struct sockaddr *ret, socklen_t *ret_len)
{
    const struct listener *listener = listener_of(fd);
    const struct stream *stream = stream_of(fd);

    if (listener)
        return tell_name(&listener->name, listener->is_unix, true, ret, ret_len);
    if (stream)
        return tell_name(&stream->name, stream->is_unix, true, ret, ret_len);
    return file_of(fd) ? -ENOTSOCK : -EBADF;
}

int streams_peer_name(int fd, struct sockaddr *ret, socklen_t *ret_len)
{
    const struct stream *stream = stream_of(fd);

    if (!stream)
        return file_of(fd) ? -ENOTCONN : -EBADF;
    return tell_name(&stream->peer_name, stream->is_unix, false, ret, ret_len);
}

struct stream *stream_of(int fd)
{
    struct file *file = file_of(fd);

    return file && file->kind == &stream_kind ? (struct stream *)file : NULL;
}

void streams_each(void (*fn)(struct stream *stream, void *arg), void *arg)
{
    for (unsigned i = 0; i < accepted_len; i++)
        fn(accepted[i], arg);
    for (unsigned i = 0; i < opened_len; i++)
        fn(opened[i], arg);
}

unsigned streams_waiting(void)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < listeners_len; i++)
        sum += listeners[i]->waiting_len;
    return sum;
}
