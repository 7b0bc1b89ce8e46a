#include "tests/simulation/shrink.h"

#include <ctype.h>
#include <string.h>

/* The same words, whatever numbers are among them. */
static bool is_same_failure(const char *a, const char *b)
{
    while (*a && *b) {
        while (isdigit((unsigned char)*a) || *a == '-')
            a++;
        while (isdigit((unsigned char)*b) || *b == '-')
            b++;
        if (*a != *b)
            return false;
        a += *a != '\0';
        b += *b != '\0';
    }
    return *a == *b;
}

static bool still_fails(const struct run *run, const char *why)
{
    struct world_result result;

    return !runs_one(run, &result) && is_same_failure(result.why, why);
}

static void try(struct run *run, const struct run *smaller, const char *why)
{
    if (still_fails(smaller, why))
        *run = *smaller;
}

void shrink(struct run *run, const char *why)
{
    struct run smaller;
    uint32_t events = run->events;

    run->events = 0;
    for (unsigned i = 0; i < FEATURES; i++) {
        smaller = *run;
        smaller.without |= UINT32_C(1) << i;
        try(run, &smaller, why);
    }
    for (uint32_t clients = 16; clients > 0; clients--) {
        smaller = *run;
        smaller.clients = clients;
        if (run->clients == 0 || clients < run->clients)
            try(run, &smaller, why);
    }
    run->events = events;
}
