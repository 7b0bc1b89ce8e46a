/*
 * stream.h - what the tests of requests share: every way to be served, and a notebook.
 *
 * A stream must read and write the same whichever way its connection came (TCP, Unix), whoever
 * waits for it (its worker, the acceptor, a thread of its own), and whatever it waits on (a fiber,
 * the worker's own stack). So each test goes every way, and the server that it asks for is that
 * way's.
 *
 * Handlers cannot fail a test: they note what they saw, and the test expects these notes.
 *
 * Threads: notes from any; the rest from the test's.
 */
#ifndef WEIR_TESTS_STREAM_H
#define WEIR_TESTS_STREAM_H

#include "tests/support.h"

struct way {
    const char *name;
    sa_family_t family;
    enum weir_dispatch dispatch;
    enum weir_stack stack;
    enum weir_concurrency concurrency;
};

#define WAYS 8
#define FIBER_WAYS 4    /* the first of them */

extern const struct way ways[WAYS];
extern const struct way *way;   /* the one that the tests are on */

/* A group of tests, once on each of the first count ways. Returns how many failed. */
#define STREAM_RUN(tests, count) __extension__ ({ \
        int failed_ = 0; \
        for (way = ways; way < ways + (count); way++) \
            failed_ += cmocka_run_group_tests_name(way->name, (tests), NULL, NULL); \
        failed_; \
    })

/* An empty notebook before, and no server left behind. */
#define STREAM_TEST(test) cmocka_unit_test_setup_teardown(test, stream_begin, stream_end)

int stream_begin(void **state);
int stream_end(void **state);

/*
 * The test's server: this way's, two workers unless the options say otherwise. It is cancelled
 * and destroyed when the test ends. What listens, the handler's stack and the dispatch are set.
 */
#define STREAM_SERVE(handle_, ...) stream_serve( \
        &(const struct weir_handler){ .name = #handle_, .handle = (handle_) }, \
        WEIR_OPTIONS(__VA_ARGS__))
struct weir_server *stream_serve(const struct weir_handler *handler,
                                 const struct weir_options *options);

/* Where this way's server listens: a port or name that nobody else has. */
const char *stream_listen(void);

/* The notebook of the program. */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void note_bytes(const void *data, size_t len);
size_t notes_len(void);
void notes_expect(const char *text);            /* waits until there is as much, and compares */
const char *notes_wait(size_t len);             /* the same without a text; valid until the next */

#endif
