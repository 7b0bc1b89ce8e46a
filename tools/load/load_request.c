/*
 * load_request.c - see load_request.h.
 */
#include "tools/load/load_request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tools/load/load_line.h"

enum { SEND_SIZE = 64 * 1024 };         /* of requests that one send takes */

bool load_headers_have(const char *headers, const char *name)
{
    size_t len = strlen(name);

    for (const char *line = headers; *line; line = strchr(line, '\n') + 1)
        if (strncasecmp(line, name, len) == 0 && line[len] == ':')
            return true;
    return false;
}

/* Makes the line of a Host that the options have not. */
static void make_host(const struct lane *lane, char *line, size_t size)
{
    char host[64] = "localhost";

    line[0] = '\0';
    if (load_headers_have(lane->options->headers, "Host"))
        return;
    if (lane->address->kind == ADDRESS_IP)
        address_text(&lane->address->sa, lane->address->len, host, sizeof(host));
    snprintf(line, size, "Host: %s\r\n", host);
}

static int http_request(const struct lane *lane, const char *connection, char **ret_text)
{
    const struct load_options *options = lane->options;
    char host[80];
    int len;

    make_host(lane, host, sizeof(host));
    len = asprintf(ret_text, "GET %s HTTP/1.1\r\n%s%s%s\r\n", options->path, host,
                   options->headers, connection);
    return len < 0 ? -ENOMEM : len;
}

static int prepare_http(struct requests *requests, const struct lane *lane, char **ret_request)
{
    int len = http_request(lane, "", ret_request);
    int last_len = http_request(lane, "Connection: close\r\n", &requests->last);

    if (len < 0 || last_len < 0)
        return -ENOMEM;
    requests->len = (size_t)len;
    requests->last_len = (size_t)last_len;
    return 0;
}

static int prepare_line(struct requests *requests, const struct lane *lane, char **ret_line)
{
    requests->len = line_len(lane);
    *ret_line = malloc(requests->len);
    if (!*ret_line)
        return -ENOMEM;
    line_init(*ret_line, requests->len);
    return 0;
}

/* As many requests in a row as may have to be written at once. */
static int copy_request(struct requests *requests, const char *request, uint32_t in_flight)
{
    size_t fit = SEND_SIZE / requests->len;

    requests->copies = (uint32_t)(fit < 1 ? 1 : fit);
    if (requests->copies > in_flight)
        requests->copies = in_flight;
    requests->text = malloc(requests->copies * requests->len);
    if (!requests->text)
        return -ENOMEM;
    for (uint32_t i = 0; i < requests->copies; i++)
        memcpy(requests->text + i * requests->len, request, requests->len);
    return 0;
}

int requests_init(struct requests *requests, const struct lane *lane)
{
    char *request = NULL;
    int r;

    *requests = (struct requests){ .mode = lane->options->mode };
    r = requests->mode == LOAD_HTTP ? prepare_http(requests, lane, &request)
                                    : prepare_line(requests, lane, &request);
    if (r == 0)
        r = copy_request(requests, request, lane->options->in_flight);
    free(request);
    return r;
}

void requests_fini(struct requests *requests)
{
    free(requests->text);
    free(requests->last);
}

const char *requests_text(struct requests *requests, uint32_t number, uint32_t count,
                          uint32_t before_last, size_t *ret_len)
{
    if (count > requests->copies)
        count = requests->copies;
    if (requests->mode != LOAD_HTTP) {
        for (uint32_t i = 0; i < count; i++)
            line_stamp(requests->text + i * requests->len, number + i);
    } else if (before_last == 0) {
        *ret_len = requests->last_len;
        return requests->last;
    } else if (count > before_last) {
        count = before_last;
    }
    *ret_len = count * requests->len;
    return requests->text;
}

size_t request_len(const struct requests *requests, uint32_t before_last)
{
    return requests->mode == LOAD_HTTP && before_last == 0 ? requests->last_len : requests->len;
}
