/* http_check_test.c - sites that can be served, and what is said of those that can't. */
#include "tests/support.h"

#include <weir/http.h>

#include <errno.h>
#include <stdio.h>
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

static void a_site_without_routes_is_refused(void **state)
{
    static const char sentence[] = "handler 'site': the site has no routes: use "
                                   "WEIR_HTTP_ROUTES(routes), which says where they are, and how "
                                   "many";

    (void)state;
    assert_refused(&(const struct weir_http_site){ 0 }, sentence);
    assert_refused(&(const struct weir_http_site){ .body_limit = 1 }, sentence);
    assert_refused(&(const struct weir_http_site){ .routes = good, .route_size = sizeof(good[0]) },
                   sentence);
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

static void assert_route_refused(const char *method, const char *path, const char *sentence)
{
    const struct weir_http_route routes[] = { { .method = method, .path = path, .call = reply } };
    char whole[300];

    snprintf(whole, sizeof(whole), "handler 'site': routes[0], '%s': %s", path, sentence);
    assert_refused(&(const struct weir_http_site){ WEIR_HTTP_ROUTES(routes) }, whole);
}

static void a_path_begins_with_a_slash(void **state)
{
    const struct weir_http_route server_wide[] = {
        { .method = "OPTIONS", .path = "*", .call = reply } };

    (void)state;
    assert_route_refused("GET", "a", "a path begins with '/' (or is \"*\", of OPTIONS): write "
                                     "\"/a\"");
    assert_route_refused("GET", "", "a path begins with '/' (or is \"*\", of OPTIONS): write "
                                    "\"/\"");
    assert_route_refused(NULL, "*/a", "a path begins with '/' (or is \"*\", of OPTIONS): write "
                                      "\"/*/a\"");
    assert_accepted(&(const struct weir_http_site){ WEIR_HTTP_ROUTES(server_wide) });
}

static void a_path_is_one_that_a_peer_can_send(void **state)
{
    static const char *const paths[] = { "/a?b", "/a#b", "/a b", "/ " };

    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        assert_route_refused("GET", paths[i], "a path has no '?', '#' or blank: the query is "
                                              "weir_http_query()");
}

static void a_method_is_in_capitals(void **state)
{
    (void)state;
    assert_route_refused("get", "/a", "its method is \"get\": write it in capitals");
    assert_route_refused("Get", "/a", "its method is \"Get\": write it in capitals");
    assert_route_refused("", "/a", "its method is \"\": for any method leave it NULL");
}

static void a_method_is_one_word(void **state)
{
    (void)state;
    assert_route_refused("GET ", "/a", "its method is \"GET \": a method has no blank and no "
                                       "separator in it");
    assert_route_refused("GET,PUT", "/a", "its method is \"GET,PUT\": a method has no blank and no "
                                          "separator in it");
}

/* Two routes, of which the second is given no request. */
static void assert_unreached(const char *method, const char *path, const char *later_method,
                             const char *later_path)
{
    const struct weir_http_route routes[] = {
        { method, path, reply, NULL }, { later_method, later_path, reply, NULL } };
    const struct weir_http_route turned[] = { routes[1], routes[0] };
    char sentence[300];

    snprintf(sentence, sizeof(sentence), "handler 'site': routes[1], '%s', is never called, since "
             "routes[0], '%s', comes before it and takes its requests: change one, or their order",
             later_path, path);
    assert_refused(&(const struct weir_http_site){ WEIR_HTTP_ROUTES(routes) }, sentence);
    if (method != later_method || strcmp(path, later_path) != 0)
        assert_accepted(&(const struct weir_http_site){ WEIR_HTTP_ROUTES(turned) });
}

static void a_route_that_is_never_called_is_refused(void **state)
{
    static const struct weir_http_route reached[] = {
        { "GET", "/a", reply, NULL }, { "POST", "/a", reply, NULL }, { NULL, "/a", reply, NULL },
        { "GET", "/a/", reply, NULL }, { "GET", "/a/b", reply, NULL },
        { "GET", "/a/*", reply, NULL }, { "GET", "/ab", reply, NULL },
        { "HEAD", "/c", reply, NULL }, { "GET", "/c", reply, NULL },
        { NULL, "/d/*", reply, NULL }, { "GET", "/d", reply, NULL },
    };

    (void)state;
    assert_accepted(&(const struct weir_http_site){ WEIR_HTTP_ROUTES(reached) });
    assert_unreached("GET", "/a", "GET", "/a");
    assert_unreached(NULL, "/a", NULL, "/a");
    assert_unreached(NULL, "/a", "GET", "/a");
    assert_unreached("GET", "/a", "HEAD", "/a");
    assert_unreached("GET", "/a/*", "GET", "/a/b");
    assert_unreached("GET", "/a/*", "GET", "/a/b/*");
    assert_unreached(NULL, "/*", "PUT", "/");
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
        cmocka_unit_test(a_site_without_routes_is_refused),
        cmocka_unit_test(a_route_needs_a_path_and_a_callback),
        cmocka_unit_test(a_path_begins_with_a_slash),
        cmocka_unit_test(a_path_is_one_that_a_peer_can_send),
        cmocka_unit_test(a_method_is_in_capitals),
        cmocka_unit_test(a_method_is_one_word),
        cmocka_unit_test(a_route_that_is_never_called_is_refused),
        cmocka_unit_test(a_site_that_comes_with_a_descriptor_is_checked_too),
        cmocka_unit_test(what_is_reserved_must_be_0),
        cmocka_unit_test(routes_without_their_size_are_refused),
        cmocka_unit_test(routes_are_as_large_as_their_program_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
