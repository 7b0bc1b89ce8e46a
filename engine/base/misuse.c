#include "engine/base/misuse.h"

#include "engine/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 100

/*
 * A set of addresses. Each is in one of the TRIES places from its own on, so that no lock is
 * needed: with one, ThreadSanitizer would take calls for ordered that are not. An address that
 * finds no room there is left out, and from then on misuse_has_ended returns false for every
 * request.
 */
#define PLACES ((size_t)1 << 16)
#define TRIES 32

#ifdef NDEBUG
bool misuse_is_looked_for;
#else
bool misuse_is_looked_for = true;
#endif

static _Atomic(const void *) places[PLACES];
static _Atomic bool is_full;
static _Atomic bool is_told;

/* WEIR_CHECK=1. A build with assertions alone looks, but costs no malloc. */
static bool keeps_memory;

/* A ring: the memory of requests that have ended, the oldest of which is freed by the next end. */
static _Atomic(void *) kept[MISUSE_KEPT];
static _Atomic size_t kept_ever;

bool misuse_read_environment(void)
{
    const char *value = getenv("WEIR_CHECK");   /* NOLINT(concurrency-mt-unsafe): nobody sets it */
    bool wanted = value && strcmp(value, "1") == 0;

    if (wanted) {
        misuse_is_looked_for = true;
        keeps_memory = true;
    }
    return wanted;
}

bool misuse_is_thorough(void)
{
    return keeps_memory;
}

static size_t nth_place(const void *req, size_t i)
{
    return (size_t)((uint64_t)(uintptr_t)req * UINT64_C(0x9e3779b97f4a7c15) >> 48) + i;
}

/* Puts `to` where `from` was. Returns false if `from` was in none of the places. */
static bool swap_entry(const void *req, const void *from, const void *to)
{
    for (size_t i = 0; i < TRIES; i++) {
        const void *was = from;

        /* relaxed: an address, and nothing behind it. pairs: none */
        if (atomic_compare_exchange_strong_explicit(&places[nth_place(req, i) % PLACES], &was, to,
                                                    memory_order_relaxed, memory_order_relaxed))
            return true;
    }
    return false;
}

void misuse_note_begin(const void *req)
{
    if (!swap_entry(req, NULL, req))
        /* relaxed: as above. pairs: none */
        atomic_store_explicit(&is_full, true, memory_order_relaxed);
}

void misuse_note_end(const void *req)
{
    swap_entry(req, req, NULL);
}

bool misuse_has_ended(const void *req)
{
    /* relaxed: as above. pairs: none */
    return !swap_entry(req, req, req) && !atomic_load_explicit(&is_full, memory_order_relaxed);
}

void *misuse_allocate(size_t size)
{
    return keeps_memory ? malloc(size) : NULL;
}

void misuse_free(void *req)
{
    size_t i;

    if (!keeps_memory) {
        free(req);
        return;
    }
    /* relaxed: a place of its own for each. pairs: none */
    i = atomic_fetch_add_explicit(&kept_ever, 1, memory_order_relaxed) % MISUSE_KEPT;

    /* acq_rel: what was done with the memory comes before it is freed. pairs: another thread's */
    free(atomic_exchange_explicit(&kept[i], req, memory_order_acq_rel));
}

void misuse_die(const char *format, ...)
{
    char line[512] = "weir: ";
    size_t len = strlen(line);
    va_list args;

    va_start(args, format);
    vsnprintf(line + len, sizeof(line) - len - 1, format, args);
    va_end(args);
    len = strlen(line);
    line[len++] = '\n';
    (void)!log_now(line, len, PATIENCE_MS);
    misuse_note_told();
    abort();
}

void misuse_note_told(void)
{
    /* relaxed: for this thread's own signal handler. pairs: none */
    atomic_store_explicit(&is_told, true, memory_order_relaxed);
}

bool misuse_is_told(void)
{
    /* relaxed: as above. pairs: none */
    return atomic_load_explicit(&is_told, memory_order_relaxed);
}
