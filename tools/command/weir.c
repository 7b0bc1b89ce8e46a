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

static int print_help(void)
{
    puts("usage: weir serve [OPTION...]      serve a bundled handler; weir serve --help has more\n"
         "       weir load URI [OPTION...]   drive a server; weir load --help has more\n"
         "       weir handlers               list the bundled handlers\n"
         "       weir --version              print the version\n"
         "       weir help [COMMAND]         print this, or what a command's --help has");
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

static int help(int argc, char **argv);

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    bool takes_arguments;
} commands[] = {
    { "help", help, true },
    { "serve", weir_serve, true },
    { "load", weir_load, true },
    { "handlers", print_handlers, false },
    { "--version", print_version, false },
    { "--help", help, true },
    { "-h", help, true },
};

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(name, commands[i].name) == 0)
            return &commands[i];
    return NULL;
}

static bool is_help(const char *name)
{
    const struct command *command = find_command(name);

    return command && command->run == help;
}

static int run_command(int argc, char **argv)
{
    const struct command *command = find_command(argv[0]);

    if (!command) {
        say("weir: there is no command '%s'; see `weir --help`", argv[0]);
        return 2;
    }
    if (command->takes_arguments || argc == 1)
        return command->run(argc, argv);
    if (argc == 2 && is_help(argv[1]))
        return print_help();
    say("weir: %s takes no arguments", argv[0]);
    return 2;
}

/* Of a command that has no help of its own, the line about it is here. */
static int help(int argc, char **argv)
{
    if (argc == 1 || (argc == 2 && is_help(argv[1])))
        return print_help();
    if (argc == 2)
        return run_command(2, (char *[]){ argv[1], (char[]){ "--help" }, NULL });
    say("weir: %s takes one command", argv[0]);
    return 2;
}

/*
 * Whoever was started without a standard stream has its number free, and would print into whatever
 * it opens next. A result that is printed nowhere is a failure all the same: what stands in for
 * standard output can't be written. Where there is no /dev, a descriptor that can't be used at all
 * is as good as a closed one.
 */
static void keep_standard_numbers(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 &&
                open("/dev/null", fd == STDOUT_FILENO ? O_RDONLY : O_RDWR) < 0)
            open("/", O_PATH);
}

/* A result that did not get out is none. */
static int end(int status)
{
    errno = EIO;        /* unless fflush has another: what failed before it, is known no more */
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
    return end(run_command(argc - 1, argv + 1));
}
