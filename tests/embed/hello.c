#include <stdio.h>
#include <weir/http.h>

static int hello(struct weir_http *ex)
{
    return weir_http_reply(ex, 200, "text/plain", "Hello, world!\n", 14);
}

static const struct weir_http_route routes[] = {
    { .method = "GET", .path = "/", .call = hello },
};
static const struct weir_http_site site = { WEIR_HTTP_ROUTES(routes) };
static const struct weir_handler handler = WEIR_HTTP_HANDLER("hello", &site);

int main(void)
{
    struct weir_server *server;

    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = "tcp://127.0.0.1:9999", .handler = &handler)) < 0) {
        fprintf(stderr, "%s\n", weir_why());
        return 2;
    }
    if (weir_serve_forever(server) < 0) {
        fprintf(stderr, "%s\n", weir_why());
        return 1;
    }
    weir_server_destroy(server);
    return 0;
}
