/*
 * prefork.c - children that are forked beforehand, share the listeners, and each run a pool.
 *
 * The parent accepts nothing: it replaces children that have died, and gives orders. Each child has
 * a thread more than its pool, the guard, which waits for orders and for the parent's end. A child
 * and the parent share a page: orders go down in it; statistics come up, when they are asked for.
 *
 * The parent's table counts its children as connections, so that whoever closes waits for them.
 */
#include "engine/modes/mixin.h"

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/statistics.h"
#include "engine/base/sys.h"
#include "engine/base/thread.h"
#include "engine/modes/process.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define EVENTS_MAX 16

/* Who dies sooner is replaced later, and later each time. */
#define YOUNG_MS 1000
#define PAUSE_MIN_MS 100
#define PAUSE_MAX_MS 5000

/* For the answers of children: one may be stopped, or has only begun. */
#define STATS_PATIENCE_MS 100

/* After the parent's end, cancelled handlers have so long to end. */
#define ORPHAN_MS 1000

/* For the first child to accept, and for all to stop: one may be stopped by a signal. */
#define BEGIN_PATIENCE_MS 10000
#define STOP_PATIENCE_MS 2000

/* In the set of ends: a child's token is its address. */
#define TOKEN_WAKE 0

/* What a child and its parent share. */
struct page {
    _Atomic bool stop;              /* the order: accept nothing more, and end */
    _Atomic bool look;              /* the order: who has died may have left a client */
    _Atomic bool accepts;           /* it has begun to */
    _Atomic bool stopped;           /* nothing is accepted any more */
    _Atomic int error;              /* why it could not serve, -errno; 0: it could */
    _Atomic uint32_t asked;         /* for statistics: the number of the last question */
    _Atomic uint32_t answered;      /* ... and of the last answer */
    struct weir_stats answers[2];   /* the n-th is in the (n mod 2)-th */
};

struct child {
    struct child *next;
    struct page *page;
    pid_t pid;
    int pidfd;                      /* before the fork: a descriptor that keeps the place for it */
    int order_fd;                   /* eventfd: the parent has written to the page */
    unsigned number;                /* 0 and up; who takes its place has it again */
    bool leaving;                   /* it was told to stop */
    uint64_t born_ms;
};

struct prefork {
    struct mixin mixin;
    struct mixin_config config;
    int answer_fd;                  /* these are eventfds. A child has answered */
    int said_fd;                    /* a child accepts now, or has stopped */
    int wake_fd;                    /* outdated was set */
    int parent_fd;                  /* the parent's own pidfd, of its last serving */
    uint64_t pause_ms;              /* before the next fork; 0: who died last was not young */
    bool beginning;                 /* who dies is told of by begin alone */
    int error;                      /* why the last of these died */
    bool serving;                   /* who dies is replaced */
    pthread_mutex_t lock;           /* of all below; held across fork */
    struct child *children;
    size_t children_len;
    bool outdated;                  /* all are to be replaced */
    struct weir_stats ended;        /* of the children that are gone */
};

static struct prefork *prefork_of(struct mixin *mixin)
{
    return caa_container_of(mixin, struct prefork, mixin);
}

/* ------------------------------------------------------------------ statistics -------- */

/* In the child, one thread at a time. One question is open at most: nobody reads this answer. */
static void answer(const struct prefork *prefork, struct page *page, uint32_t n)
{
    struct weir_stats *stats = &page->answers[n % 2];

    prefork->config.child_calls->stats(prefork->config.server, stats);
    /* release: what it says. pairs: last_answer() */
    atomic_store_explicit(&page->answered, n, memory_order_release);
    sys_eventfd_signal(prefork->answer_fd);
}

static const struct weir_stats *last_answer(const struct page *page)
{
    /* acquire: what it says. pairs: answer() */
    return &page->answers[atomic_load_explicit(&page->answered, memory_order_acquire) % 2];
}

static bool has_answered(const struct page *page)
{
    /* relaxed: last_answer() orders what is read then. pairs: none */
    uint32_t answered = atomic_load_explicit(&page->answered, memory_order_relaxed);
    uint32_t asked = atomic_load_explicit(&page->asked, memory_order_relaxed);

    return (int32_t)(answered - asked) >= 0;
}

static void ask(struct child *child)
{
    struct page *page = child->page;

    if (has_answered(page))
        /* relaxed: the signal that follows orders it. pairs: read_page() */
        atomic_store_explicit(&page->asked,
                              atomic_load_explicit(&page->answered, memory_order_relaxed) + 1,
                              memory_order_relaxed);
    sys_eventfd_signal(child->order_fd);
}

static bool all_have_answered(const struct prefork *prefork)
{
    for (const struct child *child = prefork->children; child; child = child->next)
        if (!has_answered(child->page))
            return false;
    return true;
}

static void ask_all_locked(struct prefork *prefork)
{
    struct pollfd answered = { .fd = prefork->answer_fd, .events = POLLIN };
    uint64_t now_ms = clock_ms();
    uint64_t until_ms = now_ms + STATS_PATIENCE_MS;

    for (struct child *child = prefork->children; child; child = child->next)
        ask(child);
    while (!all_have_answered(prefork) && now_ms < until_ms) {
        sys_poll(&answered, 1, clock_timeout_ms(until_ms, now_ms));
        sys_eventfd_clear(prefork->answer_fd);
        now_ms = clock_ms();
    }
}

static void add_stats_of_all(struct mixin *mixin, struct weir_stats *sum)
{
    struct prefork *prefork = prefork_of(mixin);

    pthread_mutex_lock(&prefork->lock);
    ask_all_locked(prefork);
    statistics_add(sum, &prefork->ended);
    for (struct child *child = prefork->children; child; child = child->next)
        statistics_add(sum, last_answer(child->page));
    sum->workers = prefork->children_len;
    pthread_mutex_unlock(&prefork->lock);
}

/* ------------------------------------------------------------------ the child --------- */

struct guard {
    const struct prefork *prefork;
    const struct child *child;
    int done_fd;                    /* eventfd: the child has nothing left to do */
};

/* What the page says. True: it is to stop. */
static bool read_page(const struct prefork *prefork, const struct child *child)
{
    struct page *page = child->page;
    uint32_t asked;

    sys_eventfd_clear(child->order_fd);
    /* relaxed: the signal before orders them. pairs: ask(), tell_all_to_stop() */
    asked = atomic_load_explicit(&page->asked, memory_order_relaxed);
    if (asked != atomic_load_explicit(&page->answered, memory_order_relaxed))
        answer(prefork, page, asked);
    /* relaxed: as above. pairs: have_all_look_locked() */
    if (atomic_exchange_explicit(&page->look, false, memory_order_relaxed))
        prefork->config.child_calls->look(prefork->config.server);
    return atomic_load_explicit(&page->stop, memory_order_relaxed);
}

static void *guard_main(void *arg)
{
    const struct guard *guard = arg;
    const struct prefork *prefork = guard->prefork;
    const struct child_calls *calls = prefork->config.child_calls;
    struct weir_server *server = prefork->config.server;
    uint64_t end_at_ms = CLOCK_NEVER;
    struct pollfd fds[] = {
        { .fd = guard->done_fd, .events = POLLIN },
        { .fd = guard->child->order_fd, .events = POLLIN },
        { .fd = prefork->config.crew->cancel_fd, .events = POLLIN },
        { .fd = prefork->parent_fd, .events = POLLIN },
    };

    for (;;) {
        sys_poll(fds, sizeof(fds) / sizeof(fds[0]), clock_timeout_ms(end_at_ms, clock_ms()));
        if (fds[0].revents)
            return NULL;
        if (clock_ms() >= end_at_ms)
            _exit(1);
        if (fds[1].revents && read_page(prefork, guard->child))
            calls->stop(server);
        if (fds[2].revents || fds[3].revents) {
            /* Never taken back. */
            fds[2].fd = -1;
            calls->cancel(server);
        }
        if (fds[3].revents) {
            fds[3].fd = -1;
            calls->stop(server);
            end_at_ms = clock_ms() + ORPHAN_MS;
        }
    }
}

static void leave_what_is_the_parents(const struct prefork *prefork)
{
    for (const struct child *child = prefork->children; child; child = child->next) {
        sys_close(child->pidfd);
        sys_close(child->order_fd);
        munmap(child->page, sizeof(*child->page));
    }
    sys_close(prefork->mixin.ended_fd);
    sys_close(prefork->wake_fd);
}

/* Until the parent sees our end: else nobody would, and nothing shall have been begun. */
static void wait_for_word(const struct prefork *prefork, const struct child *child)
{
    struct pollfd fds[] = {
        { .fd = child->order_fd, .events = POLLIN },
        { .fd = prefork->parent_fd, .events = POLLIN },
    };

    sys_poll(fds, sizeof(fds) / sizeof(fds[0]), -1);
    /* relaxed: the signal before orders it. pairs: abandon() */
    if (!fds[0].revents || atomic_load_explicit(&child->page->stop, memory_order_relaxed))
        _exit(0);
}

static int begin_in_child(const struct prefork *prefork, const struct child *child,
                          struct guard *guard, pthread_t *ret_thread)
{
    const struct child_calls *calls = prefork->config.child_calls;
    int r = guard->done_fd;

    if (r >= 0)
        r = calls->become(prefork->config.server, child->number);
    if (r == 0)
        r = thread_start(ret_thread, -1, guard_main, guard);
    return r == 0 ? calls->begin(prefork->config.server) : r;
}

static _Noreturn void end_in_child(struct page *page, int error)
{
    /* relaxed: our end orders it. pairs: reason_of() */
    atomic_store_explicit(&page->error, error, memory_order_relaxed);
    _exit(1);
}

static _Noreturn void child_main(const struct prefork *prefork, const struct child *child)
{
    const struct child_calls *calls = prefork->config.child_calls;
    struct weir_server *server = prefork->config.server;
    struct guard guard = { .prefork = prefork, .child = child };
    struct page *page = child->page;
    pthread_t thread;
    int r;

    leave_what_is_the_parents(prefork);
    wait_for_word(prefork, child);
    guard.done_fd = sys_eventfd();
    r = begin_in_child(prefork, child, &guard, &thread);
    if (r < 0)
        end_in_child(page, r);
    /* relaxed: the signal that follows orders it. pairs: anyone_accepts() */
    atomic_store_explicit(&page->accepts, true, memory_order_relaxed);
    sys_eventfd_signal(prefork->said_fd);
    calls->accept(server);
    /* relaxed: the signal that follows orders it. pairs: all_have_stopped() */
    atomic_store_explicit(&page->stopped, true, memory_order_relaxed);
    sys_eventfd_signal(prefork->said_fd);
    calls->drain(server);
    sys_eventfd_signal(guard.done_fd);
    pthread_join(thread, NULL);
    /* Unasked: the last word. relaxed: written by this process. pairs: none */
    answer(prefork, page, atomic_load_explicit(&page->answered, memory_order_relaxed) + 1);
    log_flush();
    _exit(0);
}

/* ------------------------------------------------------------------ one more, one less  */

static void free_child(struct child *child)
{
    sys_close(child->pidfd);
    sys_close(child->order_fd);
    if (child->page != MAP_FAILED)
        munmap(child->page, sizeof(*child->page));
    free(child);
}

static int create_child(unsigned number, struct child **ret)
{
    struct child *child = malloc(sizeof(*child));
    int r;

    if (!child)
        return -ENOMEM;
    *child = (struct child){ .number = number, .born_ms = clock_ms() };
    child->order_fd = sys_eventfd();
    child->pidfd = sys_eventfd();
    child->page = mmap(NULL, sizeof(*child->page), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    r = child->order_fd < 0 ? child->order_fd : child->pidfd < 0 ? child->pidfd : 0;
    if (child->page == MAP_FAILED)
        r = -ENOMEM;
    if (r < 0)
        free_child(child);
    else
        *ret = child;
    return r;
}

static int watch_for_end(struct prefork *prefork, struct child *child)
{
    sys_close(child->pidfd);
    child->pidfd = sys_pidfd_open(child->pid);
    if (child->pidfd < 0)
        return child->pidfd;
    return sys_epoll_ctl(prefork->mixin.ended_fd, EPOLL_CTL_ADD, child->pidfd, EPOLLIN,
                         (uintptr_t)child);
}

static void link_child_locked(struct prefork *prefork, struct child *child)
{
    child->next = prefork->children;
    prefork->children = child;
    prefork->children_len++;
    connection_table_lend(&prefork->config.crew->table, prefork->config.quota, 1);
}

static void unlink_child_locked(struct prefork *prefork, struct child *child)
{
    struct child **link = &prefork->children;

    while (*link != child)
        link = &(*link)->next;
    *link = child->next;
    prefork->children_len--;
}

/* It has begun nothing yet, and never will. */
static void abandon(const struct child *child)
{
    /* relaxed: the signal that follows orders it. pairs: wait_for_word() */
    atomic_store_explicit(&child->page->stop, true, memory_order_relaxed);
    sys_eventfd_signal(child->order_fd);
    while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* In the parent: 0, or -errno. */
static int fork_locked(struct prefork *prefork, struct child *child)
{
    int r;

    child->pid = process_fork();
    if (child->pid == 0)
        child_main(prefork, child);
    if (child->pid < 0)
        return -errno;
    r = watch_for_end(prefork, child);
    if (r < 0)
        abandon(child);
    else
        sys_eventfd_signal(child->order_fd);
    return r;
}

static int add_child_locked(struct prefork *prefork, unsigned number)
{
    struct child *child;
    int r = create_child(number, &child);

    if (r < 0)
        return r;
    r = fork_locked(prefork, child);
    if (r == 0)
        link_child_locked(prefork, child);
    else
        free_child(child);
    return r;
}

/* What it had open went with it. */
static void keep_stats_locked(struct prefork *prefork, const struct child *child)
{
    struct weir_stats last = *last_answer(child->page);

    statistics_end(&last);
    statistics_add(&prefork->ended, &last);
}

/* ------------------------------------------------------------------ the parent -------- */

static void pause_forking(struct prefork *prefork)
{
    uint64_t pause_ms = prefork->pause_ms * 2;

    if (pause_ms < PAUSE_MIN_MS)
        pause_ms = PAUSE_MIN_MS;
    if (pause_ms > PAUSE_MAX_MS)
        pause_ms = PAUSE_MAX_MS;
    prefork->pause_ms = pause_ms;
    prefork->mixin.due_at_ms = clock_ms() + pause_ms;
}

static bool has_number(const struct prefork *prefork, unsigned number)
{
    for (const struct child *child = prefork->children; child; child = child->next)
        if (child->number == number && !child->leaving)
            return true;
    return false;
}

/* A child for each number, or as many as can be had, and the error. */
static int fill_up(struct prefork *prefork)
{
    int r = 0;

    pthread_mutex_lock(&prefork->lock);
    for (unsigned number = 0; number < prefork->config.processes && r == 0; number++)
        if (!has_number(prefork, number))
            r = add_child_locked(prefork, number);
    pthread_mutex_unlock(&prefork->lock);
    return r;
}

static void fill_up_or_pause(struct prefork *prefork)
{
    int r = fill_up(prefork);

    if (r == 0)
        return;
    pause_forking(prefork);
    prefork->config.handle_error(prefork->config.server, &(const struct weir_failure){
        .phase = WEIR_PHASE_PROCESS, .error = r, .peer = "", .handler = "",
    });
}

static void tell_all_to_stop(struct prefork *prefork)
{
    pthread_mutex_lock(&prefork->lock);
    prefork->outdated = false;
    for (struct child *child = prefork->children; child; child = child->next) {
        child->leaving = true;
        /* relaxed: the signal that follows orders it. pairs: read_page() */
        atomic_store_explicit(&child->page->stop, true, memory_order_relaxed);
        sys_eventfd_signal(child->order_fd);
    }
    pthread_mutex_unlock(&prefork->lock);
}

static bool is_outdated(struct prefork *prefork)
{
    bool outdated;

    pthread_mutex_lock(&prefork->lock);
    outdated = prefork->outdated;
    pthread_mutex_unlock(&prefork->lock);
    return outdated;
}

static void replace(struct prefork *prefork)
{
    if (is_outdated(prefork))
        tell_all_to_stop(prefork);
    if (clock_ms() < prefork->mixin.due_at_ms)
        return;
    prefork->mixin.due_at_ms = 0;
    fill_up_or_pause(prefork);
}

/* Why it died, -errno. */
static int reason_of(const struct child *child)
{
    /* relaxed: its end orders it. pairs: end_in_child() */
    int error = atomic_load_explicit(&child->page->error, memory_order_relaxed);

    return error < 0 ? error : -ECHILD;
}

static void note_death(struct prefork *prefork, const struct child *child, int status)
{
    if (prefork->beginning) {
        prefork->error = reason_of(child);
        return;
    }
    if (clock_ms() - child->born_ms < YOUNG_MS)
        pause_forking(prefork);
    else
        prefork->pause_ms = 0;
    mixin_tell_death(&prefork->config, child->pid, status, reason_of(child), "", "");
}

/* It may have been called for a client that it has not accepted, and nobody else was. */
static void have_all_look_locked(struct prefork *prefork)
{
    for (struct child *child = prefork->children; child; child = child->next) {
        /* relaxed: the signal that follows orders it. pairs: read_page() */
        atomic_store_explicit(&child->page->look, true, memory_order_relaxed);
        sys_eventfd_signal(child->order_fd);
    }
}

static void reap_child(struct prefork *prefork, struct child *child)
{
    int status = 0;
    bool ended;

    pthread_mutex_lock(&prefork->lock);
    ended = sys_reap(child->pidfd, child->pid, &status) != 0;
    if (ended) {
        keep_stats_locked(prefork, child);
        unlink_child_locked(prefork, child);
        /* By name: children that were forked meanwhile may have it open too. */
        sys_epoll_ctl(prefork->mixin.ended_fd, EPOLL_CTL_DEL, child->pidfd, 0, 0);
        have_all_look_locked(prefork);
    }
    pthread_mutex_unlock(&prefork->lock);
    if (!ended)
        return;
    if (!child->leaving || status != 0)
        note_death(prefork, child, status);
    free_child(child);
    connection_table_return(&prefork->config.crew->table, prefork->config.quota, 1);
}

static void reap(struct mixin *mixin)
{
    struct prefork *prefork = prefork_of(mixin);
    struct epoll_event events[EVENTS_MAX];
    int n = sys_epoll_wait(mixin->ended_fd, events, EVENTS_MAX, 0);

    for (int i = 0; i < n; i++) {
        if (events[i].data.u64 == TOKEN_WAKE)
            sys_eventfd_clear(prefork->wake_fd);
        else
            reap_child(prefork, (struct child *)(uintptr_t)events[i].data.u64);
    }
    if (prefork->serving)
        replace(prefork);
}

static void renew(struct mixin *mixin)
{
    struct prefork *prefork = prefork_of(mixin);

    pthread_mutex_lock(&prefork->lock);
    prefork->outdated = true;
    pthread_mutex_unlock(&prefork->lock);
    sys_eventfd_signal(prefork->wake_fd);
}

/* ------------------------------------------------------------------ a serving --------- */

static void forget_parent(struct prefork *prefork)
{
    sys_close(prefork->parent_fd);
    prefork->parent_fd = -1;
}

static bool anyone_accepts(const struct prefork *prefork)
{
    for (const struct child *child = prefork->children; child; child = child->next)
        /* relaxed: the signal before orders it. pairs: child_main() */
        if (!child->leaving && atomic_load_explicit(&child->page->accepts, memory_order_relaxed))
            return true;
    return false;
}

static bool anyone_is_left(const struct prefork *prefork)
{
    for (const struct child *child = prefork->children; child; child = child->next)
        if (!child->leaving)
            return true;
    return false;
}

/* There is nothing to wait for: one of them accepts, or all have died. */
static bool is_decided(const struct prefork *prefork)
{
    return anyone_accepts(prefork) || !anyone_is_left(prefork);
}

/* Only whoever calls reap changes the list of children. */
static bool all_have_stopped(const struct prefork *prefork)
{
    for (const struct child *child = prefork->children; child; child = child->next)
        /* relaxed: the signal before orders it. pairs: child_main() */
        if (!atomic_load_explicit(&child->page->stopped, memory_order_relaxed))
            return false;
    return true;
}

/* Hears what children say, and of their ends, until it is so; but no longer than that. */
static void listen_until(struct prefork *prefork, bool (*is_so)(const struct prefork *prefork),
                         uint32_t patience_ms)
{
    struct pollfd fds[] = {
        { .fd = prefork->said_fd, .events = POLLIN },
        { .fd = prefork->mixin.ended_fd, .events = POLLIN },
    };
    uint64_t now_ms = clock_ms();
    uint64_t until_ms = now_ms + patience_ms;

    while (!is_so(prefork) && now_ms < until_ms) {
        sys_poll(fds, sizeof(fds) / sizeof(fds[0]), clock_timeout_ms(until_ms, now_ms));
        sys_eventfd_clear(prefork->said_fd);
        if (fds[1].revents)
            reap(&prefork->mixin);
        now_ms = clock_ms();
    }
}

/* 0 once one of them accepts, or may yet; or why none of them can, when all have died. */
static int wait_for_the_first(struct prefork *prefork)
{
    listen_until(prefork, is_decided, BEGIN_PATIENCE_MS);
    return anyone_is_left(prefork) ? 0 : prefork->error;
}

static int begin(struct mixin *mixin)
{
    struct prefork *prefork = prefork_of(mixin);
    int r;

    forget_parent(prefork);
    prefork->parent_fd = sys_pidfd_open(getpid());
    if (prefork->parent_fd < 0)
        return prefork->parent_fd;
    prefork->pause_ms = 0;
    mixin->due_at_ms = 0;
    pthread_mutex_lock(&prefork->lock);
    prefork->outdated = false;
    pthread_mutex_unlock(&prefork->lock);
    prefork->beginning = true;
    r = fill_up(prefork);
    /* One is enough to serve. The others come later, if not now. */
    if (anyone_is_left(prefork))
        r = wait_for_the_first(prefork);
    prefork->beginning = false;
    if (r < 0)
        return r;
    prefork->serving = true;
    mixin->due_at_ms = clock_ms();
    return 0;
}

static void end(struct mixin *mixin)
{
    struct prefork *prefork = prefork_of(mixin);

    prefork->serving = false;
    mixin->due_at_ms = 0;
    tell_all_to_stop(prefork);
    listen_until(prefork, all_have_stopped, STOP_PATIENCE_MS);
}

static void kill_all(struct mixin *mixin)
{
    struct prefork *prefork = prefork_of(mixin);

    pthread_mutex_lock(&prefork->lock);
    for (const struct child *child = prefork->children; child; child = child->next) {
        log_line(LOG_CHILD, "child %d has not ended when it was cancelled: it is killed",
                 (int)child->pid);
        sys_kill_child(child->pidfd, child->pid);
    }
    pthread_mutex_unlock(&prefork->lock);
}

/* ------------------------------------------------------------------ begin and end ----- */

static void free_locks(struct mixin *mixin)
{
    pthread_mutex_init(&prefork_of(mixin)->lock, NULL);
}

static void destroy(struct mixin *mixin)
{
    struct prefork *prefork = prefork_of(mixin);
    const int fds[] = {
        prefork->answer_fd, prefork->said_fd, prefork->wake_fd, prefork->parent_fd,
        mixin->ended_fd,
    };

    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        sys_close(fds[i]);
    pthread_mutex_destroy(&prefork->lock);
    free(prefork);
}

static int open_descriptors(struct prefork *prefork)
{
    int *fds[] = { &prefork->answer_fd, &prefork->said_fd, &prefork->wake_fd };

    /* Refused for good, where it is: better known now. */
    prefork->parent_fd = sys_pidfd_open(getpid());
    if (prefork->parent_fd < 0)
        return prefork->parent_fd;
    prefork->mixin.ended_fd = sys_epoll_create();
    if (prefork->mixin.ended_fd < 0)
        return prefork->mixin.ended_fd;
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        *fds[i] = sys_eventfd();
        if (*fds[i] < 0)
            return *fds[i];
    }
    return sys_epoll_ctl(prefork->mixin.ended_fd, EPOLL_CTL_ADD, prefork->wake_fd, EPOLLIN,
                         TOKEN_WAKE);
}

int prefork_create(const struct mixin_config *config, struct mixin **ret)
{
    struct prefork *prefork = malloc(sizeof(*prefork));
    int r;

    if (!prefork)
        return -ENOMEM;
    *prefork = (struct prefork){
        .mixin = {
            .reap = reap, .begin = begin, .end = end, .renew = renew, .kill = kill_all,
            .add_stats = add_stats_of_all, .free_locks = free_locks, .destroy = destroy,
            .ended_fd = -1,
        },
        .config = *config,
        .answer_fd = -1, .said_fd = -1, .wake_fd = -1, .parent_fd = -1,
    };
    pthread_mutex_init(&prefork->lock, NULL);
    r = open_descriptors(prefork);
    if (r < 0) {
        destroy(&prefork->mixin);
        return r;
    }
    config->crew->table.private = true;
    *ret = &prefork->mixin;
    return 0;
}
