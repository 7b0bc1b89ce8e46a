/*
 * race.c - a server that counts lines, and locks its counter or does not: what ThreadSanitizer says
 * of a program that embeds weir.
 *
 * Usage: race ADDRESS locked|racing
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <weir/weir.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool locked;
static int lines;

static void count(void)
{
    if (locked)
        pthread_mutex_lock(&lock);
    lines++;
    if (locked)
        pthread_mutex_unlock(&lock);
}

static int count_lines(struct weir_request *req)
{
    char *line;
    ssize_t n;

    while ((n = weir_readline(req, &line, 100)) > 0) {
        count();
        weir_write(req, line, (size_t)n);
    }
    return (int)n;
}

static const struct weir_handler handler = { .name = "count", .handle = count_lines };

int main(int argc, char **argv)
{
    struct weir_server *server;

    if (argc != 3)
        return 2;
    locked = strcmp(argv[2], "locked") == 0;
    if (weir_server_create(&server, WEIR_OPTIONS(.listen = argv[1], .handler = &handler,
                                                 .workers = 2)) < 0) {
        fprintf(stderr, "race: %s\n", weir_why());
        return 1;
    }
    weir_serve_forever(server);
    weir_server_destroy(server);
    return 0;
}
