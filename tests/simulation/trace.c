#include "tests/simulation/trace.h"

#include "tests/simulation/scheduler.h"

#define EVENTS 8192
#define PRIME UINT64_C(0x100000001b3)

struct event {
    uint64_t now_ns;
    const char *who;
    const char *format;
    unsigned number;
    long values[3];
};

static struct event events[EVENTS];
static uint64_t len;
static uint64_t hash = UINT64_C(0xcbf29ce484222325);
static FILE *aloud;

static void mix(uint64_t value)
{
    hash = (hash ^ value) * PRIME;
    hash ^= hash >> 29;
}

static void print_event(FILE *out, const struct event *event)
{
    fprintf(out, "%12.3f us  %s %u: ", (double)event->now_ns / 1000, event->who, event->number);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
    fprintf(out, event->format, event->values[0], event->values[1], event->values[2]);
#pragma GCC diagnostic pop
    fputc('\n', out);
}

void trace_note(const char *who, unsigned number, const char *format, long a, long b, long c)
{
    struct event *event = &events[len++ % EVENTS];

    *event = (struct event){ scheduler_now_ns(), who, format, number, { a, b, c } };
    mix(event->now_ns);
    mix((uint64_t)a ^ (uint64_t)b << 20 ^ (uint64_t)c << 40 ^ (uint64_t)number << 58);
    if (aloud)
        print_event(aloud, event);
}

uint64_t trace_hash(void)
{
    return hash;
}

uint64_t trace_len(void)
{
    return len;
}

void trace_print(FILE *out, unsigned most)
{
    uint64_t from = len > EVENTS ? len - EVENTS : 0;

    if (len - from > most)
        from = len - most;
    for (; from < len; from++)
        print_event(out, &events[from % EVENTS]);
}

void trace_aloud(FILE *out)
{
    aloud = out;
}
