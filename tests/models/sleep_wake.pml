/*
 * sleep_wake.pml - no wake-up is lost: the protocol of engine/sync/handoff.c.
 *
 * Workers announce that they sleep, look at the queue and their inbox once more, and sleep on a
 * descriptor. Wakers put something in, look at the announcements, and write a descriptor only if
 * one stands.
 *
 * The machine may delay a store past the loads that follow it. So each thread has a store buffer:
 * what it stores lands in memory at any later moment, but before its next fence ends and
 * before its next operation on the same word. (It holds one store; no thread here makes
 * a second one before a fence or such an operation.) Operations whose result is used land at once.
 *
 * Checked when everything stands still: nothing is queued, no inbox holds anything. With -DSTUCK one
 * worker may stay in a handler for ever; then nothing may be queued while the other one sleeps.
 *
 * With -DWATCHED the acceptor ticks as well, to find a worker that stays in a handler. It stops when
 * all workers sleep, and a worker that wakes calls it. One worker may stay in a handler; then the
 * acceptor must tick. It tries to stop RESTS times, at any moment: what it counts before it tries
 * is left out.
 *
 * Broken on purpose, to see that the check would notice:
 *   -DNO_WORKER_FENCE  -DNO_WAKER_FENCE  -DNO_SECOND_LOOK
 *   -DSTUCK -DNO_PASSING_ON
 *   -DWATCHED -DNO_WATCH_FENCE   the acceptor looks at the workers before its store has landed
 *   -DWATCHED -DNO_LOOK_AT_ALL   ... or doesn't look at them
 *   -DWATCHED -DEARLY_LOOK       who wakes looks at the acceptor first, then takes back
 *   -DWATCHED -DNO_CALL          who wakes doesn't look at the acceptor
 */
#define WORKERS 2
#define RESTS   2

/* As many wakers, which put something in as often, as can be searched in seconds. */
#ifdef WATCHED
#define STUCK
#define WAKERS 1
#else
#define WAKERS 2
#endif
#ifdef STUCK
#define ROUNDS(waker) 1
#else
#define ROUNDS(waker) ((waker) == WORKERS -> 2 : 1)
#endif

#define ACCEPTOR (WORKERS + WAKERS)
#define THREADS  (ACCEPTOR + 1)

#define BIT(i) (1 << (i))

byte queued;                    /* connections in the ready queue */
byte inbox[WORKERS];
byte sleeping;                  /* the announcements, a bit a worker */
bool wake_fd[WORKERS];          /* eventfds: written and not yet seen */
bool own_event[WORKERS];        /* something else that ends a sleep */
bool stuck;                     /* one worker is, for ever */
bool watching;                  /* no need to call the acceptor */
bool watch_fd;                  /* an eventfd: written and not yet seen */
bool ticks;                     /* the acceptor does */

/* What a store does when it lands. */
mtype = { nothing, push, announce, put, watch, unwatch };
mtype buffer[THREADS] = nothing;
byte target[THREADS];

#define STORE(what, where) \
    atomic { buffer[me] == nothing -> buffer[me] = what; target[me] = where }
#define LANDED buffer[me] == nothing

/* Of handoff_awake(): it concerns the same word, so the announcement has landed. */
#define TAKE_BACK \
    atomic { LANDED; called = called || !(sleeping & BIT(me)); sleeping = sleeping & ~BIT(me) }

/* Of several workers that have seen that nobody watches, one writes the descriptor. */
inline call_watcher()
{
    if
    :: watching
    :: !watching ->
        atomic { watch_fd = watch_fd || !watching; watching = true }
    fi
}

#if !defined(WATCHED) || defined(NO_CALL)
#define AWAKE TAKE_BACK
#elif defined(EARLY_LOOK)
#define AWAKE call_watcher(); TAKE_BACK
#else
#define AWAKE TAKE_BACK; call_watcher()
#endif

/* The way to memory of the thread with the same number. */
active [THREADS] proctype memory()
{
end:
    do
    :: atomic {
            buffer[_pid] != nothing;
            if
            :: buffer[_pid] == push     -> queued++
            :: buffer[_pid] == announce -> sleeping = sleeping | BIT(target[_pid])
            :: buffer[_pid] == put      -> inbox[target[_pid]]++
            :: buffer[_pid] == watch    -> watching = true
            :: buffer[_pid] == unwatch  -> watching = false
            fi;
            buffer[_pid] = nothing
        }
    od
}

/* wake_one(): of those that announced, the first; if its bit is gone by then, look again. */
inline wake_one()
{
    do
    :: atomic { sleeping == 0 -> break }
    :: atomic { sleeping != 0 -> i = (sleeping & BIT(0) -> 0 : 1) }
        atomic {
            if
            :: sleeping & BIT(i) -> sleeping = sleeping & ~BIT(i); wake_fd[i] = true; i = 0; break
            :: else -> i = 0
            fi
        }
    od
}

inline wake_worker(w)
{
    if
    :: atomic { sleeping & BIT(w) -> sleeping = sleeping & ~BIT(w); wake_fd[w] = true }
    :: !(sleeping & BIT(w))
    fi
}

proctype waker(byte me)
{
    byte round, i;

    for (round : 1 .. ROUNDS(me)) {
        if
        :: STORE(push, 0);
#ifndef NO_WAKER_FENCE
            LANDED;
#endif
            wake_one()
        :: STORE(put, round % WORKERS);
#ifndef NO_WAKER_FENCE
            LANDED;
#endif
            wake_worker(round % WORKERS)
        fi
    }
}

/* Before what may take long: a waker that chose us may have meant something that we leave. */
inline pass_on()
{
#ifndef NO_PASSING_ON
    if
    :: called && queued > 0 -> wake_one()
    :: else
    fi;
#endif
    called = false
}

/* A handler: it returns, or, once in a run, does not. */
inline handle()
{
    pass_on();
    if
    :: true
#ifdef STUCK
    :: atomic { !stuck -> stuck = true; goto end_stuck }
#endif
    fi
}

proctype worker(byte me)
{
    byte i;
    bool called;                /* somebody took our announcement back */

    goto look;                  /* a turn begins so, also the first one */
    do
    :: atomic { inbox[me] > 0 -> inbox[me]-- }
        handle()
    :: atomic { inbox[me] == 0 && queued > 0 -> queued-- }
        handle()
    :: inbox[me] == 0 && queued == 0 ->
look:   STORE(announce, me);
#ifndef NO_WORKER_FENCE
        LANDED;
#endif
#ifndef NO_SECOND_LOOK
        if
        :: inbox[me] > 0 -> goto awake
        :: else
        fi;
        if
        :: queued > 0 -> goto awake
        :: else
        fi;
#endif
end_sleep:
        if
        :: atomic { wake_fd[me] -> wake_fd[me] = false }
awake:      AWAKE
        :: atomic { own_event[me] -> own_event[me] = false }
            AWAKE;
            handle()
        fi
    od;

end_stuck:
    false
}

/* handoff_unwatch() */
inline rest()
{
    STORE(unwatch, 0);
#ifndef NO_WATCH_FENCE
    LANDED;
#endif
    if
#ifdef NO_LOOK_AT_ALL
    :: ticks = false
#else
    :: atomic { sleeping == BIT(0) + BIT(1) -> ticks = false }
    :: sleeping != BIT(0) + BIT(1) -> STORE(watch, 0)
#endif
    fi
}

/* It doesn't tick at first: the first worker that wakes calls it. */
proctype acceptor(byte me)
{
    byte rests;

end:
    do
    :: atomic { watch_fd -> watch_fd = false; ticks = true }
    :: atomic { ticks && rests < RESTS -> rests++ }
        rest()
    od
}

init {
    byte i;

    atomic {
#ifdef STUCK
        own_event[0] = true;
#endif
        for (i : 0 .. WORKERS - 1) {
            run worker(i)
        }
        for (i : 0 .. WAKERS - 1) {
            run waker(WORKERS + i)
        }
#ifdef WATCHED
        run acceptor(ACCEPTOR)
#endif
    }
end:
    timeout;
    assert(queued == 0);
    assert(stuck || (inbox[0] == 0 && inbox[1] == 0));
#ifdef WATCHED
    assert(!stuck || ticks)
#endif
}
