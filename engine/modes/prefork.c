/*
 * prefork.c - children that are forked beforehand, share the listeners, and each run a pool: the
 * parent's side. prefork_child.c is the child's, wire.c what they tell each other.
 *
 * The parent accepts nothing: it replaces children that have died, and gives orders. Its table
 * holds one for each child, so that the thread that closes the server waits for them.
 *
 *   a child is   what makes it so                               and is known by
 *   FORKED       fork_locked                                    not in the list yet
 *   BEGINNING    it has a pidfd: link_child_locked              in the list
 *   ACCEPTING    it has begun to serve                          wire_accepts
 *   LEAVING      tell_all_to_stop                               leaving
 *   STOPPED      its acceptor has returned                      leaving, wire_has_stopped
 *   ENDED        it has drained, could not begin, or was ended  its pidfd is readable
 *   gone         reap_child                                     not in the list any more
 *
 * Each may end at any time. One that was not LEAVING is replaced, unless the serving has ended.
 */
#include "engine/modes/mixin.h"

#include "engine/base/clock.h"
#include "engine/base/statistics.h"
#include "engine/base/sys.h"
#include "engine/modes/children.h"
#include "engine/modes/prefork_child.h"
#include "engine/modes/process.h"
#include "engine/modes/wire.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

/* A child that dies sooner than YOUNG_MS is replaced later, and later each time. */
#define YOUNG_MS 1000
#define PAUSE_MIN_MS 100
#define PAUSE_MAX_MS 5000

/* For the answers of children: one may be stopped, or has only begun. */
#define STATS_PATIENCE_MS 100

/* For the first child to accept, and for all to stop: one may be stopped by a signal. */
#define BEGIN_PATIENCE_MS 10000
#define STOP_PATIENCE_MS 2000

/* In the set of ends: a child's token is its address. */
#define TOKEN_WAKE 0

struct forked {
    struct forked *next;
    struct child child;
    struct wire wire;
    unsigned number;                /* from 0; the child that replaces it has the same */
    bool leaving;                   /* it was told to stop */
    uint64_t born_ms;
};

struct prefork {
    struct mixin mixin;
    struct mixin_config config;
    int answer_fd;                  /* these are eventfds. A child has answered */
    int said_fd;                    /* a child accepts now, or has stopped */
    int wake_fd;                    /* outdated was set, or a child could accept nobody */
    int parent_fd;                  /* the parent's own pidfd, of its last serving */
    uint64_t pause_ms;              /* before the next fork; 0: the last to die was not young */
    bool beginning;                 /* begin tells why a child could not accept */
    int error;                      /* why the last of these died */
    bool has_accepted;              /* one that began since has died after it could accept */
    bool serving;                   /* a child that dies is replaced */
    pthread_mutex_t lock;           /* of all below; held across fork */
    struct children children;
    struct forked *list;
    size_t list_len;
    bool outdated;                  /* all are to be replaced */
    bool handed_on;                 /* another server accepts from the same sockets */
    struct weir_stats ended;        /* of the children that are gone */
};

static struct prefork *prefork_of(struct mixin *mixin)
{
    return caa_container_of(mixin, struct prefork, mixin);
}

/* ------------------------------------------------------------------ statistics -------- */

static bool all_have_answered_locked(const struct prefork *prefork,
                                     bool (*is_answered)(const struct wire *wire))
{
    for (const struct forked *forked = prefork->list; forked; forked = forked->next)
        if (!is_answered(&forked->wire))
            return false;
    return true;
}

static void ask_all_locked(struct prefork *prefork, void (*ask)(const struct wire *wire),
                           bool (*is_answered)(const struct wire *wire))
{
    struct pollfd answered = { .fd = prefork->answer_fd, .events = POLLIN };
    uint64_t now_ms = clock_ms();
    uint64_t until_ms = now_ms + STATS_PATIENCE_MS;

    for (struct forked *forked = prefork->list; forked; forked = forked->next)
        ask(&forked->wire);
    while (!all_have_answered_locked(prefork, is_answered) && now_ms < until_ms) {
        sys_poll(&answered, 1, clock_timeout_ms(until_ms, now_ms));
        sys_eventfd_clear(prefork->answer_fd);
        now_ms = clock_ms();
    }
}

static void prefork_add_stats(struct mixin *mixin, struct weir_stats *sum, mixin_add_tally *add)
{
    struct prefork *prefork = prefork_of(mixin);

    (void)add;
    pthread_mutex_lock(&prefork->lock);
    ask_all_locked(prefork, wire_ask, wire_is_answered);
    statistics_add(sum, &prefork->ended);
    for (struct forked *forked = prefork->list; forked; forked = forked->next)
        statistics_add(sum, wire_last_answer(&forked->wire));
    sum->workers = prefork->list_len;
    pthread_mutex_unlock(&prefork->lock);
}

static void prefork_add_roll(struct mixin *mixin, struct roll *roll)
{
    struct prefork *prefork = prefork_of(mixin);

    pthread_mutex_lock(&prefork->lock);
    ask_all_locked(prefork, wire_ask_roll, wire_roll_is_answered);
    for (struct forked *forked = prefork->list; forked; forked = forked->next) {
        if (wire_roll_is_answered(&forked->wire))
            wire_add_roll(&forked->wire, roll);
        else
            roll->silent_children++;
    }
    pthread_mutex_unlock(&prefork->lock);
}

/* What the child had open went with it. */
static void keep_stats_locked(struct prefork *prefork, const struct forked *forked)
{
    struct weir_stats last = *wire_last_answer(&forked->wire);

    statistics_end(&last);
    statistics_add(&prefork->ended, &last);
}

/* ------------------------------------------------------------------ one more, one less  */

/* In a new child, which is in no list: what the parent knows its other children by. */
static void leave_the_others_in_child(const struct prefork *prefork)
{
    for (const struct forked *other = prefork->list; other; other = other->next) {
        sys_close(other->child.pidfd);
        wire_close(&other->wire);
    }
    children_leave_in_child(&prefork->children);
}

static _Noreturn void prefork_serve_in_child(const struct prefork *prefork,
                                             const struct forked *self)
{
    leave_the_others_in_child(prefork);
    prefork_child_main(&(const struct prefork_child){
        .config = &prefork->config, .wire = self->wire, .number = self->number,
        .parent_fd = prefork->parent_fd, .others_fd = prefork->wake_fd,
    });
}

static void free_forked(struct forked *forked)
{
    wire_close(&forked->wire);
    free(forked);
}

static int create_forked(const struct prefork *prefork, unsigned number, struct forked **ret)
{
    struct forked *forked = malloc(sizeof(*forked));
    int r;

    if (!forked)
        return -ENOMEM;
    *forked = (struct forked){ .number = number, .born_ms = clock_ms() };
    r = wire_open(&forked->wire, prefork->answer_fd, prefork->said_fd);
    if (r < 0) {
        free(forked);
        return r;
    }
    *ret = forked;
    return 0;
}

static void link_child_locked(struct prefork *prefork, struct forked *forked)
{
    forked->next = prefork->list;
    prefork->list = forked;
    prefork->list_len++;
    connection_table_hold(&prefork->config.crew->table);
}

static void unlink_child_locked(struct prefork *prefork, struct forked *forked)
{
    struct forked **link = &prefork->list;

    while (*link != forked)
        link = &(*link)->next;
    *link = forked->next;
    prefork->list_len--;
}

/* 0: the child has been told to begin. -errno: there is none. */
static int fork_server_locked(struct prefork *prefork, struct forked *forked)
{
    pid_t pid = process_fork();
    int r;

    if (pid == 0)
        prefork_serve_in_child(prefork, forked);
    if (pid < 0)
        return -errno;
    r = children_watch(&prefork->children, pid, (uintptr_t)forked, &forked->child);
    if (r == 0) {
        wire_order_begin(&forked->wire);
        return 0;
    }
    /* Where its end leaves nothing to be reaped it is not killed, but it ends by itself. */
    wire_order_stop(&forked->wire, false);
    children_abandon(pid);
    return r;
}

static int add_child_locked(struct prefork *prefork, unsigned number)
{
    struct forked *forked;
    int r = children_reserve_fd(&prefork->children);

    if (r < 0)
        return r;
    r = create_forked(prefork, number, &forked);
    if (r < 0)
        return r;
    r = fork_server_locked(prefork, forked);
    if (r == 0)
        link_child_locked(prefork, forked);
    else
        free_forked(forked);
    return r;
}

/* ------------------------------------------------------------------ the reviving ------ */

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

static bool has_number_locked(const struct prefork *prefork, unsigned number)
{
    for (const struct forked *forked = prefork->list; forked; forked = forked->next)
        if (forked->number == number && !forked->leaving)
            return true;
    return false;
}

/* A child for each number, or as many as can be had, and the error. */
static int fill_up(struct prefork *prefork)
{
    int r = 0;

    pthread_mutex_lock(&prefork->lock);
    for (unsigned number = 0; number < prefork->config.processes && r == 0; number++)
        if (!has_number_locked(prefork, number))
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

/* followed: by new children of ours, or else by another server if we have one. */
static void tell_all_to_stop(struct prefork *prefork, bool followed)
{
    pthread_mutex_lock(&prefork->lock);
    prefork->outdated = false;
    for (struct forked *forked = prefork->list; forked; forked = forked->next) {
        forked->leaving = true;
        wire_order_stop(&forked->wire, followed || prefork->handed_on);
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

static void replace_children(struct prefork *prefork)
{
    if (is_outdated(prefork))
        tell_all_to_stop(prefork, true);
    if (clock_ms() < prefork->mixin.due_at_ms)
        return;
    prefork->mixin.due_at_ms = 0;
    fill_up_or_pause(prefork);
}

/* ------------------------------------------------------------------ the dead ---------- */

/* Why it died, -errno. */
static int reason_of(const struct forked *forked)
{
    int error = wire_error(&forked->wire);

    return error < 0 ? error : -ECHILD;
}

/* It is to be replaced: later, if it was young. */
static void note_loss(struct prefork *prefork, const struct forked *forked)
{
    prefork->has_accepted = true;
    if (clock_ms() - forked->born_ms < YOUNG_MS)
        pause_forking(prefork);
    else
        prefork->pause_ms = 0;
}

static void note_death(struct prefork *prefork, const struct forked *forked, int status)
{
    /* One that is leaving was an earlier serving's, or has been replaced: of this serving it says
     * nothing. */
    if (!forked->leaving && prefork->beginning && !wire_accepts(&forked->wire)) {
        prefork->error = reason_of(forked);
        return;
    }
    if (!forked->leaving)
        note_loss(prefork, forked);
    children_tell_death(&prefork->config, forked->child.pid, status, reason_of(forked), "", "");
}

/*
 * A child that has died, or could accept nobody, may have been called for a client, and nobody else
 * was. The kernel would not call another before the next client comes.
 */
static void have_all_look_locked(const struct prefork *prefork)
{
    for (struct forked *forked = prefork->list; forked; forked = forked->next)
        wire_order_look(&forked->wire);
}

static bool bury_locked(struct prefork *prefork, struct forked *forked, int *ret_status)
{
    if (!children_reap(&prefork->children, &forked->child, ret_status))
        return false;
    keep_stats_locked(prefork, forked);
    unlink_child_locked(prefork, forked);
    have_all_look_locked(prefork);
    return true;
}

static void reap_child(struct prefork *prefork, struct forked *forked)
{
    int status = 0;
    bool ended;

    pthread_mutex_lock(&prefork->lock);
    ended = bury_locked(prefork, forked, &status);
    pthread_mutex_unlock(&prefork->lock);
    if (!ended)
        return;
    if (!forked->leaving || status != 0)
        note_death(prefork, forked, status);
    free_forked(forked);
    connection_table_let_go(&prefork->config.crew->table);
}

static void note_wake(struct prefork *prefork)
{
    sys_eventfd_clear(prefork->wake_fd);
    pthread_mutex_lock(&prefork->lock);
    have_all_look_locked(prefork);
    pthread_mutex_unlock(&prefork->lock);
}

static void prefork_note_event(void *arg, uint64_t token)
{
    struct prefork *prefork = arg;

    if (token == TOKEN_WAKE)
        note_wake(prefork);
    else
        reap_child(prefork, (struct forked *)(uintptr_t)token);
}

static void prefork_reap(struct mixin *mixin)
{
    struct prefork *prefork = prefork_of(mixin);

    children_each_event(&prefork->children, prefork_note_event, prefork);
    if (prefork->serving)
        replace_children(prefork);
}

static void prefork_renew(struct mixin *mixin)
{
    struct prefork *prefork = prefork_of(mixin);

    pthread_mutex_lock(&prefork->lock);
    prefork->outdated = true;
    pthread_mutex_unlock(&prefork->lock);
    sys_eventfd_signal(prefork->wake_fd);
}

static void prefork_hand_on(struct mixin *mixin)
{
    struct prefork *prefork = prefork_of(mixin);

    pthread_mutex_lock(&prefork->lock);
    prefork->handed_on = true;
    pthread_mutex_unlock(&prefork->lock);
}

static void prefork_kill(struct mixin *mixin)
{
    struct prefork *prefork = prefork_of(mixin);

    pthread_mutex_lock(&prefork->lock);
    for (const struct forked *forked = prefork->list; forked; forked = forked->next)
        children_kill(&forked->child, "", "");
    pthread_mutex_unlock(&prefork->lock);
}

/* ------------------------------------------------------------------ a serving --------- */

/* Only children accept. */
static int prefork_process(struct mixin *mixin, const struct accepted *accepted)
{
    (void)mixin;
    (void)accepted;
    return -EOPNOTSUPP;
}

/* Only the thread that calls reap changes the list: so it reads it here without the lock. */
static bool anyone_accepts(const struct prefork *prefork)
{
    for (const struct forked *forked = prefork->list; forked; forked = forked->next)
        if (!forked->leaving && wire_accepts(&forked->wire))
            return true;
    return false;
}

static bool anyone_is_left(const struct prefork *prefork)
{
    for (const struct forked *forked = prefork->list; forked; forked = forked->next)
        if (!forked->leaving)
            return true;
    return false;
}

/* There is nothing to wait for: one of them accepts or did, or all have died. */
static bool is_decided(const struct prefork *prefork)
{
    return prefork->has_accepted || anyone_accepts(prefork) || !anyone_is_left(prefork);
}

static bool all_have_stopped(const struct prefork *prefork)
{
    for (const struct forked *forked = prefork->list; forked; forked = forked->next)
        if (!wire_has_stopped(&forked->wire))
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
            prefork_reap(&prefork->mixin);
        now_ms = clock_ms();
    }
}

/*
 * 0 once one of them accepts, or may yet; or why none of them can, when all have died. A client may
 * have crashed one before the parent looked: that one could accept, and so can another.
 */
static int wait_for_the_first(struct prefork *prefork)
{
    listen_until(prefork, is_decided, BEGIN_PATIENCE_MS);
    return prefork->has_accepted || anyone_is_left(prefork) ? 0 : prefork->error;
}

static int renew_parent_fd(struct prefork *prefork)
{
    sys_close(prefork->parent_fd);
    prefork->parent_fd = sys_pidfd_open(getpid());
    return prefork->parent_fd < 0 ? prefork->parent_fd : 0;
}

static int prefork_begin(struct mixin *mixin)
{
    struct prefork *prefork = prefork_of(mixin);
    int r = renew_parent_fd(prefork);

    if (r < 0)
        return r;
    prefork->pause_ms = 0;
    mixin->due_at_ms = 0;
    pthread_mutex_lock(&prefork->lock);
    prefork->outdated = false;
    pthread_mutex_unlock(&prefork->lock);
    prefork->beginning = true;
    prefork->has_accepted = false;
    r = fill_up(prefork);
    /* One is enough to serve. The others come later, if not now. */
    if (anyone_is_left(prefork))
        r = wait_for_the_first(prefork);
    prefork->beginning = false;
    if (r < 0)
        return r;
    prefork->serving = true;
    if (mixin->due_at_ms == 0)
        mixin->due_at_ms = clock_ms();
    return 0;
}

static void prefork_end(struct mixin *mixin)
{
    struct prefork *prefork = prefork_of(mixin);

    prefork->serving = false;
    mixin->due_at_ms = 0;
    tell_all_to_stop(prefork, false);
    listen_until(prefork, all_have_stopped, STOP_PATIENCE_MS);
}

/* ------------------------------------------------------------------ begin and end ----- */

static void prefork_free_locks(struct mixin *mixin)
{
    pthread_mutex_init(&prefork_of(mixin)->lock, NULL);
}

static void prefork_destroy(struct mixin *mixin)
{
    struct prefork *prefork = prefork_of(mixin);

    children_close(&prefork->children);
    sys_close(prefork->answer_fd);
    sys_close(prefork->said_fd);
    sys_close(prefork->wake_fd);
    sys_close(prefork->parent_fd);
    pthread_mutex_destroy(&prefork->lock);
    free(prefork);
}

static int prefork_open_descriptors(struct prefork *prefork)
{
    int *fds[] = { &prefork->answer_fd, &prefork->said_fd, &prefork->wake_fd };
    /* Refused for good, where it is: better known now. */
    int r = renew_parent_fd(prefork);

    if (r == 0)
        r = children_open(&prefork->children);
    prefork->mixin.ended_fd = prefork->children.ended_fd;
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]) && r == 0; i++) {
        *fds[i] = sys_eventfd();
        r = *fds[i] < 0 ? *fds[i] : 0;
    }
    return r == 0 ? children_add_event(&prefork->children, prefork->wake_fd, TOKEN_WAKE) : r;
}

int prefork_create(const struct mixin_config *config, struct mixin **ret)
{
    struct prefork *prefork = malloc(sizeof(*prefork));
    int r;

    if (!prefork)
        return -ENOMEM;
    *prefork = (struct prefork){
        .mixin = {
            .prepare = mixin_needs_nothing, .process = prefork_process, .reap = prefork_reap,
            .add_stats = prefork_add_stats, .add_roll = prefork_add_roll,
            .begin = prefork_begin, .end = prefork_end,
            .renew = prefork_renew, .hand_on = prefork_hand_on,
            .take_leave = mixin_has_nobody, .kill = prefork_kill,
            .free_locks = prefork_free_locks,
            .destroy = prefork_destroy, .shortage = "",
        },
        .config = *config,
        .answer_fd = -1, .said_fd = -1, .wake_fd = -1, .parent_fd = -1,
        .children = { -1, -1 },
    };
    pthread_mutex_init(&prefork->lock, NULL);
    r = prefork_open_descriptors(prefork);
    if (r < 0) {
        prefork_destroy(&prefork->mixin);
        return r;
    }
    *ret = &prefork->mixin;
    return 0;
}
