#include "tests/simulation/handler.h"

#include "tests/simulation/client.h"
#include "tests/simulation/conversation.h"
#include "tests/simulation/language.h"
#include "tests/simulation/oracle.h"
#include "tests/simulation/report.h"
#include "tests/simulation/scheduler.h"
#include "tests/simulation/sharer.h"
#include "tests/simulation/streams.h"
#include "tests/simulation/trace.h"
#include "tests/simulation/upstream.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX_LEN 4096

struct handler_deadlines handler_deadlines;
int handler_file = -1;
const char *handler_upstream;
uint64_t handler_requests;

static struct stream *stream_of_request(struct weir_request *req)
{
    struct stream *stream = stream_of(weir_request_fd(req));

    if (!stream || !stream->user)
        report_failure("a handler's connection is none");
    return stream;
}

struct conversation *handler_talk(struct weir_request *req)
{
    return stream_of_request(req)->user;
}

static void enter(struct conversation *talk, enum phase phase)
{
    talk->phase = phase;
    talk->phase_since_ns = scheduler_now_ns();
    talk->phase_held_ns = scheduler_held_before_ns();
}

/* ------------------------------------------------------------------ what calls promise  */

/* One call that may wait, and until when it may. */
struct waiting {
    struct conversation *talk;
    struct stream *stream;
    uint64_t began_ns, held_ns;
};

static struct waiting begin_wait(struct weir_request *req, enum phase phase)
{
    struct stream *stream = stream_of_request(req);
    struct conversation *talk = stream->user;

    enter(talk, phase);
    return (struct waiting){ talk, stream, scheduler_now_ns(), scheduler_held_before_ns() };
}

static void note_error(struct conversation *talk, long r)
{
    if (r >= 0)
        return;
    talk->timed_out = talk->timed_out || r == -ETIMEDOUT;
    talk->cancelled = talk->cancelled || r == -ECANCELED;
    talk->failed = talk->failed || (r != -ETIMEDOUT && r != -ECANCELED);
}

static void end_wait(const struct waiting *waiting, long r)
{
    enter(waiting->talk, PHASE_BUSY);
    note_error(waiting->talk, r);
}

/* The wait has lasted so long; what it was held up by machine and dice is not counted. */
static void check_lasted(const struct waiting *waiting, const char *what, uint64_t least_ms,
                         uint64_t most_ms)
{
    uint64_t lasted_ns = scheduler_now_ns() - waiting->began_ns;
    uint64_t held_ns = scheduler_held_ns() - waiting->held_ns;

    if (lasted_ns < least_ms * MS_NS)
        report_failure("conversation %u: %s ended after %llu us, before %llu ms had passed",
                       waiting->talk->number, what, (unsigned long long)lasted_ns / 1000,
                       (unsigned long long)least_ms);
    /* Another handler may have held the worker. */
    if (oracle_view.computes)
        return;
    if (lasted_ns > held_ns + (most_ms + handler_deadlines.grain_ms) * MS_NS)
        report_failure("conversation %u: %s has lasted %llu us, which is over %llu ms",
                       waiting->talk->number, what, (unsigned long long)lasted_ns / 1000,
                       (unsigned long long)most_ms);
}

/* A read that has told of a deadline: it had passed, and nothing had come before. */
static void check_late_read(const struct waiting *waiting, long r)
{
    const struct stream *stream = waiting->stream;
    uint32_t ms = handler_deadlines.read_ms + handler_deadlines.head_ms;
    uint64_t deadline_ns = waiting->began_ns + ms * MS_NS;

    if (r != -ETIMEDOUT || handler_deadlines.request_ms > 0 || handler_deadlines.rest_ms > 0 ||
        handler_deadlines.write_ms > 0 || handler_deadlines.progress_ms > 0 || ms == 0)
        return;
    if (scheduler_now_ns() < deadline_ns)
        report_failure("conversation %u: a read says that it is late, and it is not",
                       waiting->talk->number);
    if (stream_unread(stream) > 0 && stream->since_ns < deadline_ns)
        report_failure("conversation %u: a read says that it is late, and what it waits for "
                       "had come in time", waiting->talk->number);
    if (stream->end_received && stream->ended_ns < deadline_ns && stream_unread(stream) == 0)
        report_failure("conversation %u: a read says that it is late, and the end had come in "
                       "time", waiting->talk->number);
}

/* The first line has the time of a head, however its bytes come: unless a flush waits before. */
static void check_head(const struct waiting *waiting)
{
    const struct stream *client = waiting->stream->peer;

    if (handler_deadlines.head_ms > 0 && client && !client->peer_lacked_room)
        check_lasted(waiting, "the wait for a head", 0, handler_deadlines.head_ms + 2);
}

/*
 * No reply is as long as what progress_timeout_ms is for: so a write waits for about that, of which
 * each wait may round off a part, and for less than twice as long, however the client takes it. A
 * wait over the turn of a millisecond counts as one, however short it is. One that was held up is
 * let be.
 */
static void check_progress(const struct waiting *waiting, long r)
{
    uint64_t ms = handler_deadlines.progress_ms;
    uint64_t handled_ns = scheduler_now_ns() - waiting->talk->handled_since_ns;

    if (ms == 0)
        return;
    if (r == -ETIMEDOUT && handler_deadlines.write_ms == 0 && 2 * handled_ns + MS_NS < ms * MS_NS)
        report_failure("conversation %u: a write says that it is late, and it is not",
                       waiting->talk->number);
    if (scheduler_held_ns() - waiting->held_ns < HELD_NS)
        check_lasted(waiting, "a write", 0, 2 * ms + 3);
}

static ssize_t read_line(struct weir_request *req, char **ret)
{
    struct waiting waiting = begin_wait(req, PHASE_READ);
    ssize_t n = weir_readline(req, ret, LINE_MAX_LEN);

    check_late_read(&waiting, n);
    check_head(&waiting);
    end_wait(&waiting, n);
    return n;
}

static ssize_t read_exactly(struct weir_request *req, void *buf, size_t len)
{
    struct waiting waiting = begin_wait(req, PHASE_READ);
    ssize_t n = weir_read_exact(req, buf, len);

    end_wait(&waiting, n);
    return n;
}

static ssize_t peek(struct weir_request *req, char **ret, size_t len)
{
    struct waiting waiting = begin_wait(req, PHASE_READ);
    ssize_t n = weir_peek(req, ret, len);

    end_wait(&waiting, n);
    return n;
}

static int write_all(struct weir_request *req, const void *buf, size_t len)
{
    struct waiting waiting = begin_wait(req, PHASE_WRITE);
    ssize_t n = weir_write(req, buf, len);

    check_progress(&waiting, n);
    end_wait(&waiting, n);
    if (n >= 0 && (size_t)n != len)
        report_failure("weir_write of %zu bytes says %zd", len, n);
    return n < 0 ? (int)n : 0;
}

static int flush(struct weir_request *req)
{
    struct waiting waiting = begin_wait(req, PHASE_WRITE);
    int r = weir_flush(req);

    check_progress(&waiting, r);
    end_wait(&waiting, r);
    return r;
}

/* ------------------------------------------------------------------ what it does ------ */

static int say_big(struct weir_request *req, unsigned char first, size_t len)
{
    char piece[300];
    int r = 0;

    for (size_t done = 0; done < len && r == 0;) {
        size_t span = len - done < sizeof(piece) ? len - done : sizeof(piece);

        for (size_t i = 0; i < span; i++)
            piece[i] = (char)language_big_byte(first, done + i);
        r = write_all(req, piece, span);
        done += span;
    }
    return r < 0 ? r : write_all(req, "\n", 1);
}

static int say_parts(struct weir_request *req, unsigned char first, size_t len)
{
    char piece[1000];
    size_t third = len < sizeof(piece) ? len / 3 : sizeof(piece) / 3;
    struct iovec parts[4] = {
        { piece, third }, { piece + third, third }, { piece + 2 * third, third }, { "\n", 1 },
    };
    struct waiting waiting;
    ssize_t n;

    /* Only what fits is said in parts. */
    if (len != 3 * third)
        return say_big(req, first, len);
    for (size_t i = 0; i < len; i++)
        piece[i] = (char)language_big_byte(first, i);
    waiting = begin_wait(req, PHASE_WRITE);
    n = weir_writev(req, parts, 4);
    end_wait(&waiting, n);
    return n < 0 ? (int)n : 0;
}

static int say_file(struct weir_request *req, unsigned char first, size_t len)
{
    struct waiting waiting = begin_wait(req, PHASE_WRITE);
    ssize_t n = weir_sendfile(req, handler_file, first, len);

    check_progress(&waiting, n);
    end_wait(&waiting, n);
    if (n >= 0 && (size_t)n != len)
        report_failure("weir_sendfile of %zu bytes says %zd", len, n);
    return n < 0 ? (int)n : write_all(req, "\n", 1);
}

static int sleep_for(struct weir_request *req, uint32_t ms)
{
    struct waiting waiting = begin_wait(req, PHASE_BUSY);
    int r = weir_sleep(req, ms);

    if (r == 0)
        check_lasted(&waiting, "weir_sleep", ms, ms + 1);
    end_wait(&waiting, r);
    return r;
}

static int wait_elsewhere(void *arg)
{
    const uint32_t *ms = arg;

    scheduler_block(ms, scheduler_now_ns() + *ms * MS_NS);
    return 17;
}

/* The thread does something else meanwhile, and nobody parks. */
static int compute(uint32_t ms)
{
    oracle_view.computing++;
    wait_elsewhere(&ms);
    oracle_view.computing--;
    return 0;
}

/* As many run at once; more wait for their turn, and that may take any time. */
#define OFFLOADED_MAX 64

static unsigned offloaded;
static bool offload_was_full;

static int offload_job(struct weir_request *req, uint32_t *ms)
{
    int r;

    if (++offloaded > OFFLOADED_MAX)
        offload_was_full = true;
    r = weir_offload(req, wait_elsewhere, ms);
    offloaded--;
    return r;
}

static int offload(struct weir_request *req, uint32_t ms)
{
    struct waiting waiting = begin_wait(req, PHASE_BUSY);
    int r = offload_job(req, &ms);

    if (r == 17 && !offload_was_full && !oracle_view.lacks_threads)
        check_lasted(&waiting, "weir_offload", ms, ms);
    else if (r != 17 && r != -EAGAIN)
        report_failure("weir_offload says %d", r);
    end_wait(&waiting, 0);
    return 0;
}

/* What is buffered already poll(2) does not know. */
static int poll_input(struct weir_request *req, uint32_t ms)
{
    struct pollfd fds = { .fd = weir_request_fd(req), .events = POLLIN };
    struct waiting waiting;
    char *data;
    int r;

    if (weir_peek(req, &data, 0) > 0)
        return 0;
    waiting = begin_wait(req, PHASE_POLL);
    r = weir_poll(req, &fds, 1, (int)ms);
    if (r == 0)
        check_lasted(&waiting, "weir_poll", ms, ms + 1);
    if (r > 0 && fds.revents == 0)
        report_failure("weir_poll says %d, and nothing has happened", r);
    end_wait(&waiting, r);
    return r < 0 && r != -EMFILE && r != -ENOMEM && r != -ENFILE && r != -ENOSPC ? r : 0;
}

static int reply_raw(struct weir_request *req, size_t len)
{
    char buf[2048];
    ssize_t n = read_exactly(req, buf, len < sizeof(buf) ? len : sizeof(buf));

    if (n < 0)
        return (int)n;
    return write_all(req, buf, (size_t)n);
}

static int reply_peeked(struct weir_request *req, size_t len)
{
    char *data;
    ssize_t n = peek(req, &data, len);
    int r;

    if (n < 0)
        return (int)n;
    if ((size_t)n < len)
        len = (size_t)n;
    r = write_all(req, data, len);
    weir_consume(req, len);
    return r;
}

/* ------------------------------------------------------------------ both directions --- */

/* Whoever fails ends the other one's waits. */
static int note_end_of_one(struct weir_request *req, ssize_t r)
{
    note_error(handler_talk(req), r);
    if (r < 0)
        weir_cancel_others(req);
    return r < 0 ? (int)r : 0;
}

/* Of a phrase each byte is the one before it and 1. */
static void check_rising(struct weir_request *req, const unsigned char *bytes, size_t len,
                         int *last)
{
    for (size_t i = 0; i < len; i++) {
        if (*last >= 0 && bytes[i] != (unsigned char)(*last + 1))
            report_failure("conversation %u: behind byte %d a fiber has read %d",
                           handler_talk(req)->number, *last, bytes[i]);
        *last = bytes[i];
    }
}

/* As many bytes as *arg says; fewer if the client ends first. */
static int read_rising(struct weir_request *req, void *arg)
{
    struct conversation *talk = handler_talk(req);
    size_t left = *(size_t *)arg;
    unsigned char piece[500];
    int last = -1;
    ssize_t n = 1;

    while (left > 0 && n > 0) {
        talk->reads = true;
        n = weir_read(req, piece, left < sizeof(piece) ? left : sizeof(piece));
        talk->reads = false;
        if (n > 0) {
            check_rising(req, piece, (size_t)n, &last);
            left -= (size_t)n;
        }
    }
    return note_end_of_one(req, n);
}

static int say_while_another_reads(struct weir_request *req, unsigned char first, size_t len)
{
    struct conversation *talk = handler_talk(req);
    char piece[300];
    ssize_t r = 0;

    talk->writes = true;
    for (size_t done = 0; done < len && r >= 0;) {
        size_t span = len - done < sizeof(piece) ? len - done : sizeof(piece);

        for (size_t i = 0; i < span; i++)
            piece[i] = (char)language_big_byte(first, done + i);
        r = weir_write(req, piece, span);
        done += span;
    }
    if (r >= 0)
        r = weir_write(req, "\n", 1);
    if (r >= 0)
        r = weir_flush(req);
    talk->writes = false;
    return note_end_of_one(req, r);
}

/* Without a fiber to be had, or where there are none, it is one after the other. */
static int do_both(struct weir_request *req, unsigned char first, size_t len)
{
    int child, said, read;

    enter(handler_talk(req), PHASE_BOTH);
    child = weir_spawn(req, read_rising, &len);
    read = child < 0 ? read_rising(req, &len) : 0;
    said = read < 0 ? read : say_while_another_reads(req, first, len);
    if (child > 0)
        read = weir_join(req, child);
    enter(handler_talk(req), PHASE_BUSY);
    return said < 0 ? said : read;
}

/* ------------------------------------------------------------------ another server ---- */

static bool has_deadlines(void)
{
    const struct handler_deadlines *deadlines = &handler_deadlines;

    return deadlines->read_ms + deadlines->write_ms + deadlines->request_ms +
           deadlines->progress_ms + deadlines->head_ms > 0;
}

static bool may_fail(int r)
{
    return r == -ECANCELED || client_excuses.faults || client_excuses.limits;
}

/* Connecting takes no longer than was said, and fails if the other server does. */
static int connect_in(struct weir_request *req, uint32_t ms, struct weir_request **ret_peer)
{
    struct waiting waiting = begin_wait(req, PHASE_BUSY);
    int r = weir_connect(req, handler_upstream, ms, ret_peer);

    check_lasted(&waiting, "weir_connect", r == -ETIMEDOUT && !has_deadlines() ? ms : 0, ms + 1);
    if (r < 0 && !may_fail(r) && r != -ETIMEDOUT && !upstream_may_say(r))
        report_failure("conversation %u: weir_connect says %d", waiting.talk->number, r);
    end_wait(&waiting, 0);
    return r;
}

/* Returns true if the stream ends early, or late, by no fault of the engine's. */
static bool is_excused(struct weir_request *peer, long r)
{
    return may_fail((int)r) || has_deadlines() || upstream_has_spoiled(stream_of_request(peer));
}

static int say_and_hear(struct weir_request *peer, const char *line, size_t len)
{
    int r = write_all(peer, line, len);
    struct waiting waiting;
    char *heard = NULL;
    ssize_t n;

    if (r == 0)
        r = flush(peer);
    waiting = begin_wait(peer, PHASE_READ);
    n = r < 0 ? r : weir_readline(peer, &heard, LINE_MAX_LEN);
    end_wait(&waiting, n);
    if ((n < 0 || (size_t)n != len) && !is_excused(peer, n))
        report_failure("conversation %u: the other server has said %zu bytes back, and %zd were "
                       "read", waiting.talk->number, len, n);
    if (n > 0 && memcmp(heard, line, (size_t)n) != 0)
        report_failure("conversation %u: the other server has said something else back",
                       waiting.talk->number);
    return n < 0 ? (int)n : 0;
}

/* Now and then it is for the engine to hang up. Only a cancel is the request's own. */
static int ask(struct weir_request *req, uint32_t ms)
{
    struct weir_request *peer;
    char line[40];
    size_t len = (size_t)sprintf(line, "%u of conversation %u\n", ms, handler_talk(req)->number);
    int r = connect_in(req, ms, &peer);

    if (r == 0) {
        r = say_and_hear(peer, line, len);
        if (ms % 3 > 0)
            weir_hangup(peer);
    }
    return r == -ECANCELED ? r : 0;
}

/* Where one holds its worker, others wait for it with their locks. */
static int share(struct weir_request *req, uint32_t ms)
{
    struct waiting waiting = begin_wait(req, PHASE_BUSY);
    int r = sharer_share(req, ms);

    end_wait(&waiting, r);
    return r;
}

int handler_do(struct weir_request *req, char what, uint32_t number)
{
    switch (what) {
    case SAY_SLEEP:
        return sleep_for(req, number);
    case SAY_YIELD:
        return weir_yield(req);
    case SAY_COMPUTE:
        return compute(number);
    case SAY_OFFLOAD:
        return offload(req, number);
    case SAY_POLL:
        return poll_input(req, number);
    case SAY_ASK:
        return ask(req, number);
    case SAY_SHARE:
        return share(req, number);
    default:
        return 0;
    }
}

uint32_t handler_number_in(const char *line)
{
    uint32_t number = 0;

    for (unsigned i = 1; i < LANGUAGE_HEAD; i++)
        number = number * 10 + (uint32_t)(line[i] - '0');
    return number;
}

static int reply_line(struct weir_request *req, const char *line, size_t len)
{
    size_t half = len / 2;
    int r;

    if (line[0] != SAY_FLUSH)
        return write_all(req, line, len);
    r = write_all(req, line, half);
    if (r == 0)
        r = flush(req);
    return r < 0 ? r : write_all(req, line + half, len - half);
}

static int answer(struct weir_request *req, const char *line, size_t len)
{
    uint32_t number = handler_number_in(line);
    char copy[LINE_MAX_LEN];
    int r;

    switch (line[0]) {
    case SAY_BIG:
        return say_big(req, (unsigned char)line[LANGUAGE_HEAD], number);
    case SAY_PARTS:
        return say_parts(req, (unsigned char)line[LANGUAGE_HEAD], number);
    case SAY_FILE:
        return say_file(req, (unsigned char)line[LANGUAGE_HEAD], number);
    case SAY_BOTH:
        return do_both(req, (unsigned char)line[LANGUAGE_HEAD], number);
    case SAY_RAW:
        return reply_raw(req, number);
    case SAY_PEEK:
        return reply_peeked(req, number);
    }
    /* What waits may read, and the line is valid until then. */
    memcpy(copy, line, len);
    r = handler_do(req, copy[0], number);
    return r < 0 ? r : reply_line(req, copy, len);
}

static int one_request(struct weir_request *req)
{
    char *line;
    ssize_t n = read_line(req, &line);
    bool ends;
    int r;

    if (n <= 0)
        return (int)n;
    /* A client that goes in the midst of a line. */
    if (line[n - 1] != '\n')
        return 0;
    ends = line[0] == SAY_ENDED;
    r = answer(req, line, (size_t)n);
    handler_requests += r == 0;
    if (r < 0)
        return r;
    handler_talk(req)->was_told_to_end = ends;
    return ends ? 0 : WEIR_KEEP;
}

/* ------------------------------------------------------------------ the handler ------- */

int handler_set_up(struct weir_request *req)
{
    struct conversation *talk = handler_talk(req);

    if (talk->setups++ > 0)
        report_failure("conversation %u: setup() is called twice", talk->number);
    enter(talk, PHASE_BUSY);
    return 0;
}

int handler_serve_one(struct weir_request *req, enum phase phase,
                      int (*serve)(struct weir_request *req))
{
    struct conversation *talk = handler_talk(req);
    int r;

    if (talk->setups != 1 || talk->finishes != 0)
        report_failure("conversation %u: handle() before setup() or after finish()",
                       talk->number);
    talk->handled_late_ns = scheduler_held_ns() - talk->phase_held_ns;
    enter(talk, phase);
    talk->handled_since_ns = scheduler_now_ns();
    talk->handled_held_ns = scheduler_held_before_ns();
    /* The engine may have seen it behind the last call, and have taken its last look. */
    talk->was_last = talk->was_last || oracle_drain_is_seen();
    r = serve(req);
    if (!talk->was_last && r == WEIR_KEEP && oracle_drain_is_seen()) {
        talk->was_last = true;
        client_note_last(talk);
    }
    enter(talk, r == WEIR_KEEP ? PHASE_IDLE : PHASE_OVER);
    talk->idle_since_ns = scheduler_now_ns();
    return r;
}

static int handle(struct weir_request *req)
{
    return handler_serve_one(req, PHASE_BUSY, one_request);
}

int handler_finish(struct weir_request *req, int status)
{
    struct conversation *talk = handler_talk(req);

    if (talk->finishes++ > 0)
        report_failure("conversation %u: finish() is called twice", talk->number);
    enter(talk, PHASE_OVER);
    talk->ended_ns = scheduler_now_ns();
    talk->status = status;
    note_error(talk, status);
    trace_note("conversation", talk->number, "finish, status %ld", status, 0, 0);
    return 0;
}

struct weir_handler handler_lines = {
    .name = "lines", .setup = handler_set_up, .handle = handle, .finish = handler_finish,
};

/* ------------------------------------------------------------------ datagrams --------- */

static int wait_as_told(struct weir_request *req, char what, uint32_t ms)
{
    switch (what) {
    case SAY_SLEEP:
        return weir_sleep(req, ms);
    case SAY_YIELD:
        return weir_yield(req);
    case SAY_OFFLOAD:
        return offload_job(req, &ms) == 17 ? 0 : -EAGAIN;
    case SAY_COMPUTE:
        return compute(ms);
    default:
        return 0;
    }
}

static int handle_datagram(struct weir_request *req)
{
    char *data;
    ssize_t len = weir_peek(req, &data, LANGUAGE_HEAD);
    int r;

    if (len < LANGUAGE_HEAD)
        report_failure("a datagram of %zd bytes", len);
    r = wait_as_told(req, data[0], handler_number_in(data));
    if (r < 0)
        return r;
    handler_requests++;
    len = weir_write(req, data, (size_t)len);
    return len < 0 ? (int)len : 0;
}

struct weir_handler handler_datagrams = { .name = "datagrams", .handle = handle_datagram };
