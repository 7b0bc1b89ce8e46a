/*
 * orders - explores the scenarios of this folder. README.md says what that shows.
 */
#include "tests/orders/hooks.h"
#include "tests/orders/scenarios.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage(void)
{
    fputs("usage: orders [--most N] [--weaken OFFSET=ORDER]... [--sites] [SCENARIO...]\n"
          "\n"
          "Runs the scenarios, all by default, in every way that C11 allows: prints how many\n"
          "executions that were. Exits with 1 and a trace when one fails.\n"
          "\n"
          "  --most N               stops a scenario after N executions\n"
          "  --weaken OFFSET=ORDER  runs the operation at that site under ORDER: 0 relaxed,\n"
          "                         2 acquire, 3 release, 4 acq_rel\n"
          "  --sites                also prints the sites: scenario, offset, order, operation\n",
          stderr);
    return 2;
}

static bool is_wanted(const struct scenario *scenario, char **names, int names_len)
{
    for (int i = 0; i < names_len; i++)
        if (strcmp(names[i], scenario->name) == 0)
            return true;
    return names_len == 0;
}

static void print_sites(const char *scenario)
{
    unsigned len;
    const struct site *sites = hooks_sites(&len);

    for (unsigned i = 0; i < len; i++)
        printf("site %s %#zx %d %s\n", scenario, (size_t)hooks_offset_of(sites[i].at),
               sites[i].order, sites[i].kind);
    hooks_forget_sites();
}

int main(int argc, char **argv)
{
    uint64_t most = UINT64_MAX;
    bool with_sites = false;
    int at = 1;

    for (; at < argc && argv[at][0] == '-'; at++) {
        char *end = NULL;

        if (strcmp(argv[at], "--sites") == 0) {
            with_sites = true;
        } else if (strcmp(argv[at], "--most") == 0 && at + 1 < argc) {
            most = strtoull(argv[++at], &end, 10);
        } else if (strcmp(argv[at], "--weaken") == 0 && at + 1 < argc) {
            uintptr_t offset = strtoull(argv[++at], &end, 16);

            if (*end != '=')
                return usage();
            hooks_weaken(offset, (int)strtol(end + 1, &end, 10));
        } else {
            return usage();
        }
        if (end && *end)
            return usage();
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (unsigned i = 0; scenarios[i]; i++) {
        if (!is_wanted(scenarios[i], argv + at, argc - at))
            continue;
        printf("%s: %llu executions\n", scenarios[i]->name,
               (unsigned long long)explorer_run(scenarios[i], most));
        if (with_sites)
            print_sites(scenarios[i]->name);
    }
    return 0;
}
