#include "engine/pool/stall.h"

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/fiber/trace.h"
#include "engine/net/address.h"
#include "engine/pool/scene.h"

#include <stdio.h>
#include <sys/syscall.h>

/* For the answer of a worker that runs, perhaps after others; it may have blocked the signal. */
#define PATIENCE_MS 1000

/* All that a line has room for beside the rest. */
#define WHERE_SIZE 260

/* ------------------------------------------------------------------ words ------------- */

/* Of the calls that a handler may block in; NULL: another one. */
static const char *name_of_call(long call)
{
    static const struct {
        long call;
        const char *name;
    } names[] = {
        { SYS_futex, "futex" }, { SYS_clock_nanosleep, "clock_nanosleep" },
        { SYS_nanosleep, "nanosleep" }, { SYS_ppoll, "ppoll" }, { SYS_pselect6, "pselect6" },
        { SYS_epoll_pwait, "epoll_pwait" }, { SYS_read, "read" }, { SYS_write, "write" },
        { SYS_recvfrom, "recvfrom" }, { SYS_recvmsg, "recvmsg" }, { SYS_sendto, "sendto" },
        { SYS_sendmsg, "sendmsg" }, { SYS_connect, "connect" }, { SYS_accept4, "accept4" },
        { SYS_wait4, "wait4" }, { SYS_waitid, "waitid" }, { SYS_flock, "flock" },
        { SYS_fsync, "fsync" }, { SYS_fdatasync, "fdatasync" },
#ifdef SYS_poll
        { SYS_poll, "poll" }, { SYS_select, "select" }, { SYS_epoll_wait, "epoll_wait" },
#endif
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (names[i].call == call)
            return names[i].name;
    return NULL;
}

/* As in " for 127.0.0.1:51234, in poll(2) at program+0x1b2c4,"; "": nothing is known. */
static void describe(const struct trace *trace, char *buf, size_t size)
{
    const struct crash_scene *scene = &trace->scene;
    char peer[WEIR_ADDRESS_SIZE] = "";
    char frames[WHERE_SIZE] = "";
    const char *call = name_of_call(trace->call);
    size_t room = size;

    if (scene->peer_len > 0 && scene->peer.ss_family == AF_UNIX)
        snprintf(peer, sizeof(peer), "a Unix peer");
    else if (scene->peer_len > 0)
        address_text((const struct sockaddr *)&scene->peer, scene->peer_len, peer, sizeof(peer));
    room -= (size_t)snprintf(buf, size, "%s%s%s%s%s", peer[0] ? " for " : "", peer,
                             call ? ", in " : "", call ? call : "", call ? "(2)" : "");
    if (room > sizeof(", at,"))
        trace_text(trace, 0, frames, room - sizeof(", at,"));
    snprintf(buf + (size - room), room, "%s%s%s", frames[0] ? (call ? " at" : ", at") : "", frames,
             size - room > 0 || frames[0] ? "," : "");
}

static void tell_stall(const struct stall_config *config, const struct worker *worker,
                       const char *inside, uint64_t held_ms, const struct trace *trace)
{
    char where[WHERE_SIZE];

    describe(trace, where, sizeof(where));
    log_line(LOG_STALL, "handler '%s' has held worker %u%s for %llu ms without waiting%s", inside,
             worker->index, where, (unsigned long long)held_ms,
             config->explains && trace->call == SYS_futex
                 ? ": it waits in futex(2), as for a lock: a handler may have held one across a "
                   "call that parks"
                 : ": what blocks, or computes for long, belongs in weir_offload, and a pause is "
                   "weir_sleep");
}

/* ------------------------------------------------------------------ the look ---------- */

/* Returns true if the worker has been asked, and its answer is worth waiting for. */
static bool awaits_answer(struct stall_watch *watch, const struct worker *worker,
                          struct trace *trace, uint64_t now_ms)
{
    /* acquire: stack_base; written before the first handler. pairs: worker.c's worker_main() */
    pid_t tid = atomic_load_explicit(&worker->tid, memory_order_acquire);

    *trace = (struct trace){ .call = -1 };
    if (watch->asked_ms != 0) {
        /* Behind an answer the next question may be another server's. */
        if (trace_take(trace))
            return false;
        if (clock_since(watch->asked_ms, now_ms) < PATIENCE_MS)
            return true;
        trace_forget();
        return false;
    }
    if (!trace_look(tid, trace))
        return false;
    if (trace->call >= 0) {
        trace_scan(trace, worker->stack_base);
        scene_of_blocked(worker, trace->stack_pointer, &trace->scene);
        return false;
    }
    if (!trace_ask(tid))
        return false;
    watch->asked_ms = now_ms;
    return true;
}

void stall_note_sleep(struct stall_watch *watch, uint64_t now_ms)
{
    if (watch->asked_ms != 0)
        trace_forget();
    watch->asked_ms = 0;
    watch->since_ms = now_ms;
}

static void begin_anew(struct stall_watch *watch, uint64_t steps, uint64_t now_ms)
{
    stall_note_sleep(watch, now_ms);
    watch->steps = steps;
    watch->told = false;
}

bool stall_look(struct stall_watch *watch, const struct stall_config *config,
                const struct worker *worker, uint64_t now_ms)
{
    /* relaxed: for people. pairs: none */
    uint64_t steps = atomic_load_explicit(&worker->steps, memory_order_relaxed);
    const char *inside = atomic_load_explicit(&worker->inside, memory_order_relaxed);
    uint64_t held_ms = clock_since(watch->since_ms, now_ms);
    struct trace trace;

    if (steps != watch->steps || !inside) {
        begin_anew(watch, steps, now_ms);
        return false;
    }
    if (watch->told || held_ms < config->warn_ms || awaits_answer(watch, worker, &trace, now_ms))
        return false;
    watch->told = true;
    watch->asked_ms = 0;
    tell_stall(config, worker, inside, held_ms, &trace);
    return true;
}
