/*
 * http_fake.c - what the HTTP handler asks of its request, out of memory.
 */
#include "tests/http_fake.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* More input, in a new block. Bytes, or the ending. */
static ssize_t arrive(struct weir_request *req)
{
    size_t step = req->arrived < req->first ? req->first : req->step;
    size_t len = req->input_len - req->arrived;
    char *block;

    req->waits++;
    if (len == 0)
        return req->ending;
    if (len > step)
        len = step;
    block = malloc(req->view_len + len);
    assert_non_null(block);
    if (req->view_len > 0)
        memcpy(block, req->view, req->view_len);
    memcpy(block + req->view_len, req->input + req->arrived, len);
    free(req->block);
    req->block = block;
    req->view = block;
    req->view_len += len;
    req->arrived += len;
    return (ssize_t)len;
}

ssize_t weir_peek(struct weir_request *req, char **ret_data, size_t min)
{
    while (req->view_len < min) {
        ssize_t n = arrive(req);

        if (n < 0)
            return n;
        if (n == 0)
            break;
    }
    *ret_data = req->view;
    return (ssize_t)req->view_len;
}

void weir_consume(struct weir_request *req, size_t len)
{
    assert_true(len <= req->view_len);
    req->view += len;
    req->view_len -= len;
}

ssize_t weir_readline(struct weir_request *req, char **ret_line, size_t limit)
{
    const char *lf = NULL;
    size_t len;

    for (;;) {
        ssize_t n;

        len = req->view_len < limit ? req->view_len : limit;
        lf = len > 0 ? memchr(req->view, '\n', len) : NULL;
        if (lf || len == limit)
            break;
        n = arrive(req);
        if (n < 0)
            return n;
        if (n == 0)
            break;
    }
    if (lf)
        len = (size_t)(lf - req->view) + 1;
    *ret_line = req->view;
    weir_consume(req, len);
    return (ssize_t)len;
}

ssize_t weir_read(struct weir_request *req, void *buf, size_t len)
{
    char *data;
    ssize_t n = weir_peek(req, &data, 1);

    if (n <= 0)
        return n;
    if (len > (size_t)n)
        len = (size_t)n;
    memcpy(buf, data, len);
    weir_consume(req, len);
    return (ssize_t)len;
}

ssize_t weir_write(struct weir_request *req, const void *buf, size_t len)
{
    if (req->write_error != 0)
        return req->write_error;
    assert_true(len < sizeof(req->output) - req->output_len);
    memcpy(req->output + req->output_len, buf, len);
    req->output_len += len;
    req->output[req->output_len] = '\0';
    return (ssize_t)len;
}

ssize_t weir_writev(struct weir_request *req, const struct iovec *iov, int iov_len)
{
    ssize_t sum = 0;

    for (int i = 0; i < iov_len; i++) {
        ssize_t n = iov[i].iov_len > 0 ? weir_write(req, iov[i].iov_base, iov[i].iov_len) : 0;

        if (n < 0)
            return n;
        sum += n;
    }
    return sum;
}

int weir_flush(struct weir_request *req)
{
    return req->write_error;
}

ssize_t weir_sendfile(struct weir_request *req, int file_fd, off_t offset, size_t len)
{
    char buf[64];
    ssize_t n = pread(file_fd, buf, len < sizeof(buf) ? len : sizeof(buf), offset);

    assert_true(n >= 0);
    return weir_write(req, buf, (size_t)n);
}

void weir_linger(struct weir_request *req)
{
    req->lingers = true;
}

void weir_end_head(struct weir_request *req)
{
    (void)req;
}

void weir_report(struct weir_request *req, int error, const char *hint)
{
    req->reports++;
    req->reported = error;
    assert_true(strlen(hint) < sizeof(req->hint));
    strcpy(req->hint, hint);
}

const void *weir_handler_data(struct weir_request *req)
{
    return req->handler->data;
}

bool weir_draining(struct weir_request *req)
{
    return req->draining;
}
