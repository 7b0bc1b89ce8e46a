/*
 * hello.c - the smallest site that shows in a browser, and the one that the benches measure.
 */
#include "handlers/hello.h"

#include "handlers/http/http.h"

static int say_hello(struct weir_http *ex)
{
    static const char text[] = "Hello, world!\n";

    return weir_http_reply(ex, 200, "text/plain", text, sizeof(text) - 1);
}

static const struct weir_http_route routes[] = {
    { .method = "GET", .path = "/", .call = say_hello },
};
static const struct weir_http_site site = { WEIR_HTTP_ROUTES(routes) };

const struct weir_handler hello_handler = WEIR_HTTP_HANDLER("hello", &site);
