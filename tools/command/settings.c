/*
 * settings.c - the table of options, and the values that only this command has.
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

#define refuse(...) arguments_refuse("serve", __VA_ARGS__)

/* ------------------------------------------------------------------ values ------------ */

/* Where no --listen says another. */
#define DEFAULT_ADDRESS "tcp://127.0.0.1:8080"

/* What --listen begins with where a service manager has opened the sockets. */
#define PASSED "systemd:"

/* Two servers of one descriptor are nothing that the kernel would explain. */
static bool has_descriptor(const struct settings *settings, const char *uri)
{
    if (strncmp(uri, "fd:", 3) != 0)
        return false;
    for (size_t i = 0; i < settings->options.listeners_len; i++)
        if (strcmp(settings->listeners[i].address, uri) == 0)
            return true;
    return false;
}

/* text: what --listen has said. */
static int add_address(struct settings *settings, const char *text, const char *uri)
{
    struct weir_options *options = &settings->options;

    if (options->listeners_len == SETTINGS_LISTENERS_MAX)
        return refuse("--listen: more than %d addresses", SETTINGS_LISTENERS_MAX);
    if (has_descriptor(settings, uri))
        return refuse("--listen: %s is served already, by an earlier --listen", uri);
    settings->addresses[options->listeners_len] = text;
    settings->listeners[options->listeners_len++] = (struct weir_listen){
        .address = uri, .handler = options->handler };
    return 0;
}

static int add_passed(struct settings *settings, const char *text, uint32_t i)
{
    size_t at = settings->options.listeners_len;
    char *uri = settings->passed_uris[at < SETTINGS_LISTENERS_MAX ? at : 0];

    if (at < SETTINGS_LISTENERS_MAX)
        snprintf(uri, SETTINGS_FD_SIZE, "fd://%u", ACTIVATION_FIRST_FD + i);
    return add_address(settings, text, uri);
}

/* All sockets that were passed, or those of a name, in their order. */
static int add_all_passed(struct settings *settings, const char *text)
{
    const char *name = text + strlen(PASSED);
    const struct activation *passed = &settings->passed;
    bool found = false;
    int r = 0;

    if (passed->len == 0)
        return refuse("--listen %s: %s", text, passed->why);
    for (uint32_t i = 0; r == 0 && i < passed->len; i++) {
        if (*name != '\0' && !activation_is_named(passed, i, name))
            continue;
        found = true;
        r = add_passed(settings, text, i);
    }
    if (!found)
        return refuse("--listen %s: no socket of that name was passed, but these: %s", text,
                      passed->names ? passed->names : "unknown");
    return r;
}

static bool is_passed(const char *text)
{
    return strncmp(text, PASSED, strlen(PASSED)) == 0;
}

/*
 * Whose socket it is stays as it was: a service manager's, or the shell's. To take over another
 * server's path would be to remove it at the end.
 */
static int add_handed_on(struct settings *settings, const char *text, const struct handed_on *line)
{
    size_t at = settings->options.listeners_len;
    int r = add_address(settings, text, line->fds);

    if (r < 0)
        return r;
    settings->files[at] = line->file;
    if (!is_passed(text) && strncmp(text, "fd:", 3) != 0 && !handover_path_is_anothers(line))
        settings->listeners[at].taken_over = WEIR_YES;
    return 0;
}

/* All that another process has handed on for such an option. Returns how many, or -EINVAL. */
static int add_all_handed_on(struct settings *settings, const char *text)
{
    const struct handed_on *line;
    int count = 0;

    /* Only "systemd:" stands for several listeners: any other may be given twice. */
    while ((count == 0 || is_passed(text)) && (line = handover_take(&settings->handover, text))) {
        if (add_handed_on(settings, text, line) < 0)
            return -EINVAL;
        count++;
    }
    return count;
}

static int read_listen(void *into, const struct argument *argument, const char *text)
{
    int count = add_all_handed_on(into, text);

    (void)argument;
    if (count != 0)
        return count < 0 ? count : 0;
    return is_passed(text) ? add_all_passed(into, text) : add_address(into, text, text);
}

static int read_handler(void *into, const struct argument *argument, const char *name)
{
    const struct registry_entry *entry = registry_find(name);
    struct settings *settings = into;

    (void)argument;
    if (!entry)
        return refuse("--handler: there is no handler '%s'; `weir handlers` lists them", name);
    settings->options.handler = entry->handler;
    if (!settings->first_handler)
        settings->first_handler = entry;
    return 0;
}

static int read_wbufsize(void *into, const struct argument *argument, const char *text)
{
    struct settings *settings = into;

    if (strcmp(text, "unbuffered") != 0)
        return arguments_size("serve", argument->name, text, ", or unbuffered",
                              &settings->options.wbufsize);
    settings->options.wbufsize = WEIR_UNBUFFERED;
    return 0;
}

/* None at all would be the option's default, and of use to nobody. */
static int read_mode(void *into, const struct argument *argument, const char *text)
{
    struct settings *settings = into;
    uint64_t mode;

    if (value_mode(text, &mode) < 0 || mode == 0)
        return refuse("--%s: '%s' is not a mode from 0001 to 0777, such as 0660", argument->name,
                      text);
    settings->options.unix_mode = (uint32_t)mode;
    return 0;
}

static int read_dispatch(void *into, const struct argument *argument, const char *text)
{
    struct settings *settings = into;

    (void)argument;
    if (strcmp(text, "worker") == 0)
        settings->options.dispatch = WEIR_DISPATCH_WORKER;
    else if (strcmp(text, "acceptor") == 0)
        settings->options.dispatch = WEIR_DISPATCH_ACCEPTOR;
    else
        return refuse("--dispatch: '%s' is neither worker nor acceptor", text);
    return 0;
}

static int read_concurrency(void *into, const struct argument *argument, const char *text)
{
    static const char *const names[] = {
        [WEIR_POOL] = "pool", [WEIR_SERIAL] = "serial", [WEIR_THREAD] = "thread",
        [WEIR_FORK] = "fork", [WEIR_PREFORK] = "prefork",
    };
    struct settings *settings = into;

    (void)argument;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(text, names[i]) == 0) {
            settings->options.concurrency = (enum weir_concurrency)i;
            return 0;
        }
    return refuse("--concurrency: '%s' is none of pool, serial, thread, fork and prefork", text);
}

static int read_when_queued(void *into, const struct argument *argument, const char *text)
{
    struct settings *settings = into;

    (void)argument;
    if (strcmp(text, "pause") == 0)
        settings->options.when_queued = WEIR_PAUSE;
    else if (strcmp(text, "refuse") == 0)
        settings->options.when_queued = WEIR_REFUSE;
    else
        return refuse("--when-queued: '%s' is neither pause nor refuse", text);
    return 0;
}

static const struct arguments arguments;

static int read_options(void *into, const struct argument *argument, const char *path)
{
    struct settings *settings = into;

    (void)argument;
    if (settings->file.path)
        return refuse("--options: there is a file of options already, %s", settings->file.path);
    return options_file_read(&settings->file, &arguments, settings, path);
}

/* ------------------------------------------------------------------ the table --------- */

#define NUMBER(field, most) \
    ARGUMENT_RANGE(ARGUMENT_NUMBER, struct settings, options.field, 0, most)
#define TIME(field) \
    ARGUMENT_RANGE(ARGUMENT_TIME, struct settings, options.field, 0, UINT32_MAX)
#define SIZE(field) ARGUMENT_AT(ARGUMENT_SIZE, struct settings, options.field)
#define TEXT(field) ARGUMENT_AT(ARGUMENT_TEXT, struct settings, options.field)
#define CHOICE(field, choice) \
    ARGUMENT_RANGE(ARGUMENT_CHOICE, struct settings, options.field, 0, choice)
#define YES(field) CHOICE(field, WEIR_YES)
#define NO(field) CHOICE(field, WEIR_NO)

static const struct argument table[] = {
    { "options", "FILE", ARGUMENT_BY(read_options),
      "further options, one in a line as NAME = VALUE, or NAME alone, without the two dashes; # "
      "begins a comment; they count as if they stood here; see above for SIGHUP" },
    { "listen", "URI", ARGUMENT_BY(read_listen),
      "an address to serve, as often as wanted: tcp://HOST:PORT (port 0: any), unix:///PATH, "
      "unix:@NAME; of datagrams udp://HOST:PORT, unixgram:///PATH, unixgram:@NAME; fd://NUMBER; "
      "systemd: (every socket that the service manager passed) or systemd:NAME (those of that "
      "name); default " DEFAULT_ADDRESS },
    { "handler", "NAME", ARGUMENT_BY(read_handler),
      "handler for the --listen options that follow; the first one also serves those before it; "
      "see `weir handlers`; default hello" },
    { "concurrency", "HOW", ARGUMENT_BY(read_concurrency),
      "what runs the handlers: pool (threads), serial (the accepting thread), thread (one per "
      "connection), fork (a process per connection), prefork (processes with a pool each); "
      "default pool" },
    { "max-children", "N", NUMBER(max_children, WEIR_MAX_CHILDREN),
      "processes at once with --concurrency fork; default 40" },
    { "processes", "N", NUMBER(processes, WEIR_MAX_PROCESSES),
      "processes with --concurrency prefork; default one per CPU" },
    { "workers", "N", NUMBER(workers, WEIR_MAX_WORKERS),
      "threads of the pool; default one per CPU" },
    { "worker-cpus", "LIST", TEXT(worker_cpus),
      "CPUs to bind the workers to in turn, such as 0,2-3; default none" },
    { "dispatch", "HOW", ARGUMENT_BY(read_dispatch),
      "which thread waits for a connection's next input, worker or acceptor; default worker" },
    { "acceptors", "N", NUMBER(acceptors, WEIR_MAX_ACCEPTORS),
      "accepting threads; default 1" },
    { "backlog", "N", NUMBER(backlog, INT32_MAX),
      "clients that may wait to be accepted, as in listen(2); default the kernel's most" },
    { "max-connections", "N", NUMBER(max_connections, UINT32_MAX),
      "open at once; default what the limit on descriptors allows" },
    { "max-per-address", "N", NUMBER(max_per_address, UINT32_MAX),
      "open at once from one IPv4 or IPv6 address, 0: any number; default half of those that "
      "may be open at all, but any number from this machine's loopback addresses" },
    { "queue-target", "TIME", TIME(queue_target_ms),
      "how long a new connection may wait for a thread of the pool: once all wait longer, those "
      "that have waited for twice as long are turned away, HTTP's with 503; default none" },
    { "max-queued", "N", NUMBER(max_queued, UINT32_MAX),
      "ready connections that may wait for a thread of the pool; default any number" },
    { "when-queued", "HOW", ARGUMENT_BY(read_when_queued),
      "what happens while as many wait: pause (nobody is accepted) or refuse (as "
      "--queue-target); default pause" },
    { "access", "FILE", ARGUMENT_AT(ARGUMENT_TEXT, struct settings, access),
      "rules who may connect, one in a line: allow or deny, and a network, uid N or gid N; "
      "default allow or deny; read again at SIGHUP; without the option: everybody" },
    { "stack-size", "SIZE", SIZE(stack_size), "stack of a handler; default 64K" },
    { "rbufsize", "SIZE", SIZE(rbufsize), "size of a read buffer; default 8K" },
    { "wbufsize", "SIZE", ARGUMENT_BY(read_wbufsize),
      "size of a write buffer, or unbuffered; default 8K" },
    { "read-timeout", "TIME", TIME(read_timeout_ms), "limit for one read; default none" },
    { "write-timeout", "TIME", TIME(write_timeout_ms), "limit for one write; default none" },
    { "head-timeout", "TIME", TIME(head_timeout_ms),
      "limit for the head of a request, or all of a short one, and for a client that says nothing; "
      "default 30s" },
    { "progress-timeout", "TIME", TIME(progress_timeout_ms),
      "limit for each 64K of a body or a reply to move, when they wait for the client; default "
      "60s" },
    { "request-timeout", "TIME", TIME(request_timeout_ms),
      "limit for one request in total; default 60m" },
    { "idle-timeout", "TIME", TIME(idle_timeout_ms), "limit between two requests; default 75s" },
    { "drain-timeout", "TIME", TIME(drain_timeout_ms),
      "limit for the requests that run when SIGTERM comes; default 5s" },
    { "stall-warn", "TIME", TIME(stall_warn_ms),
      "report a handler that holds its thread longer; default 1s" },
    { "no-delay", NULL, YES(disable_nagle_algorithm), "set TCP_NODELAY" },
    { "reuse-port", NULL, YES(reuse_port), "set SO_REUSEPORT: other servers may share the port" },
    { "no-reuse-address", NULL, NO(reuse_address),
      "don't set SO_REUSEADDR, which is set by default (for UDP only with --multicast)" },
    { "daemon-threads", NULL, YES(daemon_threads),
      "end without waiting for requests that run" },
    { "no-block-on-close", NULL, NO(block_on_close),
      "close without waiting; the end of the process still waits" },
    { "unix-mode", "MODE", ARGUMENT_BY(read_mode),
      "permissions of Unix sockets, such as 0660; default by the umask" },
    { "user", "USER[:GROUP]", ARGUMENT_AT(ARGUMENT_TEXT, struct settings, user),
      "the user to become, by name or number, once the sockets are bound; the group is the user's "
      "own by default; it takes root; default none" },
    { "sandbox", NULL, ARGUMENT_AT(ARGUMENT_YES, struct settings, sandbox),
      "once the sockets are bound, leave the server only the system calls and files that serving "
      "takes (seccomp, Landlock)" },
    { "unix-owner", "USER[:GROUP]", TEXT(unix_owner),
      "owner of Unix sockets, by name or number; default the user and group of --user, or "
      "those that start the server" },
    { "keep-path", NULL, YES(keep_path), "leave Unix sockets in place at the end" },
    { "max-packet-size", "SIZE", SIZE(max_packet_size),
      "longest datagram, at most 1M: a longer one is cut; default 8K" },
    { "reply-always", NULL, YES(reply_always),
      "also answer a datagram for which the handler wrote nothing, or failed" },
    { "multicast", "GROUP[%IF]", TEXT(multicast),
      "a group that the UDP sockets join, and the interface, by its name or one of its IPv4 "
      "addresses; default none" },
    { "multicast-ttl", "N", NUMBER(multicast_ttl, WEIR_MAX_MULTICAST_TTL),
      "hops that datagrams to groups may take; default 1" },
    { "no-multicast-loop", NULL, NO(multicast_loop),
      "datagrams to groups do not come back to this machine" },
    { "help", NULL, ARGUMENT_AT(ARGUMENT_YES, struct settings, help), "print this" },
};

/* ------------------------------------------------------------------ the line ---------- */

_Static_assert(sizeof(table) / sizeof(table[0]) <= ARGUMENTS_MAX, "the table");

static const struct arguments arguments = {
    .command = "serve", .table = table, .len = sizeof(table) / sizeof(table[0]),
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

/*
 * Not for a successor of a server that had other addresses: a file of options without any has been
 * emptied by mistake, or is not written yet. Who means the default can name it.
 */
static int listen_by_default(struct settings *settings)
{
    const struct handover *handover = &settings->handover;

    for (unsigned i = 0; i < handover->len; i++)
        if (strcmp(handover->lines[i].address, DEFAULT_ADDRESS) != 0)
            return refuse("no --listen is left, and %s is served: name it, or the default, "
                          DEFAULT_ADDRESS, handover->lines[i].address);
    return read_listen(settings, NULL, DEFAULT_ADDRESS);
}

static int complete_settings(struct settings *settings)
{
    struct weir_options *options = &settings->options;
    int r = options->listeners_len == 0 ? listen_by_default(settings) : 0;

    if (r < 0)
        return r;
    if (!settings->first_handler)
        settings->first_handler = registry_find("hello");
    for (size_t i = 0; i < options->listeners_len; i++)
        if (!settings->listeners[i].handler)
            settings->listeners[i].handler = settings->first_handler->handler;
    if (!may_reuse_address(options))
        options->reuse_address = WEIR_NO;
    return 0;
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
            .head_timeout_ms = 30 * 1000,
            .progress_timeout_ms = 60 * 1000,
            .request_timeout_ms = 60 * 60 * 1000,
            .drain_timeout_ms = 5 * 1000,
            .stall_warn_ms = 1000,
            .max_per_address = WEIR_HALF,
            .reuse_address = WEIR_YES,
        },
    };
    handover_read(&ret_settings->handover);
    activation_read(&ret_settings->passed);
    r = arguments_read(&arguments, ret_settings, argc, argv);
    activation_forget();
    if (r == 0)
        r = complete_settings(ret_settings);
    if (r == 0)
        handover_finish(&ret_settings->handover);
    return r;
}

/* ------------------------------------------------------------------ help -------------- */

void settings_help(FILE *to)
{
    fputs("usage: weir serve [OPTION...]\n"
          "\n"
          "Serves until SIGTERM, SIGINT or SIGQUIT arrives, and then lets the running requests\n"
          "finish; a second signal ends them at once. SIGUSR1 prints a line of statistics, and\n"
          "which clients are connected, what each waits for, and for how long. SIGUSR2 starts\n"
          "the same command line anew with the sockets of this process, which drains once the\n"
          "other one serves, and serves on if that fails.\n"
          "\n"
          "SIGHUP does the same if the file of --options has changed: all of it takes effect, or\n"
          "nothing if there is a mistake, if no --listen is left, or if none can be started, as\n"
          "with --sandbox. If that file has not changed, the file of --access is read again; a\n"
          "bad one changes nothing.\n"
          "Without either option SIGHUP ends the server as SIGTERM does, unless\n"
          "it was ignored from the start (nohup).\n"
          "\n"
          "Started as root, it should have --user. FILE of --access is read as that user, who may\n"
          "not be able to remove Unix sockets at the end: the next start takes their place.\n"
          "No program that is executed gets more rights than the server has (no_new_privs).\n"
          "With --sandbox none can be executed, no socket made and no file written; what is read\n"
          "is the folder of --access, and /proc. A call beyond that fails, and ends nothing.\n"
          "\n"
          "A service manager such as systemd is told (NOTIFY_SOCKET) when the server serves,\n"
          "reads its rules, and stops, and every half of WATCHDOG_USEC that it is not stuck.\n"
          "\n"
          "Each client takes a descriptor, so the soft limit (ulimit -Sn) is raised to the hard\n"
          "one.\n"
          "\n", to);
    arguments_help(&arguments, to);
    fputs("\n"
          "TIME is 500ms, 10s, 2m or a number of seconds, 0 for none; SIZE is 8192, 64K or 1M.\n",
          to);
}
