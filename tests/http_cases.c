/*
 * http_cases.c - reads tables, and judges replies.
 */
#include "tests/http_cases.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TABLE_LINE_MAX = 8192, BYTES_MAX = 256 * 1024 };

const char http_cases_last[] = "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/* ------------------------------------------------------------------ tables ------------ */

static struct {
    char **names;
    int left;
    FILE *file;
    int line;
    char bytes[BYTES_MAX];
} tables;

void http_cases_open(int tables_len, char **names)
{
    tables.names = names;
    tables.left = tables_len;
    tables.file = NULL;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* A line that is neither empty nor a comment, without its end. */
static bool next_line(char *line)
{
    for (;;) {
        if (!tables.file) {
            if (tables.left-- == 0)
                return false;
            tables.file = fopen(*tables.names, "r");
            tables.line = 0;
            if (!tables.file)
                fail_msg("%s: cannot be read", *tables.names);
        }
        while (fgets(line, TABLE_LINE_MAX, tables.file)) {
            tables.line++;
            line[strcspn(line, "\n")] = '\0';
            if (line[0] != '\0' && line[0] != '#')
                return true;
        }
        fclose(tables.file);
        tables.file = NULL;
        tables.names++;
    }
}

static char unescaped(const char **at)
{
    static const char names[] = "trn0\\", bytes[] = "\t\r\n\0\\";
    const char *name;
    char digits[3] = "";

    if (**at == 'x') {
        memcpy(digits, *at + 1, 2);
        *at += 3;
        return (char)strtol(digits, NULL, 16);
    }
    name = strchr(names, **at);
    assert_non_null(name);
    (*at)++;
    return bytes[name - names];
}

static size_t put_bytes(struct http_case *c, size_t len, const char *at, const char *end);

/* What "<...>" stands for. Returns the new length. */
static size_t put_token(struct http_case *c, size_t len, const char *at, const char *end)
{
    static const char host[] = "Host: x\r\n", chunked[] = "Transfer-Encoding: chunked\r\n";
    const char *star = memrchr(at, '*', (size_t)(end - at));
    const char *text = "\r\n";

    if (star && strspn(star + 1, "0123456789") == (size_t)(end - star - 1)) {
        for (int n = atoi(star + 1); n > 0; n--)
            len = put_bytes(c, len, at, star);
        return len;
    }
    if (*at == '!') {
        c->told = len;
        return len;
    }
    if (*at == 'H')
        text = host;
    else if (*at == 'C')
        text = chunked;
    else
        assert_true(at == end);
    memcpy(tables.bytes + len, text, strlen(text));
    return len + strlen(text);
}

/* Where the token that begins at `at` ends: there may be others in it. */
static const char *token_end(const char *at, const char *end)
{
    for (int depth = 0; at < end; at++) {
        depth += (*at == '<') - (*at == '>');
        if (depth == 0)
            return at;
    }
    fail_msg("a '<' that has no end");
    return NULL;
}

static size_t put_bytes(struct http_case *c, size_t len, const char *at, const char *end)
{
    while (at < end) {
        assert_true(len < BYTES_MAX - 64);
        if (*at == '\\') {
            at++;
            tables.bytes[len++] = unescaped(&at);
        } else if (*at == '<') {
            const char *close = token_end(at, end);

            len = put_token(c, len, at + 1, close);
            at = close + 1;
        } else {
            tables.bytes[len++] = *at++;
        }
    }
    return len;
}

bool http_cases_next(struct http_case *ret)
{
    char line[TABLE_LINE_MAX], *at, *word, *bytes;

    if (!next_line(line))
        return false;
    memset(ret, 0, sizeof(*ret));
    snprintf(ret->place, sizeof(ret->place), "%.48s:%d", base_name(*tables.names), tables.line);
    bytes = strstr(line, " : ");
    if (!bytes)
        fail_msg("%s: no ' : ' in it", ret->place);
    *bytes = '\0';
    bytes += 3;
    at = strchr(line, '"');
    if (at) {
        *at++ = '\0';
        snprintf(ret->text, sizeof(ret->text), "%.*s", (int)strcspn(at, "\""), at);
    }
    word = strtok(line, " ");
    snprintf(ret->statuses, sizeof(ret->statuses), "%s", strcmp(word, "-") == 0 ? "" : word);
    while ((word = strtok(NULL, " "))) {
        ret->keep = ret->keep || strcmp(word, "keep") == 0;
        ret->ends = ret->ends || strcmp(word, "end") == 0;
        ret->in_one_piece = ret->in_one_piece || strcmp(word, "whole") == 0;
        if (!strstr("keep close end whole", word))
            fail_msg("%s: '%s' means nothing", ret->place, word);
    }
    ret->len = put_bytes(ret, 0, bytes, bytes + strlen(bytes));
    ret->bytes = tables.bytes;
    return true;
}

/* ------------------------------------------------------------------ replies ----------- */

struct reader {
    const struct http_case *c;
    const char *how;
    const char *at;
    const char *end;
};

static bool holds(const struct reader *r, bool condition, const char *what)
{
    if (!condition)
        print_error("%s (%s): %s at '%.60s'\n", r->c->place, r->how, what, r->at);
    return condition;
}

static const char *field_of(const char *head, const char *head_end, const char *name)
{
    const char *field = strstr(head, name);

    return field && field < head_end ? field + strlen(name) : NULL;
}

static bool skip_chunks(struct reader *r)
{
    unsigned long size;
    char *line_end;

    do {
        size = strtoul(r->at, &line_end, 16);
        if (!holds(r, line_end > r->at && memcmp(line_end, "\r\n", 2) == 0, "no chunk's size"))
            return false;
        r->at = line_end + 2 + size;
        if (!holds(r, r->at + 2 <= r->end && memcmp(r->at, "\r\n", 2) == 0, "no chunk's end"))
            return false;
        r->at += 2;
    } while (size > 0);
    return true;
}

/* Takes a reply. Its status, or -1 if it is none. */
static int take_reply(struct reader *r, bool to_head)
{
    const char *head = r->at, *head_end = strstr(head, "\r\n\r\n"), *length, *chunked;
    int status;

    if (!holds(r, head_end && memcmp(head, "HTTP/1.1 ", 9) == 0, "no reply"))
        return -1;
    status = atoi(head + 9);
    length = field_of(head, head_end, "\r\nContent-Length: ");
    chunked = field_of(head, head_end, "\r\nTransfer-Encoding: chunked");
    if (!holds(r, !length || !chunked, "both a length and chunks") ||
            !holds(r, status >= 200 || (!length && !chunked), "an interim reply with a body") ||
            !holds(r, status < 200 || field_of(head, head_end, "\r\nDate: "), "no Date") ||
            !holds(r, status != 204 || (!length && !chunked), "204 with a body") ||
            !holds(r, status != 205 || (length && *length == '0'), "205 with content") ||
            !holds(r, status != 405 || field_of(head, head_end, "\r\nAllow: "), "no Allow"))
        return -1;
    r->at = head_end + 4;
    if (status < 200 || status == 204 || status == 304 || to_head)
        return status;
    if (chunked)
        return skip_chunks(r) ? status : -1;
    r->at = length ? r->at + strtoul(length, NULL, 10) : r->end;
    return holds(r, r->at <= r->end, "a reply cut short") ? status : -1;
}

/* Whether the i-th request of the case is HEAD, as far as one who looks for lines can tell. */
static bool is_head(const struct http_case *c, int i)
{
    const char *at = c->bytes;

    if (i > 0)
        return false;
    return strncmp(at, "HEAD ", 5) == 0 || strncmp(at, "\r\nHEAD ", 7) == 0;
}

bool http_cases_judge(const struct http_case *c, const char *how, bool with_last,
                      const char *replies, size_t len)
{
    struct reader reader = { .c = c, .how = how, .at = replies, .end = replies + len };
    char got[sizeof(c->statuses) + 8] = "", want[sizeof(c->statuses) + 8];
    char *end = got;
    int finals = 0;

    while (reader.at < reader.end && end - got < (int)sizeof(got) - 8) {
        int status = take_reply(&reader, is_head(c, finals));

        if (status < 0)
            return false;
        finals += status >= 200;
        end += sprintf(end, "%s%d", end > got ? "," : "", status);
    }
    snprintf(want, sizeof(want), "%s%s", c->statuses, c->keep && with_last ? ",404" : "");
    if (strcmp(got, want) != 0) {
        print_error("%s (%s): got '%s', wanted '%s'\n", c->place, how, got, want);
        return false;
    }
    if (c->text[0] != '\0' && !memmem(replies, len, c->text, strlen(c->text))) {
        print_error("%s (%s): no '%s' in\n%s\n", c->place, how, c->text, replies);
        return false;
    }
    return true;
}
