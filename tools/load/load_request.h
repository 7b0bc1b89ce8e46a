/*
 * load_request.h - what goes out: the text of requests, made once and stamped with numbers.
 *
 * Threads: a struct requests is its lane's.
 */
#ifndef WEIR_LOAD_REQUEST_H
#define WEIR_LOAD_REQUEST_H

#include <stddef.h>
#include <stdint.h>

#include "tools/load/load_lane.h"

struct requests {
    enum load_mode mode;
    size_t len;                 /* of each but HTTP's last one */
    uint32_t copies;            /* of it in text */
    char *text;
    char *last;                 /* HTTP: says that it is its connection's last one */
    size_t last_len;
};

/* Returns 0 or -ENOMEM; requests_fini is due either way. */
int requests_init(struct requests *requests, const struct lane *lane);

void requests_fini(struct requests *requests);

/*
 * The text of up to count requests, from number on: whole ones, as many as one send takes, all of
 * them before the last of their connection or that one alone. before_last: how many of them come
 * before that. The text stays until the next call.
 */
const char *requests_text(struct requests *requests, uint32_t number, uint32_t count,
                          uint32_t before_last, size_t *ret_len);

/* The length of the first of them. */
size_t request_len(const struct requests *requests, uint32_t before_last);

#endif
