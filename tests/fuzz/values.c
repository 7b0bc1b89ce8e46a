/*
 * values.c - numbers, sizes, times, permissions and lists of CPUs as people write them, against
 * models that reckon with more bits.
 *
 * The first byte says which of them, the second how many bits the largest one may have, or which
 * CPUs there are.
 */
#include "tests/fuzz/input.h"

#include <ctype.h>
#include <errno.h>
#include <sched.h>
#include <stdbool.h>

#include "engine/base/cpulist.h"
#include "tools/command/values.h"

typedef unsigned __int128 wide;

/* Reads decimal digits, as many as there are; beyond 2^100 it doesn't matter. */
static wide digits_of(const char **text)
{
    wide n = 0;

    for (; isdigit((unsigned char)**text); (*text)++)
        if (n >> 100 == 0)
            n = n * 10 + (wide)(**text - '0');
    return n;
}

static wide factor_of(const char *unit, int kind)
{
    if (kind == 0)
        return *unit == '\0' ? 1 : 0;
    if (kind == 1 && (strcmp(unit, "") == 0))
        return 1;
    if (kind == 1)
        return strcasecmp(unit, "k") == 0 ? 1024 : strcasecmp(unit, "m") == 0 ? 1024 * 1024 : 0;
    if (strcmp(unit, "ms") == 0)
        return 1;
    if (strcmp(unit, "") == 0 || strcmp(unit, "s") == 0)
        return 1000;
    return strcmp(unit, "m") == 0 ? 60000 : 0;
}

static void check_value(int kind, const char *text, uint64_t most)
{
    int (*const reads[])(const char *, uint64_t, uint64_t *) = {
        value_number, value_size, value_time,
    };
    const char *unit = text;
    wide n = digits_of(&unit), factor = factor_of(unit, kind);
    bool right = unit > text && factor > 0 && n * factor <= most;
    uint64_t got = 42;
    int r = reads[kind](text, most, &got);

    HOLDS(r == (right ? 0 : -EINVAL));
    HOLDS(got == (right ? (uint64_t)(n * factor) : 42));
}

static void check_mode(const char *text)
{
    size_t len = strlen(text), zeros = strspn(text, "0");
    bool right = len > 0 && strspn(text, "01234567") == len && len - zeros <= 3;
    uint64_t got = 42;
    int r = value_mode(text, &got);

    HOLDS(r == (right ? 0 : -EINVAL));
    HOLDS(got == (right ? strtoul(text, NULL, 8) : 42));
}

/* ------------------------------------------------------------------ CPUs -------------- */

enum { CPUS = 64, LIST = 96 };

static uint64_t allowed;

/* This machine has 64 CPUs, of which the input says some. */
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);
int __wrap_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
    (void)pid;
    CPU_ZERO_S(size, set);
    for (size_t cpu = 0; cpu < CPUS; cpu++)
        if (allowed >> cpu & 1)
            CPU_SET_S(cpu, size, set);
    return 0;
}

/* Returns how many there are, or -1: it is none. */
static int model_list(const char *text, int *cpus, size_t max)
{
    size_t len = 0;

    for (;;) {
        const char *begin = text;
        wide first = digits_of(&text), last = first;

        if (text == begin)
            return -1;
        if (*text == '-') {
            begin = ++text;
            last = digits_of(&text);
            if (text == begin)
                return -1;
        }
        if (last < first || last >= CPUS)
            return -1;
        for (; first <= last; first++) {
            if (len == max || !(allowed >> first & 1))
                return -1;
            cpus[len++] = (int)first;
        }
        if (*text == '\0')
            return (int)len;
        if (*text++ != ',')
            return -1;
    }
}

static void check_list(const char *text, uint64_t most)
{
    int got[LIST], want[LIST], r, len;
    char why[256] = "";
    size_t max = most % LIST + 1;

    allowed = most;
    len = model_list(text, want, max);
    r = cpulist_parse(text, got, max, why, sizeof(why));
    HOLDS(r == (len < 0 ? -EINVAL : len));
    if (len < 0)
        check_sentence(why);
    else
        HOLDS(memcmp(got, want, (size_t)len * sizeof(*got)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };
    size_t which = take_number(&input, 4);
    uint64_t most = UINT64_MAX >> take_number(&input, 63);
    char *text = take_text(&input);

    if (which < 3)
        check_value((int)which, text, most);
    else if (which == 3)
        check_mode(text);
    else
        check_list(text, most);
    free(text);
    return 0;
}
