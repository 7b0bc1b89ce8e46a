/*
 * main.c - runs seeds, and says which of them fail, made as small as can be.
 *
 *   simulation [--seed S] [--runs N | --seconds N] [--jobs N]    seeds from S on
 *              [--with NAME,NAME...]                             each of them has these features
 *              [--without NAME,NAME...] [--clients N]            ... not these, and is smaller so
 *              [--events N] [--aloud]                            how much is printed
 *              [--failures N]                                    it ends behind so many
 *              [--drop-edges N]                                  a kernel that loses one edge in N
 *   simulation --replay FILE                                     seeds that have failed once
 *
 * One seed alone is run twice, and has to do the same both times.
 */
#include "tests/simulation/runs.h"
#include "tests/simulation/shrink.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REPLAYED_MAX 4096

static struct {
    uint64_t seed, runs, seconds, jobs, clients, events, failures, drop_in;
    uint32_t with, without;
    bool aloud;
    const char *replay;
} wanted = { .seed = 1, .jobs = 1, .events = 60 };

static struct {
    double began_s;
    uint64_t started, runs, failed, requests, events;
    struct run replayed[REPLAYED_MAX];
    uint64_t replayed_len;
} sum;

FILE *__real_fopen(const char *path, const char *mode);
int __real_clock_gettime(clockid_t clock, struct timespec *ret);

static double now_s(void)
{
    struct timespec now;

    __real_clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ------------------------------------------------------------------ options ----------- */

static _Noreturn void refuse(const char *what, const char *value)
{
    fprintf(stderr, "simulation: %s '%s'\n", what, value);
    exit(2);
}

static uint32_t features_named(char *names)
{
    uint32_t features = 0;

    for (char *name = strtok(names, ","); name; name = strtok(NULL, ",")) {
        unsigned i = 0;

        while (i < FEATURES && strcmp(name, feature_names[i]) != 0)
            i++;
        if (i == FEATURES)
            refuse("there is no feature", name);
        features |= UINT32_C(1) << i;
    }
    return features;
}

static uint64_t *number_option(const char *name)
{
    static const struct {
        const char *name;
        uint64_t *value;
    } options[] = {
        { "--seed", &wanted.seed }, { "--runs", &wanted.runs }, { "--seconds", &wanted.seconds },
        { "--jobs", &wanted.jobs }, { "--clients", &wanted.clients },
        { "--events", &wanted.events }, { "--failures", &wanted.failures },
        { "--drop-edges", &wanted.drop_in },
    };

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        if (strcmp(name, options[i].name) == 0)
            return options[i].value;
    return NULL;
}

/* Of an option with a value. */
static void read_option(const char *name, char *value)
{
    uint64_t *number = number_option(name);
    char *end;

    if (strcmp(name, "--with") == 0) {
        wanted.with = features_named(value);
    } else if (strcmp(name, "--without") == 0) {
        wanted.without = features_named(value);
    } else if (strcmp(name, "--replay") == 0) {
        wanted.replay = value;
    } else if (number) {
        *number = strtoull(value, &end, 0);
        if (*value == '\0' || *end != '\0')
            refuse("not a number:", value);
    } else {
        refuse("there is no option", name);
    }
}

static void read_options(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--aloud") == 0)
            wanted.aloud = true;
        else if (i + 1 < argc)
            read_option(argv[i], argv[i + 1]), i++;
        else
            refuse("a value is missing behind", argv[i]);
    }
    if (wanted.jobs < 1 || wanted.jobs > RUNS_JOBS)
        refuse("too few or too many", "--jobs");
}

/* Lines of a seed, clients (0: all), and features left out (-: none); # begins a comment. */
static void read_replayed(const char *path)
{
    FILE *file = __real_fopen(path, "re");
    char line[512], names[256];

    if (!file)
        refuse("can't read", path);
    while (fgets(line, sizeof(line), file)) {
        struct run *run = &sum.replayed[sum.replayed_len];

        *run = (struct run){ 0 };
        if (line[0] == '#' || line[0] == '\n')
            continue;
        if (sum.replayed_len == REPLAYED_MAX ||
            sscanf(line, "%" SCNu64 " %" SCNu32 " %255s", &run->seed, &run->clients, names) != 3)
            refuse("what is", line);
        if (strcmp(names, "-") != 0)
            run->without = features_named(names);
        sum.replayed_len++;
    }
    fclose(file);
}

/* ------------------------------------------------------------------ runs -------------- */

static bool next_run(void *nothing, struct run *ret)
{
    (void)nothing;
    if (wanted.seconds > 0 && now_s() - sum.began_s >= (double)wanted.seconds)
        return false;
    if (wanted.failures > 0 && sum.failed >= wanted.failures)
        return false;
    if (wanted.replay) {
        if (sum.started == sum.replayed_len)
            return false;
        *ret = sum.replayed[sum.started++];
        return true;
    }
    if (wanted.runs > 0 && sum.started == wanted.runs)
        return false;
    *ret = (struct run){
        .seed = wanted.seed + sum.started++, .with = wanted.with, .without = wanted.without,
        .clients = (uint32_t)wanted.clients, .drop_in = (uint32_t)wanted.drop_in,
        .aloud = wanted.aloud,
    };
    return true;
}

static void print_names(uint32_t features, const char *between)
{
    const char *before = "";

    for (unsigned i = 0; i < FEATURES; i++) {
        if (!(features >> i & 1))
            continue;
        printf("%s%s", before, feature_names[i]);
        before = between;
    }
}

static void print_how_to_replay(const struct run *run)
{
    printf("  tools/simulate --runs 1 --seed %" PRIu64, run->seed);
    if (run->clients > 0)
        printf(" --clients %" PRIu32, run->clients);
    if (run->with != 0) {
        printf(" --with ");
        print_names(run->with, ",");
    }
    if (run->without != 0) {
        printf(" --without ");
        print_names(run->without, ",");
    }
    if (run->drop_in > 0)
        printf(" --drop-edges %" PRIu32, run->drop_in);
    putchar('\n');
}

static void count_over(void *nothing, const struct run *run, bool passed,
                  const struct world_result *result)
{
    (void)nothing;
    sum.runs++;
    sum.requests += result->requests;
    sum.events += result->events;
    if (passed)
        return;
    sum.failed++;
    printf("seed %" PRIu64 ": %s\n  with ", run->seed, result->why);
    print_names(result->features, ", ");
    putchar('\n');
    fflush(stdout);
}

/* What has failed, again, smaller, and with its last events. */
static void explain(struct run run)
{
    struct world_result result;

    run.events = 0;
    if (runs_one(&run, &result)) {
        printf("seed %" PRIu64 " does not fail again: something depends on more than the seed\n",
               run.seed);
        return;
    }
    shrink(&run, result.why);
    run.events = (uint32_t)wanted.events;
    runs_one(&run, &result);
    printf("%s\n  with ", result.why);
    print_names(result.features, ", ");
    putchar('\n');
    print_how_to_replay(&run);
}

static struct run first_failed;
static bool any_failed;

static void run_over(void *nothing, const struct run *run, bool passed,
                     const struct world_result *result)
{
    count_over(nothing, run, passed, result);
    if (passed || any_failed)
        return;
    any_failed = true;
    first_failed = *run;
}

/* Returns true if both runs of it are the same. */
static bool run_twice(void)
{
    struct world_result first, second;
    struct run run;
    bool passed;

    next_run(NULL, &run);
    passed = runs_one(&run, &first);
    run_over(NULL, &run, passed, &first);
    if (!passed)
        return true;
    runs_one(&run, &second);
    printf("seed %" PRIu64 ": %" PRIu64 " requests, %" PRIu64 " events, hash %016" PRIx64 "\n",
           run.seed, first.requests, first.events, first.hash);
    return first.hash == second.hash && first.events == second.events;
}

int main(int argc, char **argv)
{
    bool same = true;

    read_options(argc, argv);
    if (wanted.replay)
        read_replayed(wanted.replay);
    sum.began_s = now_s();
    runs_prepare();
    if (wanted.runs == 1 && !wanted.replay)
        same = run_twice();
    else
        runs_many(&(const struct runs_many){
            .jobs = (unsigned)wanted.jobs, .next = next_run, .over = run_over,
        });
    if (!same)
        printf("the same seed has done something else: something depends on more than the seed\n");
    if (any_failed && wanted.events > 0)
        explain(first_failed);
    printf("%" PRIu64 " runs, %" PRIu64 " failed, %" PRIu64 " requests, %" PRIu64 " events, "
           "%.1f s\n", sum.runs, sum.failed, sum.requests, sum.events, now_s() - sum.began_s);
    return sum.failed > 0 || !same;
}
