/* again.c - a program of C whose handler is in a library of C++. */
#include <stdio.h>
#include <weir/weir.h>

int handle_again(struct weir_request *req);

static const struct weir_handler handler = { .name = "again", .handle = handle_again };

int main(void)
{
    struct weir_server *server;

    if (weir_server_create(&server, WEIR_OPTIONS(.listen = "tcp://127.0.0.1:9999",
                                                 .handler = &handler, .workers = 1)) < 0) {
        fprintf(stderr, "again: %s\n", weir_why());
        return 1;
    }
    weir_serve_forever(server);
    weir_server_destroy(server);
    return 0;
}
