/*
 * weir.c - the command. Results go to standard output, everything else to standard error; a usage
 * error is one line there and exit status 2.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <weir/weir.h>

#include "handlers/registry.h"
#include "tools/command/load.h"
#include "tools/command/say.h"
#include "tools/command/serve.h"

static int print_help(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    puts("usage: weir serve [OPTION...]      serve a bundled handler; weir serve --help has more\n"
         "       weir load URI [OPTION...]   drive a server; weir load --help has more\n"
         "       weir handlers               list the bundled handlers\n"
         "       weir --version              print the version\n"
         "       weir --help                 print this");
    return 0;
}

static int print_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    puts("weir " WEIR_VERSION);
    return 0;
}

static int print_handlers(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    for (size_t i = 0; i < registry_len; i++)
        printf("%-8s %s\n", registry[i].handler->name, registry[i].summary);
    return 0;
}

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    bool takes_arguments;
} commands[] = {
    { "serve", weir_serve, true },
    { "load", weir_load, true },
    { "handlers", print_handlers, false },
    { "--version", print_version, false },
    { "--help", print_help, false },
    { "-h", print_help, false },
};

/*
 * Whoever was started without a standard stream has its number free, and would print into whatever
 * it opens next. Where there is no /dev, a descriptor that can't be used at all is as good as a
 * closed one.
 */
static void keep_standard_numbers(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
            open("/", O_PATH);
}

/* A result that did not get out is none. */
static int end(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): glibc's is safe since 2.32 */
    say("weir: standard output can't be written: %s", strerror(errno));
    return status == 0 ? 1 : status;
}

int main(int argc, char **argv)
{
    keep_standard_numbers();
    if (argc < 2) {
        say("weir: say what to do, such as `weir serve`; see `weir --help`");
        return 2;
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        if (argc > 2 && !commands[i].takes_arguments) {
            say("weir: %s takes no arguments", argv[1]);
            return 2;
        }
        return end(commands[i].run(argc - 1, argv + 1));
    }
    say("weir: there is no command '%s'; see `weir --help`", argv[1]);
    return 2;
}
