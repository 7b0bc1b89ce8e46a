/*
 * handover.c - see handover.h.
 */
#include "tools/command/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "tools/command/say.h"
#include "tools/command/values.h"
#include "tools/command/variables.h"

#define VARIABLE "WEIR_HANDED_ON"
#define SCHEME "fd://"

/* How long a successor may take until it serves: it may have names to look up. */
#define PATIENCE_MS 60000

/* ------------------------------------------------------------------ the successor's --- */

static int read_fd_number(const char *text, int *ret_fd)
{
    uint64_t number;

    if (value_number(text, INT_MAX, &number) < 0)
        return -EINVAL;
    *ret_fd = (int)number;
    return 0;
}

/* "fd://7,8 2049:131 unix:///..." */
static int read_listener(struct handover *handover, char *line)
{
    const char *fds = strsep(&line, " ");
    const char *dev = strsep(&line, ":");
    const char *ino = strsep(&line, " ");
    struct handover_file file;

    if (!line || strncmp(fds, SCHEME, strlen(SCHEME)) != 0 ||
        value_number(dev, UINT64_MAX, &file.dev) < 0 ||
        value_number(ino, UINT64_MAX, &file.ino) < 0 || handover->len == HANDOVER_LISTENERS_MAX)
        return -EINVAL;
    handover->lines[handover->len++] = (struct handed_on){
        .fds = fds, .address = line, .file = file,
    };
    return 0;
}

static int read_handed_on(struct handover *handover, char *rest)
{
    int r = read_fd_number(strsep(&rest, "\n"), &handover->ready_fd);

    while (r == 0 && rest && *rest)
        r = read_listener(handover, strsep(&rest, "\n"));
    if (r == 0 && fcntl(handover->ready_fd, F_SETFD, FD_CLOEXEC) < 0)
        r = -errno;
    return r;
}

void handover_read(struct handover *ret_handover)
{
    static const char *const names[] = { VARIABLE };
    static char *text;      /* what the lines point into */

    *ret_handover = (struct handover){ .ready_fd = -1 };
    if (!variable(VARIABLE))
        return;
    text = strdup(variable(VARIABLE));
    variables_forget(names, 1);
    if (text && read_handed_on(ret_handover, text) == 0)
        return;
    say_now("weir: " VARIABLE " is not what a process writes that hands its sockets on: it is "
            "ignored");
    *ret_handover = (struct handover){ .ready_fd = -1 };
}

const struct handed_on *handover_take(struct handover *handover, const char *address)
{
    for (unsigned i = 0; i < handover->len; i++) {
        struct handed_on *line = &handover->lines[i];

        if (line->taken || strcmp(line->address, address) != 0)
            continue;
        line->taken = true;
        return line;
    }
    return NULL;
}

static int first_fd(const char *fds)
{
    return (int)strtol(fds + strlen(SCHEME), NULL, 10);
}

/* Where clients connect to it: to be freed; NULL: to no Unix path, or there is no memory. */
static char *path_of(int fd)
{
    struct sockaddr_un name = { .sun_family = AF_UNSPEC };
    socklen_t len = sizeof(name) - 1;

    if (getsockname(fd, (struct sockaddr *)&name, &len) < 0 || name.sun_family != AF_UNIX)
        return NULL;
    return name.sun_path[0] == '/' ? strdup(name.sun_path) : NULL;
}

static int look_at(const char *path, struct handover_file *ret_file)
{
    struct stat file;

    if (lstat(path, &file) < 0)
        return -errno;
    *ret_file = (struct handover_file){ file.st_dev, file.st_ino };
    return 0;
}

struct handover_file handover_file_of(int fd)
{
    struct handover_file file = { 0 };
    char *path = path_of(fd);

    if (path)
        look_at(path, &file);
    free(path);
    return file;
}

static bool is_same_file(struct handover_file a, struct handover_file b)
{
    return a.dev == b.dev && a.ino == b.ino;
}

bool handover_path_is_anothers(const struct handed_on *line)
{
    struct handover_file now = handover_file_of(first_fd(line->fds));

    return now.ino != 0 && !is_same_file(now, line->file);
}

static void close_fds(const char *fds)
{
    const char *at = fds + strlen(SCHEME);
    char *end;

    for (long fd = strtol(at, &end, 10); end > at; fd = strtol(at, &end, 10)) {
        close((int)fd);
        at = *end == ',' ? end + 1 : end;
    }
}

void handover_finish(struct handover *handover)
{
    for (unsigned i = 0; i < handover->len; i++) {
        struct handed_on *line = &handover->lines[i];

        if (line->taken)
            continue;
        /* What a service manager has opened stays, as it does when the server ends. */
        if (strncmp(line->address, "unix", strlen("unix")) == 0)
            line->path = path_of(first_fd(line->fds));
        close_fds(line->fds);
    }
}

/* Unless it leads to what somebody else has made there since. */
static int remove_path(const struct handed_on *line)
{
    struct handover_file now;
    int r = look_at(line->path, &now);

    if (r == 0 && is_same_file(now, line->file) && unlink(line->path) < 0)
        r = -errno;
    return r == -ENOENT ? 0 : r;
}

void handover_remove_paths(const struct handover *handover)
{
    for (unsigned i = 0; i < handover->len; i++) {
        const char *path = handover->lines[i].path;
        int r = path ? remove_path(&handover->lines[i]) : 0;

        if (r < 0)
            say_now("weir: nobody listens at %s any more, but it can't be removed: %s", path,
                    strerrordesc_np(-r));
    }
}

bool handover_say_ready(struct handover *handover)
{
    if (handover->ready_fd < 0)
        return false;
    /* A predecessor that has gone meanwhile needs to know nothing. */
    if (write(handover->ready_fd, "1", 1) < 0 && errno != EPIPE)
        say_now("weir: the process before this one can't be told that this one serves: %s",
                strerrordesc_np(errno));
    close(handover->ready_fd);
    handover->ready_fd = -1;
    return true;
}

/* ------------------------------------------------------------------ what it is given -- */

/* What was for this process alone, by its number, or is written anew. */
static bool is_handed_on(const char *entry)
{
    static const char *const own[] = { VARIABLE "=", "LISTEN_", "WATCHDOG_PID=" };

    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        if (strncmp(entry, own[i], strlen(own[i])) == 0)
            return false;
    return true;
}

char **succession_note_environment(void)
{
    size_t len = 0, kept = 0;
    char **environment;

    while (environ[len])
        len++;
    /* One more for VARIABLE, and the NULL. */
    environment = calloc(len + 2, sizeof(*environment));
    for (size_t i = 0; environment && i < len; i++)
        if (is_handed_on(environ[i]))
            environment[kept++] = environ[i];
    return environment;
}

static void write_listener(FILE *to, const struct succession *succession,
                           struct weir_server *server, uint32_t number)
{
    struct handover_file file = succession->files[number];
    const char *before = SCHEME;
    uint32_t of;
    int fd;

    for (size_t i = 0; (fd = weir_server_listen_fd(server, i, &of)) >= 0; i++) {
        if (of != number)
            continue;
        fprintf(to, "%s%d", before, fd);
        before = ",";
    }
    fprintf(to, " %" PRIu64 ":%" PRIu64 " %s\n", file.dev, file.ino,
            succession->addresses[number]);
}

/* The variable, to be freed. NULL: no memory. */
static char *write_variable(const struct succession *succession, struct weir_server *server,
                            int ready_fd)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);

    if (!to)
        return NULL;
    fprintf(to, VARIABLE "=%d\n", ready_fd);
    for (uint32_t i = 0; succession->addresses[i]; i++)
        write_listener(to, succession, server, i);
    if (fclose(to) == 0)
        return text;
    free(text);
    return NULL;
}

/* To duplicate a descriptor to its own number has it stay open. */
static int pass_descriptors(posix_spawn_file_actions_t *actions, struct weir_server *server,
                            int ready_fd)
{
    int r = posix_spawn_file_actions_adddup2(actions, ready_fd, ready_fd);
    uint32_t number;
    int fd;

    for (size_t i = 0; r == 0 && (fd = weir_server_listen_fd(server, i, &number)) >= 0; i++)
        r = posix_spawn_file_actions_adddup2(actions, fd, fd);
    return -r;
}

static int spawn_with(struct successor *successor, const struct succession *succession,
                      const posix_spawn_file_actions_t *actions, char *const *environment)
{
    posix_spawnattr_t attributes;
    int r = posix_spawnattr_init(&attributes);

    if (r != 0)
        return -r;
    r = posix_spawnattr_setsigmask(&attributes, &succession->mask);
    if (r == 0)
        r = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    if (r == 0)
        r = posix_spawnp(&successor->pid, succession->argv[0], actions, &attributes,
                         succession->argv, environment);
    posix_spawnattr_destroy(&attributes);
    return -r;
}

/* Behind the entries that were noted is room for one more. */
static char **last_entry(char **environment)
{
    while (*environment)
        environment++;
    return environment;
}

static int spawn(struct successor *successor, const struct succession *succession,
                 struct weir_server *server, int ready_fd)
{
    char **entry = last_entry(succession->environment);
    posix_spawn_file_actions_t actions;
    int r = -posix_spawn_file_actions_init(&actions);

    if (r < 0)
        return r;
    *entry = write_variable(succession, server, ready_fd);
    r = *entry ? pass_descriptors(&actions, server, ready_fd) : -ENOMEM;
    if (r == 0)
        r = spawn_with(successor, succession, &actions, succession->environment);
    posix_spawn_file_actions_destroy(&actions);
    free(*entry);
    *entry = NULL;
    return r;
}

/* ------------------------------------------------------------------ the predecessor's - */

int successor_start(struct successor *successor, const struct succession *succession,
                    struct weir_server *server)
{
    int fds[2];
    int r;

    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    r = spawn(successor, succession, server, fds[1]);
    close(fds[1]);
    if (r < 0) {
        close(fds[0]);
        return r;
    }
    successor->state = SUCCESSOR_STARTS;
    successor->ready_fd = fds[0];
    successor->until_ms = clock_ms() + PATIENCE_MS;
    return 0;
}

static void be_done(struct successor *successor, enum successor_state state)
{
    close(successor->ready_fd);
    successor->state = state;
}

static void tell_end(int status)
{
    if (WIFSIGNALED(status))
        say_now("weir: the successor was ended by signal %d before it served: this process serves "
                "on", WTERMSIG(status));
    else
        say_now("weir: the successor ended with status %d before it served: this process serves on",
                WEXITSTATUS(status));
}

static bool is_ready(const struct successor *successor)
{
    char byte;

    return read(successor->ready_fd, &byte, 1) == 1;
}

/*
 * By its process, not by its end of the pipe: a child of this process that was forked just as the
 * pipe was made has that end, too.
 */
static bool has_ended(const struct successor *successor, int *ret_status)
{
    pid_t ended = waitpid(successor->pid, ret_status, WNOHANG);

    return ended == successor->pid || (ended < 0 && errno == ECHILD);
}

static void end_by_force(const struct successor *successor)
{
    kill(successor->pid, SIGKILL);
    waitpid(successor->pid, NULL, 0);
}

static void look_at_start(struct successor *successor)
{
    int status = 0;

    if (has_ended(successor, &status)) {
        tell_end(status);
        be_done(successor, SUCCESSOR_NONE);
    } else if (is_ready(successor)) {
        be_done(successor, SUCCESSOR_SERVES);
    } else if (clock_ms() >= successor->until_ms) {
        end_by_force(successor);
        say_now("weir: the successor did not serve within %d s and was ended: this process serves "
                "on", PATIENCE_MS / 1000);
        be_done(successor, SUCCESSOR_NONE);
    }
}

void successor_look(struct successor *successor)
{
    int status;

    if (successor->state == SUCCESSOR_STARTS)
        look_at_start(successor);
    else if (successor->state == SUCCESSOR_ENDS && has_ended(successor, &status))
        successor->state = SUCCESSOR_NONE;
}

void successor_hang_up(const struct successor *successor)
{
    int status;

    if (!has_ended(successor, &status))
        kill(successor->pid, SIGHUP);
    else
        say_now("weir: SIGHUP is for process %d, which has ended: nothing is read again",
                (int)successor->pid);
}

void successor_drop(struct successor *successor)
{
    int status;

    if (successor->state != SUCCESSOR_STARTS)
        return;
    be_done(successor, SUCCESSOR_ENDS);
    if (has_ended(successor, &status)) {
        successor->state = SUCCESSOR_NONE;
        return;
    }
    kill(successor->pid, SIGTERM);
    /* One that is stopped hears of nothing else. */
    kill(successor->pid, SIGCONT);
}

void successor_kill(struct successor *successor)
{
    if (successor->state != SUCCESSOR_ENDS)
        return;
    end_by_force(successor);
    say_now("weir: the successor did not end when it was told to, and was ended by force");
    successor->state = SUCCESSOR_NONE;
}
