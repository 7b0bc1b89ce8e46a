#include "engine/net/endpoint.h"

#include "engine/base/clock.h"

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

uint32_t endpoint_timeout_ms(const struct endpoint *endpoint, enum weir_timeout which)
{
    const uint32_t timeouts_ms[] = {
        [WEIR_TIMEOUT_READ] = endpoint->read_timeout_ms,
        [WEIR_TIMEOUT_WRITE] = endpoint->write_timeout_ms,
        [WEIR_TIMEOUT_REQUEST] = endpoint->request_timeout_ms,
        [WEIR_TIMEOUT_HEAD] = endpoint->head_timeout_ms,
        [WEIR_TIMEOUT_PROGRESS] = endpoint->progress_timeout_ms,
        [WEIR_TIMEOUT_IDLE] = endpoint->idle_timeout_ms,
    };

    return timeouts_ms[which];
}

/* 0 is for ever. */
uint32_t endpoint_idle_limit_ms(const struct endpoint *endpoint, bool is_silent)
{
    if (!is_silent)
        return endpoint->idle_timeout_ms;
    return clock_shorter_ms(endpoint->idle_timeout_ms,
                            clock_shorter_ms(endpoint->head_timeout_ms,
                                             clock_shorter_ms(endpoint->read_timeout_ms,
                                                              endpoint->request_timeout_ms)));
}

void endpoint_destroy(struct endpoint *endpoint)
{
    free(endpoint);
}
