/*
 * serve.c - one server in a process: signals in, addresses and statistics out.
 *
 * Every thread blocks the signals that mean something here, and one thread waits for them: so
 * what a signal does is ordinary code, which may print. It never waits for who reads that: a
 * server with a full pipe as its standard error still ends, and takes new rules.
 *
 *   signal            while it serves      while it drains, or again
 *   SIGTERM, SIGINT,  stop, then drain     cancel: what is parked ends at once, and the process
 *   SIGQUIT                                ends PATIENCE_MS later at most, or that long after the
 *                                          drain has begun; prefork's parent has PARENT_MS more
 *   SIGUSR1           statistics, and who is connected: the same
 *   SIGUSR2           starts a successor   nothing
 *   SIGHUP            reads the rules of   reads the rules of --access again; or, if a successor
 *                     --access again; or,  serves, is passed on to that
 *                     if the file of
 *                     --options has
 *                     changed, as SIGUSR2,
 *                     or only a line where
 *                     that is impossible
 *
 * Without --options and --access SIGHUP is as SIGTERM: the terminal has gone. Unless it was ignored
 * from the start, as nohup has it.
 *
 * A successor is the same command line, started anew with this process's sockets (handover.h).
 *
 *   state             leaves by
 *   SUCCESSOR_NONE    SIGUSR2               -> STARTS  unless the server drains
 *   SUCCESSOR_STARTS  it says that it serves -> SERVES this process hands on, stops and drains
 *                     it ends, or takes too  -> NONE   this process serves on
 *                     long
 *                     SIGTERM                -> ENDS   this process drains, and the successor is
 *                                                      told to end, too
 *   SUCCESSOR_ENDS    it ends; or it is      -> NONE   this process may end
 *                     killed, when this one
 *                     would end without what
 *                     handlers still do
 *   SUCCESSOR_SERVES  never
 *
 * SIGHUP in STARTS waits for what becomes of the successor, which may have read the files before:
 * if it serves, SIGHUP is for it, now and later. Once that one has ended, a line says that nothing
 * is read again.
 *
 * A service manager that has set NOTIFY_SOCKET is told what happens: see notify.h.
 */
#include "tools/command/serve.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <weir/weir.h>

#include "engine/base/clock.h"
#include "tools/command/handover.h"
#include "tools/command/notify.h"
#include "tools/command/privileges.h"
#include "tools/command/sandbox.h"
#include "tools/command/say.h"
#include "tools/command/settings.h"
#include "tools/load/descriptors.h"

enum {
    FEW_DESCRIPTORS = 256,
    STATS_SIZE = 2048,          /* 20 digits and a name for each */
    DUMPED_MAX = 256,           /* connections: a pipe that is empty has room for their lines */
    LOOK_MS = 20,               /* between two looks at a successor that starts */
    PATIENCE_MS = 3000,         /* for cancelled handlers: longer than the engine's with children */
    PARENT_MS = 12000,          /* ... and for what prefork's parent does before its drain */
};

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct attendant {
    struct weir_server *server;
    const char *access;         /* the file of rules, or NULL */
    struct succession succession;
    struct successor successor;
    bool stopped;               /* an order to stop has come */
    bool reload_waits;          /* SIGHUP has come while the successor starts */
    uint64_t end_at_ms;         /* the process ends by then, whatever handlers do; 0: it need not */
    uint64_t allowed_ms;        /* what handlers had from the order that has set end_at_ms on */
    _Atomic uint64_t drains_at_ms;  /* when serving had ended; 0: it has not */
    sigset_t signals;
    pthread_t thread;
    sem_t waits;                /* the thread has begun */
    atomic_bool dismissed;
};

/* ------------------------------------------------------------------ what it says ------ */

static void print_listening(struct weir_server *server)
{
    char address[WEIR_ADDRESS_SIZE];

    for (size_t i = 0; weir_server_address(server, i, address, sizeof(address)) >= 0; i++)
        say_now("weir: listening on %s", address);
}

static struct settings settings;
static bool tells_what_to_try;  /* only to who gave no option, and so is served hello over HTTP */

static void print_try(struct weir_server *server)
{
    char address[WEIR_ADDRESS_SIZE];

    if (weir_server_address(server, 0, address, sizeof(address)) >= 0)
        say_now("try: curl http%s/", strchr(address, ':'));
}

/* Who waits for the line may count on what it says: threads and children are there. */
static void announce(struct weir_server *server)
{
    print_listening(server);
    if (tells_what_to_try)
        print_try(server);
    /* The predecessor is the one that the manager listens to yet. */
    if (!handover_say_ready(&settings.handover))
        notify_ready();
    /* Not before: a predecessor that has not heard it may have to serve on, at these paths. */
    if (settings.options.keep_path != WEIR_YES)
        handover_remove_paths(&settings.handover);
}

/* The server's service_actions: as long as its accepting thread comes here, it is not stuck. */
static void show_life(struct weir_server *server)
{
    static bool announced;

    if (announced)
        notify_alive();
    else
        announce(server);
    announced = true;
}

static uint64_t value_of_stat(const struct weir_stats *stats, const struct weir_stat *field)
{
    uint64_t value;

    memcpy(&value, (const char *)stats + field->offset, sizeof(value));
    return value;
}

/* All of them, and two that are easier to read. */
static void print_stats(struct weir_server *server)
{
    char words[STATS_SIZE] = "";
    const struct weir_stat *field;
    struct weir_stats stats;
    size_t len = 0;

    if (weir_server_stats(server, &stats, sizeof(stats)) < 0)
        return;
    for (size_t i = 0; (field = weir_stats_field(i)) && len < sizeof(words); i++)
        len += (size_t)snprintf(words + len, sizeof(words) - len, " %s=%" PRIu64, field->name,
                                value_of_stat(&stats, field));
    say_now("weir: stats%s errors=%" PRIu64 " busy_ms=%" PRIu64, words,
            stats.setup_errors + stats.handle_errors + stats.finish_errors + stats.verify_errors,
            stats.busy_ns / 1000000);
}

static void print_line(void *arg, const char *text, size_t len)
{
    (void)arg;
    (void)len;
    say_now("%s", text);
}

static void print_dump(struct weir_server *server)
{
    weir_server_dump(server, DUMPED_MAX, print_line, NULL);
}

/* ------------------------------------------------------------------ signals ----------- */

/* Puts the file's rules in force; bad ones leave those that are. 0, or -errno: see weir_why(). */
static int load_access(struct weir_server *server, const char *path)
{
    struct weir_access *access;
    int r = weir_access_read(path, &access);

    return r == 0 ? weir_server_set_access(server, access) : r;
}

static void reload_access(const struct attendant *attendant)
{
    if (!attendant->access)
        say_now("weir: options: %s is as it was", settings.file.path);
    else if (load_access(attendant->server, attendant->access) == 0)
        say_now("weir: access: read %s", attendant->access);
    else
        say_now("weir: access: the rules stay as they are: %s", weir_why());
}

static void end_within(struct attendant *attendant, uint64_t allowed_ms)
{
    attendant->allowed_ms = allowed_ms;
    attendant->end_at_ms = clock_ms() + allowed_ms;
}

/* The drain has its time; handlers that it cancels then have PATIENCE_MS. */
static void begin_to_stop(struct attendant *attendant)
{
    uint32_t timeout_ms = settings.options.drain_timeout_ms;

    if (timeout_ms > 0)
        end_within(attendant, (uint64_t)timeout_ms + PATIENCE_MS);
    weir_server_stop(attendant->server);
}

/* Returns NULL if one can be started. */
static const char *why_no_successor(void)
{
    if (settings.sandbox)
        return "from within --sandbox no program can be started";
    if (getpid() == 1)
        return "all processes of a container end with its first one, which this is";
    return NULL;
}

static void start_successor(struct attendant *attendant)
{
    int r;

    notify_reloading();
    r = successor_start(&attendant->successor, &attendant->succession, attendant->server);
    if (r == 0)
        return;
    say_now("weir: a successor can't be started: %s: %s: this process serves on",
            attendant->succession.argv[0], strerrordesc_np(-r));
    notify_ready();
}

/* SIGUSR2: unless a successor starts or serves already, or this server drains. */
static void restart(struct attendant *attendant)
{
    const char *why;

    if (attendant->stopped || attendant->successor.state != SUCCESSOR_NONE)
        return;
    why = why_no_successor();
    if (why)
        say_now("weir: a successor can't be started: %s: this process serves on", why);
    else
        start_successor(attendant);
}

/*
 * why: the options have changed, and no successor can take them over. The rules may have been
 * changed with them, so they stay, too. NULL: the options are as they were.
 */
static void reload_in_place(const struct attendant *attendant, const char *why)
{
    notify_reloading();
    if (why)
        say_now("weir: options: %s has changed, which takes a stop and a start: %s",
                settings.file.path, why);
    else
        reload_access(attendant);
    notify_ready();
}

/* A successor reads all that there is, and serves or ends: all takes effect, or none. */
static void reload(struct attendant *attendant)
{
    bool has_changed = !attendant->stopped && settings.file.path &&
                       options_file_has_changed(&settings.file);
    const char *why = has_changed ? why_no_successor() : NULL;

    if (has_changed && !why) {
        say_now("weir: options: %s has changed: a successor is to read it", settings.file.path);
        start_successor(attendant);
    } else {
        reload_in_place(attendant, why);
    }
}

/* Whoever serves, or is about to, is whom SIGHUP is for. */
static void obey_hangup(struct attendant *attendant)
{
    attendant->reload_waits = attendant->successor.state == SUCCESSOR_STARTS;
    if (attendant->successor.state == SUCCESSOR_SERVES)
        successor_hang_up(&attendant->successor);
    else if (!attendant->reload_waits && (attendant->access || !attendant->stopped))
        reload(attendant);
}

/* One that serves is followed: who comes from now on, and who waits, is its client. */
static void hand_on(struct attendant *attendant)
{
    weir_server_hand_on(attendant->server);
    notify_handed_on(attendant->successor.pid);
    say_now("weir: process %d serves from now on, and this one drains",
            (int)attendant->successor.pid);
    begin_to_stop(attendant);
}

static void look_at_successor(struct attendant *attendant)
{
    bool starts = attendant->successor.state == SUCCESSOR_STARTS;

    successor_look(&attendant->successor);
    if (!starts)
        return;
    if (attendant->successor.state == SUCCESSOR_SERVES)
        hand_on(attendant);
    else if (attendant->successor.state == SUCCESSOR_NONE)
        notify_ready();
    if (attendant->reload_waits)
        obey_hangup(attendant);
}

static void stop_or_cancel(struct attendant *attendant)
{
    if (attendant->stopped) {
        end_within(attendant, PATIENCE_MS);
        weir_server_cancel(attendant->server);
        return;
    }
    attendant->stopped = true;
    successor_drop(&attendant->successor);
    notify_stopping();
    begin_to_stop(attendant);
}

/*
 * The parent of prefork's children takes its time before it drains: it waits for those that a
 * signal has stopped, or for the first one to accept. Only the drain behind it kills children: if
 * the process ended before, they would be left. The parent runs no handler, so it gets there.
 * Elsewhere the serving thread may run a handler, for ever: there the order is what counts.
 */
static bool time_is_up(const struct attendant *attendant)
{
    /* relaxed: a time, and nothing is read behind it. pairs: attendant_note_drain() */
    uint64_t drains_at_ms = atomic_load_explicit(&attendant->drains_at_ms, memory_order_relaxed);
    uint64_t now_ms = clock_ms();

    if (attendant->end_at_ms == 0)
        return false;
    if (settings.options.concurrency == WEIR_PREFORK)
        return now_ms >= attendant->end_at_ms + PARENT_MS;
    if (now_ms < attendant->end_at_ms)
        return false;
    return drains_at_ms == 0 || now_ms >= drains_at_ms + attendant->allowed_ms;
}

/* What neither returns nor waits can't be cancelled. closed: no handler is left. */
static void end_at_last(struct attendant *attendant, bool closed)
{
    successor_kill(&attendant->successor);
    if (closed)
        return;
    say_now("weir: a handler neither returns nor waits: the process ends without it");
    _exit(EXIT_FAILED);
}

static void obey_signal(struct attendant *attendant, int signal_number)
{
    if (signal_number == SIGUSR1) {
        print_stats(attendant->server);
        print_dump(attendant->server);
    } else if (signal_number == SIGUSR2) {
        restart(attendant);
    } else if (signal_number == SIGHUP && (attendant->access || settings.file.path)) {
        obey_hangup(attendant);
    } else {
        stop_or_cancel(attendant);
    }
}

/* The next signal; or 0 after a while, if there is something else to look at. */
static int wait_for_signal(const struct attendant *attendant)
{
    static const struct timespec look = { .tv_nsec = LOOK_MS * 1000000 };
    enum successor_state state = attendant->successor.state;
    int signal_number;

    if (state == SUCCESSOR_STARTS || state == SUCCESSOR_ENDS || attendant->end_at_ms > 0)
        signal_number = sigtimedwait(&attendant->signals, NULL, &look);
    else
        signal_number = sigwaitinfo(&attendant->signals, NULL);
    return signal_number < 0 ? 0 : signal_number;
}

/*
 * Until it is dismissed. Nobody else would end a successor that was told to end and does not: so
 * that one is waited for, as long as handlers would be. It may serve by now, and drain.
 */
static void *attend(void *arg)
{
    struct attendant *attendant = arg;
    bool dismissed = false;

    sem_post(&attendant->waits);
    while (!dismissed || attendant->successor.state == SUCCESSOR_ENDS) {
        int signal_number = wait_for_signal(attendant);

        /* acquire: nothing is read behind it; for the pair. pairs: attendant_dismiss() */
        dismissed = atomic_load_explicit(&attendant->dismissed, memory_order_acquire);
        /* SIGUSR1 may be attendant_dismiss's then. */
        if (signal_number > 0 && !(dismissed && signal_number == SIGUSR1))
            obey_signal(attendant, signal_number);
        look_at_successor(attendant);
        if (time_is_up(attendant))
            end_at_last(attendant, dismissed);
    }
    return NULL;
}

static bool is_ignored(int signal_number)
{
    struct sigaction action;

    return sigaction(signal_number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

static void attendant_init(struct attendant *attendant, const struct succession *succession)
{
    *attendant = (struct attendant){ .access = settings.access, .succession = *succession };
    sigemptyset(&attendant->signals);
    sigaddset(&attendant->signals, SIGTERM);
    sigaddset(&attendant->signals, SIGINT);
    sigaddset(&attendant->signals, SIGQUIT);
    sigaddset(&attendant->signals, SIGUSR1);
    sigaddset(&attendant->signals, SIGUSR2);
    if (attendant->access || settings.file.path || !is_ignored(SIGHUP))
        sigaddset(&attendant->signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &attendant->signals, &attendant->succession.mask);
    signal(SIGPIPE, SIG_IGN);   /* standard error may be a pipe that has closed */
}

static int attendant_start(struct attendant *attendant, struct weir_server *server)
{
    int r;

    attendant->server = server;
    sem_init(&attendant->waits, 0, 0);
    r = pthread_create(&attendant->thread, NULL, attend, attendant);
    /* A child that is forked while a thread begins may find locks of the C library's held. */
    while (r == 0 && sem_wait(&attendant->waits) < 0)
        ;
    return -r;
}

/* Serving has ended, and the drain begins: its time is counted from here. */
static void attendant_note_drain(struct attendant *attendant)
{
    /* relaxed: see time_is_up(). pairs: time_is_up() */
    atomic_store_explicit(&attendant->drains_at_ms, clock_ms(), memory_order_relaxed);
}

/* After it the server may be destroyed. Signals that still come stay pending. */
static void attendant_dismiss(struct attendant *attendant)
{
    /* release: see attend(). pairs: attend() */
    atomic_store_explicit(&attendant->dismissed, true, memory_order_release);
    pthread_kill(attendant->thread, SIGUSR1);
    pthread_join(attendant->thread, NULL);
    sem_destroy(&attendant->waits);
}

/* ------------------------------------------------------------------ serving ----------- */

static int serve_failed(int error, const char *why)
{
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): glibc's is safe since 2.32 */
    say_now("weir serve: %s", why && *why ? why : strerror(-error));
    return EXIT_FAILED;
}

/* Serves until a signal says otherwise, then drains. */
static int run_server(struct attendant *attendant, struct weir_server *server)
{
    int r = attendant_start(attendant, server);
    int status = EXIT_OK;

    if (r < 0)
        return serve_failed(r, r == -EPERM ? "no thread can be had: a policy forbids clone3(2), "
                            "which is to fail with ENOSYS, or to be allowed"
                            : "no thread can be had: raise the limit of a user's processes "
                            "(ulimit -u), or the container's of pids");
    r = weir_serve_forever(server);
    if (r < 0)
        status = serve_failed(r, weir_why());
    notify_stopping();  /* a handler may have stopped the server */
    attendant_note_drain(attendant);
    weir_server_close(server);
    attendant_dismiss(attendant);
    return status;
}

/* Where that isn't many, clients will soon have to wait: that is better said than found out. */
static void raise_limit(void)
{
    uint64_t limit = descriptors_raise();

    if (limit < FEW_DESCRIPTORS)
        say_now("weir: only %llu descriptors may be open at once, and each client takes one: raise "
                "the hard limit (ulimit -Hn)", (unsigned long long)limit);
}

/*
 * Who is root binds, and only then becomes the other user: who is the one that reads the rules, now
 * as at each SIGHUP. So rules that only root may read are noticed at the start.
 */
static int settle_rights(struct weir_server *server, const struct privileges *privileges)
{
    int r = privileges_drop(privileges);

    if (r < 0)
        return r;
    r = settings.access ? load_access(server, settings.access) : 0;
    if (r < 0)
        say_now("weir serve: --access: %s", weir_why());
    if (r == 0 && settings.sandbox)
        r = sandbox_enter(server, settings.options.concurrency, settings.access);
    return r;
}

/* A socket that was handed on has its own from whoever made it; one that was passed has none. */
static void note_files(struct weir_server *server)
{
    uint32_t number;
    int fd;

    for (size_t i = 0; (fd = weir_server_listen_fd(server, i, &number)) >= 0; i++)
        if (strncmp(settings.listeners[number].address, "fd:", strlen("fd:")) != 0)
            settings.files[number] = handover_file_of(fd);
}

/* With its sockets bound, by a process that has only the rights left that it is to have. */
static int create_server(struct weir_server **ret_server, const struct privileges *privileges)
{
    int r;

    if (weir_server_create(ret_server, &settings.options) < 0) {
        say_now("weir serve: %s", weir_why());
        return -EINVAL;
    }
    note_files(*ret_server);
    r = settle_rights(*ret_server, privileges);
    if (r < 0)
        weir_server_destroy(*ret_server);
    return r;
}

/* The program's arguments are those of the command, behind the program's name. */
static char **program_arguments(int argc, char **argv)
{
    char **arguments = calloc((size_t)argc + 2, sizeof(*arguments));

    if (!arguments)
        return NULL;
    arguments[0] = program_invocation_name;
    memcpy(arguments + 1, argv, (size_t)argc * sizeof(*argv));
    return arguments;
}

/* Before a variable is removed. What it refers to lasts as long as the process. */
static int note_succession(struct succession *succession, int argc, char **argv)
{
    *succession = (struct succession){
        .argv = program_arguments(argc, argv), .environment = succession_note_environment(),
        .addresses = settings.addresses, .files = settings.files,
    };
    if (succession->argv && succession->environment)
        return 0;
    say("weir serve: out of memory");
    return -ENOMEM;
}

/* Before there is a thread. Returns 0, or -EINVAL after a line. */
static int prepare(struct privileges *privileges, struct attendant *attendant,
                   const struct succession *succession)
{
    if (privileges_read(privileges, settings.user) < 0)
        return -EINVAL;
    privileges_own(privileges, &settings.options);
    settings.options.service_actions = show_life;
    settings.options.poll_interval_ms = notify_open();
    raise_limit();
    attendant_init(attendant, succession);
    privileges_renounce();
    return 0;
}

int weir_serve(int argc, char **argv)
{
    static struct succession succession;
    struct privileges privileges;
    struct attendant attendant;
    struct weir_server *server;
    int status;

    if (note_succession(&succession, argc, argv) < 0)
        return EXIT_FAILED;
    if (settings_read(&settings, argc, argv) < 0)
        return EXIT_USAGE;
    if (settings.help) {
        settings_help(stdout);
        return EXIT_OK;
    }
    tells_what_to_try = argc == 1;
    if (prepare(&privileges, &attendant, &succession) < 0 ||
        create_server(&server, &privileges) < 0)
        return EXIT_USAGE;
    privileges_warn(&privileges);
    status = run_server(&attendant, server);
    weir_server_destroy(server);
    return status;
}
