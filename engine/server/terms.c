#include "engine/server/terms.h"

static uint32_t own_or(uint32_t own, uint32_t servers)
{
    return own > 0 ? own : servers;
}

static uint32_t own_timeout(uint32_t own_ms, uint32_t servers_ms)
{
    return own_ms == WEIR_FOREVER ? 0 : own_or(own_ms, servers_ms);
}

struct endpoint terms_of(const struct weir_options *options, const struct weir_listen *listen)
{
    enum weir_choice nodelay = listen->disable_nagle_algorithm != WEIR_DEFAULT
        ? listen->disable_nagle_algorithm : options->disable_nagle_algorithm;

    return (struct endpoint){
        .handler = listen->handler,
        .read_timeout_ms = own_timeout(listen->read_timeout_ms, options->read_timeout_ms),
        .write_timeout_ms = own_timeout(listen->write_timeout_ms, options->write_timeout_ms),
        .request_timeout_ms = own_timeout(listen->request_timeout_ms, options->request_timeout_ms),
        .head_timeout_ms = own_timeout(listen->head_timeout_ms, options->head_timeout_ms),
        .progress_timeout_ms = own_timeout(listen->progress_timeout_ms,
                                           options->progress_timeout_ms),
        .idle_timeout_ms = own_timeout(listen->idle_timeout_ms, options->idle_timeout_ms),
        .backlog = own_or(listen->backlog, options->backlog),
        .nodelay = nodelay == WEIR_YES,
        .spares_loopback = own_or(listen->max_per_address, options->max_per_address) == WEIR_HALF,
        .taken_over = listen->taken_over == WEIR_YES,
        .number = WEIR_NO_LISTENER,
        .user = listen->user,
    };
}
