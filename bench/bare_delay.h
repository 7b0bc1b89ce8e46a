/*
 * bare_delay.h - the yardstick for handlers that wait: line echo, each line late by BARE_DELAY_MS.
 *
 * One edge-triggered epoll loop and one queue: since all wait equally long, what came first is due
 * first. It is also the server that others ask when they wait for somebody else's answer.
 */
#ifndef WEIR_BENCH_BARE_DELAY_H
#define WEIR_BENCH_BARE_DELAY_H

enum { BARE_DELAY_MS = 10 };

/*
 * bare_delay_run listens on 127.0.0.1 at a port that the kernel chooses, calls ready(arg, its URI)
 * and serves for ever. Returns only if it could not start: -errno.
 */
int bare_delay_run(void (*ready)(void *arg, const char *address), void *arg);

#endif
