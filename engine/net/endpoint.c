#include "engine/net/endpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

int endpoint_create(const struct endpoint *like, const char *uri, struct endpoint **ret)
{
    struct endpoint *endpoint = malloc(sizeof(*endpoint));

    if (!endpoint)
        return -ENOMEM;
    *endpoint = *like;
    snprintf(endpoint->uri, sizeof(endpoint->uri), "%s", uri);
    *ret = endpoint;
    return 0;
}

/* 0 is for ever. */
static uint32_t shorter(uint32_t a_ms, uint32_t b_ms)
{
    if (a_ms == 0 || b_ms == 0)
        return a_ms + b_ms;
    return a_ms < b_ms ? a_ms : b_ms;
}

uint32_t endpoint_rest_timeout_ms(const struct endpoint *endpoint, bool is_silent)
{
    if (!is_silent)
        return endpoint->idle_timeout_ms;
    return shorter(endpoint->idle_timeout_ms,
                   shorter(endpoint->read_timeout_ms, endpoint->request_timeout_ms));
}

void endpoint_destroy(struct endpoint *endpoint)
{
    free(endpoint);
}
