/*
 * rfile_test.c - reading, every way: lines, bytes, views; ends, resets, deadlines; keeping.
 */
#include "tests/stream.h"

#include "engine/base/compiler.h"

#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

/* ------------------------------------------------------------------ lines ------------- */

/* Notes each line as [line], and the end, or an error, as its number. The limit is the user. */
static int note_lines(struct weir_request *req)
{
    const size_t *limit = weir_user(req);
    char *line;
    ssize_t n;

    while ((n = weir_readline(req, &line, *limit)) > 0) {
        note("[");
        note_bytes(line, (size_t)n);
        note("]");
    }
    note("%zd", n);
    return 0;
}

static void expect_lines(size_t max, size_t rbufsize, const char *say, const char *lines)
{
    static size_t limit;
    struct weir_server *server;

    limit = max;
    server = STREAM_SERVE(note_lines, .user = &limit, .rbufsize = rbufsize);

    support_talk(server, 0, say, "");
    notes_expect(lines);
}

static void readline_gives_each_line_with_its_newline(void **state)
{
    (void)state;
    expect_lines(100, 0, "one\ntwo\r\n\n\rx\n", "[one\n][two\r\n][\n][\rx\n]0");
}

static void readline_gives_what_is_left_at_the_end_and_then_the_end(void **state)
{
    (void)state;
    expect_lines(100, 0, "one\nlast", "[one\n][last]0");
}

static void readline_gives_no_more_than_maxbytes_and_the_rest_next_time(void **state)
{
    (void)state;
    expect_lines(4, 0, "abcdefghi\nxyz\nabcd\n", "[abcd][efgh][i\n][xyz\n][abcd][\n]0");
}

static void readline_with_a_maxof_1_gives_single_bytes(void **state)
{
    (void)state;
    expect_lines(1, 0, "ab\n\nc", "[a][b][\n][\n][c]0");
}

static void readline_works_in_the_smallest_of_buffers(void **state)
{
    (void)state;
    expect_lines(100, 1, "one\na longer line\n\n1234567\n12345678\nend",
                 "[one\n][a longer line\n][\n][1234567\n][12345678\n][end]0");
}

static int note_zero_limit(struct weir_request *req)
{
    char *line = NULL;

    note("%zd", weir_readline(req, &line, 0));
    note(line ? "touched" : "untouched");
    return 0;
}

static void readline_refuses_a_maxof_0(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(note_zero_limit);
    support_talk(server, 0, "", "");
    notes_expect("-22untouched");
}

/* The end is the end, as often as it is asked for. */
static int note_end_again_and_again(struct weir_request *req)
{
    char *line = NULL;
    char byte;

    note("%zd", weir_readline(req, &line, 10));
    note("%zd", weir_readline(req, &line, 10));
    note("%zd", weir_read(req, &byte, 1));
    note("%zd", weir_peek(req, &line, 5));
    note(line ? "view" : "none");
    return 0;
}

static void the_end_stays_the_end(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(note_end_again_and_again);
    support_talk(server, 0, "", "");
    notes_expect("0000none");
}

static void readline_puts_a_line_together_that_comes_byte_by_byte(void **state)
{
    static const char text[] = "line by\r\nbytes\n!";
    static size_t limit = 100;
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(note_lines, .user = &limit);
    fd = support_connect(server, 0);
    for (size_t i = 0; text[i] != '\0'; i++) {
        support_send(fd, text + i, 1);
        SUPPORT_AWAIT(server, bytes_in, == i + 1);
    }
    notes_expect("[line by\r\n][bytes\n]");
    support_half_close(fd);
    notes_expect("[line by\r\n][bytes\n][!]0");
    close(fd);
}

/* A line that was read in parts of which the first was large: the buffer is kept, not copied. */
static void readline_goes_on_behind_a_large_part_of_a_line(void **state)
{
    char text[64];
    static size_t limit = 100;
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(note_lines, .user = &limit, .rbufsize = 64);
    fd = support_connect(server, 0);
    memset(text, 'x', 60);
    support_send(fd, text, 60);
    SUPPORT_AWAIT(server, bytes_in, == 60);
    support_say(fd, "0123456789\nnext\n");
    notes_expect("[xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx0123456789\n]"
                 "[next\n]");
    close(fd);
}

/* What position i of a long stream holds; no newline. */
static char pattern(size_t i)
{
    return (char)('a' + (i * 31 + i / 251) % 26);
}

/* Notes the lengths of lines whose bytes are the pattern of their position in the line. */
static int note_lengths(struct weir_request *req)
{
    const size_t *limit = weir_user(req);
    size_t at = 0;
    char *line;
    ssize_t n;

    while ((n = weir_readline(req, &line, *limit)) > 0) {
        bool ends = line[n - 1] == '\n';
        size_t len = (size_t)n - ends;

        for (size_t i = 0; i < len; i++)
            if (line[i] != pattern(at + i)) {
                note("wrong at %zu ", at + i);
                return 0;
            }
        note("%zd%s ", n, ends ? "" : "+");
        at = ends ? 0 : at + (size_t)n;
    }
    note("%zd", n);
    return 0;
}

static void send_long_line(int fd, size_t len)
{
    char *line = test_malloc(len);

    for (size_t i = 0; i < len - 1; i++)
        line[i] = pattern(i);
    line[len - 1] = '\n';
    support_send(fd, line, len);
    test_free(line);
}

static void lines_may_be_longer_than_the_buffer_up_to_the_limit(void **state)
{
    static const size_t lengths[] = {
        63, 64, 65, 1, 127, 128, 129, 255, 256, 257, 1000, 4096, 65536, MIB - 1, MIB, MIB + 1, 2,
    };
    static size_t limit = MIB;
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(note_lengths, .user = &limit, .rbufsize = 64);
    fd = support_connect(server, 0);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
        send_long_line(fd, lengths[i]);
    support_half_close(fd);
    notes_expect("63 64 65 1 127 128 129 255 256 257 1000 4096 65536 1048575 1048576 1048576+ 1 "
                 "2 0");
    close(fd);
}

/* Answers with 4 MiB, in which it must wait, and then with the line, changed in place. */
static int shout_at_length(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);
    char *filler = calloc(4, MIB);

    for (ssize_t i = 0; i < n; i++)
        if (line[i] != '\n')
            line[i] = (char)(line[i] & ~0x20);
    weir_write(req, filler, 4 * MIB);
    free(filler);
    weir_write(req, line, (size_t)n);
    /* What a server closes on unread makes TCP forget what it has yet to send. */
    while (weir_readline(req, &line, 100) > 0)
        ;
    return 0;
}

static void a_line_may_be_changed_in_place_and_stays_across_writes(void **state)
{
    char *got = test_malloc(4 * MIB);
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(shout_at_length);
    fd = support_connect(server, 0);
    support_say(fd, "abcdef\n");
    SUPPORT_AWAIT(server, bytes_in, == 7);
    support_say(fd, "this comes while it waits and must not be read in between\n");
    assert_int_equal(support_read_all(fd, got, 4 * MIB), 4 * MIB);
    support_half_close(fd);
    support_expect(fd, "ABCDEF\n");
    close(fd);
    test_free(got);
}

/* ------------------------------------------------------------------ bytes, views ------ */

static int note_read_exact(struct weir_request *req)
{
    char buf[16];
    ssize_t n;

    note("%zd,", weir_read(req, buf, 0));
    note("%zd,", weir_read_exact(req, buf, 0));
    n = weir_read_exact(req, buf, 10);
    note_bytes(buf, (size_t)n);
    n = weir_read_exact(req, buf, 10);
    note(",%zd:", n);
    note_bytes(buf, (size_t)n);
    note(",%zd", weir_read_exact(req, buf, 10));
    return 0;
}

static void read_exact_waits_for_all_and_gives_less_at_the_end_only(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(note_read_exact);
    fd = support_connect(server, 0);
    support_say(fd, "0123");
    SUPPORT_AWAIT(server, bytes_in, == 4);
    support_say(fd, "456789ab");
    SUPPORT_AWAIT(server, bytes_in, == 12);
    support_say(fd, "c");
    support_half_close(fd);
    notes_expect("0,0,0123456789,3:abc,0");
    close(fd);
}

static int note_reads(struct weir_request *req)
{
    char buf[4];
    ssize_t n;

    while ((n = weir_read(req, buf, sizeof(buf))) > 0) {
        note("%zd:", n);
        note_bytes(buf, (size_t)n);
        note(" ");
    }
    note("%zd", n);
    return 0;
}

static void read_gives_what_has_arrived(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(note_reads);
    fd = support_connect(server, 0);
    support_say(fd, "abcdef");
    notes_expect("4:abcd 2:ef ");
    support_say(fd, "g");
    notes_expect("4:abcd 2:ef 1:g ");
    support_half_close(fd);
    notes_expect("4:abcd 2:ef 1:g 0");
    close(fd);
}

static int note_peeks(struct weir_request *req)
{
    char *data = NULL;
    ssize_t n;

    n = weir_peek(req, &data, 0);
    note("%zd%s,", n, data ? "view" : "");
    n = weir_peek(req, &data, 3);
    note("%zd:%.*s,", n, (int)n, data);
    weir_consume(req, 2);
    note("still %.*s,", (int)n, data);
    n = weir_peek(req, &data, 1);
    note("%zd:%.*s,", n, (int)n, data);
    n = weir_peek(req, &data, 12);
    note("%zd:%.*s,", n, (int)n, data);
    weir_consume(req, 4);
    n = weir_peek(req, &data, 100);
    note("%zd:%.*s,", n, (int)n, data);
    weir_consume(req, 1000);
    note("%zd", weir_peek(req, &data, 1));
    return 0;
}

static void peek_gives_a_view_that_may_be_longer_than_the_buffer(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(note_peeks, .rbufsize = 8);
    fd = support_connect(server, 0);
    support_say(fd, "abcd");
    notes_expect("0,4:abcd,still abcd,2:cd,");
    support_say(fd, "efghijklmn");
    notes_expect("0,4:abcd,still abcd,2:cd,12:cdefghijklmn,");
    support_half_close(fd);
    notes_expect("0,4:abcd,still abcd,2:cd,12:cdefghijklmn,8:ghijklmn,0");
    close(fd);
}

/* "LENGTH\n" and so many bytes, of which it peeks at the first, again and again. */
static int note_frames(struct weir_request *req)
{
    char body[64];
    char *text;
    ssize_t n;

    while ((n = weir_readline(req, &text, 10)) > 0) {
        size_t len = (size_t)atoi(text);

        n = weir_peek(req, &text, 1);
        note("%c", n > 0 ? *text : '-');
        n = weir_read_exact(req, body, len);
        note("<%.*s>", (int)n, body);
    }
    note("%zd", n);
    return 0;
}

static void calls_may_be_mixed(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(note_frames, .rbufsize = 16);
    support_talk(server, 0, "3\nabc12\nhello, world30\n0123456789012345678901234567895\nxy", "");
    notes_expect("a<abc>h<hello, world>0<012345678901234567890123456789>x<xy>0");
}

static int note_a_mebibyte(struct weir_request *req)
{
    char *body = malloc(MIB);
    ssize_t n = weir_read_exact(req, body, MIB);
    size_t right = 0;

    while (right < (size_t)n && body[right] == pattern(right))
        right++;
    note("%zd %zu", n, right);
    free(body);
    return 0;
}

static void read_exact_takes_a_mebibyte_through_a_small_buffer(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(note_a_mebibyte, .rbufsize = 512);
    fd = support_connect(server, 0);
    send_long_line(fd, MIB + 1);
    notes_expect("1048576 1048576");
    close(fd);
}

/* ------------------------------------------------------------------ ends -------------- */

/* Says something that the client does not read, so that a Unix peer too resets by closing. */
static int note_reset(struct weir_request *req)
{
    char *line;

    weir_write(req, "hello", 5);
    note("%zd,", weir_readline(req, &line, 100));
    note("%zd", weir_readline(req, &line, 100));
    return 0;
}

static void a_reset_is_an_error_that_stays(void **state)
{
    struct weir_server *server;
    struct pollfd readable = { .events = POLLIN };

    (void)state;
    server = STREAM_SERVE(note_reset);
    readable.fd = support_connect(server, 0);
    assert_int_equal(poll(&readable, 1, PLENTY_MS), 1);
    support_reset(readable.fd);
    notes_expect("-104,-104");
}

static int upper(struct weir_request *req)
{
    char *line;
    ssize_t n;

    while ((n = weir_readline(req, &line, 100)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            if (line[i] >= 'a' && line[i] <= 'z')
                line[i] = (char)(line[i] - 0x20);
        weir_write(req, line, (size_t)n);
    }
    return (int)n;
}

static int upper_one_and_keep(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    for (ssize_t i = 0; i < n; i++)
        if (line[i] >= 'a' && line[i] <= 'z')
            line[i] = (char)(line[i] - 0x20);
    if (n > 0)
        weir_write(req, line, (size_t)n);
    return n > 0 ? WEIR_KEEP : (int)n;
}

static void a_client_that_has_said_all_still_gets_its_answer(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(upper);
    support_talk(server, 0, "a\nb", "A\nB");
}

/* The end is in the same packet as the last line, or a moment later: it must be seen each time. */
/* The rest of what has come, and whatever comes, is for nobody. */
static int end_input(struct weir_request *req)
{
    char *data;
    char byte;

    note("%zd,", weir_readline(req, &data, 100));
    note("%d,", weir_end_input(req));
    note("%zd,", weir_readline(req, &data, 100));
    note("%zd,", weir_peek(req, &data, 0));
    note("%zd,", weir_read(req, &byte, 1));
    note("%d", weir_end_input(req));
    weir_write(req, "bye\n", 4);
    return WEIR_KEEP;
}

static void a_handler_that_has_ended_its_input_reads_no_more(void **state)
{
    struct weir_server *server = STREAM_SERVE(end_input);

    (void)state;
    support_talk(server, 0, "one\ntwo\n", "bye\n");
    notes_expect("4,0,0,0,0,0");
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(support_stats(server).handled, 1);
    assert_int_equal(support_stats(server).handle_errors, 0);
}

static struct gate refused;

static int pass_refused(void *arg)
{
    (void)arg;
    gate_pass(&refused);
    return 0;
}

static int end_input_and_stay(struct weir_request *req)
{
    note("%d", weir_end_input(req));
    weir_offload(req, pass_refused, NULL);
    weir_write(req, "bye\n", 4);
    return 0;
}

/* Nobody tells a client by TCP, whose words are not in its way. */
static void who_sends_to_an_input_that_has_ended_is_told_or_answered(void **state)
{
    struct weir_server *server;
    bool told = way->family == AF_UNIX;
    int fd;

    (void)state;
    gate_init(&refused);
    server = STREAM_SERVE(end_input_and_stay);
    fd = support_connect(server, 0);
    notes_expect("0");
    assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), told ? -1 : 1);
    if (told)
        assert_int_equal(errno, EPIPE);
    gate_open(&refused);
    support_expect(fd, "bye\n");
    support_expect_end(fd);
    close(fd);
    gate_fini(&refused);
}

static void an_end_that_comes_with_the_last_bytes_is_seen(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(upper_one_and_keep);
    for (unsigned i = 0; i < 200; i++)
        support_talk(server, 0, "a\n", "A\n");
    for (unsigned i = 0; i < 200; i++) {
        int fd = support_connect(server, 0);

        support_say(fd, "a\n");
        support_expect(fd, "A\n");
        support_say(fd, "b\n");
        support_half_close(fd);
        support_expect(fd, "B\n");
        support_expect_end(fd);
        close(fd);
    }
    SUPPORT_AWAIT(server, closed, == 400);
}

/* A recv(2) stops at urgent data: short, although there is more. Nothing must wait for an edge. */
static void talk_with_urgent_data(struct weir_server *server, bool known)
{
    int fd = support_connect(server, 0);
    int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (known) {
        support_say(fd, "first\n");
        support_expect(fd, "FIRST\n");
    }
    support_say(fd, "ab");
    if (send(fd, "!", 1, MSG_OOB) < 0 && way->family == AF_UNIX)
        skip();     /* a kernel that knows none of Unix sockets */
    support_say(fd, "cd\nef\n");
    support_expect(fd, "ABCD\nEF\n");
    support_half_close(fd);
    support_expect_end(fd);
    close(fd);
}

/* Says "b", and sends a descriptor along. */
static void say_b_with_descriptor(int fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { .header = {
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)),
    } };
    struct iovec part = { "b", 1 };
    const struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
        .msg_controllen = sizeof(control),
    };

    memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    assert_int_equal(sendmsg(fd, &message, 0), 1);
}

static struct gate inside, outside;

static int open_gates(void **state)
{
    gate_init(&inside);
    gate_init(&outside);
    return stream_begin(state);
}

static int close_gates(void **state)
{
    int r = stream_end(state);

    gate_fini(&inside);
    gate_fini(&outside);
    return r;
}

/* The same as upper_one_and_keep, but "hold" holds the worker until the test lets it go. */
static int upper_or_hold(struct weir_request *req)
{
    char *data;

    if (weir_peek(req, &data, 5) == 5 && memcmp(data, "hold\n", 5) == 0) {
        gate_open(&inside);
        gate_pass(&outside);
    }
    return upper_one_and_keep(req);
}

/*
 * A recv(2) stops behind descriptors, too. All is there before the only worker takes its events, so
 * no other edge comes to the rescue.
 */
static void descriptors_in_the_middle_hold_nothing_up(void **state)
{
    struct weir_server *server;
    int holder, fd;

    (void)state;
    if (way->family != AF_UNIX)
        skip();
    server = STREAM_SERVE(upper_or_hold, .workers = 1);
    fd = support_connect(server, 0);
    support_say(fd, "first\n");
    support_expect(fd, "FIRST\n");
    holder = support_ask(server, 0, "hold\n");
    gate_pass(&inside);
    support_say(fd, "a");
    say_b_with_descriptor(fd);
    support_say(fd, "cd\nefghi\n");
    gate_open(&outside);
    support_expect(fd, "ABCD\nEFGHI\n");
    support_expect(holder, "HOLD\n");
    close(fd);
    close(holder);
}

static void urgent_data_in_the_middle_holds_nothing_up(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(upper);
    for (unsigned i = 0; i < 50; i++)
        talk_with_urgent_data(server, i % 2);
}

static void urgent_data_holds_a_kept_connection_not_up(void **state)
{
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(upper_one_and_keep, .disable_nagle_algorithm = true);
    for (unsigned i = 0; i < 50; i++)
        talk_with_urgent_data(server, i % 2);
}

/* ------------------------------------------------------------------ keeping ----------- */

static void talk_in_lines_of(int fd, size_t len, size_t count)
{
    char say[3 * 100 + 1];
    char expect[3 * 100 + 1];

    for (size_t i = 0; i < len * count; i++) {
        say[i] = (i + 1) % len == 0 ? '\n' : 'a';
        expect[i] = (i + 1) % len == 0 ? '\n' : 'A';
    }
    expect[len * count] = '\0';
    support_send(fd, say, len * count);
    support_expect(fd, expect);
}

/* Input that fills the buffer exactly looks like a drained socket, or like one that is not. */
static void input_of_exactly_a_buffer_is_not_lost_when_kept(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    /* Without Nagle's algorithm, which holds back the answer behind an unacknowledged one. */
    server = STREAM_SERVE(upper_one_and_keep, .rbufsize = 64, .disable_nagle_algorithm = true);
    fd = support_connect(server, 0);
    for (size_t len = 1; len <= 100; len++)
        for (size_t count = 1; count <= 3; count++)
            talk_in_lines_of(fd, len, count);
    close(fd);
}

/* Takes nothing until there are six bytes, and asks to be called again until then. */
static int take_six_and_keep(struct weir_request *req)
{
    char *data;
    ssize_t n = weir_peek(req, &data, 0);

    note("%zd,", n);
    if (n < 6)
        return WEIR_KEEP;
    weir_write(req, data, 6);
    weir_consume(req, 6);
    return WEIR_KEEP;
}

static void a_kept_handler_that_took_nothing_is_called_when_there_is_more(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(take_six_and_keep);
    fd = support_connect(server, 0);
    notes_expect("0,");
    support_say(fd, "abc");
    notes_expect("0,3,");
    support_say(fd, "d");
    notes_expect("0,3,4,");
    support_say(fd, "efghijklmn");
    support_expect(fd, "abcdefghijkl");
    notes_expect("0,3,4,14,8,2,");
    support_half_close(fd);
    support_expect_end(fd);
    notes_expect("0,3,4,14,8,2,2,");
    close(fd);
}

static void a_kept_handler_that_took_nothing_and_gets_no_more_is_timed_out(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(take_six_and_keep, .read_timeout_ms = 30);
    fd = support_connect(server, 0);
    support_say(fd, "abc");
    support_expect_end(fd);
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(support_stats(server).timeouts, 1);
    close(fd);
}

#define HAMMERS 4
#define BLOWS (WEIR_TSAN ? 1000 : 5000)

struct hammer {
    pthread_t thread;
    int fd;
    size_t answered;
};

/* Reads the answers while the test writes the questions. */
static void *count_answers(void *arg)
{
    struct hammer *hammer = arg;
    char buf[256];
    ssize_t n;

    while ((n = recv(hammer->fd, buf, sizeof(buf), 0)) > 0)
        hammer->answered += (size_t)n;
    return NULL;
}

/* Every line meets the connection in another state: about to be kept, kept, running. */
static void input_that_comes_as_the_handler_returns_is_not_lost(void **state)
{
    struct hammer hammers[HAMMERS] = { 0 };
    struct weir_server *server;

    (void)state;
    server = STREAM_SERVE(upper_one_and_keep, .rbufsize = 64);
    for (size_t i = 0; i < HAMMERS; i++) {
        hammers[i].fd = support_connect(server, 0);
        pthread_create(&hammers[i].thread, NULL, count_answers, &hammers[i]);
    }
    for (size_t blow = 0; blow < BLOWS; blow++)
        for (size_t i = 0; i < HAMMERS; i++)
            support_send(hammers[i].fd, "abcdef\n", 7);
    for (size_t i = 0; i < HAMMERS; i++) {
        support_half_close(hammers[i].fd);
        pthread_join(hammers[i].thread, NULL);
        assert_int_equal(hammers[i].answered, 7 * BLOWS);
        close(hammers[i].fd);
    }
}

/* The next line comes as soon as the answer is out: just when the handler returns. */
static void input_that_answers_the_answer_is_not_lost(void **state)
{
    struct weir_server *server;
    int fds[HAMMERS];

    (void)state;
    server = STREAM_SERVE(upper_one_and_keep);
    for (size_t i = 0; i < HAMMERS; i++)
        fds[i] = support_connect(server, 0);
    for (size_t blow = 0; blow < BLOWS; blow++) {
        for (size_t i = 0; i < HAMMERS; i++)
            support_say(fds[i], "x\n");
        for (size_t i = 0; i < HAMMERS; i++)
            support_expect(fds[i], "X\n");
    }
    for (size_t i = 0; i < HAMMERS; i++)
        close(fds[i]);
}

/* More than any socket holds, and it leaves when the next read waits. */
#define LONG_ANSWER (16 * MIB)

static int answer_at_length(struct weir_request *req)
{
    static const char answer[LONG_ANSWER];
    char *line;
    ssize_t n;

    while ((n = weir_readline(req, &line, 16)) > 0) {
        if (line[0] == 'l')
            weir_write(req, answer, sizeof(answer));
        weir_write(req, line, (size_t)n);
    }
    return (int)n;
}

static void input_that_comes_while_a_read_sends_is_not_lost(void **state)
{
    char *got = test_malloc(LONG_ANSWER);
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(answer_at_length, .wbufsize = LONG_ANSWER + 16);
    fd = support_connect(server, 0);
    support_say(fd, "long\n");
    SUPPORT_AWAIT(server, bytes_out, > 0);
    if (way->stack != WEIR_STACK_THREAD)
        SUPPORT_AWAIT(server, parked, == 1);
    support_say(fd, "short\n");
    assert_int_equal(support_read_all(fd, got, LONG_ANSWER), LONG_ANSWER);
    support_expect(fd, "long\nshort\n");
    test_free(got);
    close(fd);
}

/* ------------------------------------------------------------------ deadlines --------- */

static int note_read_timeout(struct weir_request *req)
{
    uint64_t began_ms = support_now_ms();
    char *text;
    ssize_t n;

    note("%zd", weir_readline(req, &text, 100));
    note(support_now_ms() - began_ms >= 30 ? "," : "too early");
    weir_write(req, "late\n", 5);
    weir_flush(req);
    note("%zd,", weir_readline(req, &text, 100));
    n = weir_peek(req, &text, 0);
    note("%.*s", (int)n, text);
    return 0;
}

static void a_read_timeout_comes_not_too_early_and_stays(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(note_read_timeout, .read_timeout_ms = 30);
    fd = support_connect(server, 0);
    support_say(fd, "par");
    support_expect(fd, "late\n");
    support_expect_end(fd);
    notes_expect("-110,-110,par");
    assert_int_equal(support_stats(server).timeouts, 1);
    close(fd);
}

static int note_request_timeout(struct weir_request *req)
{
    note("%d", upper(req));
    return 0;
}

static void a_request_timeout_ends_a_conversation_that_goes_on_and_on(void **state)
{
    uint64_t began_ms = support_now_ms();
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(note_request_timeout, .request_timeout_ms = 50);
    fd = support_connect(server, 0);
    while (send(fd, "x\n", 2, MSG_NOSIGNAL) == 2) {
        char answer[2];

        if (support_read_all(fd, answer, 2) < 2)
            break;
    }
    notes_expect("-110");
    assert_true(support_now_ms() - began_ms >= 50);
    close(fd);
}

/* Looks, and takes nothing before all ten are there. */
static int answer_tens(struct weir_request *req)
{
    char *data;
    ssize_t n = weir_peek(req, &data, 0);

    if (n < 10)
        return n < 0 ? (int)n : WEIR_KEEP;
    weir_write(req, data, 10);
    weir_consume(req, 10);
    return WEIR_KEEP;
}

static void the_deadline_of_a_call_ends_with_it(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(answer_tens, .request_timeout_ms = 50);
    fd = support_ask(server, 0, "01234");
    SUPPORT_AWAIT(server, bytes_in, == 5);
    usleep(200000);
    support_say(fd, "56789");
    support_expect(fd, "0123456789");
    assert_int_equal(support_stats(server).timeouts, 0);
    close(fd);
}

static void what_a_call_has_left_rests_no_longer_than_the_idle_timeout(void **state)
{
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(answer_tens, .idle_timeout_ms = 50);
    fd = support_ask(server, 0, "01234");
    support_expect_end(fd);
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(support_stats(server).timeouts, 1);
    assert_int_equal(support_stats(server).handle_errors, 0);
    close(fd);
}

/* Consumes as fast as it can what the client sends without a pause: it never has to wait. */
static int note_flood(struct weir_request *req)
{
    char buf[512];
    ssize_t n;

    while ((n = weir_read(req, buf, sizeof(buf))) > 0)
        ;
    note("%zd", n);
    return 0;
}

static void a_request_timeout_ends_a_flood(void **state)
{
    static const char flood[65536];
    struct weir_server *server;
    int fd;

    (void)state;
    server = STREAM_SERVE(note_flood, .request_timeout_ms = 50, .rbufsize = 512);
    fd = support_connect(server, 0);
    while (send(fd, flood, sizeof(flood), MSG_NOSIGNAL) > 0)
        if (notes_len() > 0)
            break;
    notes_expect("-110");
    close(fd);
}

/* ------------------------------------------------------------------ memory ------------ */

#define STALLED 1000

static void clients_that_stall_in_a_line_hold_no_buffers(void **state)
{
    int fds[STALLED];
    size_t before;
    size_t after;
    struct weir_server *server;

    (void)state;
    if (way->stack == WEIR_STACK_THREAD)
        skip();
    server = STREAM_SERVE(upper);
    before = mallinfo2().uordblks;
    for (size_t i = 0; i < STALLED; i++) {
        fds[i] = support_connect(server, 0);
        support_say(fds[i], "abc");
    }
    SUPPORT_AWAIT(server, bytes_in, == STALLED * 3);
    SUPPORT_AWAIT(server, parked, == STALLED);
    after = mallinfo2().uordblks;
    assert_true(after - before < STALLED * (size_t)4096);
    for (size_t i = 0; i < STALLED; i++)
        support_say(fds[i], "d\n");
    for (size_t i = 0; i < STALLED; i++) {
        support_expect(fds[i], "ABCD\n");
        close(fds[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STREAM_TEST(readline_gives_each_line_with_its_newline),
        STREAM_TEST(readline_gives_what_is_left_at_the_end_and_then_the_end),
        STREAM_TEST(readline_gives_no_more_than_maxbytes_and_the_rest_next_time),
        STREAM_TEST(readline_with_a_maxof_1_gives_single_bytes),
        STREAM_TEST(readline_works_in_the_smallest_of_buffers),
        STREAM_TEST(readline_refuses_a_maxof_0),
        STREAM_TEST(the_end_stays_the_end),
        STREAM_TEST(readline_puts_a_line_together_that_comes_byte_by_byte),
        STREAM_TEST(readline_goes_on_behind_a_large_part_of_a_line),
        STREAM_TEST(lines_may_be_longer_than_the_buffer_up_to_the_limit),
        STREAM_TEST(a_line_may_be_changed_in_place_and_stays_across_writes),
        STREAM_TEST(read_exact_waits_for_all_and_gives_less_at_the_end_only),
        STREAM_TEST(read_gives_what_has_arrived),
        STREAM_TEST(peek_gives_a_view_that_may_be_longer_than_the_buffer),
        STREAM_TEST(calls_may_be_mixed),
        STREAM_TEST(read_exact_takes_a_mebibyte_through_a_small_buffer),
        STREAM_TEST(a_reset_is_an_error_that_stays),
        STREAM_TEST(a_client_that_has_said_all_still_gets_its_answer),
        STREAM_TEST(a_handler_that_has_ended_its_input_reads_no_more),
        STREAM_TEST(who_sends_to_an_input_that_has_ended_is_told_or_answered),
        STREAM_TEST(an_end_that_comes_with_the_last_bytes_is_seen),
        cmocka_unit_test_setup_teardown(descriptors_in_the_middle_hold_nothing_up, open_gates,
                                        close_gates),
        STREAM_TEST(urgent_data_in_the_middle_holds_nothing_up),
        STREAM_TEST(urgent_data_holds_a_kept_connection_not_up),
        STREAM_TEST(input_of_exactly_a_buffer_is_not_lost_when_kept),
        STREAM_TEST(a_kept_handler_that_took_nothing_is_called_when_there_is_more),
        STREAM_TEST(a_kept_handler_that_took_nothing_and_gets_no_more_is_timed_out),
        STREAM_TEST(input_that_comes_as_the_handler_returns_is_not_lost),
        STREAM_TEST(input_that_answers_the_answer_is_not_lost),
        STREAM_TEST(input_that_comes_while_a_read_sends_is_not_lost),
        STREAM_TEST(a_read_timeout_comes_not_too_early_and_stays),
        STREAM_TEST(a_request_timeout_ends_a_conversation_that_goes_on_and_on),
        STREAM_TEST(a_request_timeout_ends_a_flood),
        STREAM_TEST(the_deadline_of_a_call_ends_with_it),
        STREAM_TEST(what_a_call_has_left_rests_no_longer_than_the_idle_timeout),
        STREAM_TEST(clients_that_stall_in_a_line_hold_no_buffers),
    };

    return STREAM_RUN(tests, WAYS);
}
