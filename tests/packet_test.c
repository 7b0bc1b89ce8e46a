/*
 * packet_test.c - datagrams as they come out of a tray, and replies as they go.
 */
#include "tests/support.h"

#include "engine/pool/packet.h"

#include <errno.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static const struct packet_format format = { .state_size = 3, .data_size = 8 };
static const struct weir_handler handler = { .name = "test", .state_size = 3 };
static struct quota quota;
static const struct endpoint endpoint = {
    .handler = &handler, .quota = &quota, .uri = "unixgram:",
};

static struct buffers blocks;
static struct packet_tray *tray;
static int server;
static struct sockaddr_un name;
static socklen_t name_len;

#define PLENTY 1000000

static unsigned memory_left;    /* for so many packets */

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    if (memory_left == 0)
        return NULL;
    memory_left--;
    return __real_aligned_alloc(alignment, size);
}

static int begin(void **state)
{
    (void)state;
    memory_left = PLENTY;
    packet_buffers_init(&blocks, &format);
    tray = packet_tray_create(&format, &blocks);
    server = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    setsockopt(server, SOL_SOCKET, SO_PASSCRED, &(int){ 1 }, sizeof(int));
    bind(server, (const struct sockaddr *)&(struct sockaddr_un){ .sun_family = AF_UNIX },
         sizeof(sa_family_t));
    name_len = sizeof(name);
    return getsockname(server, (struct sockaddr *)&name, &name_len);
}

static int end(void **state)
{
    (void)state;
    close(server);
    packet_tray_destroy(tray);
    buffers_fini(&blocks);
    return 0;
}

static int client(bool named)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (named)
        assert_int_equal(bind(fd, (const struct sockaddr *)&name, sizeof(sa_family_t)), 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&name, name_len), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
}

static struct packet *take(unsigned i)
{
    return packet_tray_take(tray, i, &(const struct packet_origin){
        .fd = server, .endpoint = &endpoint,
    });
}

static void an_empty_socket_gives_nothing(void **state)
{
    (void)state;
    assert_int_equal(packet_tray_receive(tray, server, PACKET_BATCH), -EAGAIN);
}

static void datagrams_come_in_their_order_and_no_more_than_asked_for(void **state)
{
    int fd = client(true);

    (void)state;
    say(fd, "one");
    say(fd, "");
    say(fd, "three");
    assert_int_equal(packet_tray_receive(tray, server, 2), 2);
    assert_int_equal(packet_tray_look(tray, 0)->len, 3);
    assert_memory_equal(packet_tray_look(tray, 0)->data, "one", 3);
    assert_int_equal(packet_tray_look(tray, 1)->len, 0);
    assert_int_equal(packet_tray_receive(tray, server, 2), 1);
    assert_memory_equal(packet_tray_look(tray, 0)->data, "three", 5);
    assert_int_equal(packet_tray_receive(tray, server, 2), -EAGAIN);
    close(fd);
}

static void what_there_is_no_room_for_is_cut(void **state)
{
    int fd = client(true);

    (void)state;
    say(fd, "12345678");
    say(fd, "123456789");
    assert_int_equal(packet_tray_receive(tray, server, 2), 2);
    assert_false(packet_tray_look(tray, 0)->truncated);
    assert_true(packet_tray_look(tray, 1)->truncated);
    assert_int_equal(packet_tray_look(tray, 1)->len, 8);
    close(fd);
}

/* Who receives into it knows that a batch below the usual doesn't mean that no more waits. */
static void a_tray_that_lacks_memory_receives_less_and_says_so(void **state)
{
    int fd = client(true);

    (void)state;
    memory_left = 1;
    for (int i = 0; i < 3; i++)
        say(fd, "x");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(packet_tray_receive(tray, server, 2), 1);
        assert_true(packet_tray_was_short(tray));
    }
    memory_left = PLENTY;
    assert_int_equal(packet_tray_receive(tray, server, 2), -EAGAIN);
    assert_false(packet_tray_was_short(tray));
    close(fd);
}

static void a_sender_without_a_name_can_not_be_answered(void **state)
{
    int nameless = client(false);
    int named = client(true);

    (void)state;
    say(nameless, "x");
    say(named, "x");
    assert_int_equal(packet_tray_receive(tray, server, 2), 2);
    assert_false(packet_has_return_address(packet_tray_look(tray, 0)));
    assert_int_equal(packet_tray_look(tray, 0)->peer.ss_family, AF_UNIX);
    assert_true(packet_has_return_address(packet_tray_look(tray, 1)));
    close(nameless);
    close(named);
}

static void a_unix_senders_ids_are_known_and_its_descriptors_dropped(void **state)
{
    size_t before;
    int fd = client(true);
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { .header = {
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)),
    } };
    struct iovec part = { "x", 1 };
    const struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
        .msg_controllen = sizeof(control),
    };

    (void)state;
    memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    before = support_open_descriptors();
    assert_int_equal(sendmsg(fd, &message, 0), 1);
    assert_int_equal(packet_tray_receive(tray, server, 2), 1);
    assert_true(packet_tray_look(tray, 0)->knows_sender);
    assert_int_equal(packet_tray_look(tray, 0)->sender.uid, getuid());
    assert_int_equal(packet_tray_look(tray, 0)->sender.pid, getpid());
    assert_int_equal(support_open_descriptors(), before);
    close(fd);
}

static void a_packet_has_a_connection_with_empty_state(void **state)
{
    int fd = client(true);
    struct packet *packet;

    (void)state;
    for (int i = 0; i < 2; i++) {
        say(fd, "x");
        assert_int_equal(packet_tray_receive(tray, server, 1), 1);
        packet = take(0);
        assert_memory_equal(packet->conn.user_state, "\0\0\0", 3);
        assert_int_equal(atomic_load(&packet->conn.state), CONNECTION_QUEUED);
        assert_ptr_equal(packet->conn.handler, &handler);
        memset(packet->conn.user_state, 'x', 3);
        assert_memory_equal(packet->data, "x", 1);
        packet_end(packet, &blocks, NULL);
    }
    assert_int_equal(blocks.spare_len, 1);
    close(fd);
}

static void replies_go_to_who_has_asked(void **state)
{
    struct packet *packets[2];
    char answer[8];
    int fds[2];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        fds[i] = client(true);
        say(fds[i], "x");
    }
    assert_int_equal(packet_tray_receive(tray, server, 2), 2);
    for (unsigned i = 0; i < 2; i++) {
        packets[i] = take(i);
        packets[i]->reply = strdup(i == 0 ? "first" : "second");
        packets[i]->reply_len = strlen(packets[i]->reply);
    }
    assert_int_equal(packet_send_all(packets, 2), 2);
    assert_int_equal(packet_send(packets[1]), 0);
    assert_int_equal(recv(fds[0], answer, sizeof(answer), MSG_DONTWAIT), 5);
    assert_int_equal(recv(fds[1], answer, sizeof(answer), MSG_DONTWAIT), 6);
    assert_int_equal(recv(fds[1], answer, sizeof(answer), MSG_DONTWAIT), 6);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(packet_send_all(packets, 2), -ECONNREFUSED);
    for (unsigned i = 0; i < 2; i++)
        packet_end(packets[i], &blocks, NULL);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_empty_socket_gives_nothing),
        TEST(datagrams_come_in_their_order_and_no_more_than_asked_for),
        TEST(what_there_is_no_room_for_is_cut),
        TEST(a_tray_that_lacks_memory_receives_less_and_says_so),
        TEST(a_sender_without_a_name_can_not_be_answered),
        TEST(a_unix_senders_ids_are_known_and_its_descriptors_dropped),
        TEST(a_packet_has_a_connection_with_empty_state),
        TEST(replies_go_to_who_has_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
