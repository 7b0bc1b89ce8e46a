/*
 * load_reply.c - what `weir load` makes of a server that answers what it likes: the same in
 * whatever pieces it comes, and no reply ends elsewhere than the parser's library says.
 *
 * The first byte says in what pieces the rest arrives, and whether the length of a body is known
 * before.
 */
#include "tools/load/load_reply.h"

#include "tests/fuzz/framing.h"
#include "tests/fuzz/input.h"

enum { ENDS_MAX = 256 };

/* What came of all of it. */
struct outcome {
    size_t ends[ENDS_MAX];      /* where replies were complete */
    size_t ends_len;
    size_t failed_at;           /* in the reply that is wrong; SIZE_MAX: none is */
    enum load_error error;
    bool ended_well;            /* the end of the connection completes what has come */
};

static const struct load_options options = { .mode = LOAD_HTTP };
static const struct load_options sized = { .mode = LOAD_HTTP, .size = 5 };
static struct framing framing;

/* One piece. Returns false behind the first error. */
static bool take_piece(struct replies *replies, struct reply *reply, struct outcome *outcome,
                       const char *text, size_t at, size_t len)
{
    char *copy = malloc(len);
    size_t done = 0;

    if (!copy)
        abort();
    memcpy(copy, text + at, len);
    while (done < len) {
        ssize_t n = reply_take(replies, reply, 0, 0, copy + done, len - done, &outcome->error);

        if (n < 0) {
            outcome->failed_at = outcome->ends_len;
            break;
        }
        HOLDS((size_t)n <= len - done);
        done += (size_t)n;
        if (!reply_complete(replies, reply))
            continue;
        HOLDS(outcome->ends_len < ENDS_MAX);
        outcome->ends[outcome->ends_len++] = at + done;
        reply_begin(reply);
        if (outcome->ends_len == ENDS_MAX)
            break;
    }
    free(copy);
    return done == len;
}

static void take_all(struct outcome *outcome, const struct lane *lane, const char *text, size_t len,
                     size_t piece)
{
    struct replies replies;
    struct reply reply = { 0 };
    enum load_error error;

    *outcome = (struct outcome){ .failed_at = SIZE_MAX };
    HOLDS(replies_init(&replies, lane) == 0);
    for (size_t at = 0; at < len; at += piece)
        if (!take_piece(&replies, &reply, outcome, text, at, piece < len - at ? piece : len - at))
            break;
    outcome->ended_well = reply_ends(&replies, &reply, &error) == 0;
    reply_fini(&reply);
    replies_fini(&replies);
}

/* Each reply that was complete, and the interim ones before it. */
static void check_by_library(const struct outcome *outcome, const char *text, size_t len)
{
    size_t at = 0;

    for (size_t i = 0; i < outcome->ends_len; i++) {
        do {
            framing_of_reply(&framing, text + at, len - at, false, false);
            if (framing.error)
                return;         /* it reads less than we do */
            HOLDS(framing.complete);
            at += framing.len;
        } while (framing.status < 200);
        HOLDS(at == outcome->ends[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };
    uint8_t how = take_byte(&input);
    const struct lane lane = { .options = how & 0x80 ? &sized : &options };
    struct outcome whole, pieces;
    char *text = take_text(&input);

    take_all(&whole, &lane, text, input.size, SIZE_MAX / 2);
    take_all(&pieces, &lane, text, input.size, (how & 0x7f) + 1);
    HOLDS(whole.ends_len == pieces.ends_len);
    HOLDS(memcmp(whole.ends, pieces.ends, whole.ends_len * sizeof(*whole.ends)) == 0);
    HOLDS(whole.failed_at == pieces.failed_at);
    HOLDS(whole.failed_at == SIZE_MAX || whole.error == pieces.error);
    HOLDS(whole.ended_well == pieces.ended_well || whole.failed_at != SIZE_MAX);
    check_by_library(&whole, text, input.size);
    free(text);
    return 0;
}
