/* http_head_test.c - tools/load/http_head.h: where a response ends, and what it does not say. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tools/load/http_head.h"

#include <errno.h>
#include <string.h>

static int read_text(const char *text, struct http_head *head)
{
    return http_head_read(text, strlen(text), head);
}

static void a_length_is_found_whatever_its_case_and_place(void **state)
{
    static const char *const texts[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length:14\r\nX: y\r\n\r\nbody",
        "HTTP/1.1 200\r\nContent-Length: 14\r\nContent-Length: 14\r\n\r\n",
        "HTTP/1.1 200 OK\r\nDate: now\r\nConnected: no\r\nCONTENT-LENGTH: \t14 \r\n\r\n",
    };
    struct http_head head;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(read_text(texts[i], &head), 1);
        assert_int_equal(head.status, 200);
        assert_int_equal(head.body_len, 14);
        assert_false(head.closes);
        assert_false(head.until_end);
        assert_memory_equal(texts[i] + head.len - 4, "\r\n\r\n", 4);
    }
}

static void a_head_that_has_not_come_in_full_is_none_yet(void **state)
{
    static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n";
    struct http_head head;

    (void)state;
    for (size_t len = 0; len < sizeof(text) - 1; len++)
        assert_int_equal(http_head_read(text, len, &head), 0);
    assert_int_equal(http_head_read(text, sizeof(text) - 1, &head), 1);
}

static void the_end_of_the_connection_is_noticed(void **state)
{
    static const struct {
        const char *text;
        int closes, until_end;
    } cases[] = {
        { "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n", 1, 0 },
        { "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 1\r\n\r\n", 1, 0 },
        { "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n", 0, 0 },
        { "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", 1, 0 },
        { "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n", 0, 0 },
        { "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: x, Close\r\n\r\n", 1, 0 },
        { "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: ,close\t, x\r\n\r\n", 1, 0 },
        { "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive, close\r\n\r\n", 1, 0 },
        { "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: closed\r\n\r\n", 0, 0 },
        { "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: x close\r\n\r\n", 0, 0 },
        { "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: \r\n\r\n", 0, 0 },
        { "HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: keep-alive\r\n"
          "Content-Length: 1\r\n\r\n", 1, 0 },
        { "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: x, keep-alive\r\n\r\n", 0, 0 },
        { "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alivex\r\n\r\n", 1, 0 },
        { "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n", 1, 1 },
        { "HTTP/1.1 200 OK\r\n\r\n", 1, 1 },
        { "HTTP/1.1 204 No Content\r\n\r\n", 0, 0 },
    };
    struct http_head head;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(read_text(cases[i].text, &head), 1);
        assert_int_equal(head.closes, cases[i].closes);
        assert_int_equal(head.until_end, cases[i].until_end);
    }
}

static void nonsense_is_refused(void **state)
{
    static const char *const texts[] = {
        "SSH-2.0-x",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\r\n\r\n",
        "HTTP/1.1 200 OK\r\nServer: a\nContent-Length: 2\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nServer: \a\r\nContent-Length: 1\r\n\r\n",
    };
    struct http_head head;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_int_equal(read_text(texts[i], &head), -EBADMSG);
    assert_int_equal(read_text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &head),
                     -EOPNOTSUPP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_length_is_found_whatever_its_case_and_place),
        cmocka_unit_test(a_head_that_has_not_come_in_full_is_none_yet),
        cmocka_unit_test(the_end_of_the_connection_is_noticed),
        cmocka_unit_test(nonsense_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
