/* asked.c - what a callback may ask of its request: the public calls that read. */
#include "handlers/http/exchange.h"

#include <string.h>

#include "handlers/http/grammar.h"

const char *weir_http_method(const struct weir_http *ex)
{
    return ex->head.method;
}

/* Ends a piece of the head. What stood there separated it from the next piece. */
static char *terminated(struct weir_http *ex, size_t at, size_t len)
{
    ex->text[at + len] = '\0';
    return ex->text + at;
}

char *weir_http_path(struct weir_http *ex)
{
    return terminated(ex, ex->head.path, ex->head.path_len);
}

char *weir_http_query(struct weir_http *ex)
{
    return ex->head.query ? terminated(ex, ex->head.query, ex->head.query_len) : NULL;
}

char *weir_http_authority(struct weir_http *ex)
{
    if (ex->head.authority == 0)
        return weir_http_header(ex, "Host");
    return terminated(ex, ex->head.authority, ex->head.authority_len);
}

static char *field_value(struct weir_http *ex, const struct http_field *field)
{
    return terminated(ex, field->value, field->value_len);
}

char *weir_http_header(struct weir_http *ex, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < ex->head.fields_len; i++) {
        const struct http_field *field = &ex->head.fields[i];

        if (http_name_equal(ex->text + field->name, field->name_len, name, len))
            return field_value(ex, field);
    }
    return NULL;
}

bool weir_http_header_at(struct weir_http *ex, size_t i, char **ret_name, char **ret_value)
{
    const struct http_field *field;

    if (i >= ex->head.fields_len)
        return false;
    field = &ex->head.fields[i];
    *ret_name = terminated(ex, field->name, field->name_len);
    *ret_value = field_value(ex, field);
    return true;
}

const void *weir_http_data(const struct weir_http *ex)
{
    return ex->route->data;
}

struct weir_request *weir_http_request(const struct weir_http *ex)
{
    return ex->req;
}

ssize_t weir_http_read_body(struct weir_http *ex, void *buf, size_t len)
{
    return exchange_noted(ex, http_body_read(&ex->body, buf, len));
}
