/*
 * http_head.c - heads: the handler's two passes over one, and the parser's library by itself.
 *
 * The first byte says in what pieces the rest, which is a head, arrives. However it does, it gets
 * one verdict. What is accepted has fields that are fields, all of them where the library sees
 * them too, and each piece can be terminated in place.
 */
#include "tests/fuzz/input.h"

#include <errno.h>
#include <stdbool.h>

#include "handlers/http/grammar.h"
#include "handlers/http/request.h"
#include "handlers/http/scan.h"
#include "tests/fuzz/framing.h"

enum { LIBRARY_MAX = 16 * 1024 };       /* bytes of a head that it is shown */

/* What becomes of a head. */
struct verdict {
    int status;                 /* 0: accepted; -EAGAIN: there is more to come */
    size_t len;
};

static struct http_field fields[HTTP_FIELDS_MAX];
static struct http_head head;
static struct framing framing;

/* ------------------------------------------------------------------ how it arrives ---- */

/* With every piece the head moves to a block of its size. The caller frees it. */
static struct verdict read_in_pieces(const struct input *input, size_t piece, char **ret_data)
{
    struct verdict verdict = { .status = -EAGAIN };
    struct http_scan scan;
    size_t arrived = 0;
    char *data = NULL;

    http_scan_begin(&scan);
    while (verdict.status == -EAGAIN && arrived < input->size) {
        arrived += piece < input->size - arrived ? piece : input->size - arrived;
        free(data);
        data = malloc(arrived);
        if (!data)
            abort();
        memcpy(data, input->data, arrived);
        verdict.status = http_scan(&scan, data, arrived, &verdict.len);
    }
    *ret_data = data;
    if (verdict.status != 0)
        return verdict;
    head.fields = fields;
    verdict.status = http_read_head(&head, data, verdict.len);
    return verdict;
}

/* ------------------------------------------------------------------ what was accepted - */

static void terminate(char *data, size_t len, size_t at, size_t piece_len)
{
    HOLDS(at + piece_len < len);
    data[at + piece_len] = '\0';
    HOLDS(strlen(data + at) == piece_len);
}

static void check_field(char *data, size_t len, const struct http_field *field)
{
    HOLDS(http_is_token(data + field->name, field->name_len));
    if (field->value != head.authority)
        HOLDS(field->value > field->name);
    if (field->value_len > 0) {
        HOLDS(!http_is_space(data[field->value]));
        HOLDS(!http_is_space(data[field->value + field->value_len - 1]));
    }
    HOLDS(http_is_value(data + field->value, field->value_len));
    HOLDS(field->value + field->value_len < len);
}

static void check_head(char *data, size_t len)
{
    HOLDS(head.path_len > 0 && (data[head.path] == '/' || data[head.path] == '*'));
    HOLDS(head.keep || head.says_close || !head.one_one);
    HOLDS(head.host || !head.one_one);
    HOLDS(head.body != HTTP_BODY_LENGTH || (head.length && head.body_len > 0));
    HOLDS(!(head.length && head.coding));
    for (size_t i = 0; i < head.fields_len; i++)
        check_field(data, len, &fields[i]);
    if (head.query > 0)
        terminate(data, len, head.query, head.query_len);
    if (head.authority > 0)
        terminate(data, len, head.authority, head.authority_len);
    terminate(data, len, head.path, head.path_len);
    for (size_t i = 0; i < head.fields_len; i++) {
        terminate(data, len, fields[i].name, fields[i].name_len);
        terminate(data, len, fields[i].value, fields[i].value_len);
    }
}

/* ------------------------------------------------------------------ the library ------- */

static void check_field_by_library(const char *data, const struct http_field *field,
                                   const struct framing_piece pieces[2])
{
    const char *value = framing_text(&framing, pieces[1]);
    size_t len = pieces[1].len;

    HOLDS(pieces[0].len == field->name_len);
    HOLDS(memcmp(data + field->name, framing_text(&framing, pieces[0]), field->name_len) == 0);
    if (head.authority > 0 && field->value == head.authority)
        return;                 /* which stands for Host's, whatever that says */
    while (len > 0 && http_is_space(value[len - 1]))
        len--;
    HOLDS(len == field->value_len);
    HOLDS(memcmp(data + field->value, value, len) == 0);
}

/* data: as it arrived. */
static void check_by_library(const char *data, size_t len)
{
    framing_of_request(&framing, data, len);
    if (framing.error) {
        HOLDS(framing_may_refuse(&framing));
        return;
    }
    HOLDS(framing.has_head);
    HOLDS(framing.complete == (head.body == HTTP_BODY_NONE));
    HOLDS(framing.len == len);
    HOLDS(strcmp(framing.method, head.method) == 0);
    HOLDS(framing.head_fields_len == head.fields_len);
    for (size_t i = 0; i < head.fields_len; i++)
        check_field_by_library(data, &fields[i], framing.fields[i]);
}

/* ------------------------------------------------------------------ the target -------- */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };
    size_t piece = take_number(&input, 63) + 1;
    struct verdict whole, pieces;
    char *text;

    if (input.size == 0)
        return 0;
    pieces = read_in_pieces(&input, piece, &text);
    free(text);
    whole = read_in_pieces(&input, input.size, &text);
    HOLDS(whole.status == pieces.status);
    HOLDS(whole.status == -EAGAIN || whole.status == 0 ||
          (whole.status >= 400 && whole.status <= 505));
    if (whole.status == 0) {
        HOLDS(whole.len == pieces.len);
        if (whole.len <= LIBRARY_MAX)
            check_by_library((const char *)input.data, whole.len);
        check_head(text, whole.len);
    }
    free(text);
    return 0;
}
