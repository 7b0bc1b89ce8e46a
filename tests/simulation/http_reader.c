#include "tests/simulation/http_reader.h"

#include "handlers/http/http.h"
#include "tests/simulation/calls.h"
#include "tests/simulation/report.h"

#include <stdio.h>
#include <string.h>

#define DATE "%a, %d %b %Y %H:%M:%S GMT"

void http_reader_begin(struct http_reader *reader, unsigned conversation)
{
    *reader = (struct http_reader){ .conversation = conversation, .least_s = calls_time() };
}

static _Noreturn void fail(const struct http_reader *reader, const struct phrase *phrase,
                           const char *what)
{
    report_failure("conversation %u, to '%c' (%u, %u): %s: %s", reader->conversation,
                   phrase ? phrase->what : '-', phrase ? phrase->number : 0,
                   phrase ? phrase->salt : 0, what, reader->head);
}

/* ------------------------------------------------------------------ a head ------------ */

static bool ends_head(const struct http_reader *reader)
{
    return reader->head_len >= 4 &&
           memcmp(reader->head + reader->head_len - 4, "\r\n\r\n", 4) == 0;
}

static bool is_head(const struct http_reader *reader, const char *text, size_t len)
{
    return reader->head_len == len && memcmp(reader->head, text, len) == 0;
}

/* A moment between the one of the reply before and now, in the one form that there is. */
static void read_date(struct http_reader *reader, const struct phrase *phrase,
                      struct http_reply_told *told)
{
    const char *date = strstr(reader->head, "\r\nDate: ");
    struct tm time = { 0 };
    time_t second;

    if (!date || !strptime(date + 8, DATE, &time))
        fail(reader, phrase, "there is no date");
    second = timegm(&time);
    if (second < reader->least_s || second > calls_time())
        fail(reader, phrase, "the date is not now");
    reader->least_s = second;
    strftime(told->date, sizeof(told->date), DATE, gmtime_r(&second, &time));
}

/* A page of the server's own, behind which the connection ends. */
static bool is_licensed_page(const struct http_licence *licence, int status)
{
    return (status == 408 && licence->may_time_out) ||
           (status == 500 && licence->may_fail);
}

static int status_in(const struct http_reader *reader, const struct phrase *phrase)
{
    int status = 0;

    if (sscanf(reader->head, "HTTP/1.1 %3d", &status) != 1)
        fail(reader, phrase, "this is no reply");
    return status;
}

static void check_page(struct http_reader *reader, const struct phrase *phrase, int status)
{
    struct http_reply_told told = { .closes = true };
    char wanted[HTTP_HEAD_ROOM];

    read_date(reader, phrase, &told);
    if (!is_head(reader, wanted, http_page_head(status, &told, "", wanted)))
        fail(reader, phrase, "the page's head is another one");
    reader->page = status;
    reader->late_page = phrase->what == SAY_HEAD ? status : 0;
    reader->said_end = true;
}

static void check_head(struct http_reader *reader, const struct phrase *phrase,
                       const struct http_licence *licence)
{
    struct http_reply_told told;
    char wanted[HTTP_HEAD_ROOM];

    read_date(reader, phrase, &told);
    told.closes = strstr(reader->head, "\r\nConnection: close\r\n") != NULL;
    if (told.closes != http_reply_ends(phrase) && !(told.closes && licence->may_close))
        fail(reader, phrase, "the end is told wrongly");
    if (!is_head(reader, wanted, http_reply_head(phrase, &told, wanted)))
        fail(reader, phrase, "the reply's head is another one");
    reader->said_end = told.closes;
}

/* Between a head and its body there is nothing to wait for, so an invitation is a head alone. */
static void check_invitation(struct http_reader *reader, const struct phrase *phrase)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";

    if (!is_head(reader, text, sizeof(text) - 1))
        fail(reader, phrase, "the invitation is another one");
    if (phrase->what != SAY_EXPECT || reader->invited)
        fail(reader, phrase, "nobody waits to be invited");
    reader->invited = true;
    reader->head_len = 0;
}

static bool is_goodbye(const struct http_reader *reader)
{
    return is_head(reader, WEIR_HTTP_GOODBYE, sizeof(WEIR_HTTP_GOODBYE) - 1);
}

/* Returns true if the head is a whole reply. */
static bool take_head(struct http_reader *reader, const struct phrase *phrase,
                      const struct http_licence *licence)
{
    int status = status_in(reader, phrase);

    if (licence->may_refuse && is_goodbye(reader)) {
        reader->said_end = true;
        return true;
    }
    if (!phrase)
        fail(reader, phrase, "nobody has asked for");
    if (status == 100) {
        check_invitation(reader, phrase);
        return false;
    }
    if (status != http_reply_status(phrase) && is_licensed_page(licence, status))
        check_page(reader, phrase, status);
    else
        check_head(reader, phrase, licence);
    reader->in_body = true;
    reader->body_at = 0;
    return false;
}

/* ------------------------------------------------------------------ a byte ------------ */

/* A reply to HEAD has none, be it a page. */
static size_t body_len(const struct http_reader *reader, const struct phrase *phrase)
{
    if (reader->page == 0)
        return http_reply_body_len(phrase);
    return phrase->what == SAY_HEAD ? 0 : strlen(http_page(reader->page));
}

static void check_body_byte(struct http_reader *reader, const struct phrase *phrase,
                            unsigned char byte)
{
    size_t at = reader->body_at++;
    unsigned char wanted = reader->page ? (unsigned char)http_page(reader->page)[at]
                                        : http_reply_body_byte(phrase, at);

    if (byte != wanted)
        report_failure("conversation %u: byte %zu of the body of the reply to '%c' is %d, and not "
                       "%d", reader->conversation, at, phrase->what, byte, wanted);
}

/* Returns true if the byte is of the page's text. */
static bool takes_late_page(struct http_reader *reader, const struct phrase *phrase,
                            unsigned char byte)
{
    const char *text = http_page(reader->late_page);

    if (reader->body_at == strlen(text))
        return false;
    if (byte != (unsigned char)text[reader->body_at++])
        fail(reader, phrase, "the page's text is another one");
    return true;
}

bool http_reader_take(struct http_reader *reader, const struct phrase *phrase,
                      const struct http_licence *licence, unsigned char byte)
{
    bool whole = false;

    /* Of a HEAD so little may have come that the server could not know it for one. */
    if (reader->late_page != 0 && !reader->in_body && takes_late_page(reader, phrase, byte))
        return false;
    if (reader->in_body) {
        check_body_byte(reader, phrase, byte);
    } else {
        if (reader->said_end)
            fail(reader, phrase, "something comes behind a reply that was said to be the last");
        if (reader->head_len == sizeof(reader->head) - 1)
            fail(reader, phrase, "a head without an end");
        reader->head[reader->head_len++] = (char)byte;
        reader->head[reader->head_len] = '\0';
        whole = ends_head(reader) && take_head(reader, phrase, licence);
    }
    if (reader->in_body)
        whole = reader->body_at == body_len(reader, phrase);
    if (!whole)
        return false;
    reader->in_body = reader->invited = false;
    reader->head_len = 0;
    return true;
}
