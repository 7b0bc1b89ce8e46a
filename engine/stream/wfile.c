/*
 * wfile.c - gathered writing: the calls of weir.h's wfile section.
 *
 * What is written waits in the buffer until that is full, the fiber is about to wait for input,
 * or handle() returns: the answers to a pipelined batch of requests leave in one send(2). What
 * is too large for the buffer goes past it, together with what waits there, in one sendmsg(2).
 * What is written before a file leaves in one segment with its beginning.
 * The reply to a datagram is gathered whole, in a buffer that grows.
 */
#include "engine/stream/wfile.h"

#include "engine/base/clock.h"
#include "engine/base/sys.h"
#include "engine/stream/patience.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Parts per sendmsg(2); what is above it goes in several. */
#define PARTS_MAX 16

/* sendfile(2) gives TCP so much at a time, which would leave as a full segment and a tiny one. */
#define SENDFILE_SPAN ((size_t)64 << 10)

/* Given to the kernel at a time. Behind it others have their turn, and deadlines are looked at. */
#define SEND_MAX ((size_t)256 << 10)

/* No datagram is as large. */
#define REPLY_MAX ((size_t)1 << 20)

static struct buffers *wbufs(const struct weir_request *req)
{
    return &req->task->worker->wbufs;
}

static size_t room(const struct weir_request *req)
{
    if (req->wfile.data)
        return req->wfile.size - req->wfile.len;
    return req->service->unbuffered ? 0 : wbufs(req)->size;
}

static void release_wbuf(struct weir_request *req)
{
    struct wfile *wfile = &req->wfile;

    if (!wfile->data)
        return;
    if (WEIR_LIKELY(wfile->size == wbufs(req)->size))
        buffers_put(wbufs(req), wfile->data);
    else
        buffers_put_sized(wbufs(req), wfile->data, wfile->size);
    wfile->data = NULL;
    wfile->size = 0;
    wfile->len = 0;
}

/* Whatever fails, stays failed, and takes with it what had waited. */
static int fail_writing(struct weir_request *req, int error)
{
    request_note_end_by_peer(req, error);
    req->wfile.error = error;
    release_wbuf(req);
    return error;
}

/* Parts less their first n bytes. */
static void skip_sent(struct iovec **parts, size_t *parts_len, size_t n)
{
    while (*parts_len > 0 && n >= (*parts)->iov_len) {
        n -= (*parts)->iov_len;
        (*parts)++;
        (*parts_len)--;
    }
    if (*parts_len > 0) {
        (*parts)->iov_base = (char *)(*parts)->iov_base + n;
        (*parts)->iov_len -= n;
    }
}

/* One write, be it of many parts or of a file. */
struct writing {
    uint64_t deadline_ms;       /* of all of it, set when it first waits or gives way */
    bool fixed;                 /* ... by our caller, which waits no longer */
    bool late;                  /* it has passed: what there is no room for now has failed */
    bool held;                  /* ... while we could not look: a peer that takes more renews it */
};

static void set_deadline(const struct weir_request *req, struct writing *writing)
{
    if (writing->deadline_ms == 0)
        writing->deadline_ms = request_deadline_ms(req,
                                                   request_timeout_ms(req, WEIR_TIMEOUT_WRITE));
}

/*
 * The peer may have taken all that it was given long before the deadline, and only we were late.
 * The deadline of the whole request doesn't move.
 */
static bool was_held(const struct weir_request *req, const struct writing *writing, uint64_t now_ms)
{
    return !writing->fixed && writing->deadline_ms != 0 &&
           now_ms >= writing->deadline_ms + REQUEST_HELD_MS &&
           (req->deadline_ms == 0 || now_ms < req->deadline_ms);
}

static __attribute__((cold, noinline))
int fail_late(struct weir_request *req, const struct writing *writing)
{
    return fail_writing(req, request_timed_out(req, writing->deadline_ms, CONNECTION_WRITE_LATE));
}

/* 0, with a new deadline if we were held past the old one, or -ETIMEDOUT. */
static int check_deadline(struct weir_request *req, struct writing *writing)
{
    uint64_t now_ms;

    set_deadline(req, writing);
    if (writing->deadline_ms == 0)
        return 0;
    now_ms = clock_ms();
    if (now_ms < writing->deadline_ms)
        return 0;
    if (!was_held(req, writing, now_ms))
        return fail_late(req, writing);
    writing->deadline_ms = 0;
    set_deadline(req, writing);
    return 0;
}

/*
 * Before the kernel is given more. A peer that takes as fast as we write neither keeps the worker
 * nor outruns a deadline.
 */
static int give_way_writing(struct weir_request *req, struct writing *writing)
{
    int r = request_give_way(req, EPOLLOUT);

    if (r < 0)
        return fail_writing(req, r);
    /* Of several fibers another one may have begun a new streak. */
    if (WEIR_LIKELY(req->task->streak > 0) && !request_has_family(req))
        return 0;
    return check_deadline(req, writing);
}

/* A send has just found no room, so that what the kernel has is all that there was to take. */
static __attribute__((cold, noinline)) int fail_to_progress(struct weir_request *req)
{
    return fail_writing(req, request_timed_out(req, 0, CONNECTION_PROGRESS_LATE));
}

/* Waits until the peer takes more, or it is time to ask what it has taken, or for a last try. */
static int wait_for_send_room(struct weir_request *req, struct writing *writing)
{
    struct waiting waiting;
    int r;

    if (writing->late)
        return fail_late(req, writing);
    set_deadline(req, writing);
    waiting = patience_for_room(req);
    if (patience_is_over(&waiting))
        return fail_to_progress(req);
    patience_bound(&waiting, writing->deadline_ms, CONNECTION_WRITE_LATE);
    r = request_wait(req, EPOLLOUT, waiting.until_ms, waiting.since_ms);
    patience_waited(req, &waiting);
    writing->late = r == -ETIMEDOUT && (waiting.late == CONNECTION_WRITE_LATE ||
                                        req->conn->ousted);
    writing->held = was_held(req, writing, clock_ms());
    return r < 0 && r != -ETIMEDOUT ? fail_writing(req, r) : 0;
}

/* To others a long send is as many short ones. */
static void count_sent(struct weir_request *req, size_t n)
{
    tally_add(&req->task->worker->tally, TALLY_BYTES_OUT, n);
    req->task->streak += (unsigned)(n / (SEND_MAX / TASK_STREAK_MAX));
    req->wfile.sent += n;
}

static void note_taken(struct weir_request *req, size_t n, struct writing *writing)
{
    count_sent(req, n);
    if (WEIR_UNLIKELY(writing->held))
        *writing = (struct writing){ 0 };
}

/* What a send took; 0: nothing, but it is to be tried again; or -errno. */
static ssize_t note_bytes_sent(struct weir_request *req, ssize_t n, struct writing *writing)
{
    if (WEIR_UNLIKELY(n < 0))
        return n == -EAGAIN ? wait_for_send_room(req, writing) : fail_writing(req, (int)n);
    note_taken(req, (size_t)n, writing);
    return n;
}

/* Of the parts as much as is given at a time. */
static ssize_t send_some_parts(struct connection *conn, struct iovec *parts, size_t parts_len)
{
    const struct transport *transport = transport_of(conn);
    size_t len = 0;
    size_t some = 0;
    size_t cut_off;
    ssize_t n;
    int flags;

    while (some < parts_len && len < SEND_MAX)
        len += parts[some++].iov_len;
    cut_off = len > SEND_MAX ? len - SEND_MAX : 0;
    flags = cut_off > 0 || some < parts_len ? MSG_MORE : 0;
    parts[some - 1].iov_len -= cut_off;
    n = some == 1 ? transport->send(conn, parts->iov_base, parts->iov_len, flags)
                  : transport->sendv(conn, parts, some, flags);
    parts[some - 1].iov_len += cut_off;
    return n;
}

static int send_parts(struct weir_request *req, struct iovec *parts, size_t parts_len,
                      struct writing *writing)
{
    while (parts_len > 0) {
        ssize_t n = give_way_writing(req, writing);

        if (n < 0)
            return (int)n;
        n = note_bytes_sent(req, send_some_parts(req->conn, parts, parts_len), writing);
        if (n < 0)
            return (int)n;
        skip_sent(&parts, &parts_len, (size_t)n);
    }
    return 0;
}

/* A send has taken n bytes of what is gathered, or has failed: the rest follows. */
static int send_rest_within(struct weir_request *req, ssize_t n, int flags,
                            struct writing *writing)
{
    struct wfile *wfile = &req->wfile;
    struct connection *conn = req->conn;
    size_t done = 0;

    for (;;) {
        n = note_bytes_sent(req, n, writing);
        if (n < 0)
            return (int)n;
        done += (size_t)n;
        if (done == wfile->len)
            break;
        n = give_way_writing(req, writing);
        if (n < 0)
            return (int)n;
        n = transport_of(conn)->send(conn, wfile->data + done, wfile->len - done, flags);
    }
    release_wbuf(req);
    return 0;
}

/* By itself, so that what goes at once has no frame for it. */
static WEIR_NOINLINE int send_rest(struct weir_request *req, ssize_t n, int flags)
{
    struct writing writing = { 0 };

    return send_rest_within(req, n, flags, &writing);
}

int wfile_sent(struct weir_request *req, ssize_t n, int flags)
{
    if (WEIR_UNLIKELY(n != (ssize_t)req->wfile.len))
        return send_rest(req, n, flags);
    count_sent(req, (size_t)n);
    release_wbuf(req);
    return 0;
}

int wfile_flush_by_table(struct weir_request *req, int flags)
{
    const struct transport *transport = transport_of(req->conn);
    struct wfile *wfile = &req->wfile;

    /* A reply is sent when its handler is done. */
    if (!transport->sends)
        return 0;
    return wfile_sent(req, transport->send(req->conn, wfile->data, wfile->len, flags), flags);
}

static int give_way_and_flush(struct weir_request *req, int flags)
{
    struct writing writing = { 0 };
    int r = wfile_unsent(req) ? give_way_writing(req, &writing) : 0;

    return r < 0 ? r : wfile_flush(req, flags);
}

int weir_flush(struct weir_request *req)
{
    request_check_writing(req, "weir_flush");
    return give_way_and_flush(req, 0);
}

int weir_end_output(struct weir_request *req)
{
    request_check_writing(req, "weir_end_output");
    int r;

    if (!transport_sends(req->conn))
        return -EOPNOTSUPP;
    if (req->conn->said_end)
        return 0;
    /* The end leaves with the last bytes. */
    r = give_way_and_flush(req, MSG_MORE);
    if (r < 0)
        return r;
    req->conn->said_end = true;
    return transport_of(req->conn)->end_output(req->conn);
}

int wfile_flush_until(struct weir_request *req, uint64_t deadline_ms)
{
    struct iovec part = { .iov_base = req->wfile.data, .iov_len = req->wfile.len };
    struct writing writing = { .deadline_ms = deadline_ms, .fixed = true };
    int r;

    if (!wfile_unsent(req))
        return req->wfile.error;
    r = send_parts(req, &part, 1, &writing);
    if (r == 0)
        release_wbuf(req);
    return r;
}

/* The first n bytes of what is gathered have been sent. */
static void drop_sent(struct weir_request *req, size_t n)
{
    struct wfile *wfile = &req->wfile;

    wfile->len -= n;
    if (wfile->len == 0)
        release_wbuf(req);
    else
        memmove(wfile->data, wfile->data + n, wfile->len);
}

void wfile_push(struct weir_request *req)
{
    struct wfile *wfile = &req->wfile;
    struct connection *conn = req->conn;
    ssize_t n;

    if (!wfile_unsent(req))
        return;
    n = transport_of(conn)->send(conn, wfile->data, wfile->len, 0);
    if (n < 0) {
        if (n != -EAGAIN)
            fail_writing(req, (int)n);
        return;
    }
    count_sent(req, (size_t)n);
    drop_sent(req, (size_t)n);
}

static int have_buffer(struct weir_request *req)
{
    struct wfile *wfile = &req->wfile;

    if (wfile->data)
        return 0;
    wfile->data = buffers_get(wbufs(req));
    if (!wfile->data)
        return -ENOMEM;
    wfile->size = wbufs(req)->size;
    return 0;
}

/* len bytes fit into the buffer: gathers them there. Inlined: most of a short write is this. */
static WEIR_ALWAYS_INLINE int gather(struct weir_request *req, const void *buf, size_t len)
{
    int r;

    if (len == 0)
        return 0;
    r = have_buffer(req);
    if (r < 0)
        return r;
    memcpy(req->wfile.data + req->wfile.len, buf, len);
    req->wfile.len += len;
    return 0;
}

/* A reply is gathered whole: room for len bytes more. */
static int grow(struct weir_request *req, size_t len)
{
    struct wfile *wfile = &req->wfile;
    size_t have = wfile->len;
    size_t size;
    char *data;

    if (len > REPLY_MAX - have)
        return fail_writing(req, -EMSGSIZE);
    data = buffers_get_for(wbufs(req), have + len, &size);
    if (!data)
        return -ENOMEM;
    if (have > 0)
        memcpy(data, wfile->data, have);
    release_wbuf(req);
    wfile->data = data;
    wfile->size = size;
    wfile->len = have;
    return 0;
}

/* What is gathered, and behind it the parts, past the buffer. */
static int send_through(struct weir_request *req, const struct iovec *iov, size_t iov_len)
{
    struct iovec parts[PARTS_MAX];
    struct writing writing = { 0 };
    size_t parts_len = 0;

    if (req->wfile.len > 0)
        parts[parts_len++] = (struct iovec){ req->wfile.data, req->wfile.len };
    while (iov_len > 0) {
        int r;

        /* Without the empty ones, which alone would be a send of nothing. */
        for (; iov_len > 0 && parts_len < PARTS_MAX; iov++, iov_len--)
            if (iov->iov_len > 0)
                parts[parts_len++] = *iov;
        r = send_parts(req, parts, parts_len, &writing);
        if (r < 0)
            return r;
        parts_len = 0;
    }
    release_wbuf(req);
    return 0;
}

ssize_t weir_writev(struct weir_request *req, const struct iovec *iov, int iov_len)
{
    request_check_writing(req, "weir_writev");
    size_t len = 0;
    int r = 0;

    if (req->wfile.error)
        return req->wfile.error;
    if (iov_len < 0)
        return -EINVAL;
    for (int i = 0; i < iov_len; i++) {
        if (iov[i].iov_len > SSIZE_MAX - len)
            return -EINVAL;
        len += iov[i].iov_len;
    }
    if (len > room(req)) {
        if (transport_sends(req->conn)) {
            r = send_through(req, iov, (size_t)iov_len);
            return r < 0 ? r : (ssize_t)len;
        }
        r = grow(req, len);
    }
    for (int i = 0; i < iov_len && r == 0; i++)
        r = gather(req, iov[i].iov_base, iov[i].iov_len);
    return r < 0 ? r : (ssize_t)len;
}

/* By itself, so that a usual write has no frame for it. */
static WEIR_NOINLINE ssize_t write_unusual(struct weir_request *req, const void *buf, size_t len)
{
    struct iovec part = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };

    return weir_writev(req, &part, 1);
}

ssize_t weir_write(struct weir_request *req, const void *buf, size_t len)
{
    request_check_writing(req, "weir_write");
    if (WEIR_LIKELY(req->wfile.error == 0 && len <= room(req))) {
        int r = gather(req, buf, len);

        return r < 0 ? r : (ssize_t)len;
    }
    return write_unusual(req, buf, len);
}

/*
 * What is gathered, and behind it buf, as far as the kernel takes it at once. Returns how much of
 * buf has gone, or an error that stays.
 */
static ssize_t send_at_once(struct weir_request *req, const void *buf, size_t len)
{
    const struct transport *transport = transport_of(req->conn);
    size_t before = req->wfile.len;
    struct iovec parts[] = {
        { req->wfile.data, before },
        { (void *)(uintptr_t)buf, len < SEND_MAX ? len : SEND_MAX },
    };
    ssize_t n = before > 0
        ? transport->sendv(req->conn, parts, 2, 0)
        : transport->send(req->conn, parts[1].iov_base, parts[1].iov_len, 0);

    if (n == -EAGAIN)
        return 0;
    if (n < 0)
        return fail_writing(req, (int)n);
    count_sent(req, (size_t)n);
    if (before == 0)
        return n;
    drop_sent(req, (size_t)n < before ? (size_t)n : before);
    return (size_t)n > before ? n - (ssize_t)before : 0;
}

ssize_t weir_try_write(struct weir_request *req, const void *buf, size_t len)
{
    request_check_writing(req, "weir_try_write");
    ssize_t n = 0;
    size_t fits;
    int r;

    if (req->wfile.error || len <= room(req) || len > SSIZE_MAX || !transport_sends(req->conn))
        return weir_write(req, buf, len);
    n = send_at_once(req, buf, len);
    if (n < 0)
        return n;
    fits = len - (size_t)n < room(req) ? len - (size_t)n : room(req);
    r = gather(req, (const char *)buf + n, fits);
    if (r == 0)
        n += (ssize_t)fits;
    if (n > 0)
        return n;
    return r < 0 ? r : -EAGAIN;
}

ssize_t weir_vprintf(struct weir_request *req, const char *format, va_list args)
{
    request_check_writing(req, "weir_vprintf");
    va_list again;
    size_t have = room(req);
    ssize_t n;
    char *text;
    int len;

    if (req->wfile.error)
        return req->wfile.error;
    if (have > 0 && have_buffer(req) < 0)
        return -ENOMEM;
    va_copy(again, args);
    len = vsnprintf(have > 0 ? req->wfile.data + req->wfile.len : NULL, have, format, again);
    va_end(again);
    if (len < 0)
        return -EINVAL;
    if ((size_t)len < have) {
        req->wfile.len += (size_t)len;
        return len;
    }
    text = malloc((size_t)len + 1);
    if (!text)
        return -ENOMEM;
    vsnprintf(text, (size_t)len + 1, format, args);
    n = weir_write(req, text, (size_t)len);
    free(text);
    return n;
}

ssize_t weir_printf(struct weir_request *req, const char *format, ...)
{
    request_check_writing(req, "weir_printf");
    va_list args;
    ssize_t n;

    va_start(args, format);
    n = weir_vprintf(req, format, args);
    va_end(args);
    return n;
}

/* ------------------------------------------------------------------ files ------------- */

/* What weir_sendfile sends, as far as it has come. */
struct sending {
    int file_fd;
    off_t offset;
    size_t len;
    size_t done;
    struct writing writing;
};

/* Asking has taken the error from the socket, so that nothing else will tell of it. */
static bool is_of_the_connection(int error)
{
    switch (error) {
    case -EPIPE:
    case -ECONNRESET:
    case -ECONNABORTED:
    case -ECONNREFUSED:
    case -ETIMEDOUT:
    case -EHOSTUNREACH:
    case -EHOSTDOWN:
    case -ENETUNREACH:
    case -ENETDOWN:
    case -ENOTCONN:
        return true;
    default:
        return false;
    }
}

/* 0, an error of the connection, which stays, or one of the file, which doesn't. */
static int copy_with(struct weir_request *req, struct sending *file, char *buf)
{
    while (file->done < file->len) {
        size_t left = file->len - file->done;
        ssize_t n = sys_pread(file->file_fd, buf, left < SENDFILE_SPAN ? left : SENDFILE_SPAN,
                              file->offset + (off_t)file->done);
        struct iovec part = { .iov_base = buf, .iov_len = n > 0 ? (size_t)n : 0 };
        int r;

        if (n <= 0)
            return (int)n;
        r = send_parts(req, &part, 1, &file->writing);
        if (r < 0)
            return r;
        file->done += (size_t)n;
    }
    return 0;
}

/*
 * Not every file system has sendfile(2), nor every sandbox. What is wrong with the file shows, too.
 */
static int copy_rest(struct weir_request *req, struct sending *file)
{
    char *buf = malloc(SENDFILE_SPAN);
    int r = buf ? copy_with(req, file, buf) : -ENOMEM;

    free(buf);
    return r;
}

static int send_file(struct weir_request *req, struct sending *file)
{
    struct connection *conn = req->conn;

    while (file->done < file->len) {
        size_t left = file->len - file->done;
        int r = give_way_writing(req, &file->writing);
        ssize_t n;

        if (r < 0)
            return r;
        n = transport_of(conn)->sendfile(conn, file->file_fd, file->offset + (off_t)file->done,
                                         left < SEND_MAX ? left : SEND_MAX);
        if (n == 0)
            break;
        if (n > 0) {
            note_taken(req, (size_t)n, &file->writing);
            file->done += (size_t)n;
        } else if (n == -EAGAIN) {
            r = wait_for_send_room(req, &file->writing);
        } else {
            return is_of_the_connection((int)n) ? fail_writing(req, (int)n) : copy_rest(req, file);
        }
        if (r < 0)
            return r;
    }
    return 0;
}

/* What is gathered goes within the time of the file behind it: they are one write. */
static int flush_before(struct weir_request *req, struct sending *file, int flags)
{
    struct wfile *wfile = &req->wfile;
    ssize_t n;

    if (wfile->error || wfile->len == 0)
        return wfile->error;
    n = transport_of(req->conn)->send(req->conn, wfile->data, wfile->len, flags);
    return send_rest_within(req, n, flags, &file->writing);
}

ssize_t weir_sendfile(struct weir_request *req, int file_fd, off_t offset, size_t len)
{
    request_check_writing(req, "weir_sendfile");
    const struct transport *transport = transport_of(req->conn);
    struct sending file = { .file_fd = file_fd, .offset = offset, .len = len };
    bool corked, waits;
    int r;

    if (!transport_sends(req->conn))
        return -EOPNOTSUPP;
    corked = len > SENDFILE_SPAN && transport->cork(req->conn);
    waits = !corked && req->wfile.len > 0 && len > 0;
    r = flush_before(req, &file, waits ? MSG_MORE : 0);
    if (r == 0)
        r = send_file(req, &file);
    if (corked || (waits && file.done == 0))
        transport->push(req->conn);
    return r < 0 ? r : (ssize_t)file.done;
}

/* ------------------------------------------------------------------ datagrams --------- */

char *wfile_take(struct weir_request *req, size_t *ret_len, size_t *ret_size)
{
    struct wfile *wfile = &req->wfile;
    char *data = wfile->data;

    *ret_len = wfile->len;
    *ret_size = wfile->size;
    wfile->data = NULL;
    wfile->len = 0;
    return data;
}

void wfile_fini(struct weir_request *req)
{
    release_wbuf(req);
}
