/*
 * Litmus tests: exactly what C11 allows, to check the checker. The outcomes are what the threads
 * have read, digit by digit, or what x and y are at the end.
 */
#include "tests/orders/memory.h"
#include "tests/orders/scenarios.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { OUTCOMES = 32, READS = 4 };

static _Atomic int x, y;
static int seen[READS];
static char outcomes[OUTCOMES][READS + 1];
static unsigned outcomes_len;

static void begin(void (*first)(void *), void (*second)(void *), void (*third)(void *),
                  void (*fourth)(void *))
{
    void (*const threads[])(void *) = { first, second, third, fourth };

    atomic_init(&x, 0);
    atomic_init(&y, 0);
    memset(seen, 0, sizeof(seen));
    memory_name(&x, "x");
    memory_name(&y, "y");
    for (unsigned i = 0; i < sizeof(threads) / sizeof(threads[0]) && threads[i]; i++)
        explorer_add(threads[i], NULL);
}

static bool was_seen(const char *outcome, unsigned len)
{
    for (unsigned i = 0; i < outcomes_len; i++)
        if (memcmp(outcomes[i], outcome, len) == 0)
            return true;
    return false;
}

static void note(unsigned len)
{
    char outcome[READS + 1] = "";

    for (unsigned i = 0; i < len; i++)
        outcome[i] = (char)('0' + seen[i]);
    if (!was_seen(outcome, len))
        memcpy(outcomes[outcomes_len++], outcome, sizeof(outcome));
}

static void note_one(void) { note(1); }
static void note_two(void) { note(2); }
static void note_four(void) { note(4); }

static void note_values(void)
{
    seen[0] = atomic_load_explicit(&x, memory_order_relaxed);
    seen[1] = atomic_load_explicit(&y, memory_order_relaxed);
    note(2);
}

/* expected: outcomes, each followed by a space. */
static void expect(const char *expected)
{
    unsigned len = (unsigned)(strchr(expected, ' ') - expected);
    unsigned count = 0;

    for (const char *at = expected; *at; at += len + 1, count++)
        if (!was_seen(at, len))
            explorer_fail("%.*s is allowed, and was not seen", (int)len, at);
    for (unsigned i = 0; i < outcomes_len; i++)
        if (!strstr(expected, outcomes[i]))
            explorer_fail("%s is forbidden, and was seen", outcomes[i]);
    if (count != outcomes_len)
        explorer_fail("%u outcomes, and not %u", outcomes_len, count);
    outcomes_len = 0;
}

#define SET(at, value, order) atomic_store_explicit(&(at), value, memory_order_##order)
#define GET(at, order) atomic_load_explicit(&(at), memory_order_##order)
#define ADD(at, value, order) atomic_fetch_add_explicit(&(at), value, memory_order_##order)
#define FENCE(order) atomic_thread_fence(memory_order_##order)

#define THREAD(name, ...) static void name(void *unused) { (void)unused; __VA_ARGS__; }
#define LITMUS(litmus, what, first, second, third, fourth, end, expected) \
    static void begin_##litmus(void) { begin(first, second, third, fourth); } \
    static void after_##litmus(void) { expect(expected); } \
    const struct scenario litmus_##litmus = { \
        "litmus_" #litmus, what, begin_##litmus, end, after_##litmus, \
    };

THREAD(sb1, SET(x, 1, release); seen[0] = GET(y, acquire))
THREAD(sb2, SET(y, 1, release); seen[1] = GET(x, acquire))
LITMUS(sb, "store buffering: release and acquire allow both to miss",
       sb1, sb2, NULL, NULL, note_two, "00 01 10 11 ")

THREAD(sb_sc1, SET(x, 1, seq_cst); seen[0] = GET(y, seq_cst))
THREAD(sb_sc2, SET(y, 1, seq_cst); seen[1] = GET(x, seq_cst))
LITMUS(sb_sc, "store buffering: seq_cst does not",
       sb_sc1, sb_sc2, NULL, NULL, note_two, "01 10 11 ")

THREAD(sb_fence1, SET(x, 1, relaxed); FENCE(seq_cst); seen[0] = GET(y, relaxed))
THREAD(sb_fence2, SET(y, 1, relaxed); FENCE(seq_cst); seen[1] = GET(x, relaxed))
LITMUS(sb_fences, "store buffering: nor do seq_cst fences",
       sb_fence1, sb_fence2, NULL, NULL, note_two, "01 10 11 ")
LITMUS(sb_one_fence, "store buffering: one fence alone does",
       sb_fence1, sb2, NULL, NULL, note_two, "00 01 10 11 ")
LITMUS(sb_mixed, "store buffering: a fence and seq_cst accesses don't",
       sb_fence1, sb_sc2, NULL, NULL, note_two, "01 10 11 ")

THREAD(sb_add1, ADD(x, 1, acq_rel); seen[0] = GET(y, acquire))
THREAD(sb_add2, ADD(y, 1, acq_rel); seen[1] = GET(x, acquire))
LITMUS(sb_changes, "store buffering: changes that are not seq_cst do",
       sb_add1, sb_add2, NULL, NULL, note_two, "00 01 10 11 ")

THREAD(mp1, SET(x, 1, relaxed); SET(y, 1, release))
THREAD(mp2, seen[0] = GET(y, acquire); seen[1] = GET(x, relaxed))
LITMUS(mp, "message passing: who sees the flag sees the message",
       mp1, mp2, NULL, NULL, note_two, "00 01 11 ")
THREAD(mp_relaxed2, seen[0] = GET(y, relaxed); seen[1] = GET(x, relaxed))
LITMUS(mp_relaxed, "message passing: a relaxed look may miss it",
       mp1, mp_relaxed2, NULL, NULL, note_two, "00 01 10 11 ")
THREAD(mp_fence1, SET(x, 1, relaxed); FENCE(release); SET(y, 1, relaxed))
THREAD(mp_fence2, seen[0] = GET(y, relaxed); FENCE(acquire); seen[1] = GET(x, relaxed))
LITMUS(mp_fences, "message passing: by fences",
       mp_fence1, mp_fence2, NULL, NULL, note_two, "00 01 11 ")
THREAD(mp_add, ADD(y, 1, relaxed))
THREAD(mp_sequence2, if (GET(y, acquire) == 2) seen[0] = 1 + GET(x, relaxed))
LITMUS(mp_sequence, "message passing: a relaxed change goes on with a release sequence",
       mp1, mp_add, mp_sequence2, NULL, note_one, "0 2 ")

THREAD(lb1, seen[0] = GET(x, relaxed); SET(y, 1, relaxed))
THREAD(lb2, seen[1] = GET(y, relaxed); SET(x, 1, relaxed))
LITMUS(lb, "load buffering: not here, though C11 allows it: see README.md",
       lb1, lb2, NULL, NULL, note_two, "00 01 10 ")

THREAD(ww1, SET(x, 1, relaxed); SET(y, 2, relaxed))
THREAD(ww2, SET(y, 1, relaxed); SET(x, 2, relaxed))
LITMUS(ww, "two and two stores: each may be overtaken by the other's first",
       ww1, ww2, NULL, NULL, note_values, "11 12 21 22 ")

THREAD(iriw1, SET(x, 1, release))
THREAD(iriw2, SET(y, 1, release))
THREAD(iriw3, seen[0] = GET(x, acquire); seen[1] = GET(y, acquire))
THREAD(iriw4, seen[2] = GET(y, acquire); seen[3] = GET(x, acquire))
LITMUS(iriw, "two readers may see two writers in different orders",
       iriw1, iriw2, iriw3, iriw4, note_four,
       "0000 0001 0010 0011 0100 0101 0110 0111 1000 1001 1010 1011 1100 1101 1110 1111 ")
THREAD(iriw_fence3, seen[0] = GET(x, relaxed); FENCE(seq_cst); seen[1] = GET(y, relaxed))
THREAD(iriw_fence4, seen[2] = GET(y, relaxed); FENCE(seq_cst); seen[3] = GET(x, relaxed))
LITMUS(iriw_fences, "but not with seq_cst fences between",
       iriw1, iriw2, iriw_fence3, iriw_fence4, note_four,
       "0000 0001 0010 0011 0100 0101 0110 0111 1000 1001 1011 1100 1101 1110 1111 ")

THREAD(corr1, SET(x, 1, relaxed); SET(x, 2, relaxed))
THREAD(corr2, seen[0] = GET(x, relaxed); seen[1] = GET(x, relaxed))
LITMUS(corr, "coherence: nobody sees a word go back",
       corr1, corr2, NULL, NULL, note_two, "00 01 02 11 12 22 ")

THREAD(add, ADD(x, 1, relaxed))
LITMUS(changes, "no change is lost", add, add, add, NULL, note_values, "30 ")
