/*
 * bare_datagrams.h - the yardstick for datagrams: a server that does nothing but send them back.
 *
 * One thread, one edge-triggered epoll set; each wake-up reads what is there by recvmmsg and sends
 * it back by sendmmsg. No copy, no memory per datagram, nobody is remembered. Nothing that waits
 * for sockets by epoll can cost much less.
 */
#ifndef WEIR_BENCH_BARE_DATAGRAMS_H
#define WEIR_BENCH_BARE_DATAGRAMS_H

#ifdef __cplusplus
extern "C" {
#endif

/*
 * bare_datagrams_run binds a UDP socket on 127.0.0.1 (AF_INET) or a Unix datagram socket with an
 * abstract name (AF_UNIX), port or name chosen by the kernel, calls ready(arg, its URI) and serves
 * for ever. Returns only if it could not start: -errno.
 */
int bare_datagrams_run(int family, void (*ready)(void *arg, const char *address), void *arg);

#ifdef __cplusplus
}
#endif
#endif
