#include "tests/conformance/backend_host.h"

#include "tests/conformance/backend_handlers.h"
#include "tests/conformance/backend_tell.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

/* ------------------------------------------------------------------ events ------------ */

void host_tell(const struct host *host, const char *event)
{
    if (!host->quiet)
        tell("event %u %s", host->number, event);
}

/* ------------------------------------------------------------------ hooks ------------- */

enum action { ACTION_DEFAULT, ACTION_EVENT, ACTION_HOLD };

void host_hold(struct host *host)
{
    while (sem_wait(&host->released) < 0)
        ;
}

/* The first verdict is for the first client, and so on; the last for all others. */
static enum verdict next_verdict(struct host *host)
{
    /* relaxed: a number of its own for each. pairs: none */
    size_t i = atomic_fetch_add_explicit(&host->verified, 1, memory_order_relaxed);

    return host->verdicts[i < host->verdicts_len ? i : host->verdicts_len - 1];
}

static int verify_request(struct weir_server *server, const struct weir_peer *peer)
{
    struct host *host = weir_server_user(server);
    enum verdict verdict = next_verdict(host);

    (void)peer;
    host_tell(host, "verify_request");
    if (verdict == VERDICT_HOLD)
        host_hold(host);
    return verdict == VERDICT_ERROR ? -EIO : verdict != VERDICT_NO;
}

static const char *phase_name(enum weir_phase phase)
{
    switch (phase) {
    case WEIR_PHASE_VERIFY:
        return "verify";
    case WEIR_PHASE_SETUP:
        return "setup";
    case WEIR_PHASE_HANDLE:
        return "handle";
    case WEIR_PHASE_FINISH:
        return "finish";
    case WEIR_PHASE_PROCESS:
        return "process";
    }
    return "unknown";
}

static void handle_error(struct weir_server *server, const struct weir_failure *failure)
{
    struct host *host = weir_server_user(server);

    /* relaxed: a count. pairs: the verb stats */
    atomic_fetch_add_explicit(&host->errors, 1, memory_order_relaxed);
    if (!host->quiet)
        tell("event %u handle_error error=%s peer=%s phase=%s", host->number,
             error_name(failure->error), failure->peer, phase_name(failure->phase));
}

static void handle_timeout(struct weir_server *server)
{
    host_tell(weir_server_user(server), "handle_timeout");
}

static void service_actions(struct weir_server *server)
{
    struct host *host = weir_server_user(server);

    host_tell(host, "service_actions");
    if (host->service_actions == ACTION_HOLD)
        host_hold(host);
}

/* ------------------------------------------------------------------ settings ---------- */

struct key {
    const char *name;
    int (*read)(struct host *host, const struct key *key, const char *value);
    size_t at;                  /* in struct host */
    const char *names[5];       /* of read_name: what stands for 0, 1, ... */
};

#define HOST(field) offsetof(struct host, field)
#define OPTION(field) offsetof(struct host, options.field)

static void *field(struct host *host, const struct key *key)
{
    return (char *)host + key->at;
}

static int read_text(struct host *host, const struct key *key, const char *value)
{
    *(const char **)field(host, key) = value;
    return 0;
}

static int read_number(struct host *host, const struct key *key, const char *value)
{
    *(uint32_t *)field(host, key) = (uint32_t)number_of(value, 10);
    return 0;
}

static int read_mode(struct host *host, const struct key *key, const char *value)
{
    *(uint32_t *)field(host, key) = (uint32_t)number_of(value, 8);
    return 0;
}

static int read_bytes(struct host *host, const struct key *key, const char *value)
{
    *(size_t *)field(host, key) = number_of(value, 10);
    return 0;
}

/* 0 says what it says in Python. */
static int read_bufsize(struct host *host, const struct key *key, const char *value)
{
    size_t size = number_of(value, 10);

    *(size_t *)field(host, key) = size > 0 ? size : WEIR_UNBUFFERED;
    return 0;
}

static int read_flag(struct host *host, const struct key *key, const char *value)
{
    *(bool *)field(host, key) = number_of(value, 10) != 0;
    return 0;
}

static int read_choice(struct host *host, const struct key *key, const char *value)
{
    *(enum weir_choice *)field(host, key) = number_of(value, 10) != 0 ? WEIR_YES : WEIR_NO;
    return 0;
}

static int place_of(const char *value, const char *const *names, size_t names_len)
{
    for (size_t i = 0; i < names_len && names[i]; i++)
        if (strcmp(value, names[i]) == 0)
            return (int)i;
    return -ENOTSUP;
}

static int read_name(struct host *host, const struct key *key, const char *value)
{
    int place = place_of(value, key->names, sizeof(key->names) / sizeof(key->names[0]));

    if (place < 0)
        return place;
    *(uint32_t *)field(host, key) = (uint32_t)place;
    return 0;
}

/* "error,hold,yes" */
static int read_verdicts(struct host *host, const struct key *key, const char *value)
{
    static const char *const names[] = {
        [VERDICT_YES] = "yes", [VERDICT_NO] = "no", [VERDICT_ERROR] = "error",
        [VERDICT_HOLD] = "hold",
    };
    char list[128];
    char *rest = list;
    char *word;

    (void)key;
    if (strlen(value) >= sizeof(list))
        return -ENOTSUP;
    strcpy(list, value);
    for (host->verdicts_len = 0; (word = strsep(&rest, ",")); host->verdicts_len++) {
        int place = place_of(word, names, sizeof(names) / sizeof(names[0]));

        if (place < 0 || host->verdicts_len == VERDICTS_MAX)
            return -ENOTSUP;
        host->verdicts[host->verdicts_len] = (enum verdict)place;
    }
    return 0;
}

/* Of Python alone, or not for us. */
static int refuse(struct host *host, const struct key *key, const char *value)
{
    (void)host;
    (void)key;
    (void)value;
    return -ENOTSUP;
}

static int skip(struct host *host, const struct key *key, const char *value)
{
    (void)host;
    (void)key;
    (void)value;
    return 0;
}

static const struct key keys[] = {
    { "server", skip, 0, { NULL } },
    { "address", read_text, OPTION(listen), { NULL } },
    { "concurrency", read_name, OPTION(concurrency), {
        [WEIR_POOL] = "pool", [WEIR_SERIAL] = "serial", [WEIR_THREAD] = "thread",
        [WEIR_FORK] = "fork", [WEIR_PREFORK] = "prefork" } },
    { "handler", read_name, HOST(kind), { "obey", "echo", "mute" } },
    { "setup", read_name, HOST(setup), { "ok", "fail" } },
    { "finish", read_name, HOST(finish), { "ok", "fail" } },
    { "verify", read_verdicts, 0, { NULL } },
    { "service_actions", read_name, HOST(service_actions), {
        [ACTION_DEFAULT] = "default", [ACTION_EVENT] = "event", [ACTION_HOLD] = "hold" } },
    { "handle_error", read_name, HOST(handle_error), { "event", "default" } },
    { "quiet", read_flag, HOST(quiet), { NULL } },
    { "defer", read_choice, OPTION(defer), { NULL } },
    { "reuse_address", read_choice, OPTION(reuse_address), { NULL } },
    { "reuse_port", read_choice, OPTION(reuse_port), { NULL } },
    { "daemon_threads", read_choice, OPTION(daemon_threads), { NULL } },
    { "disable_nagle", read_choice, OPTION(disable_nagle_algorithm), { NULL } },
    { "block_on_close", read_choice, OPTION(block_on_close), { NULL } },
    { "backlog", read_number, OPTION(backlog), { NULL } },
    { "max_packet_size", read_bytes, OPTION(max_packet_size), { NULL } },
    { "processes", read_number, OPTION(processes), { NULL } },
    { "max_children", read_number, OPTION(max_children), { NULL } },
    { "rbufsize", read_bufsize, OPTION(rbufsize), { NULL } },
    { "wbufsize", read_bufsize, OPTION(wbufsize), { NULL } },
    { "timeout_ms", read_number, OPTION(timeout_ms), { NULL } },
    { "socket_timeout_ms", refuse, 0, { NULL } },
    { "read_timeout_ms", read_number, OPTION(read_timeout_ms), { NULL } },
    { "write_timeout_ms", read_number, OPTION(write_timeout_ms), { NULL } },
    { "poll_interval_ms", read_number, OPTION(poll_interval_ms), { NULL } },
    { "unix_mode", read_mode, OPTION(unix_mode), { NULL } },
    { "workers", read_number, OPTION(workers), { NULL } },
    { "acceptors", read_number, OPTION(acceptors), { NULL } },
    { "dispatch", read_name, OPTION(dispatch), {
        [WEIR_DISPATCH_WORKER] = "worker", [WEIR_DISPATCH_ACCEPTOR] = "acceptor" } },
    { "stack", read_name, HOST(handler.stack), {
        [WEIR_STACK_FIBER] = "fiber", [WEIR_STACK_THREAD] = "thread" } },
    { "max_connections", read_number, OPTION(max_connections), { NULL } },
    { "max_per_address", read_number, OPTION(max_per_address), { NULL } },
    { "keep_path", read_choice, OPTION(keep_path), { NULL } },
    { "reply_always", read_choice, OPTION(reply_always), { NULL } },
    { "drain_timeout_ms", read_number, OPTION(drain_timeout_ms), { NULL } },
};

static int read_pair(struct host *host, const char *name, const char *value)
{
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (strcmp(name, keys[i].name) == 0)
            return keys[i].read(host, &keys[i], value);
    return -ENOTSUP;
}

/* ------------------------------------------------------------------ creating ---------- */

static void complete(struct host *host)
{
    struct weir_options *options = &host->options;

    handlers_set(host);
    options->size = sizeof(*options);
    options->handler = &host->handler;
    options->user = host;
    options->verify_request = verify_request;
    options->handle_timeout = handle_timeout;
    if (!host->handle_error)
        options->handle_error = handle_error;
    if (host->service_actions != ACTION_DEFAULT)
        options->service_actions = service_actions;
}

static int create(struct host *host, const struct words *words)
{
    int r = 0;

    host->number = (unsigned)words_number(words, "server");
    for (size_t i = 0; i < words->pairs_len && r == 0; i++)
        r = read_pair(host, words->pairs[i].key, words->pairs[i].value);
    if (r < 0)
        return r;
    complete(host);
    return weir_server_create(&host->server, &host->options);
}

/* In memory that children share: what they count is counted, and release reaches them. */
static struct host *allocate(void)
{
    struct host *host = mmap(NULL, sizeof(*host), PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (host == MAP_FAILED)
        return NULL;
    host->verdicts_len = 1;
    host->options.concurrency = WEIR_SERIAL;
    sem_init(&host->released, 1, 0);
    return host;
}

/* Every host that has had a server. */
static struct host *newest;

int host_create(const struct words *words)
{
    struct host *host = allocate();
    int r;

    if (!host)
        return -ENOMEM;
    r = create(host, words);
    if (r < 0) {
        munmap(host, sizeof(*host));
        return r;
    }
    host->older = newest;
    newest = host;
    return 0;
}

struct host *host_next(struct host *host)
{
    host = host ? host->older : newest;
    while (host && host->gone)
        host = host->older;
    return host;
}

struct host *host_find(const char *number)
{
    uint64_t wanted = number_of(number, 10);
    struct host *host = NULL;

    while ((host = host_next(host)))
        if (host->number == wanted)
            return host;
    mistake("there is no server %s", number);
}
