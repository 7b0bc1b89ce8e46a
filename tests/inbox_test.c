/*
 * inbox_test.c - messages from many threads to one.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "engine/sync/inbox.h"

struct letter {
    struct message message;
    unsigned sender;
    unsigned number;
};

static struct letter *take(struct inbox *inbox)
{
    struct message *message = inbox_take(inbox);

    return message ? caa_container_of(message, struct letter, message) : NULL;
}

static void an_inbox_gives_what_was_put_in_the_same_order(void **state)
{
    struct letter letters[3] = { 0 };
    struct inbox inbox;

    (void)state;
    inbox_init(&inbox);
    assert_true(inbox_empty(&inbox));
    assert_null(take(&inbox));
    for (size_t i = 0; i < 3; i++)
        inbox_put(&inbox, &letters[i].message);
    assert_false(inbox_empty(&inbox));
    for (size_t i = 0; i < 3; i++)
        assert_ptr_equal(take(&inbox), &letters[i]);
    assert_true(inbox_empty(&inbox));
    assert_null(take(&inbox));
    inbox_fini(&inbox);
}

static void a_message_that_was_taken_may_be_put_again(void **state)
{
    struct letter letter = { 0 };
    struct inbox inbox;

    (void)state;
    inbox_init(&inbox);
    for (int i = 0; i < 3; i++) {
        inbox_put(&inbox, &letter.message);
        assert_ptr_equal(take(&inbox), &letter);
        assert_null(take(&inbox));
    }
    inbox_fini(&inbox);
}

#define SENDERS 4
#define LETTERS 20000

struct sender {
    pthread_t thread;
    struct inbox *inbox;
    unsigned number;
};

static void *send_letters(void *arg)
{
    const struct sender *sender = arg;

    for (unsigned i = 0; i < LETTERS; i++) {
        struct letter *letter = malloc(sizeof(*letter));

        letter->sender = sender->number;
        letter->number = i;
        inbox_put(sender->inbox, &letter->message);
    }
    return NULL;
}

/* Each letter is freed as soon as it was taken: nobody may touch it after that. */
static void all_messages_of_many_senders_arrive_in_each_one_s_order(void **state)
{
    struct sender senders[SENDERS];
    unsigned next[SENDERS] = { 0 };
    struct inbox inbox;

    (void)state;
    inbox_init(&inbox);
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){ .inbox = &inbox, .number = i };
        pthread_create(&senders[i].thread, NULL, send_letters, &senders[i]);
    }
    for (unsigned taken = 0; taken < SENDERS * LETTERS; ) {
        struct letter *letter = take(&inbox);

        if (!letter) {
            sched_yield();
            continue;
        }
        assert_int_equal(letter->number, next[letter->sender]++);
        free(letter);
        taken++;
    }
    for (unsigned i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    assert_true(inbox_empty(&inbox));
    inbox_fini(&inbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_inbox_gives_what_was_put_in_the_same_order),
        cmocka_unit_test(a_message_that_was_taken_may_be_put_again),
        cmocka_unit_test(all_messages_of_many_senders_arrive_in_each_one_s_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
