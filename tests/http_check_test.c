/* http_check_test.c - sites that can be served, and what is said of those that can't. */
#include "tests/support.h"

#include <weir/http.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

static int reply(struct weir_http *ex)
{
    return weir_http_reply(ex, 200, NULL, weir_http_data(ex), 1);
}

static const struct weir_http_route good[] = { { .path = "/", .call = reply } };

static void assert_refused(const struct weir_http_site *site, const char *sentence)
{
    const struct weir_handler handler = WEIR_HTTP_HANDLER("site", site);
    struct weir_server *server;

    assert_int_equal(weir_server_create(&server, WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                              .handler = &handler)), -EINVAL);
    assert_string_equal(weir_why(), sentence);
}

static void assert_accepted(const struct weir_http_site *site)
{
    const struct weir_handler handler = WEIR_HTTP_HANDLER("site", site);

    assert_int_equal(weir_server_destroy(support_create(WEIR_OPTIONS(
        .listen = "tcp://127.0.0.1:0", .handler = &handler))), 0);
}

static void a_site_of_null_is_refused(void **state)
{
    (void)state;
    assert_refused(NULL, "handler 'site': no site: use WEIR_HTTP_HANDLER(name, &site), which makes "
                         "it the handler's data");
}

static void routes_of_null_are_refused(void **state)
{
    struct weir_http_site site = { WEIR_HTTP_ROUTES(good) };

    (void)state;
    assert_accepted(&site);
    site.routes = NULL;
    assert_refused(&site, "handler 'site': the site's routes_len is 1, but its routes are NULL");
}

static void a_site_without_routes_answers_404(void **state)
{
    static const struct weir_http_site site = { .body_limit = 1 };
    static const struct weir_handler handler = WEIR_HTTP_HANDLER("site", &site);
    struct weir_server *server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                            .handler = &handler));
    int fd = support_connect(server, 0);

    (void)state;
    support_say(fd, "GET / HTTP/1.1\r\nHost: here\r\n\r\n");
    support_expect(fd, "HTTP/1.1 404 Not Found\r\n");
    close(fd);
    weir_server_destroy(server);
}

static void a_route_needs_a_path_and_a_callback(void **state)
{
    const struct weir_http_route pathless[] = { good[0], { .method = "GET", .call = reply } };
    const struct weir_http_route idle[] = { good[0], { .method = "GET", .path = "/idle" } };

    (void)state;
    assert_refused(&(const struct weir_http_site){ WEIR_HTTP_ROUTES(pathless) },
                   "handler 'site': routes[1] has no path");
    assert_refused(&(const struct weir_http_site){ WEIR_HTTP_ROUTES(idle) },
                   "handler 'site': routes[1], '/idle', has no callback: set call");
}

static void a_site_that_comes_with_a_descriptor_is_checked_too(void **state)
{
    static const struct weir_http_site right = { WEIR_HTTP_ROUTES(good) };
    static const struct weir_handler handler = WEIR_HTTP_HANDLER("site", &right);
    static const struct weir_handler siteless = WEIR_HTTP_HANDLER("siteless", NULL);
    struct weir_server *server = support_create(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                             .handler = &handler));

    (void)state;
    assert_int_equal(weir_submit_fd(server, STDIN_FILENO, &siteless), -EINVAL);
    assert_non_null(strstr(weir_why(), "handler 'siteless': no site"));
    weir_server_destroy(server);
}

static void what_is_reserved_must_be_0(void **state)
{
    struct weir_http_site site = { WEIR_HTTP_ROUTES(good) };

    (void)state;
    for (size_t i = 0; i < sizeof(site.reserved); i++) {
        site.reserved[i] = 1;
        assert_refused(&site, "handler 'site': the site's reserved is set: leave it 0");
        site.reserved[i] = 0;
    }
}

static void routes_without_their_size_are_refused(void **state)
{
    struct weir_http_site site = { WEIR_HTTP_ROUTES(good) };

    (void)state;
    site.route_size = 0;
    assert_refused(&site, "handler 'site': the site's route_size is 0: use "
                          "WEIR_HTTP_ROUTES(routes), which sets it");
    site.route_size = 31;
    assert_refused(&site, "handler 'site': the site's route_size is 31: use "
                          "WEIR_HTTP_ROUTES(routes), which sets it");
}

/* What a program that was built with a newer weir has. */
struct newer_route {
    struct weir_http_route known;
    uint64_t unknown;
};

static struct newer_route newer[] = {
    { .known = { "GET", "/a", reply, "1" } },
    { .known = { "GET", "/b", reply, "2" } },
};

static const struct weir_http_site newer_site = {
    .routes = &newer[0].known, .routes_len = 2, .route_size = sizeof(newer[0]) };

static void ask(struct weir_server *server, const char *request, char *answer, size_t size)
{
    int fd = support_ask(server, 0, request);

    answer[support_read_all(fd, answer, size - 1)] = '\0';
    close(fd);
}

static void routes_are_as_large_as_their_program_says(void **state)
{
    static const struct weir_handler handler = WEIR_HTTP_HANDLER("site", &newer_site);
    struct weir_server *server = support_start(WEIR_OPTIONS(.listen = "tcp://127.0.0.1:0",
                                                            .handler = &handler));
    char answer[400] = "";

    (void)state;
    ask(server, "GET /b HTTP/1.0\r\n\r\n", answer, sizeof(answer));
    assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n2");
    ask(server, "PUT /b HTTP/1.0\r\n\r\n", answer, sizeof(answer));
    assert_non_null(strstr(answer, "\r\nAllow: GET, HEAD\r\n"));
    weir_server_destroy(server);
    newer[1].unknown = 1;
    assert_refused(&newer_site, "handler 'site': routes[1], '/b', has a field set that this "
                                "version of weir does not know");
    newer[1].unknown = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_site_of_null_is_refused),
        cmocka_unit_test(routes_of_null_are_refused),
        cmocka_unit_test(a_site_without_routes_answers_404),
        cmocka_unit_test(a_route_needs_a_path_and_a_callback),
        cmocka_unit_test(a_site_that_comes_with_a_descriptor_is_checked_too),
        cmocka_unit_test(what_is_reserved_must_be_0),
        cmocka_unit_test(routes_without_their_size_are_refused),
        cmocka_unit_test(routes_are_as_large_as_their_program_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
