/*
 * http_cases_test.c - the tables of tests/http_cases over a request of memory, cut at every place.
 */
#include "tests/http_fake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/http_cases.h"
#include "tests/http_site.h"

enum {
    CUT_EVERYWHERE_MAX = 600,   /* bytes of a case; longer ones are cut here and there, ... */
    BYTE_BY_BYTE_MAX = 12000,   /* ... and these not into as many pieces: the fake copies */
};

static struct weir_request *request;
static char *input;
static size_t input_len;

/* Serves the first len bytes of the input. */
static void serve(size_t len, size_t first, size_t step, int ending)
{
    int r;

    memset(request, 0, offsetof(struct weir_request, output));
    memset((char *)request + offsetof(struct weir_request, output_len), 0,
           sizeof(*request) - offsetof(struct weir_request, output_len));
    request->output[0] = '\0';
    request->handler = &http_site_handler;
    request->input = input;
    request->input_len = len;
    request->first = first;
    request->step = step > 0 ? step : len + 1;
    request->ending = ending;
    do
        r = request->handler->handle(request);
    while (r == WEIR_KEEP && (request->view_len > 0 || request->arrived < len));
    free(request->block);
}

static bool right(const struct http_case *c, const char *how, size_t first, size_t step)
{
    serve(input_len, first, step, 0);
    return http_cases_judge(c, how, !c->ends, request->output, request->output_len);
}

static bool right_wherever_cut(const struct http_case *c)
{
    size_t stride = input_len > CUT_EVERYWHERE_MAX ? input_len / 16 + 1 : 1;

    for (size_t first = 1; first < input_len; first += stride)
        if (!right(c, "in two", first, 0))
            return false;
    if (input_len > BYTE_BY_BYTE_MAX)
        return true;
    return right(c, "byte by byte", 0, 1) && right(c, "in pieces of 2", 0, 2) &&
        right(c, "in pieces of 3", 0, 3);
}

/* The answer comes at the place that the table marks, though more of the head is missing. */
static bool told_in_time(const struct http_case *c)
{
    serve(c->told, 0, 0, -ETIMEDOUT);
    if (!http_cases_judge(c, "so far", false, request->output, request->output_len))
        return false;
    serve(c->told, 0, 1, -ETIMEDOUT);
    return http_cases_judge(c, "so far, byte by byte", false, request->output,
                            request->output_len);
}

static bool run(const struct http_case *c)
{
    size_t last = c->ends ? 0 : strlen(http_cases_last);
    bool ok;

    input_len = c->len + last;
    input = malloc(input_len + 1);
    request = calloc(1, sizeof(*request));
    assert_true(input && request);
    memcpy(input, c->bytes, c->len);
    memcpy(input + c->len, http_cases_last, last);
    ok = right(c, "whole", 0, 0) && (c->in_one_piece || right_wherever_cut(c)) &&
        (c->told == 0 || told_in_time(c));
    free(request);
    free(input);
    return ok;
}

static int tables_len;
static char **tables;

static void each_case_of_the_tables_gets_what_it_should_however_it_is_cut(void **state)
{
    static struct http_case c;
    unsigned count = 0, wrong = 0;

    (void)state;
    http_cases_open(tables_len, tables);
    for (; http_cases_next(&c); count++)
        wrong += !run(&c);
    print_message("%u cases\n", count);
    assert_int_equal(wrong, 0);
    assert_true(count > 400);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_case_of_the_tables_gets_what_it_should_however_it_is_cut),
    };

    tables_len = argc - 1;
    tables = argv + 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
