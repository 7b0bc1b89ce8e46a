/*
 * receiver.pml - no datagram is left in its socket: the protocol of engine/pool/receiver.c.
 *
 * One datagram socket, two workers, an acceptor that pauses and resumes it, and a peer that sends.
 * Whoever takes the socket from the queue receives a batch (here of one), lets go of the socket
 * and serves. As many datagrams as MAX may be open; who finds it full asks for room, and the
 * acceptor kicks the socket when there is some. A receive may fail although a datagram waits: then
 * the acceptor is told, and kicks as well.
 *
 * Checked: once a pause has returned nothing is received until the next resume; the socket is in
 * the queue once, and received from by one at a time; when everything stands still and the socket is
 * not paused, nothing is left in it.
 *
 * Broken on purpose, to see that the check would notice:
 *   -DNO_WAIT      pausing doesn't wait for the worker that is receiving
 *   -DNO_KICK      resuming waits for an edge
 *   -DNO_REQUEUE   a full batch is taken for all that there was
 *   -DNO_LOOK      letting go doesn't look at the mark
 *   -DNO_SECOND_LOOK  who has asked for room doesn't look once more
 *   -DNO_LOOK_AGAIN   nobody is told of a receive that fails
 */
#define SENDS 3
#define MAX   1

#define QUEUED  0
#define RUNNING 1
#define IDLE    3
#define STATE(word) ((word) % 8)
#define READY   8

byte word = IDLE;
byte queue;                     /* how often the socket is in the ready queue */
bool edge;                      /* the epoll set: an event is waiting */
byte unread;                    /* in the socket */
bool paused = true;
bool shut = true;               /* a pause has returned, and no resume begun */
byte open;
byte fails = 1;                 /* so many receives may fail */
bool failed;                    /* the acceptor is told that one has */
bool wanted, room;              /* room was asked for; the acceptor is told that there is some */
byte receiving;

active proctype peer()
{
    byte i;

    for (i : 1 .. SENDS) {
        atomic { unread++; edge = true }
    }
}

/* connection_ready(), and handoff_put(). */
inline ready()
{
    atomic {
        if
        :: STATE(word) == IDLE -> word = word - IDLE + QUEUED; queue++; assert(queue == 1)
        :: else -> word = STATE(word) + READY
        fi
    }
}

inline requeue()
{
    atomic { word = word - RUNNING + QUEUED }
    atomic { queue++; assert(queue == 1) }
}

active [2] proctype worker()
{
    byte n;
    bool may, crowded, gone;

end:
    do
    :: atomic { edge -> edge = false }
        ready()
    :: atomic { queue > 0 -> queue-- }
        atomic { assert(STATE(word) == QUEUED); word = word + RUNNING; receiving++;
                 assert(receiving == 1) }
        may = !paused;
        crowded = open >= MAX;
        if
        :: may && crowded -> wanted = true;
#ifndef NO_SECOND_LOOK
            crowded = open >= MAX
#endif
        :: else
        fi;
        if
        :: may && !crowded && unread > 0 ->
            atomic { assert(!shut); unread--; n = 1; open++; receiving-- }
        :: atomic { may && !crowded && unread > 0 && fails > 0 -> fails--; n = 0; receiving-- }
#ifndef NO_LOOK_AGAIN
            failed = true
#endif
        :: else -> atomic { n = 0; receiving-- }
        fi;
        gone = false;
#ifndef NO_REQUEUE
        if
        :: n == 1
        :: else ->
#endif
            atomic {
                if
#ifdef NO_LOOK
                :: word = IDLE; gone = true
#else
                :: word == RUNNING -> word = IDLE; gone = true
                :: word == RUNNING + READY -> word = RUNNING
#endif
                fi
            }
#ifndef NO_REQUEUE
        fi;
#endif
        if
        :: !gone -> requeue()
        :: else
        fi;
        /* The handler, and connection_table_return(). */
        if
        :: n == 1 ->
            atomic { open--; n = 0 }
            atomic {
                if
                :: wanted -> wanted = false; room = true
                :: else
                fi
            }
        :: else
        fi
    od
}

active proctype acceptor()
{
    bool again = true;

serve:
    atomic { shut = false; paused = false }
#ifndef NO_KICK
    ready();
#endif
end:
    do
    :: atomic { room -> room = false }
        ready()
    :: atomic { failed -> failed = false }
        ready()
    :: atomic { again -> again = false }
        paused = true;
#ifndef NO_WAIT
        STATE(word) != RUNNING;
#endif
        shut = true;
        goto serve
    od
}

active proctype check()
{
end:
    timeout;
    assert(unread == 0 && open == 0)
}
