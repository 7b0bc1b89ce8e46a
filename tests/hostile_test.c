/*
 * hostile_test.c - the engine's reads and writes, on a kernel and with a peer that do their worst.
 *
 * The whole engine is linked against stand-ins for its system calls: a worker's thread, one
 * connection, and behind it a socket, an epoll set and a clock that are a few numbers. A send may
 * take one byte of many, an event may be a false alarm, and behind every call anything may happen
 * that the peer, another thread or the machine can do: input comes, or its end; what was written is
 * taken; somebody else takes the worker's events; time passes, beyond every deadline.
 *
 * A run is a series of choices. Every series is run in which no more than `depth` of them are
 * unkind, at whatever calls; and where the worker sleeps, each thing that can wake it. What comes
 * out is compared with what any server must do: when nobody has anything left to do, all that was
 * sent has been read, in order, answered and taken. A deadline is told only if there was nothing to
 * read when it passed, or no room to write into. And while a peer takes everything, others get
 * their turn within 17 sends, of which the last may be long, and deadlines and a cancel are obeyed
 * as soon.
 *
 * What it can't express: what happens between two instructions of two threads (connection.pml
 * does, for the state word) and the order of memory; more workers than one, and moves from set to
 * set; Unix sockets; weir_connect and weir_poll; datagrams; resets and other errors. The kernel is
 * never dishonest: it loses no edge, and counts are short only for urgent data, as Linux's are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/base/compiler.h"
#include "engine/base/sys.h"
#include "engine/pool/dispatch.h"
#include "engine/stream/request.h"
#include "tests/stopped_clock.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STREAM_FD = 50, OTHER_FD, SET_FD, FIRST_EVENT_FD,
    LINE = 2,               /* bytes of a line: a letter and its end */
    TRAIL_MAX = 4096,
    SENDS_ENOUGH = 80,      /* of who writes without end; a long one counts as ... */
    SPAN = 1 << 18,         /* ... a whole streak of them for each of these */
    DEPTH = WEIR_TSAN ? 2 : 3,  /* there are no threads to see, and it takes ten times as long */
    STREAK = TASK_STREAK_MAX + 1,
    DEADLINE_MS = 50,
};

/* ------------------------------------------------------------------ the scene --------- */

struct scene {
    const char *name;
    int (*handle)(struct weir_request *req);
    unsigned depth;         /* unkind choices in a run */
    enum weir_stack stack;
    size_t lines;           /* that the peer sends, one of ... */
    size_t piece;           /* ... so many bytes at a time */
    bool ends;              /* it says so behind them */
    bool urgent;            /* there is urgent data among them */
    bool trickles;          /* behind each read another byte comes */
    size_t answer;          /* bytes, to each line */
    size_t room;            /* for what the peer hasn't taken; 0: it takes everything */
    size_t wbufsize;        /* 0: unbuffered */
    uint32_t read_timeout_ms, write_timeout_ms, request_timeout_ms;
    bool other;             /* another connection comes */
    bool cancel;            /* the server is cancelled */
};

static const struct scene *scene;

static struct socket {
    size_t sent, read;      /* by the peer, by the engine */
    size_t mark;            /* a read stops there; 0: it doesn't */
    bool ended;
    size_t written, taken;  /* by the engine, by the peer */
    bool wants_room;        /* a send found none: its coming will be told */
    bool watched, edge;     /* in the epoll set; an event waits there */
    uint32_t events;
    uint64_t token;
    bool open;
} stream, other;

static bool wake_edge;              /* of the worker's eventfd */
static int event_fds;

static struct crew crew;
static struct worker worker;
static struct service service;
static struct weir_handler handler, other_handler;
static struct quota quota = { .max = 2 };
static struct endpoint endpoint = { .quota = &quota, .uri = "hostile" };

/* Of this run. */
static struct {
    bool quiet;             /* nothing happens but what must */
    bool ending;            /* the verdict is spoken: the peer takes what comes, and goes */
    bool passed;            /* time has, beyond every deadline */
    bool late;              /* the handler was told of a deadline */
    uint64_t deadline_ms;   /* of the handler's call, no later than the engine's */
    struct socket in_time;  /* the stream as it was at the latest before that */
    size_t sends, longest;  /* the latter in bytes */
    uint64_t began_ms;
    size_t other_came, cancelled_at;    /* so many sends before; SIZE_MAX: not yet */
    bool other_served;
} run;

/* ------------------------------------------------------------------ choices ----------- */

static struct {
    unsigned char value, options;
} trail[TRAIL_MAX];
static size_t trail_len, trail_at;
static unsigned spent;
static char failure[256];

/* A failed assertion can't leave a fiber's stack: the first complaint is kept. */
static __attribute__((format(printf, 1, 2))) void complain(const char *format, ...)
{
    va_list args;

    if (failure[0] != '\0')
        return;
    va_start(args, format);
    vsnprintf(failure, sizeof(failure), format, args);
    va_end(args);
}

/* One of the options, another one in each run. */
static unsigned pick(unsigned options)
{
    if (options < 2)
        return 0;
    if (trail_at == trail_len) {
        if (trail_len == TRAIL_MAX)
            abort();
        trail[trail_len].value = 0;
        trail[trail_len++].options = (unsigned char)options;
    }
    if (trail[trail_at].options != options)
        abort();    /* a run must be the same as the one before, up to the choice that differs */
    return trail[trail_at++].value;
}

/* 0: what would be expected. */
static unsigned pick_unkind(unsigned options)
{
    unsigned picked = 0;

    if (!run.quiet && spent < scene->depth)
        picked = pick(options);
    spent += picked > 0;
    return picked;
}

/* False: every series has been run. */
static bool next_trail(void)
{
    while (trail_len > 0 && trail[trail_len - 1].value + 1 == trail[trail_len - 1].options)
        trail_len--;
    if (trail_len == 0)
        return false;
    trail[trail_len - 1].value++;
    return true;
}

/* ------------------------------------------------------------------ the socket -------- */

static size_t room_of(const struct socket *socket)
{
    return scene->room > 0 ? scene->room - (socket->written - socket->taken) : SIZE_MAX;
}

static uint32_t readiness(const struct socket *socket)
{
    uint32_t ready = 0;

    if (socket->sent > socket->read || socket->ended)
        ready |= EPOLLIN;
    if (socket->ended)
        ready |= EPOLLRDHUP;
    if (socket->mark > socket->read)
        ready |= EPOLLPRI;
    if (room_of(socket) > 0)
        ready |= EPOLLOUT;
    return ready;
}

static void tell(struct socket *socket, uint32_t events)
{
    if (socket->watched && (socket->events & events))
        socket->edge = true;
}

static char letter_of(size_t line)
{
    return (char)('a' + line % 26);
}

static struct socket *socket_of(int fd)
{
    if (fd == STREAM_FD)
        return &stream;
    return fd == OTHER_FD ? &other : NULL;
}

/* ------------------------------------------------------------------ what may happen --- */

static void let_other_in(void);

static void send_piece(void)
{
    size_t left = scene->lines * LINE - stream.sent;
    size_t len = scene->piece < left ? scene->piece : left;

    if (scene->urgent && stream.mark == 0 && stream.sent > 0)
        stream.mark = stream.sent + 1;
    stream.sent += len;
    tell(&stream, EPOLLIN | EPOLLPRI);
}

static void take(void)
{
    stream.taken = stream.written;
    if (stream.wants_room)
        tell(&stream, EPOLLOUT);
    stream.wants_room = false;
}

static void end_input(void)
{
    stream.ended = true;
    tell(&stream, EPOLLIN | EPOLLRDHUP);
}

/* A thread that finds this worker stuck, or so it thinks. */
static void steal_events(void)
{
    run.quiet = true;
    dispatch_rescue(&worker);
    run.quiet = false;
}

static void let_pass(uint64_t ms)
{
    if (stopped_clock_ms <= run.deadline_ms)
        run.in_time = stream;
    stopped_clock_ms += ms;
}

static void pass_time(void)
{
    let_pass(10 * DEADLINE_MS);
    run.passed = true;
}

static void cancel(void)
{
    run.cancelled_at = run.sends;
    atomic_store(&crew.cancelled, true);
    handoff_wake_all(&crew.handoff);
}

static bool has_deadline(void)
{
    return scene->read_timeout_ms || scene->write_timeout_ms || scene->request_timeout_ms;
}

typedef void happening(void);

static unsigned possible(happening *ret[8], bool asleep)
{
    bool all_sent = stream.sent == scene->lines * LINE;
    unsigned n = 0;

    if (stream.open && stream.written > stream.taken)
        ret[n++] = take;
    if (run.ending)
        return n;
    if (stream.open && !all_sent)
        ret[n++] = send_piece;
    if (stream.open && all_sent && scene->ends && !stream.ended)
        ret[n++] = end_input;
    if (scene->other && run.other_came == SIZE_MAX)
        ret[n++] = let_other_in;
    if (scene->cancel && run.cancelled_at == SIZE_MAX)
        ret[n++] = cancel;
    if (!asleep && (stream.edge || wake_edge))
        ret[n++] = steal_events;
    if (!asleep && has_deadline() && !run.passed && scene->room > 0)
        ret[n++] = pass_time;
    return n;
}

/* Behind a call. */
static void happen(void)
{
    happening *list[8];
    unsigned picked;

    if (run.quiet || run.ending)
        return;
    while ((picked = pick_unkind(possible(list, false) + 1)) > 0)
        list[picked - 1]();
}

/* Nobody has anything left to do. */
static void judge(void)
{
    if (run.late || crew_cancelled(&crew))
        return;
    if (stream.read < stream.sent)
        complain("%zu bytes of input lie in the socket", stream.sent - stream.read);
    else if (stream.written < scene->lines * scene->answer)
        complain("only %zu bytes of answers were written", stream.written);
    else if (scene->ends && stream.open)
        complain("it is still open");
}

/* Ends the run, step by step: the peer goes, then all are cancelled, then the worker stops. */
static void go_on_to_the_end(void)
{
    if (!run.ending)
        judge();
    run.ending = true;
    if (stream.open && !stream.ended) {
        end_input();
    } else if (stream.open && !crew_cancelled(&crew)) {
        cancel();
    } else {
        if (stream.open)
            complain("it never ends");
        atomic_store(&crew.stopping, true);
        wake_edge = true;
    }
}

/* Something that ends a sleep. True: it is time that has passed. */
static bool sleep_on(int timeout_ms)
{
    happening *list[8];
    unsigned n = possible(list, true);
    bool timed = timeout_ms > 0 && has_deadline();
    unsigned picked;

    if (n + timed == 0) {
        go_on_to_the_end();
        return false;
    }
    picked = pick(n + timed);
    if (picked < n) {
        list[picked]();
        return false;
    }
    let_pass((uint64_t)timeout_ms);
    return true;
}

/* ------------------------------------------------------------------ system calls ------ */

static long receive(struct socket *socket, char *buf, size_t len)
{
    size_t n = socket->sent - socket->read;
    long r = socket->ended ? 0 : -EAGAIN;

    if (n > len)
        n = len;
    if (socket->mark > socket->read && socket->mark - socket->read < n)
        n = socket->mark - socket->read;
    for (size_t i = 0; i < n; i++)
        buf[i] = (socket->read + i) % LINE ? '\n' : letter_of((socket->read + i) / LINE);
    socket->read += n;
    if (n > 0)
        r = (long)n;
    if (scene->trickles) {
        send_piece();
        stopped_clock_ms++;
    }
    happen();
    return r;
}

static void check_answer(const struct socket *socket, const char *buf, size_t len)
{
    for (size_t i = 0; i < len && socket == &stream && scene->room > 0; i++)
        if (buf[i] != letter_of((socket->written + i) / scene->answer))
            complain("byte %zu of the answers is '%c'", socket->written + i, buf[i]);
}

static size_t taken_of(const struct socket *socket, size_t len)
{
    size_t room = room_of(socket);

    if (len > room)
        len = room;
    return len > 1 && pick_unkind(2) ? 1 : len;
}

static void note_written(struct socket *socket, size_t len)
{
    socket->written += len;
    if (socket != &stream)
        return;
    run.sends += 1 + (len - 1) / (SPAN / TASK_STREAK_MAX);
    if (len > run.longest)
        run.longest = len;
    /* It takes its time, where nothing else does. */
    if (scene->room == 0) {
        stream.taken = stream.written;
        stopped_clock_ms += 1 + (len - 1) / SPAN;
    }
}

static long transmit(struct socket *socket, const char *buf, size_t len)
{
    size_t n = taken_of(socket, len);
    long r = (long)n;

    if (n == 0) {
        socket->wants_room = true;
        r = -EAGAIN;
    } else {
        check_answer(socket, buf, n);
        note_written(socket, n);
    }
    happen();
    return r;
}

long syscall_6(long number, long a, long b, long c, long d, long e, long f)
{
    struct socket *socket = socket_of((int)a);

    (void)d;
    (void)e;
    (void)f;
    if (number == SYS_recvfrom)
        return receive(socket, (char *)b, (size_t)c);
    if (number == SYS_sendto)
        return transmit(socket, (const char *)b, (size_t)c);
    abort();
}

ssize_t sys_sendv(int fd, const struct iovec *iov, size_t iov_len, int flags)
{
    static char all[1 << 16];
    size_t len = 0;

    (void)flags;
    for (size_t i = 0; i < iov_len && len + iov[i].iov_len <= sizeof(all); i++) {
        memcpy(all + len, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
    }
    return transmit(socket_of(fd), all, len);
}

/* The file is as long as it need be, and says what its descriptor is. */
ssize_t sys_sendfile(int fd, int file_fd, off_t offset, size_t len)
{
    static char file[SPAN];

    (void)offset;
    memset(file, file_fd, len < 64 ? len : 64);
    return transmit(socket_of(fd), file, len);
}

bool sys_cork(int fd)
{
    (void)fd;
    return true;
}

void sys_push(int fd)
{
    (void)fd;
}

int sys_epoll_create(void)
{
    return SET_FD;
}

int sys_epoll_ctl(int epfd, int op, int fd, uint32_t events, uint64_t data)
{
    struct socket *socket = socket_of(fd);

    (void)epfd;
    if (!socket)
        return 0;
    socket->watched = op != EPOLL_CTL_DEL;
    socket->events = events;
    socket->token = data;
    socket->edge = socket->watched && (readiness(socket) & events);
    happen();
    return 0;
}

/* An edge of which nothing is left is not told. */
static int take_event(struct socket *socket, struct epoll_event *ret)
{
    uint32_t ready = readiness(socket) & socket->events;
    bool told = socket->watched && socket->edge && ready;

    socket->edge = false;
    if (told)
        *ret = (struct epoll_event){ .events = ready, .data.u64 = socket->token };
    return told;
}

static int take_events(struct epoll_event *events)
{
    int n = take_event(&stream, &events[0]);

    n += take_event(&other, &events[n]);
    if (wake_edge)
        events[n++] = (struct epoll_event){ .events = EPOLLIN, .data.u64 = DISPATCH_WAKE };
    wake_edge = false;
    return n;
}

int sys_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
    int n = take_events(events);

    (void)epfd;
    (void)max;
    if (run.quiet)
        return n;
    while (n == 0 && timeout_ms != 0) {
        if (sleep_on(timeout_ms))
            break;
        n = take_events(events);
    }
    if (n == 0 && stream.watched && !run.ending && pick_unkind(2))
        events[n++] = (struct epoll_event){ .events = EPOLLIN, .data.u64 = stream.token };
    happen();
    return n;
}

/* A handler on its worker's own stack waits; the stream is the first, if there is one. */
int sys_poll(struct pollfd *fds, unsigned len, int timeout_ms)
{
    struct socket *socket = socket_of(fds[0].fd);

    for (unsigned i = 0; i < len; i++)
        fds[i].revents = 0;
    for (;;) {
        if (socket)
            fds[0].revents = (short)(readiness(socket) & (uint16_t)fds[0].events);
        if (fds[0].revents || timeout_ms == 0 || crew_cancelled(&crew) || sleep_on(timeout_ms))
            break;
    }
    happen();
    return fds[0].revents != 0;
}

int sys_eventfd(void)
{
    return FIRST_EVENT_FD + event_fds++;
}

void sys_eventfd_signal(int fd)
{
    if (fd == crew.handoff.wake_fds[0])
        wake_edge = true;
}

void sys_eventfd_clear(int fd)
{
    (void)fd;
}

int sys_shutdown_write(int fd)
{
    (void)fd;
    return 0;
}

int sys_shutdown_read(int fd)
{
    (void)fd;
    return 0;
}

/* What is there is as if read: nobody's any more. */
ssize_t sys_discard(int fd, size_t len)
{
    struct socket *socket = socket_of(fd);
    size_t n = socket->sent - socket->read;

    if (n > len)
        n = len;
    socket->read += n;
    if (n > 0)
        return (ssize_t)n;
    return socket->ended ? 0 : -EAGAIN;
}

size_t sys_unsent(int fd)
{
    struct socket *socket = socket_of(fd);

    return socket->written - socket->taken;
}

void sys_close(int fd)
{
    struct socket *socket = socket_of(fd);

    if (socket)
        *socket = (struct socket){ .sent = socket->sent, .read = socket->read,
                                   .written = socket->written, .taken = socket->written };
}

/* What no scene asks for. */
void unwanted(void);
void unwanted(void)
{
    abort();
}

#define UNWANTED(name) __asm__(".globl " #name "\n.set " #name ", unwanted")

UNWANTED(sys_accept);
UNWANTED(sys_connect);
UNWANTED(sys_peer_ids);
UNWANTED(sys_poll_now);
UNWANTED(sys_pread);
UNWANTED(sys_recvmmsg);
UNWANTED(sys_sendmmsg);
UNWANTED(sys_send_message);
UNWANTED(sys_socket);
UNWANTED(sys_socket_error);

/* ------------------------------------------------------------------ handlers ---------- */

static void begin_call(void)
{
    run.deadline_ms = scene->request_timeout_ms
        ? run.began_ms + scene->request_timeout_ms
        : stopped_clock_ms + scene->read_timeout_ms + scene->write_timeout_ms;
    run.in_time = stream;
}

static bool had_room(void)
{
    return scene->room > stream.written - run.in_time.taken;
}

/* It may also be what was gathered that found no room, and has to leave before the read waits. */
static ssize_t note_read(ssize_t n)
{
    if (n != -ETIMEDOUT)
        return n;
    run.late = true;
    if (had_room() && (run.in_time.sent > stream.read || run.in_time.ended))
        complain("a read was too late for what had come");
    return n;
}

static ssize_t note_write(ssize_t n)
{
    if (n != -ETIMEDOUT)
        return n;
    run.late = true;
    if (had_room())
        complain("a write was too late for the room that there was");
    return n;
}

#define READ(call) (begin_call(), note_read(call))
#define WRITE(call) (begin_call(), note_write(call))

static ssize_t answer(struct weir_request *req, char letter)
{
    char text[64];

    memset(text, letter, scene->answer);
    return WRITE(weir_write(req, text, scene->answer));
}

static int answer_lines(struct weir_request *req)
{
    char *line;
    ssize_t n;

    while ((n = READ(weir_readline(req, &line, 16))) > 0) {
        n = answer(req, *line);
        if (n < 0)
            break;
    }
    return (int)n;
}

/* As programs do it that ask before they read. */
static int answer_peeked(struct weir_request *req)
{
    char *data;
    ssize_t n;

    while ((n = READ(weir_peek(req, &data, LINE))) >= LINE) {
        char letter = *data;

        weir_consume(req, LINE);
        n = answer(req, letter);
        if (n >= 0)
            n = WRITE(weir_flush(req));
        if (n < 0)
            break;
    }
    return n < 0 ? (int)n : 0;
}

static int answer_by_files(struct weir_request *req)
{
    char *line;
    ssize_t n;

    while ((n = READ(weir_readline(req, &line, 16))) > 0) {
        n = WRITE(weir_sendfile(req, *line, 0, scene->answer));
        if (n < 0)
            break;
    }
    return (int)n;
}

static int answer_and_keep(struct weir_request *req)
{
    char *line;
    ssize_t n = READ(weir_readline(req, &line, 16));

    if (n > 0)
        n = answer(req, *line);
    return n > 0 ? WEIR_KEEP : (int)n;
}

/* Looks, and leaves what is not whole for the next call. */
static int look_and_keep(struct weir_request *req)
{
    char *data;
    ssize_t n = READ(weir_peek(req, &data, 1));

    if (n == 1 && stream.ended && stream.read == stream.sent)
        return 0;
    if (n >= LINE) {
        char letter = *data;

        weir_consume(req, LINE);
        n = answer(req, letter);
    }
    return n > 0 ? WEIR_KEEP : (int)n;
}

/* ------------------------------------------------------------------ without end ------- */

/* What must not take longer than a streak of sends, the last of which may be a long one. */
static void check_patience(size_t since, const char *what)
{
    if (since != SIZE_MAX && run.sends - since > STREAK + run.longest / (SPAN / TASK_STREAK_MAX))
        complain("%s waits for %zu sends", what, run.sends - since);
}

static bool is_enough(ssize_t n)
{
    uint64_t limit_ms = scene->request_timeout_ms + scene->write_timeout_ms;

    if (!run.other_served)
        check_patience(run.other_came, "another connection");
    check_patience(run.cancelled_at, "a cancel");
    if (limit_ms > 0 && stopped_clock_ms - run.began_ms > limit_ms + CLOCK_COARSE_LAG_MS + STREAK)
        complain("a deadline waits for %d ms", (int)(stopped_clock_ms - run.began_ms - limit_ms));
    return n < 0 || run.sends >= SENDS_ENOUGH;
}

static int write_without_end(struct weir_request *req)
{
    static const char data[100];
    ssize_t n;

    do
        n = weir_write(req, data, sizeof(data));
    while (!is_enough(n));
    return n < 0 ? (int)n : 0;
}

static int flush_without_end(struct weir_request *req)
{
    ssize_t n;

    do {
        n = weir_printf(req, "%zu, a line of a report\n", run.sends);
        if (n >= 0)
            n = weir_flush(req);
    } while (!is_enough(n));
    return n < 0 ? (int)n : 0;
}

static int write_at_great_length(struct weir_request *req)
{
    static char data[SENDS_ENOUGH * SPAN];

    is_enough(weir_write(req, data, sizeof(data)));
    return 0;
}

static int send_a_long_file(struct weir_request *req)
{
    is_enough(weir_sendfile(req, 'x', 0, (size_t)SENDS_ENOUGH * SPAN));
    return 0;
}

/* Each read finds a byte, and the next one waits for less than a moment. */
static int read_a_trickle(struct weir_request *req)
{
    ssize_t n;
    char byte;

    do
        n = weir_read(req, &byte, 1);
    while (n > 0 && stream.read < SENDS_ENOUGH);
    run.late = true;
    if (n > 0)
        complain("a trickle outruns the deadline");
    return n < 0 ? (int)n : 0;
}

static int serve_other(struct weir_request *req)
{
    (void)req;
    check_patience(run.other_came, "another connection");
    run.other_served = true;
    return 0;
}

/* ------------------------------------------------------------------ runs -------------- */

static void let_in(int fd, const struct weir_handler *how)
{
    const struct sockaddr_in peer = { .sin_family = AF_INET };
    struct connection *conn = connection_create(&crew.table, fd, (const struct sockaddr *)&peer,
                                                sizeof(peer), how, &endpoint);

    quota_take(&quota, 1);
    socket_of(fd)->open = true;
    handoff_put(&crew.handoff, conn);
    handoff_call(&crew.handoff, 1);
}

static void let_other_in(void)
{
    run.other_came = run.sends;
    let_in(OTHER_FD, &other_handler);
}

static void be_silent(struct weir_server *server, const struct weir_failure *failed)
{
    (void)server;
    (void)failed;
}

static void begin(void)
{
    handler = (struct weir_handler){ .name = "tried", .handle = scene->handle,
                                     .stack = scene->stack };
    other_handler = (struct weir_handler){ .name = "other", .handle = serve_other,
                                           .stack = scene->stack };
    service = (struct service){
        .crew = &crew,
        .handle_error = be_silent,
        .unbuffered = scene->wbufsize == 0,
    };
    endpoint.read_timeout_ms = scene->read_timeout_ms;
    endpoint.write_timeout_ms = scene->write_timeout_ms;
    endpoint.request_timeout_ms = scene->request_timeout_ms;
    event_fds = 0;
    assert_int_equal(crew_init(&crew, &(struct crew_config){
        .workers = 1, .stack_size = 65536, .rbufsize = 8,
        .wbufsize = scene->wbufsize > 0 ? scene->wbufsize : 8,
        .serve = request_serve, .service = &service,
    }), 0);
    crew.table.private = true;
    connection_table_add_quota(&crew.table, &quota);
    assert_int_equal(worker_init(&worker, &crew, 0), 0);
}

static void finish(void)
{
    worker_fini(&worker);
    crew_fini(&crew);
}

static void play(void)
{
    memset(&run, 0, sizeof(run));
    /* Later, at an even moment: there the timers are placed as in every run before. */
    stopped_clock_ms = (stopped_clock_ms | 0xfffff) + 1;
    run.began_ms = stopped_clock_ms;
    run.other_came = run.cancelled_at = SIZE_MAX;
    stream = other = (struct socket){ 0 };
    wake_edge = false;
    trail_at = 0;
    spent = 0;
    atomic_store(&crew.stopping, false);
    atomic_store(&crew.cancelled, false);
    worker.cancel_done = false;
    let_in(STREAM_FD, &handler);
    happen();
    worker_main(&worker);
}

static void play_all(const struct scene *what)
{
    size_t runs = 0;

    scene = what;
    begin();
    failure[0] = '\0';
    trail_len = 0;
    do {
        play();
        runs++;
    } while (failure[0] == '\0' && next_trail());
    finish();
    print_message("%s, %u deep: %zu runs\n", scene->name, scene->depth, runs);
    if (failure[0] != '\0')
        fail_msg("%s: %s (run %zu)", scene->name, failure, runs);
}

static void play_each(const struct scene *scenes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        play_all(&scenes[i]);
}

#define PLAY(scenes) play_each(scenes, sizeof(scenes) / sizeof(*(scenes)))

/* Answers that wait in the buffer until the next read, that go past it, and without a buffer. */
static void whatever_the_order_all_is_read_and_answered(void **state)
{
    static const struct scene scenes[] = {
        { "lines, gathered", answer_lines, .depth = DEPTH, .lines = 3, .piece = 2, .answer = 6,
          .room = 4, .wbufsize = 64 },
        { "lines, past the buffer", answer_lines, .depth = DEPTH, .lines = 3, .piece = 2,
          .answer = 12, .room = 8, .wbufsize = 8 },
        { "lines, unbuffered", answer_lines, .depth = DEPTH, .lines = 3, .piece = 3, .answer = 3,
          .room = 4 },
        { "lines, byte by byte", answer_lines, .depth = DEPTH, .lines = 2, .piece = 1, .answer = 6,
          .room = 4, .wbufsize = 64 },
        { "lines, more than a buffer", answer_lines, .depth = DEPTH, .lines = 6, .piece = 12,
          .answer = 2, .room = 64, .wbufsize = 64 },
        { "lines that end", answer_lines, .depth = DEPTH, .lines = 2, .piece = 2, .ends = true,
          .answer = 6, .room = 4, .wbufsize = 64 },
        { "lines, urgent", answer_lines, .depth = DEPTH, .lines = 3, .piece = 3, .urgent = true,
          .answer = 6, .room = 4, .wbufsize = 64 },
        { "peeked", answer_peeked, .depth = DEPTH, .lines = 3, .piece = 3, .answer = 6, .room = 4,
          .wbufsize = 64 },
        { "files", answer_by_files, .depth = DEPTH, .lines = 3, .piece = 2, .answer = 6, .room = 4,
          .wbufsize = 64 },
    };

    (void)state;
    PLAY(scenes);
}

static void whatever_the_order_a_kept_connection_is_called_for_all(void **state)
{
    static const struct scene scenes[] = {
        { "kept", answer_and_keep, .depth = DEPTH, .lines = 3, .piece = 2, .answer = 6, .room = 4,
          .wbufsize = 64 },
        { "kept, byte by byte", answer_and_keep, .depth = DEPTH, .lines = 2, .piece = 1,
          .answer = 6, .room = 8, .wbufsize = 64 },
        { "kept, more than a buffer", answer_and_keep, .depth = DEPTH, .lines = 6, .piece = 12,
          .answer = 2, .room = 64, .wbufsize = 64 },
        { "kept until the end", answer_and_keep, .depth = DEPTH, .lines = 2, .piece = 4,
          .ends = true, .answer = 6, .room = 4, .wbufsize = 64 },
        { "kept, urgent", answer_and_keep, .depth = DEPTH, .lines = 3, .piece = 3, .urgent = true,
          .answer = 6, .room = 8, .wbufsize = 64 },
        { "kept, looked at", look_and_keep, .depth = DEPTH, .lines = 2, .piece = 1, .ends = true,
          .answer = 6, .room = 4, .wbufsize = 64 },
    };

    (void)state;
    PLAY(scenes);
}

static void so_it_is_on_the_workers_own_stack(void **state)
{
    static const struct scene scenes[] = {
        { "own stack, lines", answer_lines, .depth = DEPTH, .stack = WEIR_STACK_THREAD, .lines = 3,
          .piece = 2, .answer = 6, .room = 4, .wbufsize = 64 },
        { "own stack, kept", answer_and_keep, .depth = DEPTH, .stack = WEIR_STACK_THREAD,
          .lines = 3, .piece = 3, .answer = 6, .room = 4, .wbufsize = 64 },
    };

    (void)state;
    PLAY(scenes);
}

static void a_deadline_is_told_only_where_there_is_nothing(void **state)
{
    static const struct scene scenes[] = {
        { "a read's", answer_lines, .depth = DEPTH, .lines = 2, .piece = 1, .answer = 6, .room = 64,
          .wbufsize = 64, .read_timeout_ms = DEADLINE_MS },
        { "a write's", answer_lines, .depth = DEPTH, .lines = 2, .piece = 2, .answer = 6, .room = 4,
          .wbufsize = 8, .write_timeout_ms = DEADLINE_MS },
        { "a file's", answer_by_files, .depth = DEPTH, .lines = 2, .piece = 2, .answer = 6,
          .room = 4, .wbufsize = 8, .write_timeout_ms = DEADLINE_MS },
        { "a request's", answer_lines, .depth = DEPTH, .lines = 2, .piece = 2, .answer = 6,
          .room = 4, .wbufsize = 64, .request_timeout_ms = DEADLINE_MS },
        { "own stack, a read's", answer_lines, .depth = DEPTH, .stack = WEIR_STACK_THREAD,
          .lines = 2, .piece = 1, .answer = 6, .room = 64, .wbufsize = 64,
          .read_timeout_ms = DEADLINE_MS },
        { "own stack, a request's", answer_lines, .depth = DEPTH, .stack = WEIR_STACK_THREAD,
          .lines = 2, .piece = 2, .answer = 6, .room = 4, .wbufsize = 64,
          .request_timeout_ms = DEADLINE_MS },
    };

    (void)state;
    PLAY(scenes);
}

static void who_takes_everything_keeps_nobody_waiting(void **state)
{
    static const struct {
        int (*handle)(struct weir_request *req);
        size_t wbufsize;
    } without_end[] = {
        { write_without_end, 8 }, { flush_without_end, 64 }, { write_at_great_length, 8 },
        { send_a_long_file, 8 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(without_end) / sizeof(*without_end); i++) {
        const struct scene common = {
            .name = "without end", .handle = without_end[i].handle, .depth = 1,
            .wbufsize = without_end[i].wbufsize,
        };
        struct scene scenes[] = { common, common, common, common };

        scenes[0].other = true;
        scenes[1].cancel = true;
        scenes[2].request_timeout_ms = 20;
        scenes[3].request_timeout_ms = 20;
        scenes[3].stack = WEIR_STACK_THREAD;
        PLAY(scenes);
    }
}

static void a_trickle_does_not_outrun_a_requests_deadline(void **state)
{
    static const struct scene scenes[] = {
        { "a trickle", read_a_trickle, .depth = 1, .lines = SENDS_ENOUGH, .piece = 1,
          .trickles = true, .answer = 1, .request_timeout_ms = 20 },
        { "own stack, a trickle", read_a_trickle, .depth = 1, .stack = WEIR_STACK_THREAD,
          .lines = SENDS_ENOUGH, .piece = 1, .trickles = true, .answer = 1,
          .request_timeout_ms = 20 },
    };

    (void)state;
    PLAY(scenes);
}

static void one_write_of_great_length_has_its_own_deadline(void **state)
{
    static const struct scene scenes[] = {
        { "at great length", write_at_great_length, .depth = 1, .wbufsize = 8,
          .write_timeout_ms = 20 },
        { "a long file", send_a_long_file, .depth = 1, .wbufsize = 8, .write_timeout_ms = 20 },
    };

    (void)state;
    PLAY(scenes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_the_order_all_is_read_and_answered),
        cmocka_unit_test(whatever_the_order_a_kept_connection_is_called_for_all),
        cmocka_unit_test(so_it_is_on_the_workers_own_stack),
        cmocka_unit_test(a_deadline_is_told_only_where_there_is_nothing),
        cmocka_unit_test(who_takes_everything_keeps_nobody_waiting),
        cmocka_unit_test(a_trickle_does_not_outrun_a_requests_deadline),
        cmocka_unit_test(one_write_of_great_length_has_its_own_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
