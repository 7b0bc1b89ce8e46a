/* mistake.c - see mistake.h. */
#include "handlers/http/mistake.h"

#include <stdio.h>

enum { LINE_MAX_LEN = 360 };    /* what leaves room in a line of weir's for the peer's address */

/* handle_error is told of the error, with the route and what its callback did. */
static void tell_of_route(struct weir_http *ex, int error, const char *did)
{
    const char *method = ex->route->method ? ex->route->method : ex->head.method;
    char hint[LINE_MAX_LEN];

    snprintf(hint, sizeof(hint), "%.20s %.100s: its callback %s", method, ex->route->path, did);
    weir_report(ex->req, error, hint);
}

int mistake_note(struct weir_http *ex, int error, const char *sentence)
{
    if (!ex->mistake) {
        ex->mistake = sentence;
        ex->mistake_error = error;
    }
    return error;
}

int mistake_tell(struct weir_http *ex, int error, const char *sentence)
{
    if (!ex->told) {
        ex->mistake = sentence;
        ex->mistake_error = error;
        ex->told = true;
        tell_of_route(ex, error, sentence);
    }
    return error;
}

/* It returned 0 or more, and that means nothing. */
static void tell_number(struct weir_http *ex, int r, int error)
{
    char did[200];

    if (ex->told)
        return;
    if (r == 0 && ex->mistake)
        snprintf(did, sizeof(did), "%s", ex->mistake);
    else if (r == 0)
        snprintf(did, sizeof(did), "returned 0 without a reply: call weir_http_reply, or return a "
                 "status of 400 to 599");
    else if (ex->state == REPLY_NONE)
        snprintf(did, sizeof(did), "returned %d: there are pages for 400 to 599; for another "
                 "status call weir_http_reply, and return what it returns", r);
    else
        snprintf(did, sizeof(did), "returned %d after it had begun its reply: return 0", r);
    tell_of_route(ex, error, did);
}

void mistake_tell_return(struct weir_http *ex, int r, int error)
{
    if (r >= 0)
        tell_number(ex, r, error);
    else if (!ex->mistake || error != ex->mistake_error)
        tell_of_route(ex, error, ex->state == REPLY_NONE
                          ? "returned this error, and the peer gets 500"
                          : "returned this error after it had begun its reply, so the connection "
                            "is closed");
    else if (!ex->told)
        tell_of_route(ex, error, ex->mistake);
}
