/*
 * http.h - an HTTP/1.1 server handler: a table of routes, and a callback for each.
 *
 *     static int hello(struct weir_http *ex)
 *     {
 *         return weir_http_reply(ex, 200, "text/plain", "Hello, world!\n", 14);
 *     }
 *
 *     static const struct weir_http_route routes[] = {
 *         { .method = "GET", .path = "/", .call = hello },
 *     };
 *     static const struct weir_http_site site = { WEIR_HTTP_ROUTES(routes) };
 *     static const struct weir_handler handler = WEIR_HTTP_HANDLER("hello", &site);
 *
 * An exchange, struct weir_http, is one request and its reply. It lives for one call of a
 * callback, on that callback's fiber. Keep-alive, pipelining, HEAD, Date, lengths, chunks and bad
 * requests are settled here: docs/http.md says how.
 *
 * Conventions are weir.h's: 0 or a count, -errno on failure; a call that "parks" gives its worker
 * to other connections. Every call belongs to the callback that was given the exchange, until that
 * returns: calls that read a body or reply make calls of weir.h's, and WEIR_CHECK=1 finds them where
 * they are somebody else's (see weir.h: what parks). What only gives a piece of the request, a
 * function may ask that the callback has offloaded.
 */
#ifndef WEIR_HTTP_H
#define WEIR_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <weir/weir.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weir_http;

/*
 * Who answers what. The first route that fits, in the table's order, is taken; a path that only
 * routes of other methods fit is answered with 405 and Allow, one that none fits with 404.
 *
 * The callback returns 0 when it has replied; or, having begun no reply, a status from 400 to 599,
 * for which a short page is sent; or -errno: handle_error is told, the peer gets 500 if no reply
 * was begun, and the connection is closed. Errors of the peer's own making that a call of this
 * header gave are returned the same way: they become 400, 408 or 413, and handle_error is not told.
 */
struct weir_http_route {
    const char *method WEIR_0;      /* "GET" answers HEAD too; NULL: any */
    const char *path WEIR_0;        /* "/a": that one; with a '*' behind "/a/": all below it */
    int (*call)(struct weir_http *ex) WEIR_0;
    const void *data WEIR_0;        /* yours: weir_http_data() */
};

/*
 * What a handler serves. It must outlive the server. route_size says which version of the structure
 * the routes are of, for later versions add fields at its end; WEIR_HTTP_ROUTES sets it, and so do
 * empty braces in C++.
 */
struct weir_http_site {
    const struct weir_http_route *routes WEIR_0;
    size_t routes_len WEIR_0;
    size_t route_size WEIR_SIZE_OF(struct weir_http_route);
    uint64_t body_limit WEIR_0;     /* bytes of a request's body; 0: 1 MiB. Beyond it: 413 */
    uint8_t reserved[32] WEIR_0;    /* 0: room for what a later version can do */
};

/* WEIR_HTTP_ROUTES initializes what a site says of its routes, which are an array (C, C++20). */
#define WEIR_HTTP_ROUTES(routes_) \
    .routes = (routes_), .routes_len = sizeof(routes_) / sizeof((routes_)[0]), \
    .route_size = sizeof((routes_)[0])

/* WEIR_HTTP_HANDLER initializes a struct weir_handler that serves a site. */
#ifndef __cplusplus
#define WEIR_HTTP_HANDLER(name_, site_) \
    { .name = (name_), .handle = weir_http_handle, .check = weir_http_check, .data = (site_), \
      .client_first = true }
#else
#define WEIR_HTTP_HANDLER(name_, site_) \
    { (name_), nullptr, weir_http_handle, nullptr, weir_http_check, 0, (site_), \
      WEIR_STACK_FIBER, true, {} }
#endif

/*
 * weir_http_check is the check() of such a handler: a server with a site, a path or a callback of
 * NULL, or without route_size, can't be created, and weir_why() says which.
 */
const char *weir_http_check(const struct weir_handler *handler);

/* weir_http_handle is the handle() of such a handler: a request and its reply a call. Parks. */
int weir_http_handle(struct weir_request *req);

/* ------------------------------------------------------------------ the request ------- */

/*
 * Strings are terminated, may be changed in place, and are valid until the callback returns. They
 * are as the peer sent them: nothing is percent-decoded, no "." or ".." is resolved.
 */
const char *weir_http_method(const struct weir_http *ex);   /* "GET" */
char *weir_http_path(struct weir_http *ex);                 /* "/a/b", or "*" */
char *weir_http_query(struct weir_http *ex);                /* what follows '?'; NULL: no '?' */

/*
 * weir_http_authority is the host that was asked, and perhaps its port: "example.org:8080". If the
 * target was a whole URI, its authority counts, and is what the Host field says, too, whatever came
 * as that; else it is the Host field's value, which can be empty. NULL: HTTP/1.0 without either.
 * It is a host by its grammar, but any: whether it is one of yours is for you to compare.
 */
char *weir_http_authority(struct weir_http *ex);

/* weir_http_header is the value of the first field of that name, in any case; NULL: none. */
char *weir_http_header(struct weir_http *ex, const char *name);

/* weir_http_header_at gives the i-th field, in the order sent. False when there is no such. */
bool weir_http_header_at(struct weir_http *ex, size_t i, char **ret_name, char **ret_value);

const void *weir_http_data(const struct weir_http *ex);     /* the route's */

/*
 * weir_http_request is the request underneath, for addresses, weir_user, weir_sleep, weir_offload
 * and weir_connect. Its own reads and writes would come between those of the exchange.
 */
struct weir_request *weir_http_request(const struct weir_http *ex);

/*
 * weir_http_read_body reads 1 to len bytes of the request's body as they arrive, its chunks put
 * together; 0 at its end. Parks. The first call sends "100 Continue" to a peer that waits for it,
 * unless a reply has begun: that answered the peer, who may send the body nonetheless, or never:
 * then the call ends as any that waits for a silent peer does.
 * Besides the errors of weir_read: -EFBIG longer than body_limit, -EBADMSG malformed or cut short.
 * A body that is left unread is skipped after the reply, or the connection closed if it is long.
 */
ssize_t weir_http_read_body(struct weir_http *ex, void *buf, size_t len);

/* ------------------------------------------------------------------ the reply --------- */

/*
 * weir_http_add_header adds a field to the reply that is still to be made, if it is made by a call
 * below or by returning a status. Date, Connection, Content-Length, Transfer-Encoding and
 * Content-Type are refused: the calls below make them.
 * Returns 0, -EINVAL one of these, or a character that may not be in a field, -EALREADY, -ENOMEM.
 */
int weir_http_add_header(struct weir_http *ex, const char *name, const char *value);

/*
 * weir_http_reply sends the whole reply; type is the Content-Type, NULL for none. To a HEAD
 * request, and with 204, 205 and 304, the body is left out. Parks when the buffer is full.
 * Returns 0; -EALREADY a reply has begun, -EINVAL a status outside 200 to 599 or a bad type;
 * or an error of weir_writev.
 */
int weir_http_reply(struct weir_http *ex, int status, const char *type,
                    const void *body, size_t len);

/*
 * weir_http_reply_file does the same with len bytes of a file from offset, by weir_sendfile.
 * Returns -EIO when the file ends early: the peer, who was promised more, is then cut off.
 */
int weir_http_reply_file(struct weir_http *ex, int status, const char *type,
                         int file_fd, off_t offset, size_t len);

/*
 * weir_http_begin begins a reply whose length is not known: weir_http_write sends its pieces, each
 * as a chunk, and the callback's return of 0 ends it. An HTTP/1.0 peer gets no chunks, but the end
 * of the connection. If the callback returns -errno, the reply is left visibly unfinished.
 * Returns as weir_http_reply does; weir_http_write 0, -EINVAL no such reply was begun, or an error
 * of weir_writev. Pieces are gathered in the buffer: weir_flush(weir_http_request(ex)) sends them.
 */
int weir_http_begin(struct weir_http *ex, int status, const char *type);
int weir_http_write(struct weir_http *ex, const void *buf, size_t len);

#ifdef __cplusplus
}
#endif
#endif
