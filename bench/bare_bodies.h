/*
 * bare_bodies.h - the yardstick for long answers: a server that does nothing but send one body.
 *
 * As bare_loop.h's, but what the socket does not take at once has to wait: per connection it
 * remembers how much of the answer is sent.
 */
#ifndef WEIR_BENCH_BARE_BODIES_H
#define WEIR_BENCH_BARE_BODIES_H

enum bare_bodies_mode {
    BARE_BODIES_MEMORY,     /* head and body lie side by side: one send, as far as it gets */
    BARE_BODIES_FILE,       /* the head by send, with MSG_MORE, and the body by sendfile, corked */
};

/*
 * bare_bodies_run listens on 127.0.0.1 at a port that the kernel chooses, calls ready(arg, its URI)
 * and answers every request with the file at body. Returns only if it could not start: -errno.
 */
int bare_bodies_run(enum bare_bodies_mode mode, const char *body,
                    void (*ready)(void *arg, const char *address), void *arg);

#endif
