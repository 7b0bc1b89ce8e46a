/*
 * http_cases.h - tables of requests, byte for byte, and what is to come of each.
 *
 * tests/http_cases/README.md says how a table is written.
 *
 * Threads: the test's.
 */
#ifndef WEIR_TESTS_HTTP_CASES_H
#define WEIR_TESTS_HTTP_CASES_H

#include <stdbool.h>
#include <stddef.h>

struct http_case {
    char place[64];             /* the table and the line */
    char statuses[4096];        /* "100,200" */
    bool keep;                  /* the connection stays */
    bool ends;                  /* the peer says no more: its end of file follows */
    bool in_one_piece;          /* what comes depends on how it is cut */
    char text[256];             /* somewhere in the replies; empty: anything */
    char *bytes;
    size_t len;
    size_t told;                /* bytes after which the replies are there; 0: after all */
};

/* A connection that was kept answers this with 404, and closes. */
extern const char http_cases_last[];

/* http_cases_next reads on in the tables that http_cases_open was told. False: there is no more. */
void http_cases_open(int tables_len, char **tables);
bool http_cases_next(struct http_case *ret);

/*
 * http_cases_judge tells whether these are the replies to the case, all that is in them being as
 * the RFCs have it: lengths, no content where there must be none, nothing behind the last. If not
 * it prints why. how names what was done. with_last: http_cases_last had followed the case.
 */
bool http_cases_judge(const struct http_case *c, const char *how, bool with_last,
                      const char *replies, size_t len);

#endif
