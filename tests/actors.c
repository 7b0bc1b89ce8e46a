#include "tests/actors.h"

#include "engine/share/wait_list.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

const struct actors_way actors_ways[ACTORS_WAYS] = {
    { .name = "a worker", .served = true, .workers = 1 },
    { .name = "two workers", .served = true, .workers = 2 },
    { .name = "own stacks", .served = true, .stack = WEIR_STACK_THREAD, .workers = ACTORS_MAX },
    { .name = "a thread each", .served = true, .concurrency = WEIR_THREAD },
    { .name = "one at a time", .served = true, .concurrency = WEIR_SERIAL },
    { .name = "no server" },
};

const struct actors_way *actors_way = actors_ways;
struct weir_server *actors_server;

static int (*act_as_told)(const char *word, long number);
static struct weir_handler obedient;
static struct actor actors[ACTORS_MAX];
static unsigned actors_len, handlers_len;

#define LINE_MAX_LEN 64

bool actors_are_fibers(void)
{
    return actors_way->served && actors_way->concurrency == WEIR_POOL &&
           actors_way->stack == WEIR_STACK_FIBER;
}

/* ------------------------------------------------------------------ what they do ------ */

/* "lock 50\n" into "lock" and 50. */
static int act_on(char *line)
{
    char *number = strchr(line, ' ');

    line[strcspn(line, " \n")] = '\0';
    return act_as_told(line, number ? strtol(number + 1, NULL, 10) : 0);
}

static int obey(struct weir_request *req)
{
    char copy[LINE_MAX_LEN];
    char *line;
    ssize_t n;

    while ((n = weir_readline(req, &line, sizeof(copy) - 1)) > 0) {
        memcpy(copy, line, (size_t)n);
        copy[n] = '\0';
        n = weir_printf(req, "%d\n", act_on(copy));
        if (n > 0)
            n = weir_flush(req);
        if (n < 0)
            break;
    }
    return (int)n;
}

static void *be_actor(void *arg)
{
    int fd = *(int *)arg;
    FILE *orders = fdopen(fd, "r");
    char line[LINE_MAX_LEN];

    free(arg);
    while (fgets(line, sizeof(line), orders)) {
        int len = snprintf(line, sizeof(line), "%d\n", act_on(line));

        (void)!send(fd, line, (size_t)len, MSG_NOSIGNAL);
    }
    fclose(orders);
    return NULL;
}

/* ------------------------------------------------------------------ begin and end ----- */

static void keep_quiet(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    (void)failure;
}

void actors_begin(int (*act)(const char *word, long number), struct weir_options options)
{
    act_as_told = act;
    if (!actors_way->served)
        return;
    obedient = (struct weir_handler){ .name = "obey", .handle = obey, .stack = actors_way->stack };
    options.listen = "tcp://127.0.0.1:0";
    options.handler = &obedient;
    options.handle_error = keep_quiet;
    options.concurrency = actors_way->concurrency;
    options.workers = actors_way->workers;
    actors_server = support_start(&options);
}

void actors_stop_server(void)
{
    if (!actors_server)
        return;
    weir_server_shutdown(actors_server);
    weir_server_destroy(actors_server);
    actors_server = NULL;
}

int actors_end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < actors_len; i++) {
        shutdown(actors[i].fd, SHUT_RDWR);
        if (actors[i].is_thread)
            pthread_join(actors[i].thread, NULL);
        close(actors[i].fd);
    }
    actors_len = 0;
    handlers_len = 0;
    if (actors_server)
        weir_server_cancel(actors_server);
    actors_stop_server();
    return 0;
}

/* ------------------------------------------------------------------ one of them ------- */

static struct actor *add_actor(int fd)
{
    struct timeval plenty = { .tv_sec = PLENTY_MS / 1000 };
    struct actor *actor = &actors[actors_len++];

    assert_true(actors_len <= ACTORS_MAX);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &plenty, sizeof(plenty));
    *actor = (struct actor){ .fd = fd };
    return actor;
}

struct actor *actor_thread(void)
{
    int ends[2];
    int *theirs = malloc(sizeof(*theirs));
    struct actor *actor;

    assert_non_null(theirs);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    *theirs = ends[1];
    actor = add_actor(ends[0]);
    actor->is_thread = true;
    assert_int_equal(pthread_create(&actor->thread, NULL, be_actor, theirs), 0);
    return actor;
}

struct actor *actor_handler(void)
{
    if (!actors_way->served || (actors_way->concurrency == WEIR_SERIAL && handlers_len > 0))
        return actor_thread();
    handlers_len++;
    return add_actor(support_connect(actors_server, 0));
}

void actor_tell(struct actor *actor, const char *what)
{
    char line[LINE_MAX_LEN];
    int len = snprintf(line, sizeof(line), "%s\n", what);

    support_send(actor->fd, line, (size_t)len);
}

void actor_expect(struct actor *actor, int result)
{
    char text[16];

    snprintf(text, sizeof(text), "%d\n", result);
    support_expect(actor->fd, text);
}

void actor_do(struct actor *actor, const char *what, int result)
{
    actor_tell(actor, what);
    actor_expect(actor, result);
}

bool actor_is_silent(struct actor *actor)
{
    return support_is_silent(actor->fd);
}

unsigned actors_waiting_for(void *object)
{
    struct wait_list *list = object;
    uint64_t word = wait_list_enter(list);
    unsigned n = 0;

    for (const struct wait_entry *entry = list->first; entry; entry = entry->next)
        n++;
    wait_list_leave(list, word);
    return n;
}

void actor_line_up(struct actor *actor, const char *what, void *object)
{
    unsigned before = actors_waiting_for(object);

    actor_tell(actor, what);
    SUPPORT_UNTIL(actors_waiting_for(object) > before);
}

void actors_expect_deadline(void *object)
{
    struct actor *late[2];
    uint64_t began_ms;

    late[0] = actor_handler();
    late[1] = actor_thread();
    began_ms = support_now_ms();
    for (int i = 0; i < 2; i++)
        actor_tell(late[i], "within 50");
    for (int i = 0; i < 2; i++)
        actor_expect(late[i], -ETIMEDOUT);
    assert_true(support_now_ms() - began_ms >= 50);
    assert_int_equal(actors_waiting_for(object), 0);
    actor_do(late[0], "within 0", -ETIMEDOUT);
}

void actors_expect_cancel(const char *what, void *object)
{
    actor_line_up(actor_handler(), what, object);
    weir_server_cancel(actors_server);
    SUPPORT_UNTIL(actors_waiting_for(object) == 0);
}

void actors_expect_request_timeout(const char *what, void *object)
{
    actor_tell(actor_handler(), what);
    SUPPORT_AWAIT(actors_server, timeouts, >= 1);
    SUPPORT_UNTIL(actors_waiting_for(object) == 0);
}
