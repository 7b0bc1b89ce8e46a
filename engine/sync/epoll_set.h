/*
 * epoll_set.h - an epoll set, and how many connections wait in it.
 *
 * The count is what workers are compared by: new connections go to a worker with fewer.
 *
 * Threads: any.
 */
#ifndef WEIR_EPOLL_SET_H
#define WEIR_EPOLL_SET_H

#include "engine/base/compiler.h"

#include <stdatomic.h>
#include <stdint.h>

struct epoll_set {
    _Alignas(WEIR_CACHE_LINE) int fd;
    _Atomic uint32_t members;
};

static inline uint32_t epoll_set_members(const struct epoll_set *set)
{
    /* relaxed: a hint. pairs: none */
    return atomic_load_explicit(&set->members, memory_order_relaxed);
}

static inline void epoll_set_count(struct epoll_set *set, int change)
{
    /* relaxed: a hint. pairs: none */
    atomic_fetch_add_explicit(&set->members, (uint32_t)change, memory_order_relaxed);
}

#endif
