/*
 * libevent_lines.c - line echo as libevent's users write it: a bufferevent a connection, whose
 * input is moved to its output without a copy. Nobody looks for the lines' ends.
 */
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

#include "bench/peers/peer.h"

static const char name[] = "libevent";

static void on_read(struct bufferevent *bev, void *arg)
{
    (void)arg;
    bufferevent_write_buffer(bev, bufferevent_get_input(bev));
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    (void)arg;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        bufferevent_free(bev);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *peer,
                      int peer_len, void *base)
{
    struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);

    (void)listener;
    (void)peer;
    (void)peer_len;
    if (!bev) {
        evutil_closesocket(fd);
        return;
    }
    bufferevent_setcb(bev, on_read, NULL, on_event, NULL);
    bufferevent_enable(bev, EV_READ | EV_WRITE);
}

int main(int argc, char **argv)
{
    int fd = peer_listen(name, argc > 1 ? argv[1] : NULL);
    struct event_base *base = event_base_new();

    /* A backlog of 0: the socket listens already. */
    if (!base || !evconnlistener_new(base, on_accept, base, LEV_OPT_CLOSE_ON_FREE, 0, fd))
        peer_fail(name, "cannot start");
    peer_announce(name, fd);
    event_base_dispatch(base);
    return 1;
}
