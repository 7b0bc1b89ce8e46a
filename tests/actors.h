/*
 * actors.h - what the tests of locks share: some who do what they are told, one thing after the
 * other, and tell what came of it. Handlers of a server, or threads of the test's own.
 *
 * What they wait for must come to them whoever they are, so each test goes every way. Where a
 * server serves one client at a time, all actors but the first are threads.
 *
 * Threads: the test's own.
 */
#ifndef WEIR_TESTS_ACTORS_H
#define WEIR_TESTS_ACTORS_H

#include "tests/support.h"

#include <pthread.h>

struct actors_way {
    const char *name;
    bool served;                /* there is a server */
    enum weir_concurrency concurrency;
    enum weir_stack stack;
    uint32_t workers;
};

#define ACTORS_WAYS 6
#define ACTORS_MAX 16

extern const struct actors_way actors_ways[ACTORS_WAYS];
extern const struct actors_way *actors_way; /* the one that the tests are on */
extern struct weir_server *actors_server;   /* NULL: there is none, or it has been destroyed */

/* A group of tests, once on each way. Returns how many failed. */
#define ACTORS_RUN(tests) __extension__ ({ \
        int failed_ = 0; \
        for (actors_way = actors_ways; actors_way < actors_ways + ACTORS_WAYS; actors_way++) \
            failed_ += cmocka_run_group_tests_name(actors_way->name, (tests), NULL, NULL); \
        failed_; \
    })

/* Begins without a server or actors, and leaves none. */
#define ACTORS_TEST(test) cmocka_unit_test_teardown(test, actors_end)

/* Returns true if handlers are fibers: an order reaches them at once. */
bool actors_are_fibers(void);

/*
 * The server of this way, if it has one. act does what an actor is told: a word, and a number (0:
 * none was said); what it returns is told. Any thread.
 */
void actors_begin(int (*act)(const char *word, long number), struct weir_options options);
int actors_end(void **state);
void actors_stop_server(void);  /* shuts it down and waits for the end of its handlers */

struct actor {
    int fd;
    pthread_t thread;
    bool is_thread;
};

struct actor *actor_handler(void);      /* of the server; or else a thread */
struct actor *actor_thread(void);

void actor_tell(struct actor *actor, const char *what);
void actor_expect(struct actor *actor, int result);
void actor_do(struct actor *actor, const char *what, int result);   /* both */
bool actor_is_silent(struct actor *actor);

/* How many wait for an object of weir_sync.h. */
unsigned actors_waiting_for(void *object);

/* Tells it, and waits until one more waits for the object. */
void actor_line_up(struct actor *actor, const char *what, void *object);

/*
 * How waits for an object that nobody gives end, of actors that are told "within MS", or whatever
 * waits for ever. The last two are of a way with a server, which is cancelled, or has a
 * request_timeout_ms.
 */
void actors_expect_deadline(void *object);
void actors_expect_cancel(const char *what, void *object);
void actors_expect_request_timeout(const char *what, void *object);

#endif
