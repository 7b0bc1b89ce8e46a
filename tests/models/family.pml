/*
 * family.pml - two fibers wait for one connection, and none of them misses its event: the table of
 * engine/pool/family.h.
 *
 * One connection, one worker with a fiber that reads and one that writes, a peer that sends and one
 * that takes, and another thread that drains the worker's set (the acceptor's tick, or the common
 * set): that one can only tell the worker that something has come. An event that the worker sees
 * itself says what is ready. Each fiber's wait may end by a timer, too.
 *
 * Checked: when everything stands still, all that was sent has been read, and what could be written
 * was written; the worker is told once at a time.
 *
 * Broken on purpose, to see that the check would notice:
 *   -DPARKS_TWICE   the second fiber that waits takes the word to PARKED as the first one does
 *   -DWAKES_FIRST   a message wakes the fiber that reads, if it waits, and nobody else
 *   -DNO_AGAIN      who is not concerned by an event stays behind, and the word is not PARKED again
 *   -DNO_MARK_AGAIN ... or it is PARKED again over the mark of another event
 *   -DLEAVES_ALONE  a timer takes the word to RUNNING although another fiber waits
 */
#define SENDS 2
#define TAKES 2
#define WRITES 3

#define RUNNING 1
#define PARKED  2
#define READY   8
#define STATE(word) ((word) % 8)

byte word = RUNNING;
byte told;                      /* messages in the worker's inbox */
bool edge;                      /* the set: an event is waiting */
byte unread;
bool room = true;
bool drained;
byte written;
bool waits[2];                  /* the one that reads, and the one that writes: in the list */
bool runnable[2] = true;
bool timer[2] = true;           /* each once */

active proctype sender()
{
    byte i;

    for (i : 1 .. SENDS) {
        atomic { unread++; edge = true }
    }
}

active proctype taker()
{
    byte i;

end:
    for (i : 1 .. TAKES) {
        atomic { !room -> room = true; edge = true }
    }
}

/* connection_ready(). */
inline ready(resumes)
{
    atomic {
        if
        :: STATE(word) == PARKED -> word = word - PARKED + RUNNING; resumes = true
        :: else -> word = RUNNING + READY; resumes = false
        fi
    }
}

active proctype rescuer()
{
    bool resumes;

end:
    do
    :: atomic { edge -> edge = false }
        ready(resumes);
        if
        :: resumes -> atomic { told++; assert(told == 1) }
        :: else
        fi;
        resumes = false
    od
}

inline wake(i)
{
    atomic {
        if
        :: waits[i] -> waits[i] = false; runnable[i] = true
        :: else
        fi
    }
}

/* connection_park(): parked, or the mark is taken off. */
inline park(is_parked)
{
    if
    :: atomic { word == RUNNING -> word = PARKED; is_parked = true }
    :: atomic { word == RUNNING + READY -> word = RUNNING; drained = false; is_parked = false }
#ifdef PARKS_TWICE
    :: atomic { word == PARKED -> is_parked = true }
#endif
    fi
}

/* family_wait(): waiting, or there may be something. */
inline wait(i, is_parked)
{
#ifdef PARKS_TWICE
    park(is_parked);
#else
    if
    :: waits[1 - i] -> is_parked = true
    :: !waits[1 - i] -> park(is_parked)
    fi;
#endif
    waits[i] = is_parked
}

active proctype worker()
{
    bool in, out, resumes, parked;
    byte i;

end:
    do
    /* dispatch(), and family_wake() with what the event says. */
    :: atomic { edge -> edge = false; in = unread > 0; out = room }
        ready(resumes);
        if
        :: resumes ->
            if
            :: in && !out -> wake(0); drained = false
            :: out && !in -> wake(1)
            :: else -> wake(0); wake(1); drained = false
            fi;
            if
            :: waits[0] || waits[1] ->
#ifndef NO_AGAIN
#ifdef NO_MARK_AGAIN
                atomic { word = PARKED }
#else
                park(parked);
                if
                :: !parked -> wake(0); wake(1)
                :: else
                fi
#endif
#else
                skip
#endif
            :: else
            fi
        :: else
        fi;
        atomic { in = false; out = false; resumes = false; parked = false }
    /* deliver_woken() */
    :: atomic { told > 0 -> told--; drained = false }
        wake(0);
#ifdef WAKES_FIRST
        if
        :: runnable[0]
        :: !runnable[0] -> wake(1)
        fi
#else
        wake(1)
#endif
    /* expire_timers(), family_leave() */
    :: atomic { timer[0] && waits[0] -> timer[0] = false; i = 0 } goto leave
    :: atomic { timer[1] && waits[1] -> timer[1] = false; i = 1 }
leave:
#ifndef LEAVES_ALONE
        if
        :: waits[1 - i] ->
            if
            :: STATE(word) == PARKED -> wake(i)
            :: STATE(word) != PARKED
            fi
        :: !waits[1 - i] ->
#endif
            if
            :: atomic { STATE(word) == PARKED -> word = word - PARKED + RUNNING }
                wake(i)
            :: atomic { STATE(word) != PARKED }
            fi
#ifndef LEAVES_ALONE
        fi
#endif
        ;
        i = 0
    :: atomic { runnable[0] -> runnable[0] = false }
reading:
        if
        :: drained
        :: !drained -> atomic { unread = 0; drained = true }
        fi;
        wait(0, parked);
        if
        :: !parked -> goto reading
        :: parked -> parked = false
        fi
    :: atomic { runnable[1] -> runnable[1] = false }
writing:
        if
        :: written == WRITES
        :: atomic { written < WRITES && room -> room = false; written++ }
            goto writing
        :: written < WRITES && !room ->
            wait(1, parked);
            if
            :: !parked -> goto writing
            :: parked -> parked = false
            fi
        fi
    od
}

active proctype check()
{
end:
    timeout;
    assert(unread == 0 && (written == WRITES || !room))
}
