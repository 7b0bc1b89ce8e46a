/*
 * route.h - the routes of a site, and which paths theirs stand for.
 *
 * Threads: any; no state but the arguments.
 * Owns:    nothing.
 * Blocks:  never.
 */
#ifndef WEIR_HANDLERS_HTTP_ROUTE_H
#define WEIR_HANDLERS_HTTP_ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "handlers/http/http.h"

/* The i-th route, in an array whose elements may be larger than we know them. */
static inline const struct weir_http_route *route_at(const struct weir_http_site *site, size_t i)
{
    return (const void *)((const char *)site->routes + i * site->route_size);
}

/* Returns true if the route is for that path: its own, or one below it if it ends in a star. */
static inline bool route_path_fits(const struct weir_http_route *route, const char *path)
{
    size_t len = strlen(route->path);

    if (len >= 2 && route->path[len - 1] == '*' && route->path[len - 2] == '/')
        return strncmp(path, route->path, len - 1) == 0;
    return strcmp(path, route->path) == 0;
}

#endif
