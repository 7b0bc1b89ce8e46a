/* route.c - who answers a request: the first of its site's routes that fits its method and path. */
#include "handlers/http/route.h"

#include <errno.h>
#include <string.h>

#include "handlers/http/exchange.h"

/*
 * The methods that the parser knows come to 280. A route may name others, which are never asked
 * for: those beyond ALLOW_MAX are left out.
 */
enum { ALLOW_MAX = 512 };

static bool method_fits(const struct weir_http *ex, const struct weir_http_route *route)
{
    return !route->method || strcmp(route->method, ex->head.method) == 0 ||
        (ex->bodiless && strcmp(route->method, "GET") == 0);
}

static bool is_listed(const char *list, const char *method)
{
    size_t len = strlen(method);

    for (const char *at = list; (at = strstr(at, method)); at += len)
        if ((at == list || at[-1] == ' ') && (at[len] == ',' || at[len] == '\0'))
            return true;
    return false;
}

/* Adds a method to the list, which ends at `end`, unless it is there. Returns where it ends. */
static char *list_method(char *list, char *end, const char *method)
{
    if (is_listed(list, method) || (size_t)(list + ALLOW_MAX - end) < strlen(method) + 3)
        return end;
    if (end > list)
        end = stpcpy(end, ", ");
    return stpcpy(end, method);
}

/*
 * Names the methods of the routes that fit the path; each has one, or it would have been taken.
 * Returns 405, or 404: there is none; or -ENOMEM.
 */
static int allow_methods(struct weir_http *ex, const char *path)
{
    char allow[ALLOW_MAX] = "";
    char *end = allow;

    for (size_t i = 0; i < ex->site->routes_len; i++) {
        const struct weir_http_route *route = route_at(ex->site, i);

        if (!route_path_fits(route, path))
            continue;
        end = list_method(allow, end, route->method);
        if (strcmp(route->method, "GET") == 0)
            end = list_method(allow, end, "HEAD");
    }
    if (end == allow)
        return 404;
    /* Noted as the connection's, for no callback has failed. */
    return weir_http_add_header(ex, "Allow", allow) == 0 ? 405
                                                         : (int)exchange_noted(ex, -ENOMEM);
}

int exchange_find_route(struct weir_http *ex)
{
    const char *path = weir_http_path(ex);

    for (size_t i = 0; i < ex->site->routes_len; i++) {
        ex->route = route_at(ex->site, i);
        if (method_fits(ex, ex->route) && route_path_fits(ex->route, path))
            return 0;
    }
    return allow_methods(ex, path);
}
