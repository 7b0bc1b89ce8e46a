/*
 * activation.c - what a service manager tells by the environment: LISTEN_PID, LISTEN_FDS and
 * LISTEN_FDNAMES against a model, NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID as well. Nothing of
 * them is left behind.
 *
 * A line is the value of a variable, in this order; one that is "-" isn't set, and a number of a
 * process that is "." is our own. The seventh line is the name that --listen systemd: asks for.
 */
#include "tools/command/activation.h"

#include "tests/fuzz/input.h"

#include <ctype.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tools/command/notify.h"
#include "tools/command/say.h"
#include "tools/command/settings.h"

enum { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES, NOTIFY, WATCHDOG_USEC, WATCHDOG_PID, VARIABLES };

static const char *const names[VARIABLES] = {
    "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
};

static const char *values[VARIABLES];       /* NULL: it isn't set */
static unsigned said, told;

/* ------------------------------------------------------------------ the surroundings -- */

void say(const char *format, ...)
{
    (void)format;
    said++;
}

void say_now(const char *format, ...)
{
    (void)format;
    said++;
}

/* No manager is told anything. */
int __wrap_socket(int family, int type, int protocol);
int __wrap_socket(int family, int type, int protocol)
{
    (void)protocol;
    HOLDS(family == AF_UNIX && (type & SOCK_DGRAM));
    return 1000;
}

int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t len);
int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t len)
{
    (void)level;
    (void)option;
    (void)value;
    (void)len;
    HOLDS(fd == 1000);
    return 0;
}

ssize_t __wrap_sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to,
                      socklen_t to_len);
ssize_t __wrap_sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to,
                      socklen_t to_len)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)to;
    size_t name_len = to_len - offsetof(struct sockaddr_un, sun_path);

    (void)flags;
    HOLDS(fd == 1000 && len > 0 && memchr(buf, '\0', len) == NULL);
    HOLDS(to_len <= sizeof(*un) && name_len >= 2);
    HOLDS(un->sun_path[0] == '/' || un->sun_path[0] == '\0');
    HOLDS(memcmp(un->sun_path + 1, values[NOTIFY] + 1, name_len - 1) == 0);
    told++;
    return (ssize_t)len;
}

/* ------------------------------------------------------------------ the model --------- */

/* -1: no number, or a larger one. */
static long long number_of(const char *text, long long most)
{
    long long n = 0;

    if (!text || !*text)
        return -1;
    for (; *text; text++) {
        if (!isdigit((unsigned char)*text))
            return -1;
        n = n > most ? n : n * 10 + (*text - '0');
    }
    return n > most ? -1 : n;
}

/* The i-th name is len bytes at the result; NULL: there are not so many. */
static const char *name_at(long long i, size_t *ret_len)
{
    const char *at = values[LISTEN_FDNAMES];

    for (; i > 0; i--) {
        at = strchr(at, ':');
        if (!at)
            return NULL;
        at++;
    }
    *ret_len = strcspn(at, ":");
    return at;
}

static long long model_len(void)
{
    long long len = number_of(values[LISTEN_FDS], ACTIVATION_MAX);
    size_t ignored;

    if (len <= 0 || number_of(values[LISTEN_PID], INT_MAX) != getpid())
        return 0;
    if (values[LISTEN_FDNAMES] && (!name_at(len - 1, &ignored) || name_at(len, &ignored)))
        return 0;
    return len;
}

/* ------------------------------------------------------------------ what is read ------ */

static void check_activation(const char *name)
{
    struct activation activation;
    long long want = model_len();

    activation_read(&activation);
    HOLDS(activation.len == (uint32_t)want);
    HOLDS(want > 0 || activation.why[0] != '\0');
    for (long long i = 0; i < want && i < SETTINGS_LISTENERS_MAX; i++) {
        size_t len = strlen("unknown");
        const char *is = values[LISTEN_FDNAMES] ? name_at(i, &len) : "unknown";

        HOLDS(activation_is_named(&activation, (uint32_t)i, name) ==
              (strlen(name) == len && memcmp(is, name, len) == 0));
    }
}

static void check_listen(const char *name)
{
    static struct settings settings;
    char command[] = "weir", option[] = "--listen", uri[512];
    char *argv[] = { command, option, uri, NULL };
    int r;

    snprintf(uri, sizeof(uri), "systemd:%s", name);
    said = 0;
    optind = 0;
    r = settings_read(&settings, 3, argv);
    HOLDS(said == (r < 0));
    HOLDS(r < 0 || settings.options.listeners_len <= (size_t)model_len());
    HOLDS(r < 0 || *name != '\0' || settings.options.listeners_len == (size_t)model_len());
}

static bool is_address(const char *text)
{
    return text && (*text == '/' || *text == '@') && strlen(text) >= 2 &&
           strlen(text) < sizeof(((struct sockaddr_un *)NULL)->sun_path);
}

/* What is not an address leaves in place what was told before. */
static void check_notify(void)
{
    uint32_t interval_ms;

    said = told = 0;
    interval_ms = notify_open();
    HOLDS(said <= 2 && interval_ms > 0);
    if (is_address(values[NOTIFY])) {
        HOLDS(said <= 1);
        notify_ready();
        notify_reloading();
        notify_alive();
        HOLDS(told == 3);
    }
    if (interval_ms != UINT32_MAX)
        HOLDS(number_of(values[WATCHDOG_USEC], LLONG_MAX / 20) != 0);
}

static void set_variable(unsigned i, const char *text)
{
    static char own_pid[16];

    snprintf(own_pid, sizeof(own_pid), "%d", (int)getpid());
    if (strcmp(text, ".") == 0)
        text = own_pid;
    values[i] = strcmp(text, "-") == 0 ? NULL : text;
    if (values[i])
        setenv(names[i], values[i], 1);
    else
        unsetenv(names[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };
    char *text = take_text(&input), *rest = text;
    const char *name;

    for (unsigned i = 0; i < VARIABLES; i++) {
        const char *value = strsep(&rest, "\n");

        set_variable(i, value ? value : "-");
    }
    name = rest ? rest : "";
    check_activation(name);
    check_listen(name);
    check_notify();
    for (unsigned i = 0; i < VARIABLES; i++)
        HOLDS(!getenv(names[i]));
    free(text);
    return 0;
}
