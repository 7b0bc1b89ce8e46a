/*
 * lending.pml - no client is forgotten whose listener is lent: the protocol of
 * engine/accept/listening.c, lender.c and resting.c, and of engine/pool/side_door.c, in a pool.
 *
 * Clients come to an acceptor, which may lend the listener to its two workers. A full server shuts
 * the side door, and goes on when a connection has ended. Once in a run a worker may stay in its
 * handler for ever, and serving may be stopped, and begins anew. Batches are of one. The moment
 * until which a listener rests never comes here: whoever gives a place back has to tell.
 *
 * The kernel tells whoever begins to watch, if somebody waits. Of the workers that watch, it calls
 * one that sleeps for each client. A worker's set is level-triggered, so a worker that looks there
 * finds who waits; the acceptor's is edge-triggered.
 *
 * Checked: nobody accepts between a stop and the next run, when the listener may be closed; there
 * are never more connections than places; when everything stands still no client waits while there
 * is a place.
 *
 * Broken on purpose, to see that the check would notice:
 *   -DNO_MUTEX        a door is shut without waiting for the worker that is in accept
 *   -DNO_OPEN_LOOK    who comes to a door doesn't look whether it has been shut
 *   -DNO_CALL         who finds the server full shuts the door and tells nobody
 *   -DNO_SECOND_LOOK  who has asked for room doesn't look once more
 *   -DNO_WATCH        a listener that is taken back waits for another edge
 *   -DNO_TICK         nobody looks whether a worker is stuck
 */
#define CLIENTS 3
#define PLACES  2

#define WATCHED 0
#define READY   1
#define RESTING 2
#define LENT    3

byte waiting;                   /* clients in the backlog */
byte state;                     /* of the listener, as the acceptor sees it */
bool edge;                      /* the acceptor's set: an event of the listener waits */
bool called;                    /* call_fd is written */
bool wanted, room;              /* room was asked for; room_fd is written */
bool stop;                      /* stop_fd is written */
bool dozes;                     /* the acceptor sleeps */
bool closed;                    /* ... has stopped: the listener may be closed */
byte places;                    /* that are taken */
byte queue;                     /* the ready queue */
bool door;                      /* it is open */
bool lock;                      /* ... and its mutex */
bool watches[2];                /* the worker's set has the listener */
bool asleep[2];
bool is_stuck;
byte lends = 2;                 /* so often it may be lent */
byte looks = 1;                 /* so often a rush may be over by itself */

/* Writes an eventfd of the acceptor. */
#define TELL(what) atomic { what = true; dozes = false }

/* ------------------------------------------------------------------ the kernel ------------ */

/* Calls worker w, if it sleeps and its set has the listener. */
#define CALLS(w) (watches[w] && asleep[w])

active proctype clients()
{
    byte i;

    for (i : 1 .. CLIENTS) {
        atomic {
            waiting++;
            if
            :: state != LENT -> edge = true; dozes = false
            :: else
            fi;
            if
            :: CALLS(0) -> asleep[0] = false
            :: CALLS(1) -> asleep[1] = false
            :: else
            fi
        }
    }
}

/* ------------------------------------------------------------------ the side door --------- */

inline unwatch()
{
    watches[0] = false;
    watches[1] = false
}

/* Whoever sleeps is told if somebody waits there. */
inline watch()
{
    watches[0] = true;
    watches[1] = true;
    asleep[0] = asleep[0] && waiting == 0;
    asleep[1] = asleep[1] && waiting == 0
}

inline leave_to_acceptor()
{
    unwatch();
    door = false;
#ifndef NO_CALL
    TELL(called)
#endif
}

/* side_door_enter() */
inline enter()
{
    atomic { !lock -> lock = true }
    if
#ifndef NO_OPEN_LOOK
    :: !door -> lock = false
#endif
    :: atomic {
#ifndef NO_OPEN_LOOK
            door &&
#endif
            places == PLACES -> leave_to_acceptor(); lock = false
        }
    :: atomic {
#ifndef NO_OPEN_LOOK
            door &&
#endif
            places < PLACES -> places++
        }
        atomic {
            assert(!closed && places <= PLACES);
            if
            :: waiting > 0 -> waiting--; queue++
            :: else -> places--
            fi
        }
        lock = false
    fi
}

active [2] proctype worker()
{
    byte me;

    me = _pid - 1;
end:
    do
    :: atomic { queue > 0 -> queue--; asleep[me] = false }
        if
        :: true
        :: atomic { !is_stuck -> is_stuck = true; goto end_stuck }
        fi;
        /* connection_table_release() */
        places--;
        atomic {
            if
            :: wanted -> wanted = false; TELL(room)
            :: else
            fi
        }
    :: !asleep[me] && watches[me] && waiting > 0 -> enter()
    :: atomic { !asleep[me] && queue == 0 && !(watches[me] && waiting > 0) ->
                asleep[me] = true }
    od;

end_stuck:
    false
}

/* ------------------------------------------------------------------ the acceptor ---------- */

/* listening_take_back() */
inline take_back()
{
#ifdef NO_MUTEX
    atomic { unwatch(); door = false }
#else
    atomic { !lock -> unwatch(); door = false }
#endif
    atomic {
        state = WATCHED;
#ifndef NO_WATCH
        edge = waiting > 0
#endif
    }
}

inline wake_if_room()
{
    atomic {
        if
        :: places == PLACES
        :: places < PLACES -> state = READY
        fi
    }
}

/* acceptor_rest_for_room() */
inline rest()
{
    state = RESTING;
    wanted = true;
#ifndef NO_SECOND_LOOK
    wake_if_room()
#endif
}

/* acceptor_accept_batch(), and acceptor_lend_if_due(). */
inline accept_batch()
{
    if
    :: atomic { places < PLACES -> places++ }
        atomic {
            if
            :: waiting > 0 -> waiting--; queue++
            :: else -> places--; state = WATCHED
            fi
        }
    :: places == PLACES ->
        if
        :: atomic { waiting == 0 -> state = WATCHED }
        :: waiting > 0 -> rest()
        fi
    fi;
    if
    :: true
    :: atomic { lends > 0 && state != RESTING -> lends--; watch(); door = true;
                state = LENT; edge = false }
    fi
}

/* A tick comes, and finds that the rush is over, or a worker stuck. */
#define TICK (state == LENT && (looks > 0 || IS_STUCK))
#ifdef NO_TICK
#define IS_STUCK false
#else
#define IS_STUCK is_stuck
#endif

active proctype acceptor()
{
    bool must;                  /* ... be taken back */

serve:
    closed = false;
    do
    :: stop -> break
    :: else ->
        dozes = !(edge || called || room || stop || state == READY);
end_sleep:
        if
        :: !dozes
        :: atomic { dozes && TICK -> dozes = false;
                    looks = (looks > 0 -> looks - 1 : 0) }
            take_back()
        fi;
        atomic {
            if
            :: edge && state == WATCHED -> state = READY
            :: else
            fi;
            edge = false
        }
        /* acceptor_note_room() */
        if
        :: atomic { room && state == RESTING -> room = false }
            wake_if_room();
            if
            :: state == RESTING -> wanted = true; wake_if_room()
            :: else
            fi
        :: atomic { room && state != RESTING -> room = false }
        :: !room
        fi;
        atomic {
            /* acceptor_look_after_lent() */
            must = state == LENT && !door && !stop;
            called = false
        }
        if
        :: atomic { must -> must = false }
            take_back()
        :: else
        fi;
        if
        :: stop -> break
        :: else
        fi;
        if
        :: state == READY -> accept_batch()
        :: else
        fi
    od;
    if
    :: state == LENT -> take_back()
    :: else
    fi;
    closed = true;
    stop = false;
    goto serve
}

active proctype stopper()
{
    if
    :: true
    :: TELL(stop)
    fi
}

active proctype check()
{
end:
    timeout;
    assert(waiting == 0 || places == PLACES)
}
