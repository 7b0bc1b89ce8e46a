#include "tests/simulation/http_language.h"

#include <stdio.h>
#include <string.h>

/* More of an unread body than that costs the connection: see handlers/http/body.c. */
#define SKIP_MAX (64 << 10)

enum body {
    BODY_NONE, BODY_LENGTH, BODY_CHUNKED,
};

/* How a phrase is said. */
struct shape {
    const char *method, *path, *fields;
    char version;
    enum body body;
};

/* What is no request, what stands in the place of its head, and what is answered. */
static const struct {
    const char *head;
    int status;
} bad[] = {
    { "GET /do/e000000a HTTP/1.1\r\n\r\n", 400 },
    { "GET /do/e000000a HTTP/2.0\r\nHost: a\r\n\r\n", 505 },
    { "GET /do/e000000\001 HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
    { "POST /rd/r000001a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
      400 },
    { "POST /rd/r000001a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501 },
    { "GET /do/e000000a HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417 },
    { "POST /rd/r000001a HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 413 },
    { "POST /rd/k000001a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400 },
    { "GET /do/e000000a HTTP/1.1\nHost: a\r\n\r\n", 400 },
    { "POST /rd/k000001a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
      "1\r\n\001bc\r\n", 400 },
};

#define BAD_LEN (sizeof(bad) / sizeof(bad[0]))

static size_t bad_kind(const struct phrase *phrase)
{
    return phrase->salt % BAD_LEN;
}

static struct shape shape_of(const struct phrase *phrase)
{
    struct shape shape = { "GET", "/do/", "", '1', BODY_NONE };

    switch (phrase->what) {
    case SAY_HEAD:
        shape.method = "HEAD";
        break;
    case SAY_ENDED:
        shape.fields = "Connection: close\r\n";
        break;
    case SAY_OLD:
        shape.version = '0';
        shape.fields = "Connection: Keep-Alive\r\n";
        break;
    case SAY_OLD_STREAM:
        shape.version = '0';
        break;
    case SAY_NOWHERE:
        shape.path = "/no/";
        break;
    case SAY_DELETE:
        shape.method = "DELETE";
        break;
    case SAY_PEEK:
        shape = (struct shape){ "POST", "/rd/", "", '1', BODY_CHUNKED };
        break;
    case SAY_RAW:
        shape = (struct shape){ "POST", "/rd/", "", '1', BODY_LENGTH };
        break;
    case SAY_UNREAD:
        shape = (struct shape){ "POST", "/un/", "", '1', BODY_LENGTH };
        break;
    case SAY_EXPECT:
        shape = (struct shape){ "POST", "/rd/", "Expect: 100-continue\r\n", '1', BODY_LENGTH };
        break;
    case SAY_REFUSED:
        shape = (struct shape){ "POST", "/un/", "Expect: 100-continue\r\n", '1', BODY_LENGTH };
        break;
    }
    return shape;
}

/* ------------------------------------------------------------------ chunks ------------ */

/* A body of len bytes in chunks of so many each, whose sizes have so many digits at least. */
struct chunks {
    size_t len, each;
    size_t digits;
    const char *end;            /* the last chunk's lines */
};

static size_t digits_of(const struct chunks *chunks, size_t size)
{
    size_t digits = 1;

    while (size >>= 4)
        digits++;
    return digits > chunks->digits ? digits : chunks->digits;
}

/* With its line, and the end behind it. */
static size_t framed_len(const struct chunks *chunks, size_t size)
{
    return digits_of(chunks, size) + 2 + size + 2;
}

static size_t chunks_len(const struct chunks *chunks)
{
    size_t rest = chunks->len % chunks->each;

    return chunks->len / chunks->each * framed_len(chunks, chunks->each) +
           (rest > 0 ? framed_len(chunks, rest) : 0) + strlen(chunks->end);
}

/* The i-th byte of what frames the data; or -1: it is the data's, at *ret_at. */
static int framing_byte(const struct chunks *chunks, size_t i, size_t *ret_at)
{
    size_t unit = framed_len(chunks, chunks->each), whole = chunks->len / chunks->each;
    size_t k = i / unit < whole ? i / unit : whole, at = i - k * unit;
    size_t size = k < whole ? chunks->each : chunks->len % chunks->each;
    size_t digits = digits_of(chunks, size);

    if (size == 0)
        return chunks->end[at];
    if (at >= framed_len(chunks, size))
        return chunks->end[at - framed_len(chunks, size)];
    if (at < digits)
        return "0123456789abcdef"[size >> 4 * (digits - 1 - at) & 15];
    if (at < digits + 2)
        return "\r\n"[at - digits];
    if (at >= digits + 2 + size)
        return "\r\n"[at - digits - 2 - size];
    *ret_at = k * chunks->each + at - digits - 2;
    return -1;
}

/* ------------------------------------------------------------------ requests ---------- */

static struct chunks request_chunks(const struct phrase *phrase)
{
    return (struct chunks){ phrase->number, 16 + phrase->salt % 200, 4, "0;a=b\r\nT: u\r\n\r\n" };
}

static size_t put_body_field(const struct phrase *phrase, enum body body, char *ret)
{
    if (body == BODY_CHUNKED)
        return (size_t)sprintf(ret, "Transfer-Encoding: chunked\r\n");
    return body == BODY_LENGTH ? (size_t)sprintf(ret, "Content-Length: %u\r\n", phrase->number)
                               : 0;
}

static size_t render_head(const struct phrase *phrase, char *ret)
{
    struct shape shape = shape_of(phrase);
    size_t len;

    if (phrase->what == SAY_BAD) {
        strcpy(ret, bad[bad_kind(phrase)].head);
        return strlen(ret);
    }
    len = (size_t)sprintf(ret, "%s %s%c%06u", shape.method, shape.path, phrase->what,
                          phrase->number);
    for (size_t i = 0; i < phrase->text_len; i++)
        ret[len++] = (char)language_text_byte(phrase, i);
    len += (size_t)sprintf(ret + len, " HTTP/1.%c\r\nHost: a.example\r\n%s", shape.version,
                           shape.fields);
    len += put_body_field(phrase, shape.body, ret + len);
    return len + (size_t)sprintf(ret + len, "\r\n");
}

/* The head that was asked for last: to make it anew for each byte would take long. */
static struct {
    struct phrase phrase;
    char text[HTTP_HEAD_ROOM];
    size_t len;
} recent;

static void recall(const struct phrase *phrase)
{
    const struct phrase *last = &recent.phrase;

    if (recent.len > 0 && last->what == phrase->what && last->number == phrase->number &&
        last->salt == phrase->salt && last->text_len == phrase->text_len)
        return;
    recent.phrase = *phrase;
    recent.len = render_head(phrase, recent.text);
}

size_t http_request_len(const struct phrase *phrase)
{
    struct chunks chunks = request_chunks(phrase);
    enum body body = shape_of(phrase).body;

    recall(phrase);
    if (body == BODY_CHUNKED)
        return recent.len + chunks_len(&chunks);
    return recent.len + (body == BODY_LENGTH ? phrase->number : 0);
}

unsigned char http_request_byte(const struct phrase *phrase, size_t i)
{
    struct chunks chunks = request_chunks(phrase);
    int framing;

    recall(phrase);
    if (i < recent.len)
        return (unsigned char)recent.text[i];
    i -= recent.len;
    if (shape_of(phrase).body == BODY_LENGTH)
        return http_body_byte(phrase->number, i);
    framing = framing_byte(&chunks, i, &i);
    return framing >= 0 ? (unsigned char)framing : http_body_byte(phrase->number, i);
}

unsigned char http_body_byte(uint32_t number, size_t i)
{
    return (unsigned char)(number + 7 * i);
}

size_t http_request_pause(const struct phrase *phrase)
{
    bool expects = phrase->what == SAY_EXPECT || phrase->what == SAY_REFUSED;

    if (!expects || phrase->salt % 2 == 0)
        return SIZE_MAX;
    recall(phrase);
    return recent.len;
}

/* ------------------------------------------------------------------ replies ----------- */

static bool is_streamed(const struct phrase *phrase)
{
    return phrase->what == SAY_PARTS || phrase->what == SAY_OLD_STREAM;
}

static struct chunks reply_chunks(const struct phrase *phrase)
{
    return (struct chunks){ phrase->number, HTTP_PIECE, 1, "0\r\n\r\n" };
}

int http_reply_status(const struct phrase *phrase)
{
    if (phrase->what == SAY_BAD)
        return bad[bad_kind(phrase)].status;
    if (phrase->what == SAY_NOWHERE)
        return 404;
    return phrase->what == SAY_DELETE ? 405 : 200;
}

bool http_reply_ends(const struct phrase *phrase)
{
    return phrase->what == SAY_BAD || phrase->what == SAY_ENDED ||
           phrase->what == SAY_OLD_STREAM || phrase->what == SAY_REFUSED ||
           (phrase->what == SAY_UNREAD && phrase->number > SKIP_MAX);
}

/* Of the whole representation, which a reply to HEAD leaves out. */
static size_t content_len(const struct phrase *phrase)
{
    switch (phrase->what) {
    case SAY_BIG:
    case SAY_FILE:
    case SAY_PARTS:
    case SAY_OLD_STREAM:
        return phrase->number;
    default:
        return LANGUAGE_HEAD + phrase->text_len;
    }
}

size_t http_reply_body_len(const struct phrase *phrase)
{
    struct chunks chunks = reply_chunks(phrase);

    if (http_reply_status(phrase) != 200)
        return strlen(http_page(http_reply_status(phrase)));
    if (phrase->what == SAY_HEAD)
        return 0;
    return phrase->what == SAY_PARTS ? chunks_len(&chunks) : content_len(phrase);
}

unsigned char http_reply_body_byte(const struct phrase *phrase, size_t i)
{
    struct chunks chunks = reply_chunks(phrase);
    int framing = -1;

    if (http_reply_status(phrase) != 200)
        return (unsigned char)http_page(http_reply_status(phrase))[i];
    if (phrase->what == SAY_PARTS)
        framing = framing_byte(&chunks, i, &i);
    if (framing >= 0)
        return (unsigned char)framing;
    if (is_streamed(phrase) || phrase->what == SAY_BIG || phrase->what == SAY_FILE)
        return language_big_byte(language_text_byte(phrase, 0), i);
    return phrase_request_byte(phrase, i);
}

size_t http_page_head(int status, const struct http_reply_told *told, const char *more, char *ret)
{
    char *end = ret;

    end += sprintf(end, "HTTP/1.1 %.*s\r\nDate: %s\r\n", (int)strlen(http_page(status)) - 1,
                   http_page(status), told->date);
    if (told->closes)
        end += sprintf(end, "Connection: close\r\n");
    end += sprintf(end, "Content-Length: %zu\r\nContent-Type: text/plain\r\n%s\r\n",
                   strlen(http_page(status)), more);
    return (size_t)(end - ret);
}

size_t http_reply_head(const struct phrase *phrase, const struct http_reply_told *told, char *ret)
{
    int status = http_reply_status(phrase);
    char *end = ret;

    if (status != 200)
        return http_page_head(status, told, status == 405 ? "Allow: GET, HEAD\r\n" : "", ret);
    end += sprintf(end, "HTTP/1.1 200 OK\r\nDate: %s\r\n", told->date);
    if (told->closes)
        end += sprintf(end, "Connection: close\r\n");
    else if (phrase->what == SAY_OLD)
        end += sprintf(end, "Connection: keep-alive\r\n");
    if (phrase->what == SAY_PARTS)
        end += sprintf(end, "Transfer-Encoding: chunked\r\n");
    else if (!is_streamed(phrase))
        end += sprintf(end, "Content-Length: %zu\r\n", content_len(phrase));
    end += sprintf(end, "Content-Type: text/x-sim\r\nX-What: %c\r\n\r\n", phrase->what);
    return (size_t)(end - ret);
}

const char *http_page(int status)
{
    static const struct {
        int status;
        const char *text;
    } pages[] = {
        { 400, "400 Bad Request\n" }, { 404, "404 Not Found\n" },
        { 405, "405 Method Not Allowed\n" }, { 408, "408 Request Timeout\n" },
        { 413, "413 Content Too Large\n" }, { 417, "417 Expectation Failed\n" },
        { 500, "500 Internal Server Error\n" }, { 501, "501 Not Implemented\n" },
        { 505, "505 HTTP Version Not Supported\n" },
    };

    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
        if (pages[i].status == status)
            return pages[i].text;
    return NULL;
}
