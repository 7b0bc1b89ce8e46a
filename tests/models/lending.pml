/*
 * lending.pml - no client is forgotten whose listener is lent: the protocol of
 * engine/accept/listening.c, lender.c, line.c and resting.c, and of engine/pool/side_door.c.
 *
 * A pool: an acceptor and two workers. With -DSHARED two children of WEIR_PREFORK share the listener,
 * and each has an acceptor and one worker, for only such children lend. Here the first of them does,
 * once, and is the one that may be told to stop. Clients come; a server that
 * is full shuts its door, and goes on when a connection has ended. Once in a run a worker may stay
 * in its handler for ever, and a server or child may be told to stop: a pool then serves anew, and a
 * child has ended. Batches are of one. A moment for which a listener rests never comes here: whoever
 * gives a place back has to tell.
 *
 * The kernel tells whoever begins to watch, if somebody waits. Of all that watch exclusively it
 * calls the first that sleeps for each client, and nobody else. A worker's set is level-triggered, so
 * a worker that looks there finds who waits; an acceptor's is edge-triggered.
 *
 * Checked: nobody accepts once the thread that has stopped may close the listener; there are never
 * more connections than places; when everything stands still no client waits for whom a server or
 * child has a place.
 *
 * Broken on purpose, to see that the check would notice:
 *   -DNO_MUTEX        a door is shut without waiting for the worker that is in accept
 *   -DNO_OPEN_LOOK    who comes to a door doesn't look whether it has been shut
 *   -DNO_CALL         who finds the server full shuts the door and tells nobody
 *   -DNO_SECOND_LOOK  who has asked for room doesn't look once more
 *   -DNO_WATCH        a listener that is taken back waits for another edge
 *   -DNO_TICK         nobody looks whether a worker is stuck
 *   -DSHARED -DHEEDED       who takes back doesn't think of a worker that was called
 *   -DSHARED -DNO_OTHERS    a full child keeps to itself that it was called
 *   -DSHARED -DNO_FOLLOWER  nobody looks in the stead of a child that has stopped
 */
#define WORKERS 2

#ifdef SHARED
#define CLIENTS    2
#define LENDS      1
#define CHILDREN   2
#define PLACES     1
#define CHILD(w)   (w)
#define WORKS(w, c) ((w) == (c))
#define OTHER(c)   (1 - (c))
#define DRY        ASIDE        /* see listening_run_dry() */
#else
#define CLIENTS    3
#define LENDS      2
#define CHILDREN   1
#define PLACES     2
#define CHILD(w)   0
#define WORKS(w, c) true
#define DRY        WATCHED
#endif

#define WATCHED 0
#define READY   1
#define RESTING 2
#define LENT    3
#define ASIDE   4
#define IN_LINE 5

byte waiting;                   /* clients in the backlog */
byte state[CHILDREN];           /* of the listener, as each acceptor sees it */
bool edge[CHILDREN];            /* the acceptor's set: an event of the listener waits */
bool unheeded[CHILDREN];
bool called[CHILDREN];          /* call_fd is written */
bool wanted[CHILDREN], room[CHILDREN];  /* room was asked for; room_fd is written */
bool stop[CHILDREN];            /* stop_fd is written */
bool dozes[CHILDREN];           /* the acceptor sleeps */
bool closed[CHILDREN];          /* ... has stopped: the listener may be closed */
byte places[CHILDREN];          /* that are taken */
byte queue[CHILDREN];           /* the ready queue */
bool door[CHILDREN];            /* it is open */
bool lock[CHILDREN];            /* ... and its mutex */
bool watches[WORKERS];          /* the worker's set has the listener */
bool asleep[WORKERS];
bool is_stuck;
byte front;                     /* the child that is first in line */
byte lends = LENDS;             /* so often it may be lent */
byte looks = 1;                 /* so often a rush may be over by itself */

#define TELL(c, what) atomic { what[c] = true; dozes[c] = false }

/* ------------------------------------------------------------------ the kernel ------------ */

/* Calls worker w, if it sleeps and its set has the listener. */
#define CALLS(w) (watches[w] && asleep[w])

active proctype clients()
{
    byte i;

    for (i : 1 .. CLIENTS) {
        atomic {
            waiting++;
#ifdef SHARED
            /* Whoever stands in line and is awake finds it, but isn't called. */
            if
            :: state[front] == IN_LINE -> edge[front] = true
            :: else
            fi;
            if
            :: state[front] == IN_LINE && dozes[front] -> dozes[front] = false
            :: state[front] != IN_LINE && CALLS(front) -> asleep[front] = false
            :: else ->
                if
                :: state[OTHER(front)] == IN_LINE ->
                    edge[OTHER(front)] = true;
                    dozes[OTHER(front)] = false
                :: state[OTHER(front)] != IN_LINE && CALLS(OTHER(front)) ->
                    asleep[OTHER(front)] = false
                :: else
                fi
            fi
#else
            if
            :: state[0] != LENT -> edge[0] = true; dozes[0] = false
            :: else
            fi;
            if
            :: CALLS(0) -> asleep[0] = false
            :: CALLS(1) -> asleep[1] = false
            :: else
            fi
#endif
        }
    }
}

/* Child c begins to stand in line, behind the other one. */
inline go_behind(c)
{
#ifdef SHARED
    front = (state[OTHER(c)] == IN_LINE || watches[OTHER(c)] -> OTHER(c) : c)
#else
    skip
#endif
}

/* ------------------------------------------------------------------ the side door --------- */

inline unwatch(c)
{
    for (k : 0 .. WORKERS - 1) {
        watches[k] = watches[k] && !WORKS(k, c)
    }
    k = 0
}

/* Whoever sleeps is told if somebody waits there. */
inline watch(c)
{
    go_behind(c);
    for (k : 0 .. WORKERS - 1) {
        watches[k] = watches[k] || WORKS(k, c);
        asleep[k] = asleep[k] && !(WORKS(k, c) && waiting > 0)
    }
    k = 0
}

inline leave_to_acceptor(c)
{
    unwatch(c);
    door[c] = false;
#ifndef NO_CALL
    TELL(c, called)
#endif
}

/* side_door_enter() */
inline enter(c)
{
    atomic { !lock[c] -> lock[c] = true }
    if
#ifndef NO_OPEN_LOOK
    :: !door[c] -> lock[c] = false
#endif
    :: atomic {
#ifndef NO_OPEN_LOOK
            door[c] &&
#endif
            places[c] == PLACES -> leave_to_acceptor(c); lock[c] = false
        }
    :: atomic {
#ifndef NO_OPEN_LOOK
            door[c] &&
#endif
            places[c] < PLACES -> places[c]++
        }
        atomic {
            assert(!closed[c]);
            if
            :: waiting > 0 -> waiting--; queue[c]++
#ifdef SHARED
                /* go_to_end_of_line_locked() */
                if
                :: door[c] && places[c] < PLACES -> unwatch(c); watch(c)
                :: door[c] && places[c] == PLACES -> leave_to_acceptor(c)
                :: else
                fi
#endif
            :: else -> places[c]--
            fi
        }
        lock[c] = false
    fi
}

active [WORKERS] proctype worker()
{
    byte me, k;

    me = _pid - 1;
end:
    do
    :: atomic { queue[CHILD(me)] > 0 -> queue[CHILD(me)]--; asleep[me] = false }
        if
        :: true
        :: atomic { !is_stuck -> is_stuck = true; goto end_stuck }
        fi;
        /* connection_table_release() */
        places[CHILD(me)]--;
        atomic {
            if
            :: wanted[CHILD(me)] -> wanted[CHILD(me)] = false; TELL(CHILD(me), room)
            :: else
            fi
        }
    :: atomic { !asleep[me] && watches[me] && waiting > 0 -> skip }
        enter(CHILD(me))
    :: atomic { !asleep[me] && queue[CHILD(me)] == 0 && !(watches[me] && waiting > 0) ->
                asleep[me] = true }
    od;

end_stuck:
    false
}

/* ------------------------------------------------------------------ the acceptor ---------- */

/* listening_take_back() */
inline take_back(c)
{
#ifdef NO_MUTEX
    atomic { unwatch(c); door[c] = false }
#else
    atomic { !lock[c] -> unwatch(c); door[c] = false }
#endif
    atomic {
#ifdef SHARED
        state[c] = READY;
#ifndef HEEDED
        unheeded[c] = true
#endif
#else
        state[c] = WATCHED;
#ifndef NO_WATCH
        edge[c] = waiting > 0
#endif
#endif
    }
}

inline wake_if_room(c)
{
    atomic {
        if
        :: places[c] == PLACES
#ifdef SHARED
        :: places[c] < PLACES -> state[c] = ASIDE
#else
        :: places[c] < PLACES -> state[c] = READY
#endif
        fi
    }
}

/* acceptor_rest_for_room() */
inline rest(c)
{
    atomic {
        may_be_called = state[c] == IN_LINE || unheeded[c];
        edge[c] = edge[c] && state[c] != IN_LINE;
        state[c] = RESTING;
        unheeded[c] = false
    }
#if defined(SHARED) && !defined(NO_OTHERS)
    atomic {
        if
        :: may_be_called && waiting > 0 -> TELL(OTHER(c), called)
        :: else
        fi
    }
#endif
    may_be_called = false;
    wanted[c] = true;
#ifndef NO_SECOND_LOOK
    wake_if_room(c)
#endif
}

/* acceptor_accept_batch(), and acceptor_lend_if_due(). */
inline accept_batch(c)
{
    if
    :: atomic { places[c] < PLACES -> places[c]++ }
        atomic {
            unheeded[c] = false;
            if
            :: waiting > 0 -> waiting--; queue[c]++
            :: else -> places[c]--; state[c] = DRY
            fi
        }
    :: places[c] == PLACES ->
        if
        :: atomic { waiting == 0 -> unheeded[c] = false; state[c] = DRY }
        :: waiting > 0 -> rest(c)
        fi
    fi;
    if
    :: true
    :: atomic { c == 0 && lends > 0 && state[c] != RESTING -> lends--; watch(c); door[c] = true;
                state[c] = LENT; edge[c] = false }
    fi
}

/* A tick comes, and finds that the rush is over, or a worker stuck. */
#define TICK(c) (state[c] == LENT && (looks > 0 || IS_STUCK))
#ifdef NO_TICK
#define IS_STUCK false
#else
#define IS_STUCK is_stuck
#endif

active [CHILDREN] proctype acceptor()
{
    byte me, k;
    bool may_be_called, must;   /* ... be taken back */

    me = _pid - 1 - WORKERS;
serve:
    closed[me] = false;
#ifdef SHARED
    state[me] = ASIDE;
#endif
    do
    :: stop[me] -> break
    :: else ->
        atomic {
#ifdef SHARED
            /* acceptor_stand_in_lines() */
            if
            :: state[me] == ASIDE ->
                go_behind(me);
                state[me] = IN_LINE;
                edge[me] = waiting > 0
            :: else
            fi;
#endif
            dozes[me] = !(edge[me] || called[me] || room[me] || stop[me] || state[me] == READY)
        }
end_sleep:
        if
        :: atomic { !dozes[me] -> skip }
        :: atomic { dozes[me] && TICK(me) -> dozes[me] = false;
                    looks = (looks > 0 -> looks - 1 : 0) }
            take_back(me)
        fi;
        atomic {
            if
            :: edge[me] && (state[me] == WATCHED || state[me] == IN_LINE) ->
                unheeded[me] = unheeded[me] || state[me] == IN_LINE;
                state[me] = READY
            :: else
            fi;
            edge[me] = false
        }
        if
        :: room[me] -> room[me] = false;
            if
            :: state[me] == RESTING -> wake_if_room(me);
                if
                :: state[me] == RESTING -> wanted[me] = true; wake_if_room(me)
                :: else
                fi
            :: else
            fi
        :: else
        fi;
        atomic {
            if
#ifdef SHARED
            /* look_at_shared() */
            :: called[me] && state[me] == IN_LINE ->
                unheeded[me] = true;
                state[me] = READY;
                edge[me] = false
            :: called[me] && state[me] == ASIDE -> state[me] = READY
            :: called[me] && state[me] == LENT -> must = true
#endif
            /* acceptor_look_after_lent() */
            :: state[me] == LENT && !door[me] && !stop[me] -> must = true
            :: else
            fi;
            called[me] = false
        }
        if
        :: atomic { must -> must = false }
            take_back(me)
        :: else
        fi;
        if
        :: stop[me] -> break
        :: else
        fi;
        if
        :: state[me] == READY -> accept_batch(me)
        :: else
        fi;
#ifdef SHARED
        /* acceptor_leave_full_lines() */
        if
        :: state[me] != RESTING && places[me] == PLACES ->
            if
            :: state[me] == LENT -> take_back(me)
            :: else
            fi;
            rest(me)
        :: else
        fi
#endif
    od;
    if
    :: state[me] == LENT -> take_back(me)
#ifdef SHARED
    :: atomic { state[me] == IN_LINE -> state[me] = ASIDE; edge[me] = false }
#endif
    :: else
    fi;
    closed[me] = true;
#ifdef SHARED
#ifndef NO_FOLLOWER
    TELL(OTHER(me), called)
#endif
#else
    stop[me] = false;
    goto serve
#endif
}

active proctype stopper()
{
    if
    :: true
    :: TELL(0, stop)
    fi
}

active proctype check()
{
    byte c;

end:
    timeout;
    for (c : 0 .. CHILDREN - 1) {
        assert(places[c] <= PLACES);
        assert(waiting == 0 || closed[c] || places[c] == PLACES)
    }
}
