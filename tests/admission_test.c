/* admission_test.c - who comes in, by whichever way: rules, the hook, and a seat in the crowd. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/net/admission.h"
#include "engine/pool/accepted.h"
#include "engine/sync/reclaim.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct weir_handler handler = { .name = "test" };
static struct access_slot access_rules;
static struct quota quota = { .max = 1 };
static struct endpoint endpoint = {
    .handler = &handler, .quota = &quota, .access = &access_rules, .uri = "tcp://127.0.0.1:1",
};
static struct connection_table table;
static struct tally tally;

static unsigned asked;
static int answer;
static char listen_uri[WEIR_ADDRESS_SIZE];

static int verify(struct weir_server *server, const struct weir_peer *peer)
{
    (void)server;
    asked++;
    strncpy(listen_uri, peer->listen, sizeof(listen_uri) - 1);
    return answer;
}

static unsigned told;
static struct weir_failure failure;

static void hear(struct weir_server *server, const struct weir_failure *of)
{
    (void)server;
    told++;
    failure = *of;
}

static const struct admission admission = { .verify_request = verify, .handle_error = hear };

static int set_up(void **state)
{
    (void)state;
    reclaim_thread_init();
    asked = told = 0;
    answer = 1;
    memset(&tally, 0, sizeof(tally));
    if (connection_table_init(&table) < 0)
        return -1;
    return crowd_create(1, 10, &endpoint.crowd);
}

static int tear_down(void **state)
{
    (void)state;
    crowd_destroy(endpoint.crowd);
    endpoint.crowd = NULL;
    connection_table_fini(&table);
    access_slot_fini(&access_rules);
    reclaim_thread_fini();
    return 0;
}

static struct sockaddr_in address_of(const char *text)
{
    struct sockaddr_in in = { .sin_family = AF_INET };

    assert_int_equal(inet_pton(AF_INET, text, &in.sin_addr), 1);
    return in;
}

static int ask(const char *text, struct crowd_guest **seat)
{
    const struct sockaddr_in in = address_of(text);

    return admission_ask(&admission, &endpoint, &(const struct access_peer){
        .address = (const struct sockaddr *)&in, .address_len = sizeof(in), .fd = -1,
    }, seat, &tally);
}

static void the_rules_come_first_then_the_hook_then_the_seat(void **state)
{
    struct weir_access *rules;
    struct crowd_guest *seat = NULL;
    struct crowd_guest *another = NULL;
    char why[400];

    (void)state;
    assert_int_equal(access_parse("deny 10.0.0.0/8\ndefault allow\n", &rules, why, sizeof(why)), 0);
    assert_int_equal(access_slot_set(&access_rules, rules), 0);
    assert_int_equal(ask("10.0.0.1", &seat), -EACCES);
    assert_int_equal(asked, 0);
    assert_null(seat);
    answer = 0;
    assert_int_equal(ask("127.0.0.1", &seat), -EACCES);
    assert_int_equal(asked, 1);
    assert_string_equal(listen_uri, endpoint.uri);
    assert_null(seat);
    answer = 1;
    assert_int_equal(ask("127.0.0.1", &seat), 0);
    assert_non_null(seat);
    assert_int_equal(ask("127.0.0.1", &another), -EUSERS);
    assert_null(another);
    assert_int_equal(told, 0);
    admission_leave_seat(&endpoint, &seat);
    assert_null(seat);
    assert_int_equal(access_slot_set(&access_rules, NULL), 0);
}

static void a_hook_that_fails_is_told_and_counted(void **state)
{
    struct crowd_guest *seat = NULL;

    (void)state;
    answer = -EIO;
    assert_int_equal(ask("127.0.0.1", &seat), -EACCES);
    assert_null(seat);
    assert_int_equal(told, 1);
    assert_int_equal(failure.phase, WEIR_PHASE_VERIFY);
    assert_int_equal(failure.error, -EIO);
    assert_string_equal(failure.handler, "test");
    assert_int_equal(tally_read(&tally, TALLY_VERIFY_ERRORS), 1);
}

static void who_asks_under_another_address_has_left_its_seat(void **state)
{
    struct crowd_guest *seat = NULL;
    struct crowd_guest *another = NULL;

    (void)state;
    assert_int_equal(ask("127.0.0.1", &seat), 0);
    assert_int_equal(ask("127.0.0.2", &seat), 0);
    /* Its old one is free, and its new one is taken. */
    assert_int_equal(ask("127.0.0.2", &another), -EUSERS);
    assert_int_equal(ask("127.0.0.1", &another), 0);
    /* Under the same address there is room for who had it. */
    assert_int_equal(ask("127.0.0.2", &seat), 0);
    /* Whoever is refused has no seat any more. */
    assert_int_equal(ask("127.0.0.1", &seat), -EUSERS);
    assert_null(seat);
    assert_int_equal(ask("127.0.0.2", &seat), 0);
    answer = 0;
    assert_int_equal(ask("127.0.0.2", &seat), -EACCES);
    assert_null(seat);
    admission_leave_seat(&endpoint, &another);
    admission_leave_seat(&endpoint, &seat);
}

static void datagrams_and_endpoints_without_a_crowd_need_no_seat(void **state)
{
    struct crowd *crowd = endpoint.crowd;
    struct crowd_guest *seat = NULL;

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(ask("127.0.0.1", NULL), 0);
    endpoint.crowd = NULL;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ask("127.0.0.1", &seat), 0);
        assert_null(seat);
    }
    endpoint.crowd = crowd;
}

/* ------------------------------------------------------------------ turned away ------- */

/* It has a place. */
static struct accepted accepted_from(const struct sockaddr_in *in, int fd)
{
    assert_int_equal(quota_take(&quota, 1), 1);
    return (struct accepted){
        .fd = fd, .peer = (const struct sockaddr *)in, .peer_len = sizeof(*in),
        .endpoint = &endpoint, .handler = &handler, .stop_fd = -1,
    };
}

static void turn_away(int error)
{
    const struct sockaddr_in in = address_of("127.0.0.1");
    struct accepted accepted;
    char byte;
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    accepted = accepted_from(&in, fds[0]);
    assert_int_equal(accepted_ask(&accepted, &admission, &tally), 0);
    assert_non_null(accepted.guest);
    accepted_turn_away(&accepted, &table, &admission, error, &tally);
    assert_null(accepted.guest);
    assert_int_equal(quota_count(&quota), 0);
    assert_int_equal(read(fds[1], &byte, 1), 0);
    close(fds[1]);
}

static void who_is_not_wanted_is_turned_away_silently(void **state)
{
    (void)state;
    turn_away(-EACCES);
    turn_away(-EUSERS);
    assert_int_equal(told, 0);
    assert_int_equal(tally_read(&tally, TALLY_REFUSED), 2);
    assert_int_equal(tally_read(&tally, TALLY_NO_MEMORY), 0);
}

/* Where that is half of the places, this machine's own connections are not counted. */
static void loopback_addresses_may_be_spared(void **state)
{
    struct crowd_guest *seats[3] = { NULL };

    (void)state;
    endpoint.spares_loopback = true;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ask("127.0.0.1", &seats[0]), 0);
        assert_null(seats[0]);
    }
    assert_int_equal(ask("192.0.2.1", &seats[1]), 0);
    assert_non_null(seats[1]);
    assert_int_equal(ask("192.0.2.1", &seats[2]), -EUSERS);
    /* A proxy here has told of somebody else, and the other way round. */
    admission_leave_seat(&endpoint, &seats[1]);
    assert_int_equal(ask("192.0.2.1", &seats[0]), 0);
    assert_non_null(seats[0]);
    assert_int_equal(ask("127.0.0.1", &seats[0]), 0);
    assert_null(seats[0]);
    endpoint.spares_loopback = false;
}

static void who_could_not_be_served_is_told_of(void **state)
{
    (void)state;
    turn_away(-ENOMEM);
    assert_int_equal(told, 1);
    assert_int_equal(failure.phase, WEIR_PHASE_PROCESS);
    assert_int_equal(failure.error, -ENOMEM);
    turn_away(-EAGAIN);
    assert_int_equal(told, 2);
    assert_int_equal(failure.error, -EAGAIN);
    assert_int_equal(tally_read(&tally, TALLY_REFUSED), 2);
    assert_int_equal(tally_read(&tally, TALLY_NO_MEMORY), 1);
}

/* Its crowd has no memory for it: nobody counts it, and the program hears of it. */
static void who_can_have_no_seat_is_told_of(void **state)
{
    const struct sockaddr_in in = address_of("127.0.0.1");
    struct accepted accepted;
    char byte;
    int fds[2];
    int r;

    (void)state;
    crowd_destroy(endpoint.crowd);
    assert_int_equal(crowd_create_shared(1, 0, &endpoint.crowd), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    accepted = accepted_from(&in, fds[0]);
    r = accepted_ask(&accepted, &admission, &tally);
    assert_int_equal(r, -ENOMEM);
    accepted_turn_away(&accepted, &table, &admission, r, &tally);
    assert_int_equal(quota_count(&quota), 0);
    assert_int_equal(told, 1);
    assert_int_equal(failure.phase, WEIR_PHASE_PROCESS);
    assert_int_equal(failure.error, -ENOMEM);
    assert_int_equal(tally_read(&tally, TALLY_REFUSED), 1);
    assert_int_equal(tally_read(&tally, TALLY_NO_MEMORY), 1);
    assert_int_equal(read(fds[1], &byte, 1), 0);
    close(fds[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_rules_come_first_then_the_hook_then_the_seat),
        TEST(a_hook_that_fails_is_told_and_counted),
        TEST(who_asks_under_another_address_has_left_its_seat),
        TEST(datagrams_and_endpoints_without_a_crowd_need_no_seat),
        TEST(who_is_not_wanted_is_turned_away_silently),
        TEST(loopback_addresses_may_be_spared),
        TEST(who_could_not_be_served_is_told_of),
        TEST(who_can_have_no_seat_is_told_of),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
