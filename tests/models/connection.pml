/*
 * connection.pml - no edge is lost: the state word of engine/pool/connection.h.
 *
 * One connection, two workers with an epoll set each, a third thread that drains either set (a
 * worker's tick, or an idle neighbour), and a peer that sends. An edge-triggered event is seen once,
 * by whoever drains the set. The handler reads until there is nothing and then parks, or
 * returns WEIR_KEEP, or closes; whatever it chooses, at any time. Before it waits for input it sends
 * what it has gathered, and once that finds no room: then it first waits for that, on the same
 * word, and input ends this wait as well. A parked fiber may also be resumed by its timer, or by a
 * thread that makes room (room.c), an idle connection queued by a sweep.
 *
 * Checked: when everything stands still, all that was sent has been read and what was gathered has
 * left (or the connection is closed); a connection has one owner, is in the ready queue once, and
 * is told to its worker once.
 *
 * Broken on purpose, to see that the check would notice:
 *   -DNO_MARK    an event that finds the connection running leaves no mark
 *   -DNO_LOOK    parking and keeping don't look at the mark
 *   -DNO_RETRY   who finds the mark parks in the next try, without reading first
 *   -DSTALE      a fiber that is resumed still believes that its socket is drained
 *   -DBLIND      who has waited for room parks for input without another look at it
 */
#define SENDS 3

#define QUEUED  0
#define RUNNING 1
#define PARKED  2
#define IDLE    3
#define CLOSED  4
#define STATE(word) ((word) % 8)
#define READY   8

byte word = QUEUED;
byte queue = 1;                 /* how often it is in the ready queue */
byte told[2];                   /* how often its worker's inbox says that it is runnable */
byte owner = 2;                 /* whose fiber it has; 2: nobody's */
byte running;                   /* threads that run its handler */
byte home = 2;                  /* the worker in whose set it is; 2: in none yet */
bool edge[2];                   /* the sets: an event is waiting */
byte unread;                    /* in the socket */
bool drained;                   /* the last read left nothing, and no edge was seen since */
bool timer = true, sweep = true, crowd = true;  /* each once */
bool ousted;                    /* what its worker's inbox says comes from who makes room */
bool stuffed = true;              /* once, what is gathered finds no room */
bool flushing;                  /* ... and waits for it */
bool room;                      /* ... which has come */

active proctype peer()
{
    byte i;

    for (i : 1 .. SENDS) {
        atomic {
            unread++;
            if
            :: home != 2 -> edge[home] = true
            :: else
            fi
        }
    }
}

/* connection_ready(), and what its caller does then. */
inline ready()
{
    seen = word;
    do
    :: atomic {
            word == seen ->
            if
            :: STATE(word) == PARKED ->
                word = word - PARKED + RUNNING;
                next = PARKED
            :: STATE(word) == IDLE ->
                word = word - IDLE + QUEUED;
                next = IDLE
            :: STATE(word) == QUEUED || STATE(word) == RUNNING ->
#ifndef NO_MARK
                word = STATE(word) + READY;
#endif
                next = CLOSED
            :: STATE(word) == CLOSED -> next = CLOSED
            fi;
            break
        }
    :: atomic { word != seen -> seen = word }
    od;
    if
    :: next == PARKED -> atomic { told[owner]++; assert(told[owner] == 1) }
    :: next == IDLE -> atomic { queue++; assert(queue == 1) }
    :: else
    fi;
    atomic { seen = 0; next = 0 }
}

active proctype rescuer()
{
    byte seen, next;

end:
    do
    :: atomic { edge[0] -> edge[0] = false }
        ready()
    :: atomic { edge[1] -> edge[1] = false }
        ready()
    :: atomic { sweep && word == IDLE -> sweep = false; word = QUEUED }
        atomic { queue++; assert(queue == 1) }
    /* oust() */
    :: atomic { crowd && word == PARKED -> crowd = false; word = RUNNING; ousted = true }
        atomic { told[owner]++; assert(told[owner] == 1) }
    od
}

/* leave_running(): RUNNING -> to, or the mark is taken off. */
inline let_go(to)
{
    if
#ifdef NO_LOOK
    :: atomic { word = to; running--; gone = true }
#else
    :: atomic { word == RUNNING -> word = to; running--; gone = true }
    :: atomic { word == RUNNING + READY -> word = RUNNING; gone = false }
#endif
    fi
}

/*
 * connection_watch(): out of the other worker's set, into ours; that reports what is there. So does
 * asking for output as well.
 */
inline watch()
{
    if
    :: atomic { home == me ->
            if
            :: flushing && room -> edge[me] = true
            :: else
            fi
        }
    :: else ->
        atomic {
            if
            :: home != 2 -> edge[home] = false
            :: else
            fi;
            home = 2
        }
        atomic { home = me; edge[me] = unread > 0 || room }
    fi
}

active [2] proctype worker()
{
    byte me, seen, next;
    bool gone;

    me = _pid - 2;
end:
    do
    :: atomic { edge[me] -> edge[me] = false }
        ready()
    :: atomic { told[me] > 0 -> told[me]--; assert(STATE(word) == RUNNING && owner == me) }
        if
        /* deliver_ousted(): its wait has failed, or it was a false alarm and is over. */
        :: atomic { ousted -> ousted = false }
            if
            :: true ->
                if
                :: flushing -> word = CLOSED; goto end
                :: else -> goto handler
                fi
            :: true
            fi
        :: else
#ifndef STALE
            -> drained = false
#endif
        fi;
        if
        :: flushing ->
            atomic { running++; assert(running == 1) }
            goto send
        :: else -> goto handler
        fi
    :: atomic { timer && word == PARKED && owner == me -> timer = false; word = RUNNING }
        if
        :: flushing -> word = CLOSED; goto end      /* a write that fails has failed for good */
        :: else -> goto handler
        fi
    :: atomic { queue > 0 -> queue-- }
        atomic { assert(STATE(word) == QUEUED); word = word + RUNNING }
        atomic { drained = false; owner = me }
handler:
        atomic { running++; assert(running == 1) }
reading:
        if
        :: drained
        :: !drained -> atomic { unread = 0; drained = true }
            if
            :: true                                     /* the handler wants more */
            :: atomic { word = CLOSED; running-- }      /* or has had enough */
                goto end
            fi
        fi;
        if
        :: atomic { stuffed -> stuffed = false; flushing = true }
send:
            if
            :: room -> flushing = false;
#ifdef BLIND
                goto wait
#else
                if
                :: drained
                :: !drained -> goto reading
                fi
#endif
            :: !room -> watch();
                let_go(PARKED);
                if
                :: gone -> gone = false; goto end
                :: !gone -> drained = false; goto send
                fi
            fi
        :: true
        fi;
wait:
        watch();
        if
        :: let_go(PARKED)                               /* the fiber waits inside the handler */
        :: owner = 2; let_go(IDLE)                      /* WEIR_KEEP */
        fi;
        if
        :: gone -> gone = false; goto end
        :: else
        fi;
#ifndef NO_RETRY
        drained = false;
#endif
        owner = me;
        goto reading
    od
}

/* The peer takes what has arrived. */
active proctype taker()
{
end:
    atomic {
        flushing -> room = true;
        if
        :: home != 2 -> edge[home] = true
        :: else
        fi
    }
}

active proctype check()
{
end:
    timeout;
    assert(word == CLOSED || (unread == 0 && !flushing))
}
