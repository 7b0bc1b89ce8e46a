#include <ctype.h>
#include <stdio.h>
#include <weir/weir.h>

static int upper(struct weir_request *req)
{
    char *line;
    ssize_t n;

    while ((n = weir_readline(req, &line, 4096)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            line[i] = (char)toupper((unsigned char)line[i]);
        weir_write(req, line, (size_t)n);
    }
    return (int)n;      /* 0 at the end of the input, or an error: handle_error is told */
}

static const struct weir_handler handler = {
    .name = "upper", .handle = upper, .client_first = true,
};

int main(void)
{
    struct weir_server *server;

    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = "tcp://127.0.0.1:9999", .handler = &handler,
            .reuse_address = true)) < 0) {      /* a restart waits for no old connection */
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
