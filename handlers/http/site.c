/* site.c - whether a site can be served, which its program has written down. */
#include "handlers/http/http.h"

#include <stdio.h>
#include <string.h>

#include "handlers/http/grammar.h"
#include "handlers/http/route.h"

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

static _Thread_local char why[300];

#define REFUSE(...) (snprintf(why, sizeof(why), __VA_ARGS__), why)

static bool is_set(const void *structure, size_t from, size_t to)
{
    const unsigned char *bytes = structure;

    for (size_t i = from; i < to; i++)
        if (bytes[i] != 0)
            return true;
    return false;
}

/* A path is compared with what peers send, so it has to be one that a peer can send. */
static const char *check_path(size_t i, const char *path)
{
    if (!path)
        return REFUSE("routes[%zu] has no path", i);
    if (path[0] != '/' && strcmp(path, "*") != 0)
        return REFUSE("routes[%zu], '%.60s': a path begins with '/' (or is \"*\", of OPTIONS): "
                      "write \"/%.60s\"", i, path, path);
    if (path[strcspn(path, "?# ")] != '\0')
        return REFUSE("routes[%zu], '%.100s': a path has no '?', '#' or blank: the query is "
                      "weir_http_query()", i, path);
    return NULL;
}

/* Methods are compared with their case (RFC 9110, 9.1), and the known ones are in capitals. */
static const char *check_method(size_t i, const struct weir_http_route *route)
{
    if (!route->method)
        return NULL;
    if (route->method[0] == '\0')
        return REFUSE("routes[%zu], '%.100s': its method is \"\": for any method leave it NULL", i,
                      route->path);
    for (const char *c = route->method; *c; c++)
        if (*c >= 'a' && *c <= 'z')
            return REFUSE("routes[%zu], '%.100s': its method is \"%.20s\": write it in capitals",
                          i, route->path, route->method);
    if (!http_is_token(route->method, strlen(route->method)))
        return REFUSE("routes[%zu], '%.100s': its method is \"%.20s\": a method has no blank and "
                      "no separator in it", i, route->path, route->method);
    return NULL;
}

static bool covers_method(const char *method, const char *later)
{
    if (!method || !later)
        return !method;
    return strcmp(method, later) == 0 ||
           (strcmp(method, "GET") == 0 && strcmp(later, "HEAD") == 0);
}

/* Every request that fits the later route fits the other one, which is asked first. */
static bool covers(const struct weir_http_route *route, const struct weir_http_route *later)
{
    return covers_method(route->method, later->method) && route_path_fits(route, later->path);
}

/* That no route before this one takes all its requests. */
static const char *check_reach(const struct weir_http_site *site, size_t i)
{
    const struct weir_http_route *later = route_at(site, i);

    for (size_t k = 0; k < i; k++)
        if (covers(route_at(site, k), later))
            return REFUSE("routes[%zu], '%.60s', is never called, since routes[%zu], '%.60s', "
                          "comes before it and takes its requests: change one, or their order",
                          i, later->path, k, route_at(site, k)->path);
    return NULL;
}

static const char *check_route(const struct weir_http_site *site, size_t i)
{
    const struct weir_http_route *route = route_at(site, i);
    const char *wrong = check_path(i, route->path);

    if (!wrong)
        wrong = check_method(i, route);
    if (wrong)
        return wrong;
    if (!route->call)
        return REFUSE("routes[%zu], '%.100s', has no callback: set call", i, route->path);
    if (is_set(route, sizeof(*route), site->route_size))
        return REFUSE("routes[%zu], '%.100s', has a field set that this version of weir does not "
                      "know", i, route->path);
    return check_reach(site, i);
}

static const char *check_routes(const struct weir_http_site *site)
{
    const char *wrong = NULL;

    if (site->routes_len == 0)
        return "the site has no routes: use WEIR_HTTP_ROUTES(routes), which says where they are, "
               "and how many";
    if (!site->routes)
        return REFUSE("the site's routes_len is %zu, but its routes are NULL", site->routes_len);
    if (site->route_size < ROUTE_SIZE_V1 || site->route_size > ROUTE_SIZE_MOST)
        return REFUSE("the site's route_size is %zu: use WEIR_HTTP_ROUTES(routes), which sets it",
                      site->route_size);
    for (size_t i = 0; i < site->routes_len && !wrong; i++)
        wrong = check_route(site, i);
    return wrong;
}

const char *weir_http_check(const struct weir_handler *handler)
{
    const struct weir_http_site *site = handler->data;

    if (!site)
        return "no site: use WEIR_HTTP_HANDLER(name, &site), which makes it the handler's data";
    if (is_set(site, offsetof(struct weir_http_site, reserved), sizeof(*site)))
        return "the site's reserved is set: leave it 0";
    return check_routes(site);
}
