/*
 * wire.c - what a child that was forked beforehand and its parent tell each other.
 *
 *   in the page    written by    before which signal     read by
 *   stop, look     the parent    order_fd                the child's guard
 *   followed       the parent    order_fd, with stop     the child, who drains
 *   asked          the parent    order_fd                the child's guard
 *   answered       the child     answer_fd               the parent, who asks for statistics or
 *                                                        for a roll
 *   accepts        the child     said_fd                 the parent, who begins a serving
 *   stopped        the child     said_fd                 the parent, who ends a serving
 *   error          the child     its end                 the parent, who reaps it
 */
#include "engine/modes/wire.h"

#include "engine/base/sys.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/mman.h>

/* Asked by the parent, answered by the child: the numbers of the last question and last answer. */
struct question {
    _Atomic uint32_t asked;
    _Atomic uint32_t answered;
};

struct wire_page {
    _Atomic bool stop;              /* the order: accept nothing more, and end */
    _Atomic bool followed;          /* ... and others go on accepting */
    _Atomic bool look;              /* the order: a dead child may have left a client */
    _Atomic bool accepts;           /* the child has begun to */
    _Atomic bool stopped;           /* the child accepts nothing any more */
    _Atomic int error;              /* why the child could not serve, -errno; 0: it could */
    struct question statistics;
    struct weir_stats answers[2];   /* the n-th is in the (n mod 2)-th: at most one question is
                                       open, and nobody reads the answer that is being written */
    struct question who;            /* is connected */
    struct roll roll;               /* but for its pointer: the answer, and nobody asks meanwhile */
    struct roll_entry roll_entries[WIRE_ROLL_MAX];  /* no memory before they are written */
};

/* ------------------------------------------------------------------ the parent's ------ */

int wire_open(struct wire *wire, int answer_fd, int said_fd)
{
    int order_fd = sys_eventfd();
    struct wire_page *page;

    if (order_fd < 0)
        return order_fd;
    page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (page == MAP_FAILED) {
        sys_close(order_fd);
        return -ENOMEM;
    }
    *wire = (struct wire){ page, order_fd, answer_fd, said_fd };
    return 0;
}

void wire_close(const struct wire *wire)
{
    sys_close(wire->order_fd);
    munmap(wire->page, sizeof(*wire->page));
}

void wire_order_begin(const struct wire *wire)
{
    sys_eventfd_signal(wire->order_fd);
}

void wire_order_stop(const struct wire *wire, bool followed)
{
    /* relaxed: as what follows. pairs: wire_child_is_followed() */
    atomic_store_explicit(&wire->page->followed, followed, memory_order_relaxed);
    /* relaxed: the signal that follows orders it. pairs: wire_child_hear() */
    atomic_store_explicit(&wire->page->stop, true, memory_order_relaxed);
    sys_eventfd_signal(wire->order_fd);
}

void wire_order_look(const struct wire *wire)
{
    /* relaxed: the signal that follows orders it. pairs: wire_child_hear() */
    atomic_store_explicit(&wire->page->look, true, memory_order_relaxed);
    sys_eventfd_signal(wire->order_fd);
}

static uint32_t number_of_answer(const struct question *question)
{
    /* acquire: what it says. pairs: answer_question() */
    return atomic_load_explicit(&question->answered, memory_order_acquire);
}

static bool is_answered(const struct question *question)
{
    /* relaxed: the parent has written it itself. pairs: none */
    uint32_t asked = atomic_load_explicit(&question->asked, memory_order_relaxed);

    /* An answer may come that nobody has asked for. */
    return (int32_t)(number_of_answer(question) - asked) >= 0;
}

static void ask_child(const struct wire *wire, struct question *question)
{
    if (is_answered(question))
        /* relaxed: the signal that follows orders it. pairs: wire_child_hear() */
        atomic_store_explicit(&question->asked, number_of_answer(question) + 1,
                              memory_order_relaxed);
    sys_eventfd_signal(wire->order_fd);
}

bool wire_is_answered(const struct wire *wire)
{
    return is_answered(&wire->page->statistics);
}

void wire_ask(const struct wire *wire)
{
    ask_child(wire, &wire->page->statistics);
}

const struct weir_stats *wire_last_answer(const struct wire *wire)
{
    const struct wire_page *page = wire->page;

    return &page->answers[number_of_answer(&page->statistics) % 2];
}

bool wire_roll_is_answered(const struct wire *wire)
{
    return is_answered(&wire->page->who);
}

void wire_ask_roll(const struct wire *wire)
{
    ask_child(wire, &wire->page->who);
}

void wire_add_roll(const struct wire *wire, struct roll *roll)
{
    const struct wire_page *page = wire->page;

    for (size_t i = 0; i < page->roll.len && i < WIRE_ROLL_MAX; i++) {
        struct roll_entry *entry = roll_add(roll);

        if (entry)
            *entry = page->roll_entries[i];
    }
    roll->left_out += page->roll.left_out;
    roll->datagrams += page->roll.datagrams;
}

bool wire_accepts(const struct wire *wire)
{
    /* relaxed: the signal before orders it. pairs: wire_child_say_accepts() */
    return atomic_load_explicit(&wire->page->accepts, memory_order_relaxed);
}

bool wire_has_stopped(const struct wire *wire)
{
    /* relaxed: the signal before orders it. pairs: wire_child_say_stopped() */
    return atomic_load_explicit(&wire->page->stopped, memory_order_relaxed);
}

int wire_error(const struct wire *wire)
{
    /* relaxed: the child's end orders it. pairs: wire_child_say_error() */
    return atomic_load_explicit(&wire->page->error, memory_order_relaxed);
}

/* ------------------------------------------------------------------ the child's ------- */

bool wire_child_may_begin(const struct wire *wire, int parent_fd)
{
    struct pollfd fds[] = {
        { .fd = wire->order_fd, .events = POLLIN }, { .fd = parent_fd, .events = POLLIN },
    };

    sys_poll(fds, sizeof(fds) / sizeof(fds[0]), -1);
    /* relaxed: the signal before orders it. pairs: wire_order_stop() */
    return fds[0].revents && !atomic_load_explicit(&wire->page->stop, memory_order_relaxed);
}

bool wire_child_is_followed(const struct wire *wire)
{
    /* relaxed: the order to stop came behind it. pairs: wire_order_stop() */
    return atomic_load_explicit(&wire->page->followed, memory_order_relaxed);
}

/* The number of the answer that comes next. */
static uint32_t next_answer(const struct question *question)
{
    /* relaxed: this process alone writes it. pairs: none */
    return atomic_load_explicit(&question->answered, memory_order_relaxed) + 1;
}

static bool is_still_open(const struct question *question)
{
    /* relaxed: the signal before orders it. pairs: ask_child() */
    return atomic_load_explicit(&question->asked, memory_order_relaxed) == next_answer(question);
}

static void answer_question(const struct wire *wire, struct question *question)
{
    /* release: what it says. pairs: number_of_answer() */
    atomic_store_explicit(&question->answered, next_answer(question), memory_order_release);
    sys_eventfd_signal(wire->answer_fd);
}

struct wire_orders wire_child_hear(const struct wire *wire)
{
    struct wire_page *page = wire->page;
    struct wire_orders orders;

    sys_eventfd_clear(wire->order_fd);
    orders.answer = is_still_open(&page->statistics);
    orders.roll = is_still_open(&page->who);
    /* relaxed: the signal before orders them. pairs: wire_order_look(), wire_order_stop() */
    orders.look = atomic_exchange_explicit(&page->look, false, memory_order_relaxed);
    orders.stop = atomic_load_explicit(&page->stop, memory_order_relaxed);
    return orders;
}

struct weir_stats *wire_child_begin_answer(const struct wire *wire)
{
    return &wire->page->answers[next_answer(&wire->page->statistics) % 2];
}

void wire_child_send_answer(const struct wire *wire)
{
    answer_question(wire, &wire->page->statistics);
}

void wire_child_begin_roll(const struct wire *wire, struct roll *ret_roll)
{
    roll_lend(ret_roll, wire->page->roll_entries, WIRE_ROLL_MAX);
}

void wire_child_send_roll(const struct wire *wire, const struct roll *roll)
{
    wire->page->roll = *roll;
    answer_question(wire, &wire->page->who);
}

void wire_child_say_accepts(const struct wire *wire)
{
    /* relaxed: the signal that follows orders it. pairs: wire_accepts() */
    atomic_store_explicit(&wire->page->accepts, true, memory_order_relaxed);
    sys_eventfd_signal(wire->said_fd);
}

void wire_child_say_stopped(const struct wire *wire)
{
    /* relaxed: the signal that follows orders it. pairs: wire_has_stopped() */
    atomic_store_explicit(&wire->page->stopped, true, memory_order_relaxed);
    sys_eventfd_signal(wire->said_fd);
}

void wire_child_say_error(const struct wire *wire, int error)
{
    /* relaxed: the child's end orders it. pairs: wire_error() */
    atomic_store_explicit(&wire->page->error, error, memory_order_relaxed);
}
