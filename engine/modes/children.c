#include "engine/modes/children.h"

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/sys.h"

#include <stddef.h>
#include <sys/wait.h>

#define EVENTS_MAX 16

/* A child that was killed is gone at once, unless the machine is very busy. */
#define ABANDON_MS 1000

int children_open(struct children *children)
{
    *children = (struct children){ .ended_fd = sys_epoll_create(), .reserved_fd = -1 };
    return children->ended_fd < 0 ? children->ended_fd : 0;
}

void children_close(struct children *children)
{
    sys_close(children->reserved_fd);
    sys_close(children->ended_fd);
    *children = (struct children){ -1, -1 };
}

void children_leave_in_child(const struct children *children)
{
    sys_close(children->reserved_fd);
    sys_close(children->ended_fd);
}

int children_add_event(struct children *children, int fd, uint64_t token)
{
    return sys_epoll_ctl(children->ended_fd, EPOLL_CTL_ADD, fd, EPOLLIN, token);
}

int children_reserve_fd(struct children *children)
{
    if (children->reserved_fd < 0)
        children->reserved_fd = sys_eventfd();
    return children->reserved_fd < 0 ? children->reserved_fd : 0;
}

static int open_pidfd(struct children *children, pid_t pid)
{
    sys_close(children->reserved_fd);
    children->reserved_fd = -1;
    return sys_pidfd_open(pid);
}

int children_watch(struct children *children, pid_t pid, uint64_t token, struct child *ret_child)
{
    int pidfd = open_pidfd(children, pid);
    int r = pidfd < 0 ? pidfd : children_add_event(children, pidfd, token);

    if (r < 0) {
        sys_close(pidfd);
        pidfd = -1;
    }
    *ret_child = (struct child){ .pid = pid, .pidfd = pidfd };
    return r;
}

void children_each_event(struct children *children, void (*fn)(void *arg, uint64_t token),
                         void *arg)
{
    struct epoll_event events[EVENTS_MAX];
    int n = sys_epoll_wait(children->ended_fd, events, EVENTS_MAX, 0);

    for (int i = 0; i < n; i++)
        fn(arg, events[i].data.u64);
}

/* To close it is not enough: children that were forked meanwhile may have it open as well. */
static void forget_pidfd(struct children *children, struct child *child)
{
    if (child->pidfd < 0)
        return;
    sys_epoll_ctl(children->ended_fd, EPOLL_CTL_DEL, child->pidfd, 0, 0);
    sys_close(child->pidfd);
    child->pidfd = -1;
}

bool children_reap(struct children *children, struct child *child, int *ret_status)
{
    if (sys_reap(child->pidfd, child->pid, ret_status) == 0)
        return false;
    forget_pidfd(children, child);
    return true;
}

void children_kill(const struct child *child, const char *peer, const char *handler)
{
    if (handler[0] != '\0')
        log_line(LOG_CHILD, "child %d (handler '%s', %s) has not ended when it was cancelled: it "
                 "is killed", (int)child->pid, handler, peer);
    else
        log_line(LOG_CHILD, "child %d has not ended when it was cancelled: it is killed",
                 (int)child->pid);
    sys_kill_child(child->pidfd, child->pid);
}

void children_abandon(pid_t pid)
{
    uint64_t until_ms = clock_ms() + ABANDON_MS;
    int status;

    sys_kill_child(-1, pid);
    while (sys_reap(-1, pid, &status) == 0 && clock_ms() < until_ms)
        sys_poll(NULL, 0, 1);
}

void children_tell_death(const struct mixin_config *config, pid_t pid, int status, int error,
                         const char *peer, const char *handler)
{
    if (WIFSIGNALED(status))
        log_line(LOG_CHILD, "child %d was ended by signal %d", (int)pid, WTERMSIG(status));
    config->handle_error(config->server, &(const struct weir_failure){
        .phase = WEIR_PHASE_PROCESS, .error = error, .peer = peer, .handler = handler,
    });
}
