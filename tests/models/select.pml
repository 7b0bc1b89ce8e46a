/*
 * select.pml - one case is done, once: the choice of engine/share/select.c.
 *
 * Three select from two channels without room: what one of them sends, another receives. Each looks
 * at one channel after the other, then enters both guards, looks once more, and takes its places.
 * Whoever finds one in a list takes it out, inside of that channel's guard, and makes its choice by
 * a compare-and-swap; only if that succeeds is the item passed. A wait may end at any moment by its
 * deadline, which is a choice as well. Who has a choice goes from the other lists, and returns.
 *
 * Checked: nobody writes to one that has returned; and when everything stands still, as many items
 * were received as were sent, no guard is held, and nobody waits who could do something with
 * another that waits.
 *
 * Broken on purpose, to see that the check would notice:
 *   -DNO_CLAIM       who is found in a list is taken to be waiting yet
 *   -DNO_GIVING_UP   a wait whose time has passed ends without a choice
 *   -DONE_BY_ONE     places are taken in one channel after the other
 *   -DNO_ORDER       one of them enters the guards in another order
 *   -DNO_LAST_LOOK   a select that was chosen returns, and is in the other list yet
 */
#define SELECTS  3
#define CHANNELS 2
#define NOBODY   255

#define OPEN     0              /* 1 + the channel: chosen there */
#define GIVEN_UP 254

#define AT(who, where) ((who) * CHANNELS + (where))

/* The first sends where the second receives, and the other way round; the third only receives. */
#define SENDS(who, where) ((who) == (where))

bool guard[CHANNELS];
bool listed[SELECTS * CHANNELS];
bool alive[SELECTS];            /* its parties' memory is its own */
bool told[SELECTS];             /* it has been handed over */
bool waits[SELECTS];            /* for as long as it takes */
byte choice[SELECTS];
byte sent[CHANNELS], received[CHANNELS];

#define ENTER(where) atomic { !guard[where] -> guard[where] = true }
#define LEAVE(where) guard[where] = false

#define MATCHES(me, who, where) \
    ((who) != (me) && listed[AT(who, where)] && SENDS(who, where) != SENDS(me, where))

/* Inside: as channel_do(). other: whom it was done with. */
inline look(me, where, other)
{
    other = NOBODY;
    do
    :: other == NOBODY ->
        if
        :: MATCHES(me, 0, where) -> found = 0
        :: MATCHES(me, 1, where) -> found = 1
        :: MATCHES(me, 2, where) -> found = 2
        :: else -> found = NOBODY; break
        fi;
        assert(alive[found]);
        listed[AT(found, where)] = false;
#ifdef NO_CLAIM
        choice[found] = 1 + where;
        other = found
#else
        if
        :: atomic { choice[found] == OPEN -> choice[found] = 1 + where }; other = found
        :: choice[found] != OPEN
        fi
#endif
    :: else -> break
    od;
    found = NOBODY
}

inline count(me, where)
{
    if
    :: SENDS(me, where) -> sent[where]++
    :: else -> received[where]++
    fi
}

/* waiter_hand_over(): the last that is done with another. */
inline finish(me, where, other)
{
    assert(alive[other]);
    told[other] = true;
    count(me, where)
}

inline enter_both(me)
{
#ifdef NO_ORDER
    if
    :: me == 0 -> ENTER(1); ENTER(0)
    :: else -> ENTER(0); ENTER(1)
    fi
#else
    ENTER(0);
    ENTER(1)
#endif
}

#ifdef ONE_BY_ONE
inline come_to_wait(me)
{
    ENTER(0);
    look(me, 0, other);
    at = 0;
    if
    :: other == NOBODY ->
        listed[AT(me, 0)] = true;
        LEAVE(0);
        ENTER(1);
        look(me, 1, other);
        at = 1;
        if
        :: other == NOBODY -> listed[AT(me, 1)] = true
        :: else
        fi;
        LEAVE(1)
    :: else -> LEAVE(0)
    fi
}
#else
inline come_to_wait(me)
{
    enter_both(me);
    look(me, 0, other);
    at = 0;
    if
    :: other == NOBODY -> look(me, 1, other); at = 1
    :: else
    fi;
    if
    :: other == NOBODY -> listed[AT(me, 0)] = true; listed[AT(me, 1)] = true
    :: else
    fi;
    LEAVE(1);
    LEAVE(0)
}
#endif

inline go_from(me, where)
{
    ENTER(where);
    listed[AT(me, where)] = false;
    LEAVE(where)
}

inline wait_for_one(me)
{
    if
    :: waits[me] = true;
end_nobody_came:
       told[me];
       waits[me] = false
    :: true ->
#ifdef NO_GIVING_UP
        choice[me] = GIVEN_UP
#else
        if
        :: atomic { choice[me] == OPEN -> choice[me] = GIVEN_UP }
        :: choice[me] != OPEN -> told[me]
        fi
#endif
    fi;
#ifndef NO_LAST_LOOK
    if
    :: choice[me] != 1 -> go_from(me, 0)
    :: else
    fi;
    if
    :: choice[me] != 2 -> go_from(me, 1)
    :: else
    fi;
#endif
    if
    :: choice[me] == GIVEN_UP
    :: choice[me] != GIVEN_UP -> count(me, choice[me] - 1)
    fi
}

proctype one_select(byte me)
{
    byte at, other = NOBODY, found = NOBODY;

    for (at : 0 .. CHANNELS - 1) {
        if
        :: other == NOBODY ->
            ENTER(at);
            look(me, at, other);
            LEAVE(at);
            if
            :: other != NOBODY -> finish(me, at, other)
            :: else
            fi
        :: else
        fi
    }
    if
    :: other == NOBODY ->
        choice[me] = OPEN;
        alive[me] = true;
        come_to_wait(me);
        if
        :: other != NOBODY -> finish(me, at, other)
        :: else -> wait_for_one(me)
        fi;
        alive[me] = false
    :: else
    fi
}

#define MEET(one, two, where) \
    (waits[one] && waits[two] && SENDS(one, where) != SENDS(two, where))

init {
    atomic {
        run one_select(0);
        run one_select(1);
        run one_select(2)
    }
    timeout ->
        assert(!guard[0] && !guard[1]);
        assert(sent[0] == received[0] && sent[1] == received[1]);
        assert(!MEET(0, 1, 0) && !MEET(0, 1, 1));
        assert(!MEET(0, 2, 0) && !MEET(1, 2, 1))
}
