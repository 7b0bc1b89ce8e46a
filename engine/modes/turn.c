#include "engine/modes/turn.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/* A thread. */
struct turn_taker {
    const struct turn *wanted;  /* what it waits for; NULL: nothing */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;    /* of every turn and taker */
static pthread_cond_t given = PTHREAD_COND_INITIALIZER;     /* a turn has been */

static _Thread_local struct turn_taker self;

static bool waits_for_us_locked(const struct turn *turn)
{
    while (turn && turn->holder && turn->holder != &self)
        turn = turn->holder->wanted;
    return turn && turn->holder;
}

int turn_take(struct turn *turn)
{
    int r = 0;

    pthread_mutex_lock(&lock);
    if (waits_for_us_locked(turn)) {
        r = -EDEADLK;
    } else {
        self.wanted = turn;
        while (turn->holder)
            pthread_cond_wait(&given, &lock);
        self.wanted = NULL;
        turn->holder = &self;
    }
    pthread_mutex_unlock(&lock);
    return r;
}

void turn_give(struct turn *turn)
{
    pthread_mutex_lock(&lock);
    turn->holder = NULL;
    pthread_cond_broadcast(&given);
    pthread_mutex_unlock(&lock);
}

void turn_before_fork(void)
{
    pthread_mutex_lock(&lock);
}

void turn_after_fork(void)
{
    pthread_mutex_unlock(&lock);
}

/* The threads that waited stayed in the parent. */
void turn_after_fork_in_child(void)
{
    pthread_cond_init(&given, NULL);
    pthread_mutex_unlock(&lock);
}
