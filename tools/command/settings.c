/*
 * settings.c - the table of options, and the reading of each kind of value.
 *
 * A value that weir_server_create would refuse is mostly left for it to refuse: its sentences are
 * as good. What is refused here is what could not even be written into struct weir_options.
 */
#include "tools/command/settings.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "tools/command/arguments.h"
#include "tools/command/values.h"

enum kind {
    LISTEN, HANDLER, ACCESS, HELP,
    NUMBER,                     /* uint32_t, up to max */
    TIME,                       /* uint32_t milliseconds */
    SIZE,                       /* size_t bytes, or "unbuffered" where max allows it */
    TEXT,                       /* const char * */
    MODE,                       /* uint32_t of permissions, not none */
    DISPATCH,
    CONCURRENCY,
    YES,                        /* bool, made true */
    NO,                         /* bool, made false */
    DO_NOT,                     /* enum weir_choice, made WEIR_NO */
};

struct setting {
    const char *name;
    const char *value;          /* what --help calls it; NULL: the option takes none */
    enum kind kind;
    size_t at;                  /* in struct weir_options */
    uint64_t max;
    const char *help;
};

#define AT(field) offsetof(struct weir_options, field)

static const struct setting table[] = {
    { "listen", "URI", LISTEN, 0, 0,
      "an address to serve, as often as wanted: tcp://HOST:PORT (port 0: any), unix:///PATH, "
      "unix:@NAME; of datagrams udp://HOST:PORT, unixgram:///PATH, unixgram:@NAME; fd://NUMBER; "
      "default tcp://127.0.0.1:8080" },
    { "handler", "NAME", HANDLER, 0, 0,
      "what serves the --listen options behind it, and the first --handler also those before; "
      "see `weir handlers`; default hello" },
    { "concurrency", "HOW", CONCURRENCY, 0, 0,
      "who runs the handlers: pool (threads), serial (the accepting thread), thread (one a "
      "connection), fork (a process a connection), prefork (processes with a pool each); "
      "default pool" },
    { "max-children", "N", NUMBER, AT(max_children), WEIR_MAX_CHILDREN,
      "processes at once with --concurrency fork; default 40" },
    { "processes", "N", NUMBER, AT(processes), WEIR_MAX_PROCESSES,
      "processes with --concurrency prefork; default one per CPU" },
    { "workers", "N", NUMBER, AT(workers), WEIR_MAX_WORKERS,
      "threads of the pool; default one per CPU" },
    { "worker-cpus", "LIST", TEXT, AT(worker_cpus), 0,
      "CPUs to bind the workers to in turn, such as 0,2-3; default none" },
    { "dispatch", "HOW", DISPATCH, AT(dispatch), 0,
      "who waits for a connection's next input, worker or acceptor; default worker" },
    { "acceptors", "N", NUMBER, AT(acceptors), WEIR_MAX_ACCEPTORS,
      "accepting threads; default 1" },
    { "backlog", "N", NUMBER, AT(backlog), INT32_MAX, "of listen(2); default as many as it takes" },
    { "max-connections", "N", NUMBER, AT(max_connections), UINT32_MAX,
      "open at once; default what the limit on descriptors allows" },
    { "max-per-address", "N", NUMBER, AT(max_per_address), UINT32_MAX,
      "open at once from one IPv4 or IPv6 address; default any number" },
    { "access", "FILE", ACCESS, 0, 0,
      "rules who may connect, one in a line: allow or deny, and a network, uid N or gid N; "
      "default allow or deny; read again at SIGHUP; without the option: everybody" },
    { "stack-size", "SIZE", SIZE, AT(stack_size), SIZE_MAX - 1, "of a handler; default 64K" },
    { "rbufsize", "SIZE", SIZE, AT(rbufsize), SIZE_MAX - 1, "of a read buffer; default 8K" },
    { "wbufsize", "SIZE", SIZE, AT(wbufsize), SIZE_MAX,
      "of a write buffer, or unbuffered; default 8K" },
    { "read-timeout", "TIME", TIME, AT(read_timeout_ms), 0, "of one read; default none" },
    { "write-timeout", "TIME", TIME, AT(write_timeout_ms), 0, "of one write; default none" },
    { "request-timeout", "TIME", TIME, AT(request_timeout_ms), 0,
      "of one request in total; default 60s" },
    { "idle-timeout", "TIME", TIME, AT(idle_timeout_ms), 0, "between two requests; default 75s" },
    { "drain-timeout", "TIME", TIME, AT(drain_timeout_ms), 0,
      "for the requests that run when SIGTERM comes; default 5s" },
    { "stall-warn", "TIME", TIME, AT(stall_warn_ms), 0,
      "report a handler that holds its thread longer; default 1s" },
    { "no-delay", NULL, YES, AT(disable_nagle_algorithm), 0, "set TCP_NODELAY" },
    { "reuse-port", NULL, YES, AT(reuse_port), 0, "set SO_REUSEPORT: share the port" },
    { "no-reuse-address", NULL, NO, AT(reuse_address), 0,
      "don't set SO_REUSEADDR, which is set otherwise (for UDP alone only with --multicast)" },
    { "daemon-threads", NULL, YES, AT(daemon_threads), 0,
      "end without waiting for requests that run" },
    { "no-block-on-close", NULL, DO_NOT, AT(block_on_close), 0,
      "close without waiting; the end of the process still waits" },
    { "unix-mode", "MODE", MODE, AT(unix_mode), 0,
      "permissions of Unix sockets, such as 0660; default as the umask says" },
    { "unix-owner", "USER[:GROUP]", TEXT, AT(unix_owner), 0,
      "whose Unix sockets are, names or numbers; default ours" },
    { "keep-path", NULL, YES, AT(keep_path), 0, "leave Unix sockets there at the end" },
    { "max-packet-size", "SIZE", SIZE, AT(max_packet_size), SIZE_MAX - 1,
      "of a datagram, at most 1M: a longer one is cut; default 8K" },
    { "reply-always", NULL, YES, AT(reply_always), 0,
      "answer a datagram for which nothing was written, or whose handler failed, too" },
    { "multicast", "GROUP[%IF]", TEXT, AT(multicast), 0,
      "a group that the UDP sockets join, and by which interface: its name, or an IPv4 address of "
      "it; default none" },
    { "multicast-ttl", "N", NUMBER, AT(multicast_ttl), WEIR_MAX_MULTICAST_TTL,
      "hops of what the UDP sockets send to groups; default 1" },
    { "no-multicast-loop", NULL, DO_NOT, AT(multicast_loop), 0,
      "what they send to groups is not for this machine" },
    { "help", NULL, HELP, 0, 0, "print this" },
};

enum { TABLE_LEN = sizeof(table) / sizeof(table[0]) };

#define refuse(...) arguments_refuse("serve", __VA_ARGS__)

/* ------------------------------------------------------------------ values ------------ */

static void *field(struct settings *settings, const struct setting *setting)
{
    return (char *)&settings->options + setting->at;
}

static int read_listen(struct settings *settings, const char *uri)
{
    struct weir_options *options = &settings->options;

    if (options->listeners_len == SETTINGS_LISTENERS_MAX)
        return refuse("--listen: more than %d addresses", SETTINGS_LISTENERS_MAX);
    settings->listeners[options->listeners_len++] = (struct weir_listen){
        .address = uri, .handler = options->handler };
    return 0;
}

static int read_handler(struct settings *settings, const char *name)
{
    const struct registry_entry *entry = registry_find(name);

    if (!entry)
        return refuse("--handler: there is no handler '%s'; `weir handlers` lists them", name);
    settings->options.handler = entry->handler;
    if (!settings->first_handler)
        settings->first_handler = entry;
    return 0;
}

static int read_number(struct settings *settings, const struct setting *setting, const char *text)
{
    uint64_t n;
    int r = arguments_number("serve", setting->name, text, 0, setting->max, &n);

    if (r == 0)
        *(uint32_t *)field(settings, setting) = (uint32_t)n;
    return r;
}

static int read_size(struct settings *settings, const struct setting *setting, const char *text)
{
    bool may_be_unbuffered = setting->max == WEIR_UNBUFFERED;
    uint64_t size;

    if (may_be_unbuffered && strcmp(text, "unbuffered") == 0)
        size = WEIR_UNBUFFERED;
    else if (value_size(text, SIZE_MAX - 1, &size) < 0)
        return refuse("--%s: '%s' is not a size such as 8192, 64K or 1M%s", setting->name, text,
                      may_be_unbuffered ? ", or unbuffered" : "");
    *(size_t *)field(settings, setting) = (size_t)size;
    return 0;
}

/* None at all would be the option's default, and of use to nobody. */
static int read_mode(struct settings *settings, const struct setting *setting, const char *text)
{
    uint64_t mode;

    if (value_mode(text, &mode) < 0 || mode == 0)
        return refuse("--%s: '%s' is not a mode from 0001 to 0777, such as 0660", setting->name,
                      text);
    *(uint32_t *)field(settings, setting) = (uint32_t)mode;
    return 0;
}

static int read_dispatch(struct settings *settings, const char *text)
{
    if (strcmp(text, "worker") == 0)
        settings->options.dispatch = WEIR_DISPATCH_WORKER;
    else if (strcmp(text, "acceptor") == 0)
        settings->options.dispatch = WEIR_DISPATCH_ACCEPTOR;
    else
        return refuse("--dispatch: '%s' is neither worker nor acceptor", text);
    return 0;
}

static int read_concurrency(struct settings *settings, const char *text)
{
    static const char *const names[] = {
        [WEIR_POOL] = "pool", [WEIR_SERIAL] = "serial", [WEIR_THREAD] = "thread",
        [WEIR_FORK] = "fork", [WEIR_PREFORK] = "prefork",
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(text, names[i]) == 0) {
            settings->options.concurrency = (enum weir_concurrency)i;
            return 0;
        }
    return refuse("--concurrency: '%s' is none of pool, serial, thread, fork and prefork", text);
}

static int read_setting(void *into, size_t i, const char *text)
{
    const struct setting *setting = &table[i];
    struct settings *settings = into;

    switch (setting->kind) {
    case LISTEN:
        return read_listen(settings, text);
    case HANDLER:
        return read_handler(settings, text);
    case ACCESS:
        settings->access = text;
        return 0;
    case HELP:
        settings->help = true;
        return 0;
    case NUMBER:
        return read_number(settings, setting, text);
    case TIME:
        return arguments_time("serve", setting->name, text, field(settings, setting));
    case SIZE:
        return read_size(settings, setting, text);
    case TEXT:
        *(const char **)field(settings, setting) = text;
        return 0;
    case MODE:
        return read_mode(settings, setting, text);
    case DISPATCH:
        return read_dispatch(settings, text);
    case CONCURRENCY:
        return read_concurrency(settings, text);
    case YES:
    case NO:
        *(bool *)field(settings, setting) = setting->kind == YES;
        return 0;
    case DO_NOT:
        *(enum weir_choice *)field(settings, setting) = WEIR_NO;
        return 0;
    }
    return 0;
}

/* ------------------------------------------------------------------ the line ---------- */

static struct argument describe(size_t i)
{
    return (struct argument){ table[i].name, table[i].value, table[i].help };
}

static const struct arguments arguments = {
    .command = "serve", .len = TABLE_LEN, .describe = describe, .read = read_setting,
};

/*
 * SO_REUSEADDR would let a second server take a UDP port from the first, unnoticed: it is for
 * receivers of a group. Beside another address, that one is in use then, and tells.
 */
static bool may_reuse_address(const struct weir_options *options)
{
    for (size_t i = 0; i < options->listeners_len; i++)
        if (strncmp(options->listeners[i].address, "udp:", 4) != 0)
            return true;
    return options->multicast != NULL;
}

static void complete(struct settings *settings)
{
    struct weir_options *options = &settings->options;

    if (!settings->first_handler)
        settings->first_handler = registry_find("hello");
    if (options->listeners_len == 0)
        read_listen(settings, "tcp://127.0.0.1:8080");
    for (size_t i = 0; i < options->listeners_len; i++)
        if (!settings->listeners[i].handler)
            settings->listeners[i].handler = settings->first_handler->handler;
    if (!may_reuse_address(options))
        options->reuse_address = false;
}

int settings_read(struct settings *ret_settings, int argc, char **argv)
{
    int r;

    *ret_settings = (struct settings){
        .options = {
            .size = sizeof(struct weir_options),
            .listener_size = sizeof(struct weir_listen),
            .listeners = ret_settings->listeners,
            .idle_timeout_ms = 75 * 1000,
            .request_timeout_ms = 60 * 1000,
            .drain_timeout_ms = 5 * 1000,
            .stall_warn_ms = 1000,
            .reuse_address = true,
        },
    };
    r = arguments_read(&arguments, ret_settings, argc, argv);
    if (r < 0)
        return r;
    complete(ret_settings);
    return 0;
}

/* ------------------------------------------------------------------ help -------------- */

void settings_help(FILE *to)
{
    fputs("usage: weir serve [OPTION...]\n"
          "\n"
          "Serves until SIGTERM, SIGINT or SIGQUIT, which let the requests that run finish; a second\n"
          "one ends them at once. SIGUSR1 prints a line of statistics. With --access, SIGHUP reads\n"
          "its file again; a bad one changes nothing. Without, it is one of those that end, unless\n"
          "it was ignored (nohup). SIGUSR2 means nothing.\n"
          "\n"
          "The soft limit of descriptors (ulimit -Sn) is raised to the hard one: each client takes one.\n"
          "\n", to);
    arguments_help(&arguments, to);
    fputs("\n"
          "TIME is 500ms, 10s, 2m or a number of seconds, 0 for none; SIZE is 8192, 64K or 1M.\n",
          to);
}
