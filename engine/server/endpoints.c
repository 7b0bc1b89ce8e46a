/* endpoints.c - what the options say of each listener, and the endpoints that are made of it. */
#include "engine/server/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct endpoint endpoint_of(struct weir_server *server, const struct weir_listen *listen)
{
    const struct weir_options *options = &server->options;

    return (struct endpoint){
        .handler = listen->handler,
        .quota = &server->quota,
        .access = &server->access,
        .crowd = server->crowd,
        .read_timeout_ms = options->read_timeout_ms,
        .write_timeout_ms = options->write_timeout_ms,
        .request_timeout_ms = options->request_timeout_ms,
        .idle_timeout_ms = options->idle_timeout_ms,
    };
}

/* weir_server_bind comes, and children of WEIR_PREFORK begin, when the caller's may be gone. */
int server_copy_listens(struct weir_server *server)
{
    struct weir_options *options = &server->options;
    const struct weir_listen submission = { .address = "fd:", .handler = options->handler };
    size_t len = options_listens(options);

    server->listens = calloc(len, sizeof(*server->listens));
    if (!server->listens)
        return -ENOMEM;
    for (size_t i = 0; i < len; i++) {
        struct weir_listen listen = options_listen(options, i);
        struct server_listen *copy = &server->listens[i];

        copy->like = endpoint_of(server, &listen);
        copy->address = strdup(listen.address);
        if (!copy->address)
            return -ENOMEM;
        server->listens_len++;
    }
    server->submission = endpoint_of(server, &submission);
    snprintf(server->submission.uri, sizeof(server->submission.uri), "%s", submission.address);
    options->listen = NULL;
    options->listeners = NULL;
    options->listeners_len = 0;
    return 0;
}

void server_free_listens(struct weir_server *server)
{
    while (server->listens_len > 0)
        free(server->listens[--server->listens_len].address);
    free(server->listens);
}

int server_create_endpoint(struct weir_server *server, const struct endpoint *like,
                           const char *uri, const struct endpoint **ret)
{
    size_t len = server->endpoints_len;
    struct endpoint **endpoints = realloc(server->endpoints, (len + 1) * sizeof(*endpoints));
    int r;

    if (!endpoints)
        return -ENOMEM;
    server->endpoints = endpoints;
    r = endpoint_create(like, uri, &endpoints[len]);
    if (r < 0)
        return r;
    *ret = endpoints[len];
    server->endpoints_len++;
    return 0;
}

void server_free_endpoints(struct weir_server *server)
{
    while (server->endpoints_len > 0)
        endpoint_destroy(server->endpoints[--server->endpoints_len]);
    free(server->endpoints);
    server->endpoints = NULL;
}

static uint32_t shorter(uint32_t a_ms, uint32_t b_ms)
{
    return b_ms > 0 && (a_ms == 0 || b_ms < a_ms) ? b_ms : a_ms;
}

uint32_t server_shortest_rest_ms(const struct weir_server *server)
{
    uint32_t shortest_ms = endpoint_rest_timeout_ms(&server->submission, true);

    /* Who is silent may rest no longer than others. */
    for (size_t i = 0; i < server->listens_len; i++)
        shortest_ms = shorter(shortest_ms, endpoint_rest_timeout_ms(&server->listens[i].like, true));
    return shortest_ms;
}
