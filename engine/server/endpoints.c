/* endpoints.c - what the options say of each listener, and the endpoints that are made of it. */
#include "engine/server/server.h"

#include "engine/base/clock.h"
#include "engine/server/terms.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What all listeners share that have none of their own is the server's. */
static struct endpoint endpoint_of(struct weir_server *server, const struct weir_listen *listen)
{
    struct endpoint endpoint = terms_of(&server->options, listen);

    endpoint.quota = &server->quota;
    endpoint.access = &server->access;
    endpoint.crowd = server->crowd;
    return endpoint;
}

static int give_own_rules(struct server_listen *own, const struct weir_listen *listen)
{
    struct weir_access *rules;
    char why[400];
    int r = access_parse(listen->access, &rules, why, sizeof(why));

    if (r < 0)
        return SERVER_REFUSE(r, "%s: access: %s", listen->address, why);
    access_slot_set(&own->access, rules);
    own->like.access = &own->access;
    return 0;
}

static int give_own_crowd(const struct weir_server *server, struct server_listen *own,
                          const struct weir_listen *listen)
{
    int r = 0;

    if (listen->max_per_address != WEIR_ANY_NUMBER)
        r = server_create_crowd(server, listen->max_per_address, own->like.quota->max,
                                &own->crowd);
    own->like.crowd = own->crowd;
    return r == 0 ? 0 : SERVER_REFUSE(r, "%s: max_per_address: %s", listen->address, why_error(r));
}

static int copy_listen(struct weir_server *server, struct server_listen *copy,
                       const struct weir_listen *listen)
{
    int r = 0;

    copy->like = endpoint_of(server, listen);
    if (listen->max_connections > 0) {
        copy->quota.max = listen->max_connections;
        copy->quota.limit = "this listener's max_connections";
        copy->like.quota = &copy->quota;
    }
    copy->address = strdup(listen->address);
    if (!copy->address)
        return SERVER_REFUSE(-ENOMEM, "the server: %s", why_error(-ENOMEM));
    if (listen->access)
        r = give_own_rules(copy, listen);
    if (r == 0 && listen->max_per_address > 0)
        r = give_own_crowd(server, copy, listen);
    return r;
}

static int copy_all_listens(struct weir_server *server)
{
    const struct weir_options *options = &server->options;
    size_t len = options_listens(options);
    int r = 0;

    server->listens = calloc(len, sizeof(*server->listens));
    if (!server->listens)
        return SERVER_REFUSE(-ENOMEM, "the server: %s", why_error(-ENOMEM));
    while (server->listens_len < len && r == 0) {
        size_t i = server->listens_len++;
        struct weir_listen listen = options_listen(options, i);

        r = copy_listen(server, &server->listens[i], &listen);
        server->listens[i].like.number = (uint32_t)i;
    }
    return r;
}

/* weir_server_bind comes, and children of WEIR_PREFORK begin, when the caller's may be gone. */
int server_copy_listens(struct weir_server *server)
{
    struct weir_options *options = &server->options;
    const struct weir_listen submission = { .handler = options->handler };
    int r = copy_all_listens(server);

    server->submission = endpoint_of(server, &submission);
    snprintf(server->submission.uri, sizeof(server->submission.uri), "fd:");
    options->listen = NULL;
    options->listeners = NULL;
    options->listeners_len = 0;
    return r;
}

void server_free_listens(struct weir_server *server)
{
    while (server->listens_len > 0) {
        struct server_listen *listen = &server->listens[--server->listens_len];

        free(listen->address);
        crowd_destroy(listen->crowd);
        access_slot_fini(&listen->access);
    }
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

size_t server_connections_max(const struct weir_server *server)
{
    size_t max = server->quota.max;

    for (size_t i = 0; i < server->listens_len; i++)
        max += server->listens[i].quota.max;
    return max;
}

void server_count_in_table(struct weir_server *server)
{
    struct connection_table *table = &server->pool->crew.table;

    connection_table_add_quota(table, &server->quota);
    for (size_t i = 0; i < server->listens_len; i++)
        if (server->listens[i].quota.max > 0)
            connection_table_add_quota(table, &server->listens[i].quota);
}

uint32_t server_shortest_idle_ms(const struct weir_server *server)
{
    uint32_t shortest_ms = endpoint_idle_limit_ms(&server->submission, true);

    /* A silent client may be idle no longer than others. */
    for (size_t i = 0; i < server->listens_len; i++)
        shortest_ms = clock_shorter_ms(shortest_ms,
                                       endpoint_idle_limit_ms(&server->listens[i].like, true));
    return shortest_ms;
}
