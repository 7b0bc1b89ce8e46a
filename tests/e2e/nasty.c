/*
 * nasty.c - handlers that make it hard to stop, for the command in place of its own. Each answers a
 * line first, so that its client knows that it has begun.
 */
#include "handlers/registry.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

static int answer_line(struct weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n > 0)
        n = weir_write(req, line, (size_t)n);
    return n < 0 ? (int)n : weir_flush(req);
}

static int spin(struct weir_request *req)
{
    volatile bool forever = answer_line(req) == 0;

    while (forever)
        ;
    return 0;
}

static int block(struct weir_request *req)
{
    int r = answer_line(req);

    while (r == 0)
        pause();
    return r;
}

static int ignore(struct weir_request *req)
{
    int r = answer_line(req);

    while (r == 0) {
        weir_sleep(req, 1);
        usleep(1000);
    }
    return r;
}

static int wait_long(struct weir_request *req)
{
    int r = answer_line(req);

    return r == 0 ? weir_sleep(req, 1000 * 1000) : r;
}

static const struct weir_handler spins = { .name = "spins", .handle = spin };
static const struct weir_handler blocks = { .name = "blocks", .handle = block };
static const struct weir_handler ignores = { .name = "ignores", .handle = ignore };
static const struct weir_handler waits = { .name = "waits", .handle = wait_long };

const struct registry_entry registry[] = {
    { &spins, "computes for ever" },
    { &blocks, "waits for ever" },
    { &ignores, "goes on when it is cancelled" },
    { &waits, "waits until it is cancelled" },
};

const size_t registry_len = sizeof(registry) / sizeof(registry[0]);

const struct registry_entry *registry_find(const char *name)
{
    for (size_t i = 0; i < registry_len; i++)
        if (strcmp(registry[i].handler->name, name) == 0)
            return &registry[i];
    return NULL;
}
