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
 * Broken on purpose, to see that the check would notice:
 *   -DNO_WORKER_FENCE  -DNO_WAKER_FENCE  -DNO_SECOND_LOOK
 *   -DSTUCK -DNO_PASSING_ON
 */
#define WORKERS 2
#define WAKERS  2

/* How often a waker puts something in: as often as can be searched in seconds. */
#ifdef STUCK
#define ROUNDS(waker) 1
#else
#define ROUNDS(waker) ((waker) == WORKERS -> 2 : 1)
#endif

#define BIT(i) (1 << (i))

byte queued;                    /* connections in the ready queue */
byte inbox[WORKERS];
byte sleeping;                  /* the announcements, a bit a worker */
bool wake_fd[WORKERS];          /* eventfds: written and not yet seen */
bool own_event[WORKERS];        /* something else that ends a sleep */
bool stuck;                     /* one worker is, for ever */

/* What a store does when it lands. */
mtype = { nothing, push, announce, put };
mtype buffer[WORKERS + WAKERS] = nothing;
byte target[WORKERS + WAKERS];

#define STORE(what, where) \
    atomic { buffer[me] == nothing -> buffer[me] = what; target[me] = where }
#define LANDED buffer[me] == nothing

/* handoff_awake(): it concerns the same word, so the announcement has landed. */
#define TAKE_BACK \
    atomic { LANDED; called = called || !(sleeping & BIT(me)); sleeping = sleeping & ~BIT(me) }

/* The way to memory of the thread with the same number. */
active [WORKERS + WAKERS] proctype memory()
{
end:
    do
    :: atomic {
            buffer[_pid] != nothing;
            if
            :: buffer[_pid] == push     -> queued++
            :: buffer[_pid] == announce -> sleeping = sleeping | BIT(target[_pid])
            :: buffer[_pid] == put      -> inbox[target[_pid]]++
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

    do
    :: atomic { inbox[me] > 0 -> inbox[me]-- }
        handle()
    :: atomic { inbox[me] == 0 && queued > 0 -> queued-- }
        handle()
    :: inbox[me] == 0 && queued == 0 ->
        STORE(announce, me);
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
awake:      TAKE_BACK
        :: atomic { own_event[me] -> own_event[me] = false }
            TAKE_BACK;
            handle()
        fi
    od;

end_stuck:
    false
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
    }
end:
    timeout;
    assert(queued == 0);
    assert(stuck || (inbox[0] == 0 && inbox[1] == 0))
}
