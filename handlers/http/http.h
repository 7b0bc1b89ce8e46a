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
 * An exchange, struct weir_http, is one request and its reply (RFC 9110, RFC 9112). It lives for
 * one call of a callback, on that callback's fiber. Keep-alive, pipelining, HEAD, Date, lengths,
 * chunks and bad requests are settled here: docs/http.md says how.
 *
 * What weir.h says of errors, units and parking holds here as well.
 *
 * Every call belongs to the callback that was given the exchange, until that returns. Calls that
 * read a body or reply make calls of weir.h's, and WEIR_CHECK=1 finds them by these where they are
 * somebody else's (see weir.h: what parks). A function that the callback has offloaded may make
 * those that only give a piece of the request.
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
 * Which callback answers a request: that of the first route of the table that fits. If only routes
 * of other methods have the path, the peer gets 405 and Allow; if none has it, 404.
 *
 * The callback returns
 *   0                  it has replied
 *   400 to 599         it has begun no reply: a short page for this status is sent
 *   a negative errno   handle_error is told, and the connection is closed; the peer gets 500 if no
 *                      reply was begun. But an error that a call of this header returned, and that
 *                      the peer has made, becomes 400, 408 or 413, and handle_error is not told
 *   anything else      is the callback's mistake, and so is 0 without a reply: as -ENOMSG
 *
 * What handle_error is told has the route and what its callback did in failure->hint. It is told of
 * a call at the wrong time, too, such as a second reply, even if the callback does not return that
 * call's error; then the connection goes on. Of one exchange it is told the first such mistake.
 */
struct weir_http_route {
    const char *method WEIR_0;      /* "GET" answers HEAD too; NULL: any */
    const char *path WEIR_0;        /* "/a": that one; with a '*' behind "/a/": all below it;
                                       "*": what OPTIONS asks of the whole server */
    int (*call)(struct weir_http *ex) WEIR_0;
    const void *data WEIR_0;        /* yours: weir_http_data() */
};

/*
 * What a handler serves. It must outlive the server, and so must its routes. route_size says with
 * which version of struct weir_http_route the program was compiled: later versions add fields at
 * its end. WEIR_HTTP_ROUTES sets it, and in C++ empty braces do.
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

/* What a client is told for whom there is no room or no time: goodbye of struct weir_handler. */
#define WEIR_HTTP_GOODBYE \
    "HTTP/1.1 503 Service Unavailable\r\n" \
    "Connection: close\r\n" \
    "Retry-After: 1\r\n" \
    "Content-Length: 0\r\n" \
    "\r\n"

/* WEIR_HTTP_HANDLER initializes a struct weir_handler that serves a site. */
#ifndef __cplusplus
#define WEIR_HTTP_HANDLER(name_, site_) \
    { .name = (name_), .handle = weir_http_handle, .check = weir_http_check, .data = (site_), \
      .client_first = true, .goodbye = WEIR_HTTP_GOODBYE, \
      .goodbye_len = sizeof(WEIR_HTTP_GOODBYE) - 1 }
#else
#define WEIR_HTTP_HANDLER(name_, site_) \
    { (name_), nullptr, weir_http_handle, nullptr, weir_http_check, 0, (site_), \
      WEIR_STACK_FIBER, true, WEIR_HTTP_GOODBYE, sizeof(WEIR_HTTP_GOODBYE) - 1, {} }
#endif

/*
 * weir_http_check is the check() of such a handler. A server can't be created with a site, routes,
 * a path or a callback of NULL, without routes or route_size, with a path that does not begin with
 * '/', a method in small letters or of several words, or a route that is never called, since one
 * before it takes all its requests. weir_why() says which it is, and what to change.
 */
const char *weir_http_check(const struct weir_handler *handler);

/*
 * weir_http_handle is the handle() of such a handler: each call serves one request. It returns 0
 * when a callback has failed, for it has told handle_error itself. Parks.
 */
int weir_http_handle(struct weir_request *req);

/* ------------------------------------------------------------------ the request ------- */

/*
 * None of these parks, but weir_http_read_body. Strings are terminated, may be changed in place,
 * and are valid until the callback returns. They are as the peer sent them: nothing is
 * percent-decoded, and no "." or ".." is resolved.
 */
const char *weir_http_method(const struct weir_http *ex);   /* "GET" */
char *weir_http_path(struct weir_http *ex);                 /* "/a/b", or "*" */
char *weir_http_query(struct weir_http *ex);                /* what follows '?'; NULL: no '?' */

/*
 * weir_http_authority is the host that was asked, and perhaps its port: "example.org:8080" (RFC
 * 9110, 7.2). If the target is a whole URI, it is that one's authority, whatever the Host field
 * says; else it is the Host field's value, which can be empty. NULL: HTTP/1.0 without either. It is
 * a host by its grammar, but any host: whether it is one of yours is for you to compare.
 */
char *weir_http_authority(struct weir_http *ex);

/* weir_http_header is the value of the first field of that name, in any case; NULL: none. */
char *weir_http_header(struct weir_http *ex, const char *name);

/* weir_http_header_at gives the i-th field, in the order sent. Returns false if there is none. */
bool weir_http_header_at(struct weir_http *ex, size_t i, char **ret_name, char **ret_value);

const void *weir_http_data(const struct weir_http *ex);     /* the route's data */

/*
 * weir_http_request is the request underneath, for addresses, weir_user, weir_sleep, weir_offload,
 * weir_connect and weir_set_timeout. Do not read from it or write to it: that would come between
 * what the exchange reads and writes.
 */
struct weir_request *weir_http_request(const struct weir_http *ex);

/*
 * weir_http_read_body reads 1 to len bytes of the request's body as they arrive, its chunks put
 * together. A body that is left unread is skipped after the reply; if it is long, the connection is
 * closed instead.
 *
 * The first call sends "100 Continue" to a peer that waits for it (RFC 9110, 10.1.1), unless a
 * reply has begun, which has answered the peer. That one may send the body nonetheless, or never;
 * then the call ends as any does that waits for a silent peer.
 *
 * Parks. Returns how many bytes it read; 0 at the end of the body. Besides the errors of weir_read:
 * -EFBIG it is longer than body_limit, -EBADMSG it is malformed or cut short.
 */
ssize_t weir_http_read_body(struct weir_http *ex, void *buf, size_t len);

/* ------------------------------------------------------------------ the reply --------- */

/*
 * weir_http_add_header adds a field to the reply that is still to be made, be it by a call below or
 * by the callback's returning a status. The calls below make Date, Connection, Content-Length,
 * Transfer-Encoding and Content-Type themselves.
 * Owns: name and value are copied. Parks: no. Returns 0; -EINVAL it is one of these fields, or
 * holds a character that a field may not have; -EALREADY a reply has begun; -ENOMEM.
 */
int weir_http_add_header(struct weir_http *ex, const char *name, const char *value);

/*
 * weir_http_reply sends the whole reply. type is the Content-Type, NULL for none. The body is left
 * out in the reply to a HEAD request, and with 204, 205 and 304.
 * Owns: what is given is copied or sent. Parks while the buffer is full. Returns 0; -EALREADY a
 * reply has begun; -EINVAL a status outside 200 to 599, or a bad type; or an error of weir_writev.
 */
int weir_http_reply(struct weir_http *ex, int status, const char *type,
                    const void *body, size_t len);

/*
 * weir_http_reply_file does the same with len bytes of a file from offset, by weir_sendfile. The
 * file stays yours. Parks. Returns also the errors of weir_sendfile, and -EIO if the file ends
 * early: the peer, who was promised more, is then cut off.
 */
int weir_http_reply_file(struct weir_http *ex, int status, const char *type,
                         int file_fd, off_t offset, size_t len);

/*
 * weir_http_begin begins a reply whose length is not known. weir_http_write sends its pieces, each
 * as a chunk, and when the callback returns 0 it ends. An HTTP/1.0 peer gets no chunks: the end of
 * the connection ends the reply. If the callback returns a negative errno, an HTTP/1.1 peer sees
 * that the reply is unfinished; to an HTTP/1.0 peer it looks whole. Pieces are gathered in the
 * buffer; weir_flush(weir_http_request(ex)) sends them.
 * Both park while the buffer is full. weir_http_begin returns as weir_http_reply does;
 * weir_http_write 0, -EINVAL no such reply was begun, or an error of weir_writev.
 */
int weir_http_begin(struct weir_http *ex, int status, const char *type);
int weir_http_write(struct weir_http *ex, const void *buf, size_t len);

#ifdef __cplusplus
}
#endif
#endif
