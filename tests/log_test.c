/*
 * log_test.c - lines on standard error and in the program's log: which are taken, and that nobody
 * waits for them.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/base/log.h"
#include "tests/support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* As many as a period takes of the kinds that people cause; and all that the ring holds. */
#define TAKEN 10
#define RING 32

/* Standard error as a pipe whose reader has other things to do. */
struct deaf_pipe {
    int saved_fd;
    int read_fd;
    size_t filled;
};

static void deaf_begin(struct deaf_pipe *deaf)
{
    char junk[4096] = { 0 };
    int ends[2];
    ssize_t n;

    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    *deaf = (struct deaf_pipe){ .saved_fd = dup(STDERR_FILENO), .read_fd = ends[0] };
    while ((n = write(ends[1], junk, sizeof(junk))) > 0)
        deaf->filled += (size_t)n;
    while (write(ends[1], junk, 1) == 1)
        deaf->filled++;
    assert_int_equal(fcntl(ends[1], F_SETFL, 0), 0);
    assert_int_equal(fcntl(ends[0], F_SETFL, 0), 0);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
}

static void deaf_read(const struct deaf_pipe *deaf, char *buf, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = read(deaf->read_fd, buf + at, len - at);

        assert_true(n > 0);
        at += (size_t)n;
    }
}

static void deaf_listen(struct deaf_pipe *deaf)
{
    char *junk = malloc(deaf->filled);

    assert_non_null(junk);
    deaf_read(deaf, junk, deaf->filled);
    free(junk);
}

/* Until a line with this in it has been read. */
static void deaf_read_until(const struct deaf_pipe *deaf, char *buf, size_t size,
                            const char *wanted)
{
    size_t at = 0;

    buf[0] = '\0';
    while (!strstr(buf, wanted) || buf[at - 1] != '\n') {
        assert_true(at < size - 1);
        deaf_read(deaf, buf + at, 1);
        buf[++at] = '\0';
    }
}

static void deaf_end(struct deaf_pipe *deaf)
{
    dup2(deaf->saved_fd, STDERR_FILENO);
    close(deaf->saved_fd);
    close(deaf->read_fd);
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;

    while ((text = strstr(text, what))) {
        text += strlen(what);
        n++;
    }
    return n;
}

/* ------------------------------------------------------------------ what is taken ----- */

static void a_line_is_written_as_it_was_said(void **state)
{
    struct capture capture;
    char said[200];

    (void)state;
    capture_begin(&capture);
    log_open();
    log_line(LOG_STALL, "%s is %d", "one", 1);
    log_line(LOG_CHILD, "two");
    log_close();
    capture_end(&capture, said, sizeof(said));
    assert_string_equal(said, "weir: one is 1\nweir: two\n");
}

static void a_line_that_is_too_long_is_cut(void **state)
{
    struct capture capture;
    char said[2000];
    size_t len;

    (void)state;
    capture_begin(&capture);
    log_open();
    log_line(LOG_STALL, "%01500d", 7);
    log_close();
    len = capture_end(&capture, said, sizeof(said));
    assert_int_equal(len, 500);
    assert_int_equal(said[len - 1], '\n');
    assert_int_equal(said[len - 2], '0');
}

static void of_a_flood_some_lines_and_a_count_are_written(void **state)
{
    struct capture capture;
    char said[4000];

    (void)state;
    capture_begin(&capture);
    log_open();
    for (int i = 0; i < 1000; i++)
        log_line(LOG_FAILURE, "flood %d", i);
    log_line(LOG_STALL, "of another kind");
    log_close();
    capture_end(&capture, said, sizeof(said));
    assert_non_null(strstr(said, "weir: of another kind\n"));
    /* On a slow machine a second period may have begun meanwhile. */
    assert_true(count(said, "flood") >= TAKEN && count(said, "flood") < 500);
    assert_true(count(said, " more about requests that failed\n") >= 1);
}

/* Without another line, and without an end. */
static void what_was_left_out_is_told_when_the_flood_is_over(void **state)
{
    struct deaf_pipe pipe;
    char said[4000];

    (void)state;
    deaf_begin(&pipe);
    deaf_listen(&pipe);
    log_open();
    for (int i = 0; i < TAKEN + 5; i++)
        log_line(LOG_FAILURE, "flood");
    deaf_read_until(&pipe, said, sizeof(said), "left out: ");
    assert_int_equal(count(said, "flood"), TAKEN);
    assert_non_null(strstr(said, "weir: left out: 5 more about requests that failed\n"));
    /* And lines are taken anew. */
    log_line(LOG_FAILURE, "afterwards");
    deaf_read_until(&pipe, said, sizeof(said), "weir: afterwards\n");
    log_close();
    deaf_end(&pipe);
}

static void without_anybody_who_has_opened_it_a_line_is_written_at_once(void **state)
{
    struct capture capture;
    char said[100];

    (void)state;
    capture_begin(&capture);
    log_line(LOG_STALL, "alone");
    capture_end(&capture, said, sizeof(said));
    assert_string_equal(said, "weir: alone\n");
    /* What was taken counts until somebody closes. */
    log_open();
    log_close();
}

/* ------------------------------------------------------------------ nobody reads ------ */

static void say_more_than_there_is_room_for(void)
{
    static const enum log_kind kinds[] = { LOG_FAILURE, LOG_STALL, LOG_CHILD };

    for (int i = 0; i < TAKEN; i++)
        for (size_t kind = 0; kind < 3; kind++)
            log_line(kinds[kind], "number %d of %zu", i, kind);
    for (int i = 0; i < 3; i++)
        log_line(LOG_SHORTAGE, "shortage %d", i);
}

static void a_pipe_that_nobody_reads_holds_up_nobody(void **state)
{
    struct deaf_pipe pipe;
    char said[4000];

    (void)state;
    deaf_begin(&pipe);
    log_open();
    say_more_than_there_is_room_for();
    deaf_listen(&pipe);
    deaf_read_until(&pipe, said, sizeof(said), "had no room\n");
    assert_int_equal(count(said, "weir: number "), 3 * TAKEN);
    assert_int_equal(count(said, "weir: shortage "), RING - 3 * TAKEN);
    assert_non_null(strstr(said, "weir: left out: 1 for which standard error had no room\n"));
    log_close();
    deaf_end(&pipe);
}

/* Its lines come when somebody reads again, though the server that said them is gone. */
static void a_pipe_that_nobody_reads_holds_up_no_end(void **state)
{
    struct deaf_pipe pipe;
    char said[200];

    (void)state;
    deaf_begin(&pipe);
    log_open();
    log_line(LOG_STALL, "before the end");
    log_close();
    log_open();
    log_line(LOG_STALL, "after it");
    deaf_listen(&pipe);
    deaf_read_until(&pipe, said, sizeof(said), "after it\n");
    assert_string_equal(said, "weir: before the end\nweir: after it\n");
    log_close();
    deaf_end(&pipe);
}

static void what_must_be_written_at_once_waits_so_long_for_room_and_no_longer(void **state)
{
    struct deaf_pipe pipe;
    char said[10];

    (void)state;
    deaf_begin(&pipe);
    log_now("lost\n", 5, 0);
    log_now("lost\n", 5, 10);
    deaf_listen(&pipe);
    log_now("found\n", 6, 0);
    deaf_read(&pipe, said, 6);
    assert_memory_equal(said, "found\n", 6);
    deaf_end(&pipe);
}

static void where_there_is_no_reader_any_more_nothing_happens(void **state)
{
    struct deaf_pipe pipe;

    (void)state;
    deaf_begin(&pipe);
    log_open();
    log_line(LOG_STALL, "to nobody");
    close(pipe.read_fd);
    log_line(LOG_STALL, "to nobody");
    log_close();
    log_now("to nobody\n", 10, 0);
    pipe.read_fd = dup(pipe.saved_fd);
    deaf_end(&pipe);
}

/* ------------------------------------------------------------------ the program's own - */

/* What a function of weir_set_log was called with, and a gate that it waits at. */
struct heard {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char text[4000];
    unsigned lines;
    unsigned of_kind[WEIR_LOG_OVERLOAD + 1];
    bool inside;            /* a call is at the gate */
    bool shut;
};

#define HEARD { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER }

static void hear(void *arg, const struct weir_log_line *line)
{
    struct heard *heard = arg;
    size_t at;

    pthread_mutex_lock(&heard->lock);
    heard->inside = true;
    pthread_cond_broadcast(&heard->changed);
    while (heard->shut)
        pthread_cond_wait(&heard->changed, &heard->lock);
    heard->inside = false;
    at = strlen(heard->text);
    snprintf(heard->text + at, sizeof(heard->text) - at, "<%s>", line->text);
    assert_int_equal(strlen(line->text), line->len);
    heard->of_kind[line->kind]++;
    heard->lines++;
    pthread_cond_broadcast(&heard->changed);
    pthread_mutex_unlock(&heard->lock);
}

static void heard_wait_inside(struct heard *heard)
{
    pthread_mutex_lock(&heard->lock);
    while (!heard->inside)
        pthread_cond_wait(&heard->changed, &heard->lock);
    pthread_mutex_unlock(&heard->lock);
}

static void heard_open(struct heard *heard)
{
    pthread_mutex_lock(&heard->lock);
    heard->shut = false;
    pthread_cond_broadcast(&heard->changed);
    pthread_mutex_unlock(&heard->lock);
}

static void heard_wait_for(struct heard *heard, const char *wanted)
{
    pthread_mutex_lock(&heard->lock);
    while (!strstr(heard->text, wanted))
        pthread_cond_wait(&heard->changed, &heard->lock);
    pthread_mutex_unlock(&heard->lock);
}

static void lines_go_to_the_programs_function_until_it_is_taken_away(void **state)
{
    struct heard heard = HEARD;
    struct capture capture;
    char said[200];

    (void)state;
    capture_begin(&capture);
    weir_set_log(hear, &heard);
    log_open();
    log_line(LOG_STALL, "%s is %d", "one", 1);
    log_line(LOG_CHILD, "two");
    log_flush();
    weir_set_log(NULL, NULL);
    log_line(LOG_STALL, "three");
    log_close();
    capture_end(&capture, said, sizeof(said));
    assert_string_equal(heard.text, "<weir: one is 1><weir: two>");
    assert_string_equal(said, "weir: three\n");
}

static void a_line_that_is_too_long_is_cut_for_a_function_as_well(void **state)
{
    struct heard heard = HEARD;

    (void)state;
    weir_set_log(hear, &heard);
    log_open();
    log_line(LOG_STALL, "%01500d", 7);
    log_close();
    weir_set_log(NULL, NULL);
    assert_int_equal(strlen(heard.text), 499 + 2);
}

static void of_a_flood_a_function_gets_some_lines_and_a_count(void **state)
{
    struct heard heard = HEARD;

    (void)state;
    weir_set_log(hear, &heard);
    log_open();
    for (int i = 0; i < TAKEN + 5; i++)
        log_line(LOG_FAILURE, "flood");
    heard_wait_for(&heard, "left out");
    log_close();
    weir_set_log(NULL, NULL);
    assert_int_equal(count(heard.text, "flood"), TAKEN);
    assert_non_null(strstr(heard.text, "<weir: left out: 5 more about requests that failed>"));
    assert_int_equal(heard.of_kind[WEIR_LOG_FAILURE], TAKEN);
    assert_int_equal(heard.of_kind[WEIR_LOG_LEFT_OUT], 1);
}

static void a_function_learns_what_each_line_is_about(void **state)
{
    static const struct {
        enum log_kind kind;
        enum weir_log_kind told;
    } kinds[] = {
        { LOG_FAILURE, WEIR_LOG_FAILURE }, { LOG_STALL, WEIR_LOG_STALL },
        { LOG_CHILD, WEIR_LOG_CHILD }, { LOG_SHORTAGE, WEIR_LOG_SHORTAGE },
        { LOG_FULL, WEIR_LOG_FULL }, { LOG_OVERLOAD, WEIR_LOG_OVERLOAD },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct heard heard = HEARD;

        weir_set_log(hear, &heard);
        log_open();
        log_line(kinds[i].kind, "one");
        log_close();
        weir_set_log(NULL, NULL);
        assert_string_equal(heard.text, "<weir: one>");
        assert_int_equal(heard.of_kind[kinds[i].told], 1);
    }
}

static void a_function_that_blocks_holds_up_nobody(void **state)
{
    struct heard heard = HEARD;

    (void)state;
    heard.shut = true;
    weir_set_log(hear, &heard);
    log_open();
    say_more_than_there_is_room_for();
    heard_wait_inside(&heard);
    heard_open(&heard);
    heard_wait_for(&heard, "had no room");
    log_close();
    weir_set_log(NULL, NULL);
    assert_int_equal(count(heard.text, "weir: number "), 3 * TAKEN);
    assert_int_equal(count(heard.text, "weir: shortage "), RING - 3 * TAKEN);
    assert_non_null(strstr(heard.text,
                           "<weir: left out: 1 for which the program's log had no room>"));
}

/* Takes itself away, and says something: from within a call. */
static void hear_once(void *arg, const struct weir_log_line *line)
{
    hear(arg, line);
    weir_set_log(NULL, NULL);
    log_line(LOG_CHILD, "said by the function");
}

static void a_function_may_take_itself_away_and_say_something(void **state)
{
    struct heard heard = HEARD;
    struct capture capture;
    char said[200];

    (void)state;
    capture_begin(&capture);
    weir_set_log(hear_once, &heard);
    log_open();
    log_line(LOG_STALL, "one");
    heard_wait_for(&heard, "one");
    log_line(LOG_STALL, "two");
    log_close();
    capture_end(&capture, said, sizeof(said));
    assert_string_equal(heard.text, "<weir: one>");
    assert_int_equal(count(said, "weir: two\n"), 1);
    assert_int_equal(count(said, "weir: said by the function\n"), 1);
}

struct change {
    struct heard *heard;
    bool was_inside;
};

static void *take_away(void *arg)
{
    struct change *change = arg;

    weir_set_log(NULL, NULL);
    change->was_inside = change->heard->inside;
    return NULL;
}

/*
 * ThreadSanitizer sees whether the setter really comes after the call: it takes no lock of heard's.
 */
static void the_setter_waits_for_a_call_that_is_under_way(void **state)
{
    struct heard heard = HEARD;
    struct change change = { .heard = &heard };
    pthread_t thread;

    (void)state;
    heard.shut = true;
    weir_set_log(hear, &heard);
    log_open();
    log_line(LOG_STALL, "one");
    heard_wait_inside(&heard);
    assert_int_equal(pthread_create(&thread, NULL, take_away, &change), 0);
    heard_open(&heard);
    pthread_join(thread, NULL);
    log_close();
    assert_false(change.was_inside);
    assert_string_equal(heard.text, "<weir: one>");
}

static void *say_a_hundred(void *nothing);

/* Each has a memory of its own, gone when the next is in place. */
static void a_function_may_be_changed_while_many_speak(void **state)
{
    struct heard last = HEARD;
    pthread_t threads[4];

    (void)state;
    weir_set_log(hear, &last);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, say_a_hundred, NULL), 0);
    for (int i = 0; i < 100; i++) {
        struct heard *heard = malloc(sizeof(*heard));

        assert_non_null(heard);
        *heard = (struct heard)HEARD;
        weir_set_log(hear, heard);
        weir_set_log(hear, &last);
        assert_false(heard->inside);
        pthread_mutex_destroy(&heard->lock);
        pthread_cond_destroy(&heard->changed);
        free(heard);
    }
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    weir_set_log(NULL, NULL);
    assert_int_equal(last.lines, count(last.text, "<weir: "));
}

/* ------------------------------------------------------------------ processes --------- */

/* What its parent has not got rid of is not the child's to say. */
static void a_child_begins_anew(void **state)
{
    int file = memfd_create("child", MFD_CLOEXEC);
    struct deaf_pipe pipe;
    char said[100];
    int status;
    pid_t child;

    (void)state;
    assert_true(file >= 0);
    deaf_begin(&pipe);
    log_open();
    log_line(LOG_STALL, "the parent's");
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(file, STDERR_FILENO);
        log_line(LOG_STALL, "the child's");
        log_flush();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(pread(file, said, sizeof(said), 0), strlen("weir: the child's\n"));
    assert_memory_equal(said, "weir: the child's\n", strlen("weir: the child's\n"));
    close(file);
    deaf_listen(&pipe);
    log_close();
    deaf_end(&pipe);
}

/* As many lines as children, each of whom has one to say; then one that makes its parent sum up. */
static void say_in_children(unsigned children)
{
    for (unsigned i = 0; i < children; i++) {
        int status;
        pid_t child = fork();

        assert_true(child >= 0);
        if (child == 0) {
            log_alone();
            log_line(LOG_FAILURE, "flood");
            _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        log_sum_up();
    }
}

/* The numbers in lines that say what was left out, added. */
static unsigned left_out(const char *text)
{
    static const char what[] = "left out: ";
    unsigned n = 0;

    while ((text = strstr(text, what))) {
        text += strlen(what);
        n += (unsigned)strtoul(text, NULL, 10);
    }
    return n;
}

static void children_share_what_their_parent_may_say(void **state)
{
    struct capture capture;
    char said[8000];

    (void)state;
    capture_begin(&capture);
    log_open();
    say_in_children(100);
    log_close();
    capture_end(&capture, said, sizeof(said));
    /* On a slow machine more periods may have begun meanwhile. */
    assert_true(count(said, "flood") >= TAKEN && count(said, "flood") < 100);
    assert_int_equal(count(said, "flood") + left_out(said), 100);
}

static void a_child_that_finds_no_room_leaves_its_line_out(void **state)
{
    struct deaf_pipe pipe;
    char said[4000];

    (void)state;
    deaf_begin(&pipe);
    log_open();
    say_in_children(1);
    deaf_listen(&pipe);
    deaf_read_until(&pipe, said, sizeof(said), "had no room\n");
    assert_string_equal(said, "weir: left out: 1 for which standard error had no room\n");
    log_close();
    deaf_end(&pipe);
}

static void a_program_that_ends_without_closing_has_said_all(void **state)
{
    char said[100] = "";
    int ends[2];
    int status;
    pid_t child;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        log_open();
        log_line(LOG_STALL, "the last word");
        exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    close(ends[1]);
    assert_true(read(ends[0], said, sizeof(said) - 1) > 0);
    assert_string_equal(said, "weir: the last word\n");
    close(ends[0]);
}

/* Into a descriptor, which a child shares. */
static void hear_by_fd(void *arg, const struct weir_log_line *line)
{
    dprintf(*(const int *)arg, "<%s>", line->text);
}

/* A child that says a line, and what came of it: in its parent's function, or on standard error. */
static void say_in_a_child(bool is_alone, void (*log)(void *arg, const struct weir_log_line *line),
                           void *arg, char *ret_said, size_t size)
{
    int file = memfd_create("said", MFD_CLOEXEC);
    pid_t child;
    int status;

    assert_true(file >= 0);
    if (log)
        weir_set_log(log, arg ? arg : &file);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(file, STDERR_FILENO);
        if (is_alone)
            log_alone();
        log_line(LOG_STALL, "the child's");
        log_flush();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    memset(ret_said, 0, size);
    assert_true(pread(file, ret_said, size - 1, 0) > 0);
    close(file);
}

static void a_child_calls_its_parents_function(void **state)
{
    char said[200];

    (void)state;
    log_open();
    say_in_a_child(false, hear_by_fd, NULL, said, sizeof(said));
    assert_string_equal(said, "<weir: the child's>");
    weir_set_log(NULL, NULL);
    log_close();
}

static void a_child_without_a_writer_calls_it_at_once(void **state)
{
    char said[200];

    (void)state;
    log_open();
    say_in_a_child(true, hear_by_fd, NULL, said, sizeof(said));
    assert_string_equal(said, "<weir: the child's>");
    weir_set_log(NULL, NULL);
    log_close();
}

/* The mutex that the function waits at, and everything else of it, is the parent's thread's. */
static void a_child_that_was_forked_during_a_call_does_not_call(void **state)
{
    struct heard heard = HEARD;
    char said[200];

    (void)state;
    heard.shut = true;
    weir_set_log(hear, &heard);
    log_open();
    log_line(LOG_STALL, "the parent's");
    heard_wait_inside(&heard);
    for (int is_alone = 0; is_alone < 2; is_alone++) {
        say_in_a_child(is_alone, NULL, NULL, said, sizeof(said));
        assert_string_equal(said, "weir: the child's\n");
    }
    heard_open(&heard);
    log_close();
    weir_set_log(NULL, NULL);
    assert_string_equal(heard.text, "<weir: the parent's>");
}

/* Registered before weir's: runs behind it. */
static void say_late(void)
{
    log_line(LOG_STALL, "too late");
    log_flush();
}

static _Noreturn void end_with_a_function(int fd)
{
    static int heard_fd;

    heard_fd = fd;
    atexit(say_late);
    dup2(fd, STDERR_FILENO);
    weir_set_log(hear_by_fd, &heard_fd);
    log_open();
    log_line(LOG_STALL, "the last word");
    exit(0);
}

/* In a program of its own: in this one weir has long registered what exit runs. */
static void at_exit_a_function_gets_all_and_later_nothing(void **state)
{
    char self[] = "/proc/self/exe", path[] = "exit";
    char *const arguments[] = { path, path, NULL };
    char said[200] = "";
    int ends[2];
    int status;
    pid_t child;
    ssize_t n;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execv(self, arguments);
        _exit(1);
    }
    close(ends[1]);
    for (size_t at = 0; (n = read(ends[0], said + at, sizeof(said) - 1 - at)) > 0;)
        at += (size_t)n;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_string_equal(said, "<weir: the last word>weir: too late\n");
    close(ends[0]);
}

static int fail_always(struct weir_request *req)
{
    (void)req;
    return -EIO;
}

/* Whoever runs the handler, be it a child. */
static void failures_are_told_to_the_function_whoever_serves(void **state)
{
    static const struct weir_handler handler = { .name = "failing", .handle = fail_always };

    (void)state;
    for (unsigned how = WEIR_POOL; how <= WEIR_PREFORK; how++) {
        struct weir_server *server;
        char said[200] = "";
        int ends[2];

        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        weir_set_log(hear_by_fd, &ends[1]);
        server = support_start(WEIR_OPTIONS(
            .listen = "tcp://127.0.0.1:0", .handler = &handler, .workers = 1,
            .concurrency = (enum weir_concurrency)how,
            .processes = how == WEIR_PREFORK ? 1 : 0));
        support_talk(server, 0, "", "");
        assert_true(read(ends[0], said, sizeof(said) - 1) > 0);
        assert_non_null(strstr(said, "<weir: request from 127.0.0.1:"));
        assert_non_null(strstr(said, "handle of handler 'failing' failed"));
        assert_int_equal(weir_server_destroy(server), 0);
        weir_set_log(NULL, NULL);
        close(ends[0]);
        close(ends[1]);
    }
}

/* ------------------------------------------------------------------ threads ----------- */

static void *say_a_hundred(void *nothing)
{
    for (int i = 0; i < 100; i++) {
        log_open();
        log_line((enum log_kind)(i % LOG_KINDS), "of many");
        log_close();
    }
    return nothing;
}

static void many_may_speak_at_once(void **state)
{
    struct capture capture;
    pthread_t threads[4];
    char said[65536];

    (void)state;
    capture_begin(&capture);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, say_a_hundred, NULL), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    capture_end(&capture, said, sizeof(said));
    assert_true(count(said, "weir: of many\n") >= LOG_KINDS);
    assert_int_equal(count(said, "weir: "), count(said, "\n"));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_written_as_it_was_said),
        cmocka_unit_test(a_line_that_is_too_long_is_cut),
        cmocka_unit_test(of_a_flood_some_lines_and_a_count_are_written),
        cmocka_unit_test(what_was_left_out_is_told_when_the_flood_is_over),
        cmocka_unit_test(without_anybody_who_has_opened_it_a_line_is_written_at_once),
        cmocka_unit_test(a_pipe_that_nobody_reads_holds_up_nobody),
        cmocka_unit_test(a_pipe_that_nobody_reads_holds_up_no_end),
        cmocka_unit_test(what_must_be_written_at_once_waits_so_long_for_room_and_no_longer),
        cmocka_unit_test(where_there_is_no_reader_any_more_nothing_happens),
        cmocka_unit_test(a_child_begins_anew),
        cmocka_unit_test(children_share_what_their_parent_may_say),
        cmocka_unit_test(a_child_that_finds_no_room_leaves_its_line_out),
        cmocka_unit_test(a_program_that_ends_without_closing_has_said_all),
        cmocka_unit_test(many_may_speak_at_once),
        cmocka_unit_test(lines_go_to_the_programs_function_until_it_is_taken_away),
        cmocka_unit_test(a_line_that_is_too_long_is_cut_for_a_function_as_well),
        cmocka_unit_test(of_a_flood_a_function_gets_some_lines_and_a_count),
        cmocka_unit_test(a_function_learns_what_each_line_is_about),
        cmocka_unit_test(a_function_that_blocks_holds_up_nobody),
        cmocka_unit_test(a_function_may_take_itself_away_and_say_something),
        cmocka_unit_test(the_setter_waits_for_a_call_that_is_under_way),
        cmocka_unit_test(a_function_may_be_changed_while_many_speak),
        cmocka_unit_test(a_child_calls_its_parents_function),
        cmocka_unit_test(a_child_without_a_writer_calls_it_at_once),
        cmocka_unit_test(a_child_that_was_forked_during_a_call_does_not_call),
        cmocka_unit_test(at_exit_a_function_gets_all_and_later_nothing),
        cmocka_unit_test(failures_are_told_to_the_function_whoever_serves),
    };

    if (argc > 1 && strcmp(argv[1], "exit") == 0)
        end_with_a_function(STDOUT_FILENO);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
