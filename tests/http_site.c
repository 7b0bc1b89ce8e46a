/*
 * http_site.c - see the routes.
 */
#include "tests/http_site.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { BODY_MAX = 4096, TEXT_MAX = 64 * 1024 };

static int hello(struct weir_http *ex)
{
    return weir_http_reply(ex, 200, "text/plain", "hello\n", 6);
}

/* Answers a body with the body. */
static int mirror(struct weir_http *ex)
{
    char body[BODY_MAX];
    size_t len = 0;
    ssize_t n;

    while ((n = weir_http_read_body(ex, body + len, sizeof(body) - len)) > 0)
        len += (size_t)n;
    return n < 0 ? (int)n : weir_http_reply(ex, 200, NULL, body, len);
}

/* Tells what was asked. */
static int describe(struct weir_http *ex)
{
    const char *query = weir_http_query(ex), *authority = weir_http_authority(ex);
    char *text = malloc(TEXT_MAX), *name, *value;
    int len, r;

    if (!text)
        return -ENOMEM;
    len = snprintf(text, TEXT_MAX, "method=%s path=%s query=%s authority=%s",
                   weir_http_method(ex), weir_http_path(ex), query ? query : "-",
                   authority ? authority : "-");
    for (size_t i = 0; weir_http_header_at(ex, i, &name, &value); i++)
        len += snprintf(text + len, TEXT_MAX - (size_t)len, " %s=[%s]", name, value);
    r = weir_http_reply(ex, 200, NULL, text, (size_t)len);
    free(text);
    return r;
}

static int reply_status(struct weir_http *ex)
{
    return weir_http_reply(ex, atoi(weir_http_data(ex)), "text/plain", "content\n", 8);
}

static int stream_status(struct weir_http *ex)
{
    int r = weir_http_begin(ex, atoi(weir_http_data(ex)), NULL);

    return r < 0 ? r : weir_http_write(ex, "content\n", 8);
}

static int send_status(struct weir_http *ex)
{
    FILE *file = tmpfile();
    int r = -EIO;

    if (!file)
        return r;
    if (fputs("content\n", file) >= 0 && fflush(file) == 0)
        r = weir_http_reply_file(ex, atoi(weir_http_data(ex)), NULL, fileno(file), 0, 8);
    fclose(file);
    return r;
}

static int break_down(struct weir_http *ex)
{
    (void)ex;
    return -EIO;
}

static const struct weir_http_route routes[] = {
    { "GET", "/", hello, NULL },
    { "POST", "/unread", hello, NULL },
    { NULL, "/mirror", mirror, NULL },
    { NULL, "/describe", describe, NULL },
    { NULL, "/below/*", describe, NULL },
    { "OPTIONS", "*", describe, NULL },
    { "GET", "/reply/204", reply_status, "204" },
    { "GET", "/reply/205", reply_status, "205" },
    { "GET", "/reply/206", reply_status, "206" },
    { "GET", "/reply/304", reply_status, "304" },
    { "GET", "/stream/200", stream_status, "200" },
    { "GET", "/stream/204", stream_status, "204" },
    { "GET", "/stream/205", stream_status, "205" },
    { "GET", "/stream/304", stream_status, "304" },
    { "GET", "/file/200", send_status, "200" },
    { "GET", "/file/205", send_status, "205" },
    { "GET", "/broken", break_down, NULL },
    { "DELETE", "/methods/all", hello, NULL },
    { "HEAD", "/methods/all", hello, NULL },
    { "GET", "/methods/all", hello, NULL },
    { "DELETE", "/methods/*", hello, NULL },
    { "GET", "/methods/*", hello, NULL },
    { "HEAD", "/head", hello, NULL },
    { "GET", "/head", hello, NULL },
    { "REPORT", "/report", hello, NULL },
    { "PORT", "/report", hello, NULL },
};

static const struct weir_http_site site = {
    WEIR_HTTP_ROUTES(routes), .body_limit = BODY_MAX };

const struct weir_handler http_site_handler = WEIR_HTTP_HANDLER("site", &site);
