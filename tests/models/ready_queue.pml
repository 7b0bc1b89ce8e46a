/*
 * ready_queue.pml - the steps of engine/sync/ready_queue.c, in every order they can happen.
 *
 * Two producers, two consumers, two slots. Every load and every compare-and-swap is a step of its
 * own; what memory orders add is argued in ready_queue.c.
 *
 * Checked: push says full only if there was an instant when it was, and pop says empty likewise;
 * each item leaves once, in the order of arrival; at the end none is left. And, as a search for
 * cycles without progress (pan -l, no fairness assumed): however long some threads are stopped,
 * wherever, the steps of the others complete a push or a pop. That is lock-freedom.
 *
 * Broken on purpose, to see that the check would notice:
 *   -DNO_LAPS   a slot says only what is in it
 *   -DNO_HELP   who finds a slot done waits until its thread has moved the counter
 */
#define PRODUCERS 2
#define CONSUMERS 2
#define EACH      2             /* items a producer */
#define SLOTS     2
#define ITEMS     (PRODUCERS * EACH)

/* A word: item, 0 for nothing, and lap. */
#ifdef NO_LAPS
#define WORD(item, lap) (item)
#define ITEM(word)      (word)
#define OF(word, lap)   ((word) != 0)
#define OF_PREVIOUS(word, lap) false
#else
#define WORD(item, lap) ((item) * 16 + (lap))
#define ITEM(word)      ((word) / 16)
#define OF(word, lap)   ((word) >= 16 && (word) % 16 == (lap))
#define OF_PREVIOUS(word, lap) ((lap) > 0 && OF(word, (lap) - 1))
#endif

byte slots[SLOTS];
byte tail, head;

/* For the check: what the queue should hold, by the instants of the deciding swaps. */
byte order[ITEMS];
byte pushed, popped;

#ifdef NO_HELP
#define PASS(counter, position) skip
#else
#define PASS(counter, position) \
    atomic { if :: counter == position -> counter++ :: else fi }
#endif

#define PASS_OWN(counter, position) \
    atomic { if :: counter == position -> counter++ :: else fi }

active [PRODUCERS] proctype producer()
{
    byte at, lap, word, i;

    do
    :: i == EACH -> break
    :: else ->
        atomic { at = tail; lap = at / SLOTS }
        atomic {
            word = slots[at % SLOTS];
            assert(!OF_PREVIOUS(word, lap) || pushed - popped == SLOTS)
        }
        if
        :: word == WORD(0, lap) ->
            atomic {
                if
                :: slots[at % SLOTS] == word ->
                    slots[at % SLOTS] = WORD(1 + _pid * EACH + i, lap);
                    order[pushed] = 1 + _pid * EACH + i;
                    pushed++;
                    word = 1
                :: else -> word = 0
                fi
            }
            if
            :: word == 1 ->
                PASS_OWN(tail, at);
progress_pushed: i++
            :: else
            fi
        :: else ->
            if
            :: OF_PREVIOUS(word, lap) ->
progress_full:  skip
            :: else -> PASS(tail, at)
            fi
        fi;
        atomic { at = 0; lap = 0; word = 0 }
    od
}

active [CONSUMERS] proctype consumer()
{
    byte at, lap, word;

    do
    :: popped == ITEMS -> break
    :: else ->
        atomic { at = head; lap = at / SLOTS }
        atomic {
            word = slots[at % SLOTS];
            assert(word != WORD(0, lap) || pushed == popped)
        }
        if
        :: OF(word, lap) ->
            atomic {
                if
                :: slots[at % SLOTS] == word ->
                    slots[at % SLOTS] = WORD(0, lap + 1);
                    assert(popped < pushed && ITEM(word) == order[popped]);
                    popped++;
                    word = 1
                :: else -> word = 0
                fi
            }
            if
            :: word == 1 ->
                PASS_OWN(head, at);
progress_popped: skip
            :: else
            fi
        :: else ->
            if
            :: word == WORD(0, lap) ->
progress_empty: skip
            :: else -> PASS(head, at)
            fi
        fi;
        atomic { at = 0; lap = 0; word = 0 }
    od
}
