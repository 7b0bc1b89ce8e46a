/*
 * bare_loop.h - the yardstick: a server that does nothing but answer.
 *
 * One edge-triggered epoll loop per thread, one recv and one send per request, no parsing and no
 * memory per connection. Nothing that serves sockets by epoll can cost much less, so every
 * throughput figure in bench/ is printed as a ratio to it.
 */
#ifndef WEIR_BENCH_BARE_LOOP_H
#define WEIR_BENCH_BARE_LOOP_H

#ifdef __cplusplus
extern "C" {
#endif

enum bare_loop_mode {
    BARE_LOOP_LINE,     /* sends back what each recv brought */
    BARE_LOOP_HTTP,     /* a fixed reply for each CRLFCRLF in what a recv brought */
    BARE_LOOP_CLOSE,    /* one such reply, then closes: a connection per request */
    BARE_LOOP_SLOW,     /* as HTTP, but "GET /slow" is computed for 10 ms (burn.h) */
    BARE_LOOP_OVERLOAD, /* as SLOW, a connection per request */
};

/*
 * bare_loop_run listens at a Unix socket's path, or where that is NULL on 127.0.0.1 at a port that
 * the kernel chooses, calls ready(arg, its URI) and serves for ever: on the calling thread and on
 * threads - 1 more, which share the port by SO_REUSEPORT and nothing else; a path takes one thread.
 * Returns only if it could not start: -errno.
 */
int bare_loop_run(enum bare_loop_mode mode, unsigned threads, const char *path,
                  void (*ready)(void *arg, const char *address), void *arg);

#ifdef __cplusplus
}
#endif
#endif
