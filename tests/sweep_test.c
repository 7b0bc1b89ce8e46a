/* sweep_test.c - how often all connections are looked at for those that have been idle too long. */
#include "tests/support.h"

#include "engine/pool/crew.h"

#include <poll.h>
#include <stdatomic.h>
#include <unistd.h>

/* A walk takes this long, as one of a million connections does. */
#define WALK_MS 10

static _Atomic unsigned walks;

void __real_crew_queue_idle(struct crew *crew,
                            enum crew_pick (*pick)(struct connection *conn, void *arg), void *arg);
void __wrap_crew_queue_idle(struct crew *crew,
                            enum crew_pick (*pick)(struct connection *conn, void *arg), void *arg);

void __wrap_crew_queue_idle(struct crew *crew,
                            enum crew_pick (*pick)(struct connection *conn, void *arg), void *arg)
{
    walks++;
    poll(NULL, 0, WALK_MS);
    __real_crew_queue_idle(crew, pick, arg);
}

static const struct weir_handler echoing = { .name = "echoing", .handle = support_echo };

/* The short timeout asks for a walk every 10 ms, which would be all that the acceptor does. */
static void long_walks_are_few(void **state)
{
    const struct weir_listen listeners[] = {
        { .address = "tcp://127.0.0.1:0" },
        { .address = "tcp://127.0.0.1:0", .idle_timeout_ms = 1 },
    };
    uint64_t began_ms = support_now_ms();
    struct weir_server *server = support_start(WEIR_OPTIONS(
        .listeners = listeners, .listeners_len = 2, .handler = &echoing,
        .idle_timeout_ms = WEIR_FOREVER));
    int patient = support_ask(server, 0, "a\n");
    int swept;

    (void)state;
    support_expect(patient, "a\n");
    SUPPORT_UNTIL(walks >= 4);
    assert_true(support_now_ms() - began_ms >= (uint64_t)3 * 20 * WALK_MS);
    swept = support_ask(server, 1, "b\n");
    support_expect_last(swept, "b\n");
    support_say(patient, "c\n");
    support_expect(patient, "c\n");
    close(patient);
    weir_server_destroy(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_walks_are_few),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
