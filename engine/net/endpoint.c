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

void endpoint_destroy(struct endpoint *endpoint)
{
    free(endpoint);
}
