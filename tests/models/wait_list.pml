/*
 * wait_list.pml - who waits is woken once: the hand-over of engine/share/wait_list.h and
 * engine/pool/waiter.h, by a mutex.
 *
 * Workers lock, some with a deadline, and unlock at once. A lock that others wait for goes to the first of them: who
 * unlocks takes it out of the list, inside of the guard, and hands it over behind it, by a message.
 * A wait may end at any moment by its deadline or by a cancel: then the waiter takes itself out,
 * inside of the guard; if it is not there any more it has been chosen, and awaits the message.
 * A fiber that is woken by its deadline is runnable, and a message that comes then does not wake it
 * a second time. A waiter's memory is gone when its call has returned.
 *
 * Checked: never do two have the lock; nobody writes to a waiter that has returned; and when
 * everything stands still, all have come to their end, nobody is in the list, and the lock is free.
 *
 * Broken on purpose, to see that the check would notice:
 *   -DNO_GUARD       who unlocks looks at the list without the guard
 *   -DNO_AWAIT       who is out of the list when its time has passed returns, as if it were in it
 *   -DNO_TAKE_OUT    ... returns, and stays in the list
 *   -DNO_HAVING      ... awaits the message, and then returns as if it had not got the lock
 *   -DFREED_FIRST    who unlocks frees the lock, and hands it over as well
 *   -DTOUCHED_LAST   who hands over looks at the waiter once more
 *   -DNO_SECOND_LOOK who comes to wait does not look, inside, whether the lock is free by now
 *   -DWOKEN_TWICE    a message wakes a fiber that its deadline has woken already
 */
#define WORKERS 3
#define ROUNDS(me) ((me) == 0 -> 2 : 1)
#define NOBODY 255

byte holders;               /* how many are where only one may be */
byte holder = NOBODY;       /* the word: whose it is; NOBODY: it is free */
bool listed;                /* ... and others wait */
bool guard;
byte list[WORKERS];         /* the first one first */
byte waiting;               /* how many are in it */
bool in_list[WORKERS];      /* what the waiters say of themselves: inside of the guard */
bool alive[WORKERS];        /* the waiter's memory is its own */
bool message[WORKERS];      /* on its way to the waiter's worker */
bool arrived[WORKERS];      /* stage: HERE */
bool parked[WORKERS];
bool off[WORKERS];          /* the fiber is off its stack, and its worker's thread looks around */
byte woken[WORKERS];        /* how often it has been made runnable since it parked */

#define ENTER atomic { !guard -> guard = true }
#define LEAVE guard = false

inline put(me)
{
    list[waiting] = me;
    waiting++;
    in_list[me] = true
}

/* Takes the i-th out. */
inline take(i)
{
    in_list[list[i]] = false;
    do
    :: i + 1 < waiting -> list[i] = list[i + 1]; i++
    :: else -> break
    od;
    waiting--;
    list[waiting] = 0;
    i = 0
}

inline take_me(me)
{
    do
    :: list[i] != me -> i++
    :: else -> break
    od;
    take(i)
}

inline have_it()
{
    holders++;
    assert(holders == 1);
    holders--
}

/* waiter_hand_over(): the last that is done with the waiter. */
inline hand_over(next)
{
    assert(alive[next]);
    message[next] = true;
#ifdef TOUCHED_LAST
    assert(alive[next])
#endif
}

inline unlock(me)
{
    if
    :: atomic { holder == me && !listed && !guard -> holder = NOBODY }
    :: (listed || guard) ->
#ifndef NO_GUARD
        ENTER;
#endif
        if
        :: waiting > 0 ->
            d_step { next = list[0]; i = 0 }
            take(i);
#ifdef FREED_FIRST
            holder = NOBODY;
#else
            holder = next;
#endif
            listed = waiting > 0;
#ifndef NO_GUARD
            LEAVE;
#endif
            hand_over(next)
        :: else ->
            d_step { holder = NOBODY; listed = false }
#ifndef NO_GUARD
            LEAVE
#endif
        fi
    fi
}

/* Until the fiber is made runnable, by the message, or by its deadline or a cancel; and runs. */
inline park(me, patiently)
{
    atomic { woken[me] = 0; parked[me] = true; off[me] = true }
    if
    :: !parked[me]
    :: atomic { !patiently && parked[me] -> parked[me] = false; woken[me]++ }
    fi;
    off[me] = false
}

proctype worker(byte me)
{
    byte round, i, next;
    bool got, patient;

    for (round : 1 .. ROUNDS(me)) {
        got = false;
        if
        :: atomic { holder == NOBODY && !listed && !guard -> holder = me; got = true }
        :: (holder != NOBODY || listed || guard) ->
            alive[me] = true;
            arrived[me] = false;
            ENTER;
            if
#ifndef NO_SECOND_LOOK
            :: holder == NOBODY -> holder = me; got = true; LEAVE
            :: holder != NOBODY -> put(me); listed = true; LEAVE
#else
            :: put(me); listed = true; LEAVE
#endif
            fi;
            if
            :: got
            :: else ->
                if
                :: patient = true
                :: patient = false
                fi;
                park(me, patient);
                if
                :: arrived[me] -> got = true
                :: else ->
                    /* withdraw() */
                    ENTER;
                    if
                    :: in_list[me] ->
#ifndef NO_TAKE_OUT
                        take_me(me);
                        listed = waiting > 0;
#endif
                        LEAVE
                    :: else ->
                        LEAVE;
#ifndef NO_AWAIT
                        do
                        :: arrived[me] -> break
                        :: else -> park(me, true)
                        od;
#ifndef NO_HAVING
                        got = true
#endif
#endif
                    fi
                fi
            fi;
            alive[me] = false
        fi;
        if
        :: got -> have_it(); unlock(me)
        :: else
        fi
    }
}

/* The inbox of each worker, whose thread runs no fiber while it looks there. */
active proctype inboxes()
{
    byte i;

end:
    do
    :: atomic {
            (message[0] && off[0]) || (message[1] && off[1]) || (message[2] && off[2]);
            i = (message[0] && off[0] -> 0 : (message[1] && off[1] -> 1 : 2));
            message[i] = false;
            assert(alive[i]);
            arrived[i] = true;
            if
#ifdef WOKEN_TWICE
            :: true -> parked[i] = false; woken[i]++
#else
            :: parked[i] -> parked[i] = false; woken[i]++
            :: else
#endif
            fi;
            assert(woken[i] <= 1)
        }
    od
}

init {
    byte i;

    atomic {
        for (i : 0 .. WORKERS - 1) {
            run worker(i)
        }
    }
end:
    timeout;
    assert(_nr_pr == 2);
    assert(waiting == 0 && !listed && !guard);
    assert(holder == NOBODY)
}
