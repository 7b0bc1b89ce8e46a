/* The ready queue: what is pushed is popped once, whole, and in order. */
#include "engine/sync/ready_queue.h"
#include "tests/orders/memory.h"
#include "tests/orders/scenarios.h"

#include <string.h>

enum { ITEMS = 4 };

/* In place of a connection: the queue looks at its address only. */
struct item {
    _Alignas(READY_QUEUE_ALIGNMENT) int value;
};

static struct ready_queue queue;
static struct item items[ITEMS];
static int popped[MEMORY_THREADS];

static struct connection *of(struct item *item)
{
    return (struct connection *)item;
}

static void begin(unsigned capacity)
{
    scenario_make_queue(&queue, capacity);
    memset(items, 0, sizeof(items));
    memset(popped, 0, sizeof(popped));
}

static void push(struct item *item)
{
    item->value++;
    if (!ready_queue_push(&queue, of(item)))
        explorer_fail("the queue says that it is full");
}

/* Returns what it got, after changing it. */
static struct item *pop(void)
{
    struct item *item = (struct item *)ready_queue_pop(&queue);

    if (item) {
        item->value++;
        popped[explorer_thread()]++;
    }
    return item;
}

static int all_popped(void)
{
    int sum = 0;

    for (unsigned i = 0; i < MEMORY_THREADS; i++)
        sum += popped[i];
    return sum;
}

static void expect_popped(int pushed)
{
    int seen = all_popped();

    while (ready_queue_pop(&queue))
        seen++;
    if (seen != pushed)
        explorer_fail("%d were pushed, and %d came out", pushed, seen);
}

static void push_one(void *item)
{
    push(item);
}

static void pop_one(void *unused)
{
    (void)unused;
    pop();
}

static void pop_two(void *unused)
{
    (void)unused;
    pop();
    pop();
}

/* Two push, two pop, in the room of two. */
static void begin_crossing(void)
{
    begin(2);
    explorer_add(push_one, &items[0]);
    explorer_add(push_one, &items[1]);
    explorer_add(pop_two, NULL);
    explorer_add(pop_one, NULL);
}

static void end_two(void)
{
    expect_popped(2);
}

const struct scenario queue_crossing = {
    .name = "queue_crossing",
    .what = "two push and two pop: each item comes out once, whole",
    .begin = begin_crossing,
    .end = end_two,
};

/* Whoever pops pushes it again: the laps turn. */
static void pass_on(void *unused)
{
    struct item *item;

    (void)unused;
    item = pop();
    if (item)
        push(item);
}

static void begin_laps(void)
{
    begin(1);
    items[0].value = 1;
    ready_queue_push(&queue, of(&items[0]));
    explorer_add(pass_on, NULL);
    explorer_add(pass_on, NULL);
    explorer_add(pop_one, NULL);
}

static void end_laps(void)
{
    int given_on = popped[0] + popped[1];
    int left = 0;

    while (ready_queue_pop(&queue))
        left++;
    if (1 + given_on != all_popped() + left)
        explorer_fail("%d were pushed, %d popped, and %d are left", 1 + given_on, all_popped(),
                      left);
}

const struct scenario queue_laps = {
    .name = "queue_laps",
    .what = "one item goes round in a queue of one slot",
    .begin = begin_laps,
    .end = end_laps,
};

/* One pushes two after another, one pops until it has both: they come in order. */
static void push_both(void *unused)
{
    (void)unused;
    push(&items[0]);
    push(&items[1]);
}

static void pop_in_order(void *unused)
{
    struct item *first = pop();
    struct item *second = pop();

    (void)unused;
    if ((first && first != &items[0]) || (first && second && second != &items[1]))
        explorer_fail("what was pushed first did not come out first");
}


static void begin_three(void)
{
    begin(4);
    explorer_add(push_both, NULL);
    explorer_add(pop_two, NULL);
    explorer_add(push_one, &items[2]);
}

static void end_three(void)
{
    expect_popped(3);
}

const struct scenario queue_three = {
    .name = "queue_three",
    .what = "one pushes two, another a third; one pops",
    .begin = begin_three,
    .end = end_three,
};

static void begin_in_order(void)
{
    begin(2);
    explorer_add(push_both, NULL);
    explorer_add(pop_in_order, NULL);
}

const struct scenario queue_order = {
    .name = "queue_order",
    .what = "one pushes two: the first comes out first",
    .begin = begin_in_order,
    .end = end_two,
};

/* One item goes round twice while another is pushed: there is always room for both. */
static void go_round(void *unused)
{
    (void)unused;
    push(&items[0]);
    pop();
    push(&items[0]);
    pop();
    push(&items[0]);
}

static void begin_room(void)
{
    begin(2);
    explorer_add(go_round, NULL);
    explorer_add(push_one, &items[1]);
}

static void end_room(void)
{
    expect_popped(4);
}

const struct scenario queue_room = {
    .name = "queue_room",
    .what = "one item goes round while another is pushed: there is room for both",
    .begin = begin_room,
    .end = end_room,
};

/* What handoff.c needs: who puts sees the sleeper, or the sleeper sees what was put. */
static _Atomic bool says_that_it_sleeps;
static bool sees_sleeper, sees_item;

static void put_and_look(void *unused)
{
    go_round(unused);
    atomic_thread_fence(memory_order_seq_cst);
    sees_sleeper = atomic_load_explicit(&says_that_it_sleeps, memory_order_relaxed);
}

static void sleep_and_look(void *unused)
{
    (void)unused;
    atomic_store_explicit(&says_that_it_sleeps, true, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    sees_item = !ready_queue_empty(&queue);
}

static void begin_empty(void)
{
    begin(2);
    atomic_init(&says_that_it_sleeps, false);
    explorer_add(put_and_look, NULL);
    explorer_add(sleep_and_look, NULL);
}

static void end_empty(void)
{
    if (!sees_sleeper && !sees_item)
        explorer_fail("the sleeper is told that the queue is empty");
}

const struct scenario queue_empty = {
    .name = "queue_empty",
    .what = "who is about to sleep looks whether the queue is empty, laps on",
    .begin = begin_empty,
    .end = end_empty,
};
