/*
 * http_talk.c - see http_talk.h.
 *
 * What must hold, whatever a client sends:
 *   - each call of the handler ends without an error, and writes one reply, behind a "100
 *     Continue" at most; the library reads it as it is meant, and its length is right. Nothing is
 *     written for nothing.
 *   - what a callback is told of is terminated, and printable where it must be.
 *   - where the next request begins is where the library says, and so is the body. Else two
 *     programs on one connection disagree, which is how a request is smuggled past the first of
 *     them.
 *   - all of this is the same however the bytes arrive.
 *
 * What the library refuses, and the handler takes, is listed in framing.c. There is no danger in
 * it: who refuses a request forwards nothing of it.
 */
#include "tests/fuzz/http_talk.h"

#include "tests/fuzz/framing.h"
#include "tests/fuzz/input.h"
#include "tests/http_fake.h"

#include <errno.h>

#include "handlers/http/http.h"

enum { TURNS_MAX = HTTP_TALK_MAX };       /* each takes a byte at least */

/* ------------------------------------------------------------------ what is heard ----- */

/* A call of the handler. */
struct turn {
    size_t begin, end;          /* of the bytes, those that it took */
    bool kept;
    bool called;                /* a callback was, and ... */
    bool to_head;
    bool whole_body;            /* ... it has read the body to its end, or ... */
    bool breaks_off;            /* ... failed behind the beginning of its reply */
    char method[32];
    size_t body_at, body_len;   /* what it has read */
};

struct talk {
    struct weir_request request;        /* its output is all that was replied */
    struct turn turns[TURNS_MAX];
    size_t turns_len;
    size_t bodies_len;
    char bodies[HTTP_TALK_MAX];
};

static struct talk at_once, in_pieces, *talk;
static size_t body_read_size;
static struct framing framing;

static struct turn *this_turn(void)
{
    return &talk->turns[talk->turns_len];
}

/* ------------------------------------------------------------------ callbacks --------- */

static void check_text(const char *text, unsigned char least)
{
    for (; *text; text++)
        HOLDS((unsigned char)*text >= least || *text == '\t');
}

static void look_at_request(struct weir_http *ex)
{
    const char *query = weir_http_query(ex), *authority = weir_http_authority(ex);
    struct turn *turn = this_turn();
    char *name, *value;
    size_t fields = 0;

    turn->called = true;
    turn->to_head = strcmp(weir_http_method(ex), "HEAD") == 0;
    snprintf(turn->method, sizeof(turn->method), "%s", weir_http_method(ex));
    check_text(weir_http_path(ex), '!');
    HOLDS(*weir_http_path(ex) == '/' || strcmp(weir_http_path(ex), "*") == 0);
    if (query)
        check_text(query, '!');
    if (authority)
        check_text(authority, '!');
    while (weir_http_header_at(ex, fields, &name, &value)) {
        HOLDS(*name != '\0');
        check_text(name, '!');
        check_text(value, ' ');
        HOLDS(weir_http_header(ex, name) != NULL);
        fields++;
    }
}

/* As much as max bytes of the body. */
static ssize_t read_body(struct weir_http *ex, size_t max)
{
    struct turn *turn = this_turn();
    ssize_t n = 1;

    turn->body_at = talk->bodies_len;
    while (n > 0 && turn->body_len < max) {
        char *at = talk->bodies + talk->bodies_len;
        size_t room = sizeof(talk->bodies) - talk->bodies_len;

        n = weir_http_read_body(ex, at, body_read_size < room ? body_read_size : room);
        HOLDS(n <= (ssize_t)body_read_size);
        if (n > 0) {
            turn->body_len += (size_t)n;
            talk->bodies_len += (size_t)n;
        }
    }
    turn->whole_body = n == 0;
    return n < 0 ? n : 0;
}

static int answer_all(struct weir_http *ex)
{
    ssize_t n;

    look_at_request(ex);
    n = read_body(ex, SIZE_MAX);
    return n < 0 ? (int)n : weir_http_reply(ex, 200, "text/plain", "all of it\n", 10);
}

static int answer_unread(struct weir_http *ex)
{
    look_at_request(ex);
    return weir_http_reply(ex, 200, NULL, "unread\n", 7);
}

static int answer_some(struct weir_http *ex)
{
    ssize_t n;

    look_at_request(ex);
    n = read_body(ex, 1);
    return n < 0 ? (int)n : weir_http_reply(ex, 404, NULL, "some\n", 5);
}

/* Begins, and then reads. */
static int answer_in_pieces(struct weir_http *ex)
{
    ssize_t n;
    int r;

    look_at_request(ex);
    r = weir_http_begin(ex, 200, "text/plain");
    if (r == 0)
        r = weir_http_write(ex, "pieces\n", 7);
    n = r == 0 ? read_body(ex, SIZE_MAX) : r;
    this_turn()->breaks_off = n < 0;
    return n < 0 ? (int)n : weir_http_write(ex, "more\n", 5);
}

static int answer_nothing(struct weir_http *ex)
{
    look_at_request(ex);
    return weir_http_reply(ex, 204, NULL, NULL, 0);
}

static int answer_by_page(struct weir_http *ex)
{
    look_at_request(ex);
    return 403;
}

static const struct weir_http_route routes[] = {
    { "OPTIONS", "*", answer_all, NULL },
    { NULL, "/u", answer_unread, NULL },
    { NULL, "/s", answer_some, NULL },
    { NULL, "/p", answer_in_pieces, NULL },
    { NULL, "/n", answer_nothing, NULL },
    { NULL, "/f", answer_by_page, NULL },
    { "POST", "/o", answer_all, NULL },
    { NULL, "/", answer_all, NULL },
    { NULL, "/a/*", answer_all, NULL },
};

static const struct weir_http_site site = { WEIR_HTTP_ROUTES(routes), .body_limit = 2048 };
static const struct weir_handler handler = WEIR_HTTP_HANDLER("fuzz", &site);

/* ------------------------------------------------------------------ talking ----------- */

static size_t taken(void)
{
    return talk->request.arrived - talk->request.view_len;
}

/* A reply, that begins at *at. Returns its status. */
static int check_reply(const struct turn *turn, size_t *at, bool to_head)
{
    const struct weir_request *request = &talk->request;

    framing_of_reply(&framing, request->output + *at, request->output_len - *at, to_head, true);
    HOLDS(turn->breaks_off || (framing.complete && !framing.error));
    *at += framing.len;
    return framing.status;
}

/* Whether a bare look at the bytes says that a refused request was HEAD. */
static bool looks_like_head(const struct turn *turn)
{
    const char *bytes = talk->request.input + turn->begin;
    size_t len = talk->request.input_len - turn->begin;

    for (; len >= 2 && memcmp(bytes, "\r\n", 2) == 0; len -= 2)
        bytes += 2;
    return len >= 5 && memcmp(bytes, "HEAD ", 5) == 0;
}

/* What a call of the handler has written, from `at` on. */
static void check_replies(const struct turn *turn, size_t at, int r)
{
    bool to_head = turn->called ? turn->to_head : looks_like_head(turn);
    int status;

    if (at == talk->request.output_len) {       /* nothing but the end, or empty lines, had come */
        HOLDS(!turn->called);
        return;
    }
    status = check_reply(turn, &at, to_head);
    if (status == 100)
        status = check_reply(turn, &at, to_head);
    HOLDS(at == talk->request.output_len);
    HOLDS(status >= 200 && status <= 505);
    if (!turn->called)
        HOLDS(status >= 400);
    HOLDS(r == WEIR_KEEP || status >= 400 || turn->called);
}

/*
 * Returns true if the connection stays. Empty lines that come alone are a call of their own, but
 * none that counts: the next turn begins with them.
 */
static bool take_turn(void)
{
    size_t before = talk->request.output_len;
    struct turn *turn = this_turn();
    int r;

    HOLDS(talk->turns_len < TURNS_MAX);
    *turn = (struct turn){ .begin = talk->turns_len > 0 ? turn[-1].end : 0 };
    r = handler.handle(&talk->request);
    HOLDS(r == WEIR_KEEP || r == 0);
    HOLDS(talk->request.reports == 0);
    turn->kept = r == WEIR_KEEP;
    turn->end = taken();
    HOLDS(!turn->kept || turn->end > turn->begin);
    check_replies(turn, before, r);
    if (talk->request.output_len > before)
        talk->turns_len++;
    return turn->kept;
}

static void converse(struct talk *it, const char *bytes, size_t len, size_t first, size_t piece)
{
    struct weir_request *request = &it->request;

    talk = it;
    memset(request, 0, offsetof(struct weir_request, output));
    memset((char *)request + offsetof(struct weir_request, output_len), 0,
           sizeof(*request) - offsetof(struct weir_request, output_len));
    request->handler = &handler;
    request->input = bytes;
    request->input_len = len;
    request->first = first;
    request->step = piece;
    it->turns_len = 0;
    it->bodies_len = 0;
    while (take_turn() && taken() < len)
        ;
    free(request->block);
}

/* ------------------------------------------------------------------ the library ------- */

static void check_by_library(const struct turn *turn)
{
    const struct weir_request *request = &talk->request;
    bool frames = turn->kept || turn->whole_body;

    if (!turn->called || !frames)
        return;
    framing_of_request(&framing, request->input + turn->begin, request->input_len - turn->begin);
    if (framing.error) {
        HOLDS(framing_may_refuse(&framing));
        return;
    }
    HOLDS(framing.complete);
    HOLDS(framing.len == turn->end - turn->begin);
    HOLDS(strcmp(framing.method, turn->method) == 0);
    if (!turn->whole_body)
        return;
    HOLDS(framing.body.len == turn->body_len);
    HOLDS(memcmp(framing_text(&framing, framing.body), talk->bodies + turn->body_at,
                 turn->body_len) == 0);
}

/* ------------------------------------------------------------------ both ways --------- */

/* What may differ: the second in which a reply was made. And whether somebody had to be invited. */
static size_t without_what_differs(char *text, size_t len)
{
    static const char invitation[] = "HTTP/1.1 100 Continue\r\n\r\n", date[] = "\r\nDate: ";
    char *at = text, *end = text + len;

    while ((at = memmem(at, (size_t)(end - at), date, sizeof(date) - 1))) {
        at += sizeof(date) - 1;
        memset(at, 'x', sizeof("Sun, 06 Nov 1994 08:49:37 GMT") - 1);
    }
    at = text;
    while ((at = memmem(at, (size_t)(end - at), invitation, sizeof(invitation) - 1))) {
        memmove(at, at + sizeof(invitation) - 1, (size_t)(end - at) - (sizeof(invitation) - 1));
        end -= sizeof(invitation) - 1;
    }
    return (size_t)(end - text);
}

static void check_same_turn(const struct turn *a, const struct turn *b)
{
    HOLDS(a->begin == b->begin);
    HOLDS(!a->kept || a->end == b->end);
    HOLDS(a->kept == b->kept);
    HOLDS(a->called == b->called);
    HOLDS(a->whole_body == b->whole_body);
    HOLDS(strcmp(a->method, b->method) == 0);
    HOLDS(!a->whole_body || a->body_len == b->body_len);
}

void http_talk(const uint8_t *bytes, size_t len, size_t first, size_t piece, size_t read_size)
{
    size_t a, b;

    if (len > HTTP_TALK_MAX)
        len = HTTP_TALK_MAX;
    if (len == 0)
        return;
    /* The request of memory moves all that is buffered with every piece. */
    if (piece < len / 128)
        piece = len / 128;
    body_read_size = read_size;
    converse(&in_pieces, (const char *)bytes, len, first, piece);
    converse(&at_once, (const char *)bytes, len, 0, len);
    for (size_t i = 0; i < at_once.turns_len; i++)
        check_by_library(&at_once.turns[i]);
    HOLDS(at_once.turns_len == in_pieces.turns_len);
    for (size_t i = 0; i < at_once.turns_len; i++)
        check_same_turn(&at_once.turns[i], &in_pieces.turns[i]);
    a = without_what_differs(at_once.request.output, at_once.request.output_len);
    b = without_what_differs(in_pieces.request.output, in_pieces.request.output_len);
    HOLDS(a == b && memcmp(at_once.request.output, in_pieces.request.output, a) == 0);
}
