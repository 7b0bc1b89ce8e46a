#include "tests/simulation/http_handler.h"

#include "handlers/http/http.h"
#include "tests/simulation/conversation.h"
#include "tests/simulation/handler.h"
#include "tests/simulation/http_language.h"
#include "tests/simulation/oracle.h"
#include "tests/simulation/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TYPE "text/x-sim"

/* What the path says behind "/do/". */
struct order {
    char what;
    uint32_t number;
    const char *text;           /* the letter, the digits, and the text itself */
};

static struct order order_of(struct weir_http *ex)
{
    const char *text = weir_http_path(ex) + strlen("/do/");

    if (strlen(text) <= LANGUAGE_HEAD)
        report_failure("a path that is too short: %s", text);
    return (struct order){ text[0], handler_number_in(text), text };
}

/* ------------------------------------------------------------------ replies ----------- */

static int reply_text(struct weir_http *ex, const struct order *order)
{
    return weir_http_reply(ex, 200, TYPE, order->text, strlen(order->text));
}

static void fill(char *buf, const struct order *order, size_t at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        buf[i] = (char)language_big_byte((unsigned char)order->text[LANGUAGE_HEAD], at + i);
}

static int reply_big(struct weir_http *ex, const struct order *order)
{
    char *content = malloc(order->number + 1);
    int r;

    if (!content)
        return -ENOMEM;
    fill(content, order, 0, order->number);
    r = weir_http_reply(ex, 200, TYPE, content, order->number);
    free(content);
    return r;
}

static int reply_in_pieces(struct weir_http *ex, const struct order *order)
{
    int r = weir_http_begin(ex, 200, TYPE);
    char piece[HTTP_PIECE];

    for (size_t at = 0; r == 0 && at < order->number; at += sizeof(piece)) {
        size_t len = order->number - at < sizeof(piece) ? order->number - at : sizeof(piece);

        fill(piece, order, at, len);
        r = weir_http_write(ex, piece, len);
    }
    return r;
}

/* ------------------------------------------------------------------ callbacks --------- */

static int begin(struct weir_http *ex, struct order *ret)
{
    char what[2] = "";

    *ret = order_of(ex);
    what[0] = ret->what;
    return weir_http_add_header(ex, "X-What", what);
}

static int do_call(struct weir_http *ex)
{
    struct order order;
    int r = begin(ex, &order);

    if (r < 0)
        return r;
    r = handler_do(weir_http_request(ex), order.what, order.number);
    handler_talk(weir_http_request(ex))->phase = PHASE_EITHER;
    if (r < 0)
        return r;
    if (order.what == SAY_BIG)
        return reply_big(ex, &order);
    if (order.what == SAY_FILE)
        return weir_http_reply_file(ex, 200, TYPE, handler_file,
                                    (unsigned char)order.text[LANGUAGE_HEAD], order.number);
    if (order.what == SAY_PARTS || order.what == SAY_OLD_STREAM)
        return reply_in_pieces(ex, &order);
    return reply_text(ex, &order);
}

/* Each byte of the body is known. */
static int read_call(struct weir_http *ex)
{
    unsigned char piece[200];
    struct order order;
    int r = begin(ex, &order);
    size_t len = 0;
    ssize_t n;

    if (r < 0)
        return r;
    while ((n = weir_http_read_body(ex, piece, sizeof(piece))) > 0)
        for (ssize_t i = 0; i < n; i++, len++)
            if (piece[i] != http_body_byte(order.number, len))
                report_failure("byte %zu of a body is %d", len, piece[i]);
    if (n < 0)
        return (int)n;
    if (len != order.number)
        report_failure("a body of %u bytes has %zu", order.number, len);
    return reply_text(ex, &order);
}

static int leave_unread_call(struct weir_http *ex)
{
    struct order order;
    int r = begin(ex, &order);

    return r < 0 ? r : reply_text(ex, &order);
}

static const struct weir_http_route routes[] = {
    { .method = "GET", .path = "/do/*", .call = do_call },
    { .method = "POST", .path = "/rd/*", .call = read_call },
    { .method = "POST", .path = "/un/*", .call = leave_unread_call },
};

static const struct weir_http_site site = { WEIR_HTTP_ROUTES(routes) };

/* ------------------------------------------------------------------ the handler ------- */

static int serve(struct weir_request *req)
{
    struct conversation *talk = handler_talk(req);
    bool drains = oracle_drain_is_seen();
    int r = weir_http_handle(req);

    talk->was_told_to_end = r == 0;
    if (drains && r == WEIR_KEEP)
        report_failure("conversation %u: a server that drains has answered, and not said that the "
                       "connection ends", talk->number);
    return r;
}

static int handle(struct weir_request *req)
{
    return handler_serve_one(req, PHASE_EITHER, serve);
}

struct weir_handler handler_http = {
    .name = "http", .setup = handler_set_up, .handle = handle, .finish = handler_finish,
    .check = weir_http_check, .data = &site, .client_first = true,
    .goodbye = WEIR_HTTP_GOODBYE, .goodbye_len = sizeof(WEIR_HTTP_GOODBYE) - 1,
};
