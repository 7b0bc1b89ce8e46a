/* site.c - whether a site can be served, which its program has written down. */
#include "handlers/http/http.h"

#include <stdio.h>

#define END_OF(type, field) (offsetof(type, field) + sizeof(((type *)NULL)->field))

/* Where the first version's routes end, and never change: later versions add fields behind. */
#define ROUTE_SIZE_V1 END_OF(struct weir_http_route, data)

/* No route ever grows to that: a size beyond it is what happened to be in memory. */
#define ROUTE_SIZE_MOST 65536

#ifdef __LP64__
_Static_assert(ROUTE_SIZE_V1 == 32, "a field was put in among those of the first version");
_Static_assert(sizeof(struct weir_http_site) == 64, "nothing says its size: a new field takes the "
               "place of reserved bytes");
#endif
_Static_assert(sizeof(struct weir_http_route) == END_OF(struct weir_http_route, data), "a hole");
_Static_assert(sizeof(struct weir_http_site) == END_OF(struct weir_http_site, reserved), "a hole");

static _Thread_local char why[200];

#define REFUSE(...) (snprintf(why, sizeof(why), __VA_ARGS__), why)

static bool is_set(const void *structure, size_t from, size_t to)
{
    const unsigned char *bytes = structure;

    for (size_t i = from; i < to; i++)
        if (bytes[i] != 0)
            return true;
    return false;
}

static const char *check_route(const struct weir_http_site *site, size_t i)
{
    const void *at = (const char *)site->routes + i * site->route_size;
    const struct weir_http_route *route = at;

    if (!route->path)
        return REFUSE("routes[%zu] has no path", i);
    if (!route->call)
        return REFUSE("routes[%zu], '%.100s', has no callback: set call", i, route->path);
    if (is_set(route, sizeof(*route), site->route_size))
        return REFUSE("routes[%zu], '%.100s', has a field set that this version of weir does not "
                      "know", i, route->path);
    return NULL;
}

const char *weir_http_check(const struct weir_handler *handler)
{
    const struct weir_http_site *site = handler->data;
    const char *wrong = NULL;

    if (!site)
        return "no site: use WEIR_HTTP_HANDLER(name, &site), which makes it the handler's data";
    if (is_set(site, offsetof(struct weir_http_site, reserved), sizeof(*site)))
        return "the site's reserved is set: leave it 0";
    if (site->routes_len == 0)
        return NULL;
    if (!site->routes)
        return REFUSE("the site's routes_len is %zu, but its routes are NULL", site->routes_len);
    if (site->route_size < ROUTE_SIZE_V1 || site->route_size > ROUTE_SIZE_MOST)
        return REFUSE("the site's route_size is %zu: use WEIR_HTTP_ROUTES(routes), which sets it",
                      site->route_size);
    for (size_t i = 0; i < site->routes_len && !wrong; i++)
        wrong = check_route(site, i);
    return wrong;
}
