/*
 * wfile_test.c - writing, every way: gathered, through, from files; deadlines, resets.
 */
#include "tests/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

#define LONG (16 * MIB)

/* What a long stream holds. */
static char pattern[LONG];

static void make_pattern(void)
{
    for (size_t i = 0; i < LONG; i++)
        pattern[i] = (char)(i * 31 + i / 251 + i / 65537);
}

/* Reads in chunks of odd sizes what must be len bytes of the pattern, from position at on. */
static void expect_pattern(int fd, size_t at, size_t len)
{
    static char chunk[65536];
    size_t done = 0;

    for (size_t size = 1; done < len; size = size * 7 % 65521) {
        size_t want = size < len - done ? size : len - done;

        assert_int_equal(support_read_all(fd, chunk, want), want);
        if (memcmp(chunk, pattern + at + done, want) != 0)
            fail_msg("of %zu bytes behind %zu one is wrong", want, done);
        done += want;
    }
}

/* ------------------------------------------------------------------ when it leaves ---- */

/* A handler that waits, and not for its client. */
static int pass(void *gate)
{
    gate_pass(gate);
    return 0;
}

static void wait_at(struct weir_request *req)
{
    weir_offload(req, pass, weir_user(req));
}

static int write_wait_flush_wait(struct weir_request *req)
{
    weir_write(req, "one ", 4);
    weir_printf(req, "%s ", "two");
    note("written");
    wait_at(req);
    note(",%d", weir_flush(req));
    note(",%d", weir_flush(req));
    weir_write(req, "three", 5);
    return 0;
}

static void nothing_leaves_before_a_flush(void **state)
{
    struct weir_server *server;
    static struct gate gate;
    int fd;

    (void)state;
    gate_init(&gate);
    server = STREAM_SERVE(write_wait_flush_wait, .user = &gate);
    fd = support_connect(server, 0);
    notes_expect("written");
    assert_int_equal(support_stats(server).bytes_out, 0);
    assert_true(support_is_silent(fd));
    gate_open(&gate);
    support_expect(fd, "one two three");
    support_expect_end(fd);
    notes_expect("written,0,0");
    assert_int_equal(support_stats(server).bytes_out, 13);
    close(fd);
    gate_fini(&gate);
}

static void unbuffered_writes_leave_at_once(void **state)
{
    struct weir_server *server;
    static struct gate gate;
    int fd;

    (void)state;
    gate_init(&gate);
    server = STREAM_SERVE(write_wait_flush_wait, .user = &gate, .wbufsize = WEIR_UNBUFFERED);
    fd = support_connect(server, 0);
    support_expect(fd, "one two ");
    gate_open(&gate);
    support_expect(fd, "three");
    support_expect_end(fd);
    close(fd);
    gate_fini(&gate);
}

static int ask_and_answer(struct weir_request *req)
{
    char *line;
    ssize_t n;

    weir_write(req, "name? ", 6);
    n = weir_readline(req, &line, 100);
    weir_printf(req, "hello %.*s", (int)n, line);
    return 0;
}

static void what_was_written_leaves_before_a_read_waits(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(ask_and_answer);
    fd = support_connect(server, 0);
    support_expect(fd, "name? ");
    support_say(fd, "weir\n");
    support_expect(fd, "hello weir\n");
    support_expect_end(fd);
    close(fd);
}

/* Answers each line, and notes after each how much has left so far. */
static int answer_and_count(struct weir_request *req)
{
    char *line;
    ssize_t n;

    while ((n = weir_readline(req, &line, 100)) > 0) {
        weir_printf(req, "<%.*s>", (int)n - 1, line);
        note("%llu ", (unsigned long long)support_stats(weir_request_server(req)).bytes_out);
    }
    return 0;
}

static void answers_to_a_batch_leave_together(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(answer_and_count);
    fd = support_connect(server, 0);
    support_say(fd, "a\nb\nc\n");
    support_expect(fd, "<a><b><c>");
    support_say(fd, "d\ne\n");
    support_half_close(fd);
    support_expect(fd, "<d><e>");
    notes_expect("0 0 0 9 9 ");
    close(fd);
}

static int write_and_fail(struct weir_request *req)
{
    weir_write(req, "sorry", 5);
    return -EPROTO;
}

/* The same, a line a call. */
static int answer_one_and_count(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return (int)n;
    weir_printf(req, "<%.*s>", (int)n - 1, line);
    note("%llu ", (unsigned long long)support_stats(weir_request_server(req)).bytes_out);
    return WEIR_KEEP;
}

static void a_kept_handlers_answers_to_a_batch_leave_together(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(answer_one_and_count);
    fd = support_connect(server, 0);
    support_say(fd, "a\nb\nc\nd\n");
    support_expect(fd, "<a><b><c><d>");
    notes_expect("0 0 0 0 ");
    close(fd);
}

static void what_was_written_leaves_even_when_the_handler_fails(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(write_and_fail);
    support_talk(server, 0, "", "sorry");
    SUPPORT_AWAIT(server, handle_errors, == 1);
}

static int greet(struct weir_request *req)
{
    return weir_write(req, "hello ", 6) < 0;
}

static int say_world(struct weir_request *req)
{
    return weir_write(req, "world", 5) < 0;
}

static int say_bye(struct weir_request *req, int status)
{
    (void)status;
    return weir_write(req, ", bye", 5) < 0;
}

static void setup_and_finish_write_too(void **state)
{
    struct weir_server *server;

    (void)state;
    server = stream_serve(&(const struct weir_handler){
        .name = "greeter", .setup = greet, .handle = say_world, .finish = say_bye,
    }, WEIR_OPTIONS(.workers = 1));
    support_talk(server, 0, "", "hello world, bye");
}

/* ------------------------------------------------------------------ many and long ----- */

#define PARTS 100

static int end_and_read_on(struct weir_request *req)
{
    char *line;

    weir_write(req, "all\n", 4);
    note("%d,", weir_end_output(req));
    note("%zd,", weir_readline(req, &line, 100));
    note("%d,", weir_end_output(req));
    note("%zd", weir_readline(req, &line, 100));
    return 0;
}

static void a_handler_that_has_ended_its_output_reads_on(void **state)
{
    struct weir_server *server = STREAM_SERVE(end_and_read_on);
    int fd = support_connect(server, 0);

    (void)state;
    /* The end comes while the handler reads. */
    support_expect(fd, "all\n");
    support_expect_end(fd);
    support_say(fd, "more\n");
    support_half_close(fd);
    notes_expect("0,5,0,0");
    SUPPORT_AWAIT(server, closed, == 1);
    close(fd);
}

static int write_behind_the_end(struct weir_request *req)
{
    note("%d,", weir_end_output(req));
    note("%zd,", weir_write(req, "late", 4));
    note("%d,", weir_flush(req));
    note("%zd", weir_write(req, "late", 4));
    return 0;
}

static void what_is_written_behind_the_end_is_no_reset_of_the_peers(void **state)
{
    char expected[64];
    struct weir_server *server = STREAM_SERVE(write_behind_the_end);
    int fd = support_connect(server, 0);

    (void)state;
    support_expect_end(fd);
    snprintf(expected, sizeof(expected), "0,4,%d,%d", -EPIPE, -EPIPE);
    notes_expect(expected);
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(support_stats(server).resets, 0);
    close(fd);
}

static int end_and_keep(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return (int)n;
    note("%d,", weir_end_output(req));
    return WEIR_KEEP;
}

static void a_connection_whose_output_has_ended_may_be_kept(void **state)
{
    struct weir_server *server = STREAM_SERVE(end_and_keep);
    int fd = support_connect(server, 0);

    (void)state;
    support_say(fd, "a\n");
    support_expect_end(fd);
    support_say(fd, "b\n");
    notes_expect("0,0,");
    assert_int_equal(support_stats(server).closed, 0);
    support_half_close(fd);
    SUPPORT_AWAIT(server, closed, == 1);
    close(fd);
}

/* ------------------------------------------------------------------ without a wait ---- */

/* Until the client, or somebody else, has brought the stream on. */
static int await_room(struct weir_request *req)
{
    struct pollfd fd = { .fd = weir_request_fd(req), .events = POLLOUT };

    return weir_poll(req, &fd, 1, PLENTY_MS);
}

/* The pattern in pieces of odd sizes, from at on: how far it goes without a wait. */
static ssize_t try_pattern(struct weir_request *req, size_t *at, size_t *size)
{
    ssize_t n = 0;

    while (*at < LONG && n >= 0) {
        size_t len = *size < LONG - *at ? *size : LONG - *at;

        n = weir_try_write(req, pattern + *at, len);
        if (n > (ssize_t)len || n == 0)
            note("too much or nothing,");
        *at += n > 0 ? (size_t)n : 0;
        *size = *size * 7 % 65521;
    }
    return n;
}

static int try_all(struct weir_request *req)
{
    size_t size = 1;
    size_t at = 0;
    ssize_t n = try_pattern(req, &at, &size);

    note("%zd,", n);
    while (n == -EAGAIN && await_room(req) > 0)
        n = try_pattern(req, &at, &size);
    note(at == LONG ? "all" : "less");
    note(",%zd", weir_try_write(req, NULL, 0));
    return 0;
}

static void expect_that_nobody_waits(size_t wbufsize)
{
    struct weir_server *server = STREAM_SERVE(try_all, .wbufsize = wbufsize);
    char expected[32];
    int fd = support_connect(server, 0);

    /* The client has read nothing until then. */
    snprintf(expected, sizeof(expected), "%d,", -EAGAIN);
    SUPPORT_UNTIL(notes_len() >= strlen(expected));
    expect_pattern(fd, 0, LONG);
    support_expect_end(fd);
    snprintf(expected, sizeof(expected), "%d,all,0", -EAGAIN);
    notes_expect(expected);
    assert_int_equal(support_stats(server).bytes_out, LONG);
    close(fd);
}

static void a_try_takes_what_goes_without_a_wait(void **state)
{
    (void)state;
    expect_that_nobody_waits(0);
}

static void a_try_takes_it_past_a_small_buffer(void **state)
{
    (void)state;
    expect_that_nobody_waits(64);
}

static void a_try_takes_it_without_a_buffer(void **state)
{
    (void)state;
    expect_that_nobody_waits(WEIR_UNBUFFERED);
}

/* What a client has sent and has not got back yet. */
struct echo {
    char *data;
    size_t came;
    size_t left;
    bool ended;
};

/* Takes what is there. Negative: an error. */
static ssize_t take_some(struct weir_request *req, struct echo *echo)
{
    char *data;
    ssize_t n = weir_peek(req, &data, 1);

    if (n <= 0) {
        echo->ended = true;
        return n;
    }
    memcpy(echo->data + echo->came, data, (size_t)n);
    echo->came += (size_t)n;
    weir_consume(req, (size_t)n);
    return n;
}

static ssize_t return_some(struct weir_request *req, struct echo *echo)
{
    ssize_t n = weir_try_write(req, echo->data + echo->left, echo->came - echo->left);

    if (n > 0)
        echo->left += (size_t)n;
    return n == -EAGAIN ? 0 : n;
}

/* Both directions at once: neither is held up by the other. */
static ssize_t echo_both_ways(struct weir_request *req, struct echo *echo)
{
    struct pollfd fd = { .fd = weir_request_fd(req) };
    ssize_t r = 0;

    while (r >= 0 && !(echo->ended && echo->left == echo->came)) {
        fd.events = (short)((echo->ended ? 0 : POLLIN) |
                            (echo->left < echo->came ? POLLOUT : 0));
        r = weir_poll(req, &fd, 1, PLENTY_MS);
        if (r > 0 && fd.revents & POLLIN)
            r = take_some(req, echo);
        if (r >= 0 && echo->left < echo->came)
            r = return_some(req, echo);
    }
    return r;
}

static int echo_with_one_fiber(struct weir_request *req)
{
    struct echo echo = { .data = malloc(LONG) };
    ssize_t r = echo_both_ways(req, &echo);

    note(r < 0 ? "failed" : "all");
    free(echo.data);
    return 0;
}

/* A handler that waited for room would not read on, and its client would write for ever. */
static void who_sends_all_before_it_reads_is_served(void **state)
{
    struct weir_server *server = STREAM_SERVE(echo_with_one_fiber);
    int fd = support_connect(server, 0);

    (void)state;
    support_send(fd, pattern, LONG);
    support_half_close(fd);
    expect_pattern(fd, 0, LONG);
    support_expect_end(fd);
    notes_expect("all");
    close(fd);
}

static int try_until_it_fails(struct weir_request *req)
{
    size_t size = 1;
    size_t at = 0;
    ssize_t n = try_pattern(req, &at, &size);

    note("tried,");
    while (n == -EAGAIN && await_room(req) > 0)
        n = try_pattern(req, &at, &size);
    note(n == -ECONNRESET || n == -EPIPE ? "gone," : "something else,");
    note(weir_try_write(req, "x", 1) == n ? "gone" : "back");
    return 0;
}

static void an_error_that_a_try_finds_stays(void **state)
{
    struct weir_server *server = STREAM_SERVE(try_until_it_fails);
    int fd = support_connect(server, 0);

    (void)state;
    notes_expect("tried,");
    support_reset(fd);
    notes_expect("tried,gone,gone");
    SUPPORT_AWAIT(server, resets, == 1);
}

static int write_parts(struct weir_request *req)
{
    static const char text[] = "0123456789";
    struct iovec parts[PARTS];
    size_t len = 0;

    for (size_t i = 0; i < PARTS; i++) {
        parts[i] = (struct iovec){ .iov_base = (void *)(uintptr_t)text, .iov_len = i % 11 };
        len += i % 11;
    }
    weir_write(req, "[", 1);
    if (weir_writev(req, parts, PARTS) != (ssize_t)len)
        note("short");
    for (size_t i = 0; i < PARTS; i++)
        parts[i].iov_len = 0;
    note("%zd", weir_writev(req, parts, PARTS));
    note("%zd", weir_writev(req, NULL, 0));
    note("%zd", weir_writev(req, parts, -1));
    parts[0].iov_len = SSIZE_MAX;
    parts[1].iov_len = 1;
    note("%zd", weir_writev(req, parts, 2));
    weir_write(req, "]", 1);
    return 0;
}

static void expect_parts(size_t wbufsize)
{
    char expect[11 * PARTS] = "[";
    char *end = expect + 1;
    struct weir_server *server = STREAM_SERVE(write_parts, .wbufsize = wbufsize);

    for (size_t i = 0; i < PARTS; i++)
        end = mempcpy(end, "0123456789", i % 11);
    strcpy(end, "]");
    support_talk(server, 0, "", expect);
    notes_expect("00-22-22");
}

static void writev_takes_many_parts_and_empty_ones(void **state)
{
    (void)state;
    expect_parts(0);
}

static void writev_past_a_small_buffer_takes_many_parts_and_empty_ones(void **state)
{
    (void)state;
    expect_parts(64);
}

static void unbuffered_writev_takes_many_parts_and_empty_ones(void **state)
{
    (void)state;
    expect_parts(WEIR_UNBUFFERED);
}

#define TEXT "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"

/* Texts of every length around what the buffer holds, behind others and alone. */
static int print_lengths(struct weir_request *req)
{
    for (int len = 0; len <= 70; len++)
        if (weir_printf(req, "%.*s", len, TEXT) != len)
            note("wrong");
    for (int len = 0; len <= 70; len++) {
        weir_flush(req);
        if (weir_printf(req, "%.*s", len, TEXT) != len)
            note("wrong");
    }
    return 0;
}

static void expect_lengths(size_t wbufsize)
{
    char expect[2 * 71 * 71] = "";
    char *end = expect;
    struct weir_server *server = STREAM_SERVE(print_lengths, .wbufsize = wbufsize);

    for (size_t i = 0; i <= 2 * 70 + 1; i++)
        end = mempcpy(end, TEXT, i % 71);
    *end = '\0';
    support_talk(server, 0, "", expect);
    notes_expect("");
    assert_int_equal(support_stats(server).bytes_out, strlen(expect));
}

static void printf_may_be_longer_than_the_buffer(void **state)
{
    (void)state;
    expect_lengths(32);
}

static void printf_may_be_unbuffered(void **state)
{
    (void)state;
    expect_lengths(WEIR_UNBUFFERED);
}

/* In writes of every size: many gathered, some past the buffer, one for nearly everything. */
static int write_pattern(struct weir_request *req)
{
    size_t done = 0;

    for (size_t len = 1; done < LONG; len = len * 3 + 1) {
        size_t n = len < LONG - done ? len : LONG - done;

        if (weir_write(req, pattern + done, n) != (ssize_t)n) {
            note("failed");
            break;
        }
        done += n;
    }
    note("%zu", done);
    return 0;
}

static void sixteen_mebibytes_reach_a_slow_reader_byte_for_byte(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(write_pattern);
    fd = support_connect(server, 0);
    expect_pattern(fd, 0, LONG);
    support_expect_end(fd);
    notes_expect("16777216");
    assert_int_equal(support_stats(server).bytes_out, LONG);
    close(fd);
}

/* Waits for a line, answers at length, and never reads what else there is. */
static int answer_at_length(struct weir_request *req)
{
    char *line;

    weir_readline(req, &line, 100);
    return write_pattern(req);
}

static void input_that_nobody_reads_costs_nothing_of_the_answer(void **state)
{
    static char junk[100000];
    struct weir_server *server;
    int fd;

    (void)state;
    memset(junk, 'x', sizeof(junk));
    server = STREAM_SERVE(answer_at_length, .rbufsize = 512);
    fd = support_connect(server, 0);
    support_say(fd, "go\n");
    support_send(fd, junk, sizeof(junk));
    expect_pattern(fd, 0, LONG);
    support_expect_end(fd);
    close(fd);
}

/* ------------------------------------------------------------------ sendfile ---------- */

#define FILE_LEN (8 * MIB)

/*
 * What the kernel is to do otherwise (BUILD wraps these calls): after so many calls, which are
 * right still, if for a MiB at most, it refuses, or the file is cut first. Set while no server is
 * running.
 */
struct hook {
    unsigned calls;
    int refusal;                /* errno, or 0 */
    int cut_fd;
    off_t cut_len;              /* 0: it isn't */
};

static struct hook sendfile_hook, pread_hook;

ssize_t __real_sendfile(int fd, int file_fd, off_t *offset, size_t len);
ssize_t __wrap_sendfile(int fd, int file_fd, off_t *offset, size_t len);
ssize_t __real_pread(int fd, void *buf, size_t len, off_t offset);
ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t offset);

/* What this call does: 0, or -1 and errno. */
static int take_hook(struct hook *hook, size_t *len)
{
    if (hook->calls > 0) {
        hook->calls--;
        if (*len > MIB)
            *len = MIB;
        return 0;
    }
    if (hook->cut_len > 0)
        return ftruncate(hook->cut_fd, hook->cut_len);
    errno = hook->refusal;
    return hook->refusal ? -1 : 0;
}

ssize_t __wrap_sendfile(int fd, int file_fd, off_t *offset, size_t len)
{
    return take_hook(&sendfile_hook, &len) < 0 ? -1 : __real_sendfile(fd, file_fd, offset, len);
}

ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t offset)
{
    return take_hook(&pread_hook, &len) < 0 ? -1 : __real_pread(fd, buf, len, offset);
}

static int end_with_hooks(void **state)
{
    int r = stream_end(state);

    sendfile_hook = pread_hook = (struct hook){ 0 };
    return r;
}

#define HOOKED_TEST(test) \
    cmocka_unit_test_setup_teardown(test, stream_begin, end_with_hooks)

static int patterned_file(void)
{
    int fd = memfd_create("pattern", MFD_CLOEXEC);

    assert_int_equal(write(fd, pattern, FILE_LEN), FILE_LEN);
    return fd;
}

static int send_from_file(struct weir_request *req)
{
    const int *file = weir_user(req);

    weir_write(req, "file:", 5);
    note("%zd ", weir_sendfile(req, *file, 1000, 10));
    note("%zd ", weir_sendfile(req, *file, 5, 0));
    weir_write(req, "all:", 4);
    note("%zd ", weir_sendfile(req, *file, 0, FILE_LEN));
    weir_write(req, "rest:", 5);
    note("%zd ", weir_sendfile(req, *file, FILE_LEN - 7, SIZE_MAX / 4));
    note("%zd", weir_sendfile(req, *file, FILE_LEN + 7, 7));
    return 0;
}

static void sendfile_sends_what_the_file_has_behind_what_was_written(void **state)
{
    static int file;
    struct weir_server *server;
    int fd;

    (void)state;
    file = patterned_file();
    server = STREAM_SERVE(send_from_file, .user = &file);
    fd = support_connect(server, 0);
    support_expect(fd, "file:");
    expect_pattern(fd, 1000, 10);
    support_expect(fd, "all:");
    expect_pattern(fd, 0, FILE_LEN);
    support_expect(fd, "rest:");
    expect_pattern(fd, FILE_LEN - 7, 7);
    support_expect_end(fd);
    notes_expect("10 0 8388608 7 0");
    assert_int_equal(support_stats(server).bytes_out, 14 + 10 + FILE_LEN + 7);
    close(fd);
    close(file);
}

static int send_from_nothing(struct weir_request *req)
{
    weir_write(req, "before", 6);
    note("%zd", weir_sendfile(req, -1, 0, 10));
    note("%zd", weir_write(req, "after", 5));
    note("%d", weir_flush(req));
    return 0;
}

static void a_file_that_cannot_be_sent_leaves_the_writing_as_it_was(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(send_from_nothing);
    support_talk(server, 0, "", "beforeafter");
    notes_expect("-950");
}

static int send_from_a_pipe(struct weir_request *req)
{
    int ends[2];

    if (pipe(ends) < 0 || write(ends[1], "piped", 5) != 5)
        return -errno;
    weir_write(req, "before", 6);
    note("%zd", weir_sendfile(req, ends[0], 0, 5));
    weir_write(req, "after", 5);
    close(ends[0]);
    close(ends[1]);
    return 0;
}

static void a_pipe_is_no_file(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(send_from_a_pipe);
    support_talk(server, 0, "", "beforeafter");
    notes_expect("-29");
}

/* The kernel has no sendfile for it, nor does it say how long it is. */
static int send_environment(struct weir_request *req)
{
    int fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);

    weir_write(req, "head:", 5);
    note("%zd", weir_sendfile(req, fd, 0, SIZE_MAX / 4));
    weir_write(req, ":tail", 5);
    close(fd);
    return 0;
}

static void a_file_of_which_the_kernel_only_reads_is_copied(void **state)
{
    char text[32768] = "head:", count[32];
    struct weir_server *server;
    ssize_t n;
    int fd;

    (void)state;
    fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
    n = read(fd, text + 5, sizeof(text) - 10);
    close(fd);
    assert_in_range(n, 1, sizeof(text) - 11);
    memcpy(text + 5 + n, ":tail", 5);
    server = STREAM_SERVE(send_environment);
    fd = support_connect(server, 0);
    for (ssize_t i = 0; i < n + 10; i++) {
        char c = '\0';

        assert_int_equal(support_read_all(fd, &c, 1), 1);
        assert_int_equal(c, text[i]);
    }
    support_expect_end(fd);
    snprintf(count, sizeof(count), "%zd", n);
    notes_expect(count);
    close(fd);
}

static void a_refused_sendfile_costs_a_copy(void **state)
{
    static const int refusals[] = { EINVAL, ENOSYS, EOVERFLOW, EPERM, EACCES, EOPNOTSUPP };
    static int file;

    (void)state;
    file = patterned_file();
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        struct weir_server *server;
        int fd;

        sendfile_hook = (struct hook){ .refusal = refusals[i], .calls = i % 2 };
        server = STREAM_SERVE(send_from_file, .user = &file);
        fd = support_connect(server, 0);
        support_expect(fd, "file:");
        expect_pattern(fd, 1000, 10);
        support_expect(fd, "all:");
        expect_pattern(fd, 0, FILE_LEN);
        support_expect(fd, "rest:");
        expect_pattern(fd, FILE_LEN - 7, 7);
        support_expect_end(fd);
        notes_expect("10 0 8388608 7 0");
        assert_int_equal(support_stats(server).bytes_out, 14 + 10 + FILE_LEN + 7);
        close(fd);
        stream_end(state);
        stream_begin(state);
    }
    close(file);
}

static int send_what_is_cut(struct weir_request *req)
{
    const int *file = weir_user(req);

    note("%zd", weir_sendfile(req, *file, 0, FILE_LEN));
    weir_write(req, "after", 5);
    return 0;
}

/* Cut to CUT bytes, a part of which has been sent by then, by sendfile or as a copy. */
static void a_file_that_is_cut_meanwhile_ends_there(void **state)
{
    enum { CUT = 3 * MIB + 5 };

    (void)state;
    for (int copied = 0; copied <= 1; copied++) {
        static int file;
        struct weir_server *server;
        struct hook cut;
        int fd;

        file = patterned_file();
        cut = (struct hook){ .calls = 1, .cut_fd = file, .cut_len = CUT };
        sendfile_hook = copied ? (struct hook){ .refusal = EINVAL } : cut;
        pread_hook = cut;
        server = STREAM_SERVE(send_what_is_cut, .user = &file);
        fd = support_connect(server, 0);
        expect_pattern(fd, 0, CUT);
        support_expect(fd, "after");
        support_expect_end(fd);
        notes_expect("3145733");
        close(fd);
        close(file);
        stream_end(state);
        stream_begin(state);
    }
}

static int send_head_and_file(struct weir_request *req)
{
    const int *file = weir_user(req);
    char *line;

    weir_write(req, "head:", 5);
    weir_sendfile(req, *file, 0, 100);
    return weir_readline(req, &line, 10) > 0 ? 0 : -EPROTO;
}

static void what_is_written_before_a_file_shares_its_first_segment(void **state)
{
    static int file;
    struct weir_server *server;
    struct tcp_info info;
    socklen_t len = sizeof(info);
    int fd;

    (void)state;
    file = patterned_file();
    server = STREAM_SERVE(send_head_and_file, .user = &file);
    fd = support_connect(server, 0);
    support_expect(fd, "head:");
    expect_pattern(fd, 0, 100);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0)    /* else a Unix socket */
        assert_int_equal(info.tcpi_data_segs_in, 1);
    support_say(fd, "thanks\n");
    support_expect_end(fd);
    close(fd);
    close(file);
}

static int send_head_and_the_end_of_a_file(struct weir_request *req)
{
    const int *file = weir_user(req);
    char *line;

    weir_write(req, "head:", 5);
    note("%zd", weir_sendfile(req, *file, FILE_LEN, 100));
    return weir_readline(req, &line, 10) > 0 ? 0 : -EPROTO;
}

static void what_is_before_a_file_that_has_ended_arrives_while_the_handler_waits(void **state)
{
    static int file;
    struct weir_server *server;
    int fd;

    (void)state;
    file = patterned_file();
    server = STREAM_SERVE(send_head_and_the_end_of_a_file, .user = &file);
    fd = support_connect(server, 0);
    support_expect(fd, "head:");
    support_say(fd, "thanks\n");
    support_expect_end(fd);
    notes_expect("0");
    close(fd);
    close(file);
}

/* ------------------------------------------------------------------ peers that fail --- */

/* Writes, of which the user says how much, until that fails, and then in every other way. */
static int write_without_end(struct weir_request *req)
{
    const size_t *len = weir_user(req);
    char *data = calloc(1, *len);
    ssize_t n;

    do
        n = weir_write(req, data, *len);
    while (n > 0);
    note("%zd", n);
    note("%zd", weir_write(req, "x", 1));
    note("%zd", weir_printf(req, "x"));
    note("%d", weir_flush(req));
    note("%zd", weir_sendfile(req, 0, 0, 10));
    free(data);
    return 0;
}

static void expect_timeout_of_50_ms(size_t write_len, const struct weir_options *options)
{
    static size_t len;
    struct weir_options mine = *options;
    uint64_t began_ms = support_now_ms();
    struct weir_server *server;
    int fd;

    len = write_len;
    mine.user = &len;
    server = stream_serve(&(const struct weir_handler){
        .name = "writer", .handle = write_without_end,
    }, &mine);
    fd = support_connect(server, 0);
    notes_expect("-110-110-110-110-110");
    assert_true(support_now_ms() - began_ms >= 50);
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(support_stats(server).timeouts, 1);
    /* The handler has been told, and returned 0. */
    assert_int_equal(support_stats(server).handle_errors, 0);
    close(fd);
}

static void a_peer_that_never_reads_ends_the_writing_in_time(void **state)
{
    (void)state;
    expect_timeout_of_50_ms(16 * MIB, WEIR_OPTIONS(.write_timeout_ms = 50));
}

static void so_it_does_when_small_writes_fill_the_buffer(void **state)
{
    (void)state;
    expect_timeout_of_50_ms(100, WEIR_OPTIONS(.write_timeout_ms = 50));
}

static void a_request_timeout_ends_writing_too(void **state)
{
    (void)state;
    expect_timeout_of_50_ms(16 * MIB, WEIR_OPTIONS(.request_timeout_ms = 50));
}

static int send_file_for_ever(struct weir_request *req)
{
    const int *file = weir_user(req);
    ssize_t n;

    do
        n = weir_sendfile(req, *file, 0, FILE_LEN);
    while (n > 0);
    note("%zd", n);
    note("%zd", weir_sendfile(req, *file, 0, FILE_LEN));
    return 0;
}

static void a_peer_that_never_reads_ends_a_sendfile_in_time(void **state)
{
    static int file;
    struct weir_server *server;
    int fd;

    (void)state;
    file = patterned_file();
    server = STREAM_SERVE(send_file_for_ever, .user = &file, .write_timeout_ms = 50);
    fd = support_connect(server, 0);
    notes_expect("-110-110");
    SUPPORT_AWAIT(server, closed, == 1);
    close(fd);
    close(file);
}

/* It reads all the time, but too little: the timeout is that of the whole write. */
static void a_peer_that_reads_a_bit_now_and_then_does_not_extend_a_write(void **state)
{
    static size_t len = 64 * MIB;
    struct weir_server *server;
    char drop[512];
    int fd;

    (void)state;
    server = STREAM_SERVE(write_without_end, .user = &len, .write_timeout_ms = 50);
    fd = support_connect(server, 0);
    while (notes_len() == 0) {
        assert_int_equal(support_read_all(fd, drop, sizeof(drop)), sizeof(drop));
        poll(NULL, 0, 1);
    }
    notes_expect("-110-110-110-110-110");
    close(fd);
}

/* The first line says what the handler shall be: one that writes, or one that answers. */
static int write_or_answer(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n > 0 && line[0] == 'w')
        return write_without_end(req);
    weir_write(req, line, (size_t)n);
    return 0;
}

static void others_are_served_while_a_write_waits(void **state)
{
    static size_t len = 64 * MIB;
    struct weir_server *server;
    int fd;

    (void)state;
    if (way->stack == WEIR_STACK_THREAD)
        skip();
    server = STREAM_SERVE(write_or_answer, .user = &len, .workers = 1);
    fd = support_connect(server, 0);
    support_say(fd, "write\n");
    SUPPORT_AWAIT(server, parked, == 1);
    for (int i = 0; i < 20; i++)
        support_talk(server, 0, "answer\n", "answer\n");
    /* It writes on for a moment whenever the kernel lets its peer's buffer grow. */
    SUPPORT_AWAIT(server, parked, == 1);
    assert_int_equal(notes_len(), 0);
    close(fd);
}

/* Prints, or sends a file, for as long as it may; or answers. */
static int send_without_end(struct weir_request *req)
{
    const int *file = weir_user(req);
    char *line;
    ssize_t n = weir_readline(req, &line, 100);
    bool prints = n > 0 && line[0] == 'p';

    if (n <= 0 || line[0] == 'a') {
        weir_write(req, "answer\n", 7);
        return 0;
    }
    do
        n = prints ? weir_printf(req, "%zd, one of many lines of a report\n", n)
                   : weir_sendfile(req, *file, 0, FILE_LEN);
    while (n > 0);
    note("%zd", n);
    return 0;
}

/* A client that takes everything as fast as it comes, on a thread of its own. */
struct taker {
    int fd;
    pthread_t thread;
};

static void *take_everything(void *arg)
{
    const struct taker *taker = arg;
    static char drop[1 << 18];

    while (recv(taker->fd, drop, sizeof(drop), 0) > 0)
        ;
    return NULL;
}

static void begin_taking(struct taker *taker, struct weir_server *server, const char *what)
{
    taker->fd = support_ask(server, 0, what);
    assert_int_equal(pthread_create(&taker->thread, NULL, take_everything, taker), 0);
    SUPPORT_AWAIT(server, bytes_out, > 0);
}

static void end_taking(struct taker *taker)
{
    shutdown(taker->fd, SHUT_RDWR);
    pthread_join(taker->thread, NULL);
    /* What is read behind a shutdown opens no window, and a close would not tell: for a minute. */
    support_reset(taker->fd);
}

static const char *const endless[] = { "print\n", "file\n" };

static void who_takes_everything_leaves_the_worker_to_others(void **state)
{
    static int file;
    struct weir_server *server;
    struct taker taker;

    (void)state;
    if (way->stack == WEIR_STACK_THREAD)
        skip();
    file = patterned_file();
    server = STREAM_SERVE(send_without_end, .user = &file, .workers = 1);
    for (size_t i = 0; i < 2; i++) {
        begin_taking(&taker, server, endless[i]);
        for (int round = 0; round < 20; round++)
            support_talk(server, 0, "answer\n", "answer\n");
        assert_int_equal(notes_len() > 0, i > 0);
        end_taking(&taker);
        SUPPORT_UNTIL(notes_len() > 3 * i);
    }
    close(file);
}

static void a_request_timeout_ends_writing_to_one_who_takes_everything(void **state)
{
    static int file;
    struct weir_server *server;
    struct taker taker;

    (void)state;
    file = patterned_file();
    server = STREAM_SERVE(send_without_end, .user = &file, .request_timeout_ms = 50);
    for (size_t i = 0; i < 2; i++) {
        begin_taking(&taker, server, endless[i]);
        notes_expect(i == 0 ? "-110" : "-110-110");
        end_taking(&taker);
    }
    SUPPORT_AWAIT(server, timeouts, == 2);
    close(file);
}

static void a_cancel_ends_writing_to_one_who_takes_everything(void **state)
{
    static int file;

    file = patterned_file();
    for (size_t i = 0; i < 2; i++) {
        struct weir_server *server = STREAM_SERVE(send_without_end, .user = &file);
        struct taker taker;

        begin_taking(&taker, server, endless[i]);
        weir_server_cancel(server);
        notes_expect(i == 0 ? "-125" : "-125-125");
        end_taking(&taker);
        stream_end(state);
    }
    close(file);
}

/* Notes only whether the errors were such as a peer's end gives, and stayed the same. */
static int write_to_the_gone(struct weir_request *req)
{
    const int *file = weir_user(req);
    static const char data[4096];
    char *line;
    ssize_t n;
    ssize_t again;

    weir_readline(req, &line, 100);
    do
        n = *file >= 0 ? weir_sendfile(req, *file, 0, FILE_LEN)
                       : weir_write(req, data, sizeof(data));
    while (n > 0);
    again = weir_write(req, data, 1);
    note(n == -EPIPE || n == -ECONNRESET ? "gone" : "%zd", n);
    note(again == n ? "," : "%zd", again);
    return 0;
}

static void expect_gone(int from_file)
{
    static int file;
    struct weir_server *server;
    int gone;
    int here;

    file = from_file;
    server = STREAM_SERVE(write_to_the_gone, .user = &file, .workers = 1);
    /* The default: a SIGPIPE ends the test. */
    signal(SIGPIPE, SIG_DFL);
    here = support_connect(server, 0);
    gone = support_connect(server, 0);
    SUPPORT_AWAIT(server, accepted, == 2);
    support_say(gone, "go\n");
    support_reset(gone);
    notes_expect("gone,");
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(support_stats(server).handle_errors, 0);
    support_say(here, "go\n");
    expect_pattern(here, 0, file < 0 ? 0 : FILE_LEN);
    support_reset(here);
    notes_expect("gone,gone,");
}

static void writing_to_one_that_is_gone_is_an_error_of_that_handler_alone(void **state)
{
    (void)state;
    if (way->stack == WEIR_STACK_THREAD)
        skip();
    expect_gone(-1);
}

static void sending_a_file_to_one_that_is_gone_too(void **state)
{
    int file = patterned_file();

    (void)state;
    if (way->stack != WEIR_STACK_THREAD)
        expect_gone(file);
    close(file);
}

/* The answer can't reach it any more: as in socketserver, that is nobody's error. */
static int answer_late(struct weir_request *req)
{
    char *line;

    while (weir_readline(req, &line, 100) > 0)
        ;
    note("%zd", weir_write(req, "answer", 6));
    return 0;
}

static void a_peer_that_does_not_wait_for_the_answer_is_no_error(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(answer_late);
    for (int i = 0; i < 20; i++)
        support_reset(support_connect(server, 0));
    SUPPORT_AWAIT(server, closed, == 20);
    assert_int_equal(support_stats(server).handle_errors, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STREAM_TEST(nothing_leaves_before_a_flush),
        STREAM_TEST(unbuffered_writes_leave_at_once),
        STREAM_TEST(what_was_written_leaves_before_a_read_waits),
        STREAM_TEST(answers_to_a_batch_leave_together),
        STREAM_TEST(a_kept_handlers_answers_to_a_batch_leave_together),
        STREAM_TEST(what_was_written_leaves_even_when_the_handler_fails),
        STREAM_TEST(setup_and_finish_write_too),
        STREAM_TEST(a_handler_that_has_ended_its_output_reads_on),
        STREAM_TEST(what_is_written_behind_the_end_is_no_reset_of_the_peers),
        STREAM_TEST(a_try_takes_what_goes_without_a_wait),
        STREAM_TEST(a_try_takes_it_past_a_small_buffer),
        STREAM_TEST(a_try_takes_it_without_a_buffer),
        STREAM_TEST(who_sends_all_before_it_reads_is_served),
        STREAM_TEST(an_error_that_a_try_finds_stays),
        STREAM_TEST(a_connection_whose_output_has_ended_may_be_kept),
        STREAM_TEST(writev_takes_many_parts_and_empty_ones),
        STREAM_TEST(writev_past_a_small_buffer_takes_many_parts_and_empty_ones),
        STREAM_TEST(unbuffered_writev_takes_many_parts_and_empty_ones),
        STREAM_TEST(printf_may_be_longer_than_the_buffer),
        STREAM_TEST(printf_may_be_unbuffered),
        STREAM_TEST(sixteen_mebibytes_reach_a_slow_reader_byte_for_byte),
        STREAM_TEST(input_that_nobody_reads_costs_nothing_of_the_answer),
        STREAM_TEST(sendfile_sends_what_the_file_has_behind_what_was_written),
        STREAM_TEST(what_is_written_before_a_file_shares_its_first_segment),
        STREAM_TEST(what_is_before_a_file_that_has_ended_arrives_while_the_handler_waits),
        STREAM_TEST(a_file_that_cannot_be_sent_leaves_the_writing_as_it_was),
        STREAM_TEST(a_pipe_is_no_file),
        STREAM_TEST(a_file_of_which_the_kernel_only_reads_is_copied),
        HOOKED_TEST(a_refused_sendfile_costs_a_copy),
        HOOKED_TEST(a_file_that_is_cut_meanwhile_ends_there),
        STREAM_TEST(a_peer_that_never_reads_ends_the_writing_in_time),
        STREAM_TEST(so_it_does_when_small_writes_fill_the_buffer),
        STREAM_TEST(a_request_timeout_ends_writing_too),
        STREAM_TEST(a_peer_that_never_reads_ends_a_sendfile_in_time),
        STREAM_TEST(a_peer_that_reads_a_bit_now_and_then_does_not_extend_a_write),
        STREAM_TEST(others_are_served_while_a_write_waits),
        STREAM_TEST(who_takes_everything_leaves_the_worker_to_others),
        STREAM_TEST(a_request_timeout_ends_writing_to_one_who_takes_everything),
        STREAM_TEST(a_cancel_ends_writing_to_one_who_takes_everything),
        STREAM_TEST(writing_to_one_that_is_gone_is_an_error_of_that_handler_alone),
        STREAM_TEST(sending_a_file_to_one_that_is_gone_too),
        STREAM_TEST(a_peer_that_does_not_wait_for_the_answer_is_no_error),
    };

    make_pattern();
    return STREAM_RUN(tests, WAYS);
}
