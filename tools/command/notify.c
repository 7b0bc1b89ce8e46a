/*
 * notify.c - see notify.h. Not libsystemd: the datagrams are the interface, and a library that
 * brings in decompressors is much for five of them.
 *
 * The kernel sends the process's number along: the manager asks for it.
 */
#include "tools/command/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#include "tools/command/say.h"
#include "tools/command/values.h"
#include "tools/command/variables.h"

static struct {
    int fd;                     /* -1: nobody is told */
    struct sockaddr_un to;
    socklen_t to_len;
    pthread_mutex_t mutex;      /* one word after another: who has said it stops, is not ready */
    bool stopping;
} manager = { .fd = -1, .mutex = PTHREAD_MUTEX_INITIALIZER };

/* ------------------------------------------------------------------ telling ----------- */

/* Not by a connected socket: a manager that has begun anew has a new socket at the same path. */
static void send_words(const char *words, int flags)
{
    ssize_t n;

    do
        n = sendto(manager.fd, words, strlen(words), flags | MSG_NOSIGNAL,
                   (const struct sockaddr *)&manager.to, manager.to_len);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        say_now("weir: NOTIFY_SOCKET: the service manager can't be told %.11s: %s", words,
                strerrordesc_np(errno));
}

static void tell(const char *words, int flags, bool stopping)
{
    if (manager.fd < 0)
        return;
    pthread_mutex_lock(&manager.mutex);
    if (!manager.stopping)
        send_words(words, flags);
    manager.stopping |= stopping;
    pthread_mutex_unlock(&manager.mutex);
}

void notify_ready(void)
{
    tell("READY=1", 0, false);
}

/* The time tells the manager which of several reloads this is. */
void notify_reloading(void)
{
    struct timespec now;
    char words[64];

    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(words, sizeof(words), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
             (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
    tell(words, 0, false);
}

/* In one datagram: behind it the manager may listen to nobody but that process. */
void notify_handed_on(pid_t to)
{
    char words[64];

    snprintf(words, sizeof(words), "READY=1\nMAINPID=%d", (int)to);
    tell(words, 0, true);
}

void notify_stopping(void)
{
    tell("STOPPING=1", 0, true);
}

void notify_alive(void)
{
    tell("WATCHDOG=1", MSG_DONTWAIT, false);
}

/* ------------------------------------------------------------------ the variables ----- */

/* Returns false if that is neither a path nor an abstract name, or is too long for either. */
static bool read_manager_address(const char *text)
{
    size_t len = strlen(text);

    if ((text[0] != '/' && text[0] != '@') || len < 2 || len >= sizeof(manager.to.sun_path))
        return false;
    manager.to.sun_family = AF_UNIX;
    memcpy(manager.to.sun_path, text, len);
    if (text[0] == '@')
        manager.to.sun_path[0] = '\0';
    manager.to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    return true;
}

static void open_manager_socket(const char *text)
{
    const struct timeval patience = { .tv_sec = 1 };

    if (!read_manager_address(text)) {
        say_now("weir: NOTIFY_SOCKET is '%s', which is neither a path of at most %zu bytes nor an "
                "abstract name (@...): nobody is told that the server is ready", text,
                sizeof(manager.to.sun_path) - 1);
        return;
    }
    manager.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (manager.fd < 0)
        say_now("weir: NOTIFY_SOCKET: no socket can be had: %s", strerrordesc_np(errno));
    else
        setsockopt(manager.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
}

/* Half of the time, as sd_watchdog_enabled(3) advises. */
static uint32_t read_watchdog(void)
{
    const char *usec = variable("WATCHDOG_USEC"), *pid = variable("WATCHDOG_PID");
    uint64_t limit;

    /* It may wait for a process that has started this one. */
    if (manager.fd < 0 || !usec || (pid && !variable_is_own_pid(pid)))
        return UINT32_MAX;
    if (value_number(usec, UINT64_MAX, &limit) < 0 || limit == 0) {
        say_now("weir: WATCHDOG_USEC is '%s', which is not a number of microseconds: the watchdog "
                "is told nothing", usec);
        return UINT32_MAX;
    }
    limit /= UINT64_C(2000);
    if (limit > UINT32_MAX)
        return UINT32_MAX;
    return limit == 0 ? 1 : (uint32_t)limit;
}

uint32_t notify_open(void)
{
    static const char *const names[] = { "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID" };
    const char *text = variable(names[0]);
    uint32_t interval_ms;

    if (text && *text)
        open_manager_socket(text);
    interval_ms = read_watchdog();
    variables_forget(names, sizeof(names) / sizeof(names[0]));
    return interval_ms;
}
