#include "tests/simulation/epoll.h"

#include "tests/simulation/report.h"
#include "tests/simulation/scheduler.h"
#include "tests/simulation/trace.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

/* Nobody can say that these don't interest him. */
#define ALWAYS (EPOLLERR | EPOLLHUP)

/* Bits that say how, not what. */
#define MODES (EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP)

struct epoll {
    struct file file;
    struct watch *watches;
    struct watch *ready, **ready_end;
    unsigned sleepers;
};

static uint64_t drop_in;

void *__real_malloc(size_t size);
void __real_free(void *memory);

static void put_on_list(struct watch *watch)
{
    struct epoll *set = watch->set;

    if (watch->is_ready)
        return;
    watch->is_ready = true;
    watch->next_ready = NULL;
    *set->ready_end = watch;
    set->ready_end = &watch->next_ready;
}

static void take_off_list(struct watch *watch)
{
    struct epoll *set = watch->set;
    struct watch **link = &set->ready;

    if (!watch->is_ready)
        return;
    while (*link != watch)
        link = &(*link)->next_ready;
    *link = watch->next_ready;
    if (set->ready_end == &watch->next_ready)
        set->ready_end = link;
    watch->is_ready = false;
}

static uint32_t wanted_now(const struct watch *watch)
{
    return watch->file->kind->poll(watch->file) & (watch->events | ALWAYS) & ~(uint32_t)MODES;
}

static uint32_t set_poll(struct file *file)
{
    const struct epoll *set = (const struct epoll *)file;

    for (const struct watch *watch = set->ready; watch; watch = watch->next_ready)
        if (wanted_now(watch) != 0)
            return EPOLLIN | EPOLLRDNORM;
    return 0;
}

/* Out of its file's list, and freed. */
static void end_watch(struct watch *watch)
{
    struct file *file = watch->file;
    struct watch **link = &file->watches;

    take_off_list(watch);
    while (*link != watch)
        link = &(*link)->next_of_file;
    *link = watch->next_of_file;
    if (file->watches_end == &watch->next_of_file)
        file->watches_end = link;
    __real_free(watch);
}

static void unlink_from_set(struct watch *watch)
{
    struct watch **link = &watch->set->watches;

    while (*link != watch)
        link = &(*link)->next_of_set;
    *link = watch->next_of_set;
}

static void set_close(struct file *file)
{
    struct epoll *set = (struct epoll *)file;

    while (set->watches) {
        struct watch *watch = set->watches;

        set->watches = watch->next_of_set;
        end_watch(watch);
    }
    __real_free(set);
}

static const struct file_kind set_kind = { "epoll set", set_poll, set_close };

static struct epoll *set_of(int fd)
{
    struct file *file = file_of(fd);

    return file && file->kind == &set_kind ? (struct epoll *)file : NULL;
}

int epoll_open(void)
{
    struct epoll *set = __real_malloc(sizeof(*set));
    int fd;

    if (!set)
        abort();
    *set = (struct epoll){ .ready = NULL };
    set->ready_end = &set->ready;
    file_init(&set->file, &set_kind);
    fd = file_open(&set->file);
    if (fd < 0)
        __real_free(set);
    return fd;
}

void epoll_forget(struct file *file)
{
    while (file->watches) {
        struct watch *watch = file->watches;

        unlink_from_set(watch);
        end_watch(watch);
    }
}

void epoll_drop_once_in(uint64_t in)
{
    drop_in = in;
}

/*
 * One that is exclusive has taken it if somebody sleeps in its set, and the event is one of input
 * or output alone.
 */
static bool has_taken(const struct watch *watch, bool slept, uint32_t events)
{
    uint32_t ways = events & (EPOLLIN | EPOLLOUT);

    if (!slept)
        return false;
    return ways == 0 || (ways != (EPOLLIN | EPOLLOUT) && (watch->events & ways));
}

/* True: one that is exclusive has taken it, and the others of that sort don't hear of it. */
static bool tell_watch(struct watch *watch, uint32_t events)
{
    struct epoll *set = watch->set;
    uint32_t wanted = watch->events | ALWAYS;
    bool slept = set->sleepers > 0;

    /* Disarmed by EPOLLONESHOT, or of an event with a 0 for what it wants. */
    if ((watch->events & ~(uint32_t)MODES) == 0 && (watch->events & EPOLLONESHOT))
        return false;
    if (events != 0 && !(events & wanted))
        return false;
    if (dice_once_in(scheduler_dice(), drop_in))
        return false;
    put_on_list(watch);
    if (slept)
        scheduler_wake(set, false);
    file_tell(&set->file, EPOLLIN);
    return (watch->events & EPOLLEXCLUSIVE) && has_taken(watch, slept, events);
}

void epoll_tell(struct file *file, uint32_t events)
{
    struct watch *next;
    bool taken = false;

    for (struct watch *watch = file->watches; watch; watch = next) {
        next = watch->next_of_file;
        if (taken && (watch->events & EPOLLEXCLUSIVE))
            continue;
        taken = tell_watch(watch, events) || taken;
    }
}

/* It may be ready now: at an ADD or MOD the kernel looks. */
static void look_at(struct watch *watch)
{
    if (wanted_now(watch) == 0)
        return;
    put_on_list(watch);
    if (watch->set->sleepers > 0)
        scheduler_wake(watch->set, false);
    file_tell(&watch->set->file, EPOLLIN);
}

static struct watch *find_watch(const struct epoll *set, const struct file *file, int fd)
{
    struct watch *watch = set->watches;

    while (watch && (watch->file != file || watch->fd != fd))
        watch = watch->next_of_set;
    return watch;
}

static int add_watch(struct epoll *set, struct file *file, int fd, const struct epoll_event *event)
{
    struct watch *watch = __real_malloc(sizeof(*watch));

    if (!watch)
        abort();
    *watch = (struct watch){
        .set = set, .file = file, .fd = fd, .events = event->events, .data = event->data.u64,
        .next_of_set = set->watches,
    };
    set->watches = watch;
    *file->watches_end = watch;
    file->watches_end = &watch->next_of_file;
    look_at(watch);
    return 0;
}

int epoll_change(int epfd, int op, int fd, const struct epoll_event *event)
{
    struct epoll *set = set_of(epfd);
    struct file *file = file_of(fd);
    struct watch *watch;

    if (!file || !file_of(epfd))
        return -EBADF;
    if (!set || file == &set->file)
        return -EINVAL;
    watch = find_watch(set, file, fd);
    if (op == EPOLL_CTL_ADD)
        return watch ? -EEXIST : add_watch(set, file, fd, event);
    if (!watch)
        return -ENOENT;
    if (op == EPOLL_CTL_DEL) {
        unlink_from_set(watch);
        end_watch(watch);
        return 0;
    }
    if ((event->events | watch->events) & EPOLLEXCLUSIVE)
        return -EINVAL;
    watch->events = event->events;
    watch->data = event->data.u64;
    look_at(watch);
    return 0;
}

/* Those on the list that are ready indeed. */
static int take_ready(struct epoll *set, struct epoll_event *events, int max)
{
    struct watch *list = set->ready;
    int n = 0;

    set->ready = NULL;
    set->ready_end = &set->ready;
    while (list && n < max) {
        struct watch *watch = list;
        uint32_t now;

        list = watch->next_ready;
        watch->is_ready = false;
        now = wanted_now(watch);
        if (now == 0)
            continue;
        events[n++] = (struct epoll_event){ .events = now, .data.u64 = watch->data };
        if (watch->events & EPOLLONESHOT)
            watch->events &= MODES;
        else if (!(watch->events & EPOLLET))
            put_on_list(watch);
    }
    /* What there was no room for comes first the next time. */
    if (list) {
        struct watch *last = list;

        while (last->next_ready)
            last = last->next_ready;
        last->next_ready = set->ready;
        if (!set->ready)
            set->ready_end = &last->next_ready;
        set->ready = list;
    }
    return n;
}

int epoll_wait_for(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
    struct epoll *set = set_of(epfd);
    uint64_t until_ns = SCHEDULER_NEVER;
    bool woken = true;
    int n;

    if (!set)
        return file_of(epfd) ? -EINVAL : -EBADF;
    if (timeout_ms >= 0)
        until_ns = scheduler_now_ns() + (uint64_t)timeout_ms * MS_NS;
    for (;;) {
        n = take_ready(set, events, max);
        if (n > 0 || timeout_ms == 0 || !woken)
            return n;
        set->sleepers++;
        woken = scheduler_block(set, until_ns);
        set->sleepers--;
        /* The set is not closed by anybody while one waits in it. */
        if (set_of(epfd) != set)
            report_failure("an epoll set is closed in which a thread waits");
    }
}

bool epoll_is_slept_in(int epfd)
{
    const struct epoll *set = set_of(epfd);

    return set && set->sleepers > 0;
}
