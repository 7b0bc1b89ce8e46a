/* opening.c - its sockets: bound, joined by further acceptors, listening. */
#include "engine/server/server.h"

#include "engine/net/address.h"
#include "engine/net/listener.h"
#include "engine/server/places.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a listener of acceptor i is opened with. Several acceptors share a port by SO_REUSEPORT. */
static struct listener_options listener_options(const struct weir_server *server,
                                                const struct endpoint *endpoint)
{
    const struct weir_options *options = &server->options;

    return (struct listener_options){
        .backlog = endpoint->backlog,
        .reuse_address = options->reuse_address,
        .reuse_port = options->reuse_port || options->acceptors > 1,
        .nodelay = endpoint->nodelay,
        .taken_over = endpoint->taken_over,
        .keep_path = options->keep_path,
        .set_uid = server->owner.set_uid,
        .set_gid = server->owner.set_gid,
        .uid = server->owner.uid,
        .gid = server->owner.gid,
        .mode = options->unix_mode,
    };
}

static int refuse_listener(struct listener *listener, const char *uri, int error,
                           const char *reason)
{
    listener->keep_path = false;
    listener_close(listener);
    return SERVER_REFUSE(error, "%s: %s", uri, reason);
}

static int open_socket(const struct weir_server *server, const char *uri,
                       const struct endpoint *endpoint, struct listener *ret)
{
    struct listener_options options = listener_options(server, endpoint);

    return server->options.defer
        ? listener_bind(ret, uri, &options, why_last, sizeof(why_last))
        : listener_open(ret, uri, &options, why_last, sizeof(why_last));
}

/* Takes the listener, or closes it. */
static int give_listener(struct weir_server *server, struct acceptor *acceptor,
                         struct listener *listener, const struct endpoint *endpoint)
{
    int r = multicast_prepare(&server->multicast, listener);

    if (r == 0)
        r = acceptor_add(acceptor, listener, endpoint);
    return r < 0 ? refuse_listener(listener, listener->uri, r, why_error(r)) : 0;
}

/* The first acceptor's, which has an endpoint of its own. */
static int add_server_listener(struct weir_server *server, struct listener *listener,
                               const struct endpoint *like)
{
    const struct endpoint *endpoint;
    int r = server_create_endpoint(server, like, listener->uri, &endpoint);

    if (r < 0)
        return refuse_listener(listener, listener->uri, r, why_error(r));
    return give_listener(server, &server->acceptors[0], listener, endpoint);
}

/* ------------------------------------------------------------------ one address twice - */

/* Another socket of this server that is bound to that address, or NULL. */
static const struct endpoint *find_other(const struct weir_server *server, const char *uri,
                                         const struct endpoint *self)
{
    for (size_t i = 0; i < server->endpoints_len; i++)
        if (server->endpoints[i] != self && strcmp(server->endpoints[i]->uri, uri) == 0)
            return server->endpoints[i];
    return NULL;
}

/* A better sentence, if it is this server itself that uses the address. Returns -EADDRINUSE. */
static int refuse_in_use(const struct weir_server *server, const char *uri,
                         const struct endpoint *self)
{
    const struct endpoint *other = find_other(server, uri, self);

    if (!other)
        return -EADDRINUSE;
    return SERVER_REFUSE(-EADDRINUSE, "%s: this server's own listeners[%u] has that address: give "
                         "each of them another one", uri, other->number);
}

static int refuse_addresses_in_use(const struct weir_server *server,
                                   const struct address *addresses, int len)
{
    char uri[WEIR_ADDRESS_SIZE];

    for (int i = 0; i < len; i++)
        if (address_format(addresses[i].type, &addresses[i].sa, addresses[i].len, uri,
                           sizeof(uri)) > 0)
            refuse_in_use(server, uri, NULL);
    return -EADDRINUSE;
}

/* ------------------------------------------------------------------ one listener ------ */

static int open_listener(struct weir_server *server, const struct server_listen *listen)
{
    struct listener listener;
    int r = open_socket(server, listen->address, &listen->like, &listener);

    return r < 0 ? r : add_server_listener(server, &listener, &listen->like);
}

/* ------------------------------------------------------------------ inherited --------- */

/* The endpoint of this listener's sockets that are bound to that address, or NULL. */
static const struct endpoint *find_endpoint(const struct weir_server *server, const char *uri,
                                            uint32_t number)
{
    for (size_t i = 0; i < server->endpoints_len; i++)
        if (server->endpoints[i]->number == number && strcmp(server->endpoints[i]->uri, uri) == 0)
            return server->endpoints[i];
    return NULL;
}

static size_t count_sockets_of(const struct acceptor *acceptor, const struct endpoint *endpoint)
{
    size_t count = 0;

    for (size_t i = 0; i < acceptor->listening_len; i++)
        count += acceptor->listening[i].endpoint == endpoint;
    return count;
}

/*
 * Several sockets of one address are those that the acceptors of another server had by
 * SO_REUSEPORT. Each has clients of its own, so our acceptors share all of them, however many.
 */
static int add_inherited(struct weir_server *server, struct listener *listener,
                         const struct endpoint *like)
{
    const struct endpoint *endpoint = find_endpoint(server, listener->uri, like->number);
    size_t count = 0;

    if (!endpoint)
        return add_server_listener(server, listener, like);
    for (size_t a = 0; a < server->acceptors_len; a++)
        count += count_sockets_of(&server->acceptors[a], endpoint);
    return give_listener(server, &server->acceptors[count % server->acceptors_len], listener,
                         endpoint);
}

static int open_inherited(struct weir_server *server, const struct address *addresses, int len,
                          const struct endpoint *like)
{
    char uri[sizeof("fd://2147483647")];
    struct listener listener;
    int r = 0;

    for (int i = 0; i < len && r == 0; i++) {
        snprintf(uri, sizeof(uri), "fd://%d", addresses[i].fd);
        r = open_socket(server, uri, like, &listener);
        if (r == 0)
            r = add_inherited(server, &listener, like);
    }
    return r;
}

/* ------------------------------------------------------------------ names ------------- */

/* Port 0 of a name is the same port of each of its addresses: so often one is looked for. */
#define PORT_TRIES 16

/* The sockets of a name. */
struct named {
    const struct endpoint *like;
    const struct address *addresses;
    struct listener *listeners;
    int addresses_len;
    int listeners_len;
};

/* An address of the name's that is of no use here, as long as another one is. */
static bool is_not_here(int error)
{
    return error == -EADDRNOTAVAIL || address_family_is_missing(error);
}

static void close_named(struct named *named)
{
    while (named->listeners_len > 0)
        listener_close(&named->listeners[--named->listeners_len]);
}

static in_port_t port_of(const struct listener *listener)
{
    return htons((in_port_t)strtoul(strrchr(listener->uri, ':') + 1, NULL, 10));
}

/* The i-th address, by the port of those that are open. */
static int open_named(const struct weir_server *server, struct named *named, int i)
{
    struct address address = named->addresses[i];
    char uri[WEIR_ADDRESS_SIZE];
    int r;

    /* Both families have it in the same place. */
    if (named->listeners_len > 0)
        address.in.sin_port = port_of(&named->listeners[0]);
    r = address_format(address.type, &address.sa, address.len, uri, sizeof(uri));
    if (r > 0)
        r = open_socket(server, uri, named->like,
                        &named->listeners[named->listeners_len]);
    if (r == 0)
        named->listeners_len++;
    return r;
}

static int open_all_named(const struct weir_server *server, struct named *named)
{
    int missing = 0;
    int r = 0;

    for (int i = 0; i < named->addresses_len && r == 0; i++) {
        r = open_named(server, named, i);
        if (is_not_here(r)) {
            missing = r;
            r = 0;
        }
    }
    if (r == 0 && named->listeners_len == 0)
        r = missing;
    if (r < 0)
        close_named(named);
    return r;
}

/* The port that the kernel chose for the first address may be taken at another one. */
static int open_name(const struct weir_server *server, struct named *named)
{
    bool any_port = named->addresses[0].in.sin_port == 0;
    int r = open_all_named(server, named);

    for (int tries = 1; r == -EADDRINUSE && any_port && tries < PORT_TRIES; tries++)
        r = open_all_named(server, named);
    return r;
}

static int add_named(struct weir_server *server, struct named *named)
{
    int r = 0;

    for (int i = 0; i < named->listeners_len && r == 0; i++) {
        r = add_server_listener(server, &named->listeners[i], named->like);
        if (r == 0)
            named->listeners[i].fd = -1;    /* the acceptor's now */
    }
    close_named(named);
    return r;
}

static int open_addresses(struct weir_server *server, const struct address *addresses, int len,
                          const struct server_listen *listen)
{
    struct named named = {
        .like = &listen->like, .addresses = addresses, .addresses_len = len,
    };
    int r;

    if (addresses[0].kind == ADDRESS_FD)
        return open_inherited(server, addresses, len, &listen->like);
    if (len > SERVER_ADDRESSES_MAX)
        return SERVER_REFUSE(-E2BIG, "%s: the host has %d addresses: name some of them, %d at most",
                             listen->address, len, SERVER_ADDRESSES_MAX);
    if (len == 1)
        return open_listener(server, listen);
    named.listeners = calloc((size_t)len, sizeof(*named.listeners));
    if (!named.listeners)
        return SERVER_REFUSE(-ENOMEM, "%s: %s", listen->address, why_error(-ENOMEM));
    r = open_name(server, &named);
    if (r == 0)
        r = add_named(server, &named);
    free(named.listeners);
    return r;
}

/* The first acceptor's. */
static int open_listen(struct weir_server *server, const struct server_listen *listen)
{
    struct address *addresses;
    int len = address_parse_all(listen->address, &addresses, why_last, sizeof(why_last));
    int r;

    if (len < 0)
        return len;
    r = open_addresses(server, addresses, len, listen);
    if (r == -EADDRINUSE)
        r = refuse_addresses_in_use(server, addresses, len);
    free(addresses);
    return r;
}

/* Only a TCP port that we have bound ourselves can be shared by SO_REUSEPORT. */
static bool can_be_joined(const struct server_listen *listen)
{
    return strncmp(listen->address, "tcp:", 4) == 0;
}

/* What it is joined by: as it was bound. But no host stays none: [::] alone takes no IPv4. */
static void joining_uri(const struct server_listen *listen, const char *bound, char *buf,
                        size_t size)
{
    if (strncmp(listen->address, "tcp://:", 7) == 0)
        snprintf(buf, size, "tcp://%s", strrchr(bound, ':'));
    else
        snprintf(buf, size, "%s", bound);
}

static int join_listener(struct weir_server *server, struct acceptor *acceptor, const char *uri,
                         const struct endpoint *endpoint)
{
    struct listener listener;
    int r = open_socket(server, uri, endpoint, &listener);

    return r < 0 ? r : give_listener(server, acceptor, &listener, endpoint);
}

/* Each further acceptor binds what the first one has bound, from its i-th listener on. */
static int join_listeners(struct weir_server *server, const struct server_listen *listen, size_t i)
{
    char uri[WEIR_ADDRESS_SIZE];
    int r = 0;

    for (; i < server->endpoints_len && r == 0; i++) {
        joining_uri(listen, server->endpoints[i]->uri, uri, sizeof(uri));
        for (size_t a = 1; a < server->acceptors_len && r == 0; a++)
            r = join_listener(server, &server->acceptors[a], uri, server->endpoints[i]);
    }
    return r;
}

/* The first acceptor's alone, or each of them would be given every datagram. */
static int join_group(struct weir_server *server)
{
    const struct acceptor *first = &server->acceptors[0];
    char why[400];
    int joined = 0;

    if (server->multicast.family == AF_UNSPEC)
        return 0;
    for (size_t i = 0; i < first->listening_len; i++) {
        int r = multicast_join(&server->multicast, &first->listening[i].listener, why,
                               sizeof(why));

        if (r < 0)
            return SERVER_REFUSE(r, "multicast: %s", why);
        joined += r;
    }
    if (joined > 0)
        return 0;
    return SERVER_REFUSE(multicast_refuse(&server->multicast, why, sizeof(why)),
                         "multicast: %s", why);
}

/* ------------------------------------------------------------------ all of them ------- */

/*
 * Listeners with places of their own come first, then the server's: with all sockets open it is
 * known how many descriptors are left. A name may have been several sockets, and the program has
 * files of its own.
 */
static int settle_places(struct weir_server *server)
{
    uint64_t aside = server_connections_max(server) - server->quota.max;

    return places_settle(&server->options, &server->quota, aside, why_last, sizeof(why_last));
}

/* The first acceptor opens everything; the others join its TCP ports, as they were resolved. */
int server_open_listeners(struct weir_server *server)
{
    int r = 0;

    for (size_t i = 0; i < server->listens_len && r == 0; i++) {
        const struct server_listen *listen = &server->listens[i];
        size_t before = server->endpoints_len;

        r = open_listen(server, listen);
        if (r == 0 && can_be_joined(listen))
            r = join_listeners(server, listen, before);
    }
    if (r == 0)
        r = join_group(server);
    /* Under the lock, or nobody else knows the server yet. */
    server_note_followed_locked(server);
    return r == 0 ? settle_places(server) : r;
}

/* ------------------------------------------------------------------ bind, activate ---- */

static int refuse_step(int r, const char *what, const char *reason)
{
    return SERVER_REFUSE(r, "the server can't %s: %s", what, reason);
}

/* All of them, or none. */
static int bind_locked(struct weir_server *server)
{
    int r;

    if (server_is_closed_locked(server))
        return refuse_step(-EBADF, "bind", "it was closed");
    if (server->opening != UNBOUND)
        return refuse_step(-EALREADY, "bind", "it has done that already");
    if (server_claim_locked(server) < 0)
        return refuse_step(-ESRCH, "bind", "it is another process's, of which this is a fork");
    r = server_open_listeners(server);
    if (r == 0)
        server->opening = BOUND;
    if (r == 0)
        return 0;
    for (size_t i = 0; i < server->acceptors_len; i++)
        acceptor_drop_listeners(&server->acceptors[i]);
    server_free_endpoints(server);
    return r;
}

/* With reuse_address two sockets may be bound to one address, but only one of them listens. */
static int activate_listener(const struct weir_server *server, struct listening *listening)
{
    const struct endpoint *endpoint = listening->endpoint;
    int r = listener_activate(&listening->listener, endpoint->backlog, why_last,
                              sizeof(why_last));

    return r == -EADDRINUSE ? refuse_in_use(server, endpoint->uri, endpoint) : r;
}

static int activate_listeners(const struct weir_server *server, struct acceptor *acceptor)
{
    int r = 0;

    for (size_t i = 0; i < acceptor->listening_len && r == 0; i++)
        r = activate_listener(server, &acceptor->listening[i]);
    return r;
}

static int activate_locked(struct weir_server *server)
{
    int r = 0;

    if (server_is_closed_locked(server))
        return refuse_step(-EBADF, "listen", "it was closed");
    if (server->opening == UNBOUND)
        return refuse_step(-EINVAL, "listen", "weir_server_bind comes first");
    if (server->opening == LISTENING)
        return refuse_step(-EALREADY, "listen", "it does already");
    if (server_claim_locked(server) < 0)
        return refuse_step(-ESRCH, "listen", "it is another process's, of which this is a fork");
    for (size_t i = 0; i < server->acceptors_len && r == 0; i++)
        r = activate_listeners(server, &server->acceptors[i]);
    if (r == 0)
        server->opening = LISTENING;
    return r;
}

int weir_server_bind(struct weir_server *server)
{
    int r;

    pthread_mutex_lock(&server->lock);
    r = bind_locked(server);
    pthread_mutex_unlock(&server->lock);
    return r;
}

int weir_server_activate(struct weir_server *server)
{
    int r;

    pthread_mutex_lock(&server->lock);
    r = activate_locked(server);
    pthread_mutex_unlock(&server->lock);
    return r;
}

int weir_server_listen_fd(struct weir_server *server, size_t i, uint32_t *ret_number)
{
    for (size_t a = 0; a < server->acceptors_len; a++) {
        const struct acceptor *acceptor = &server->acceptors[a];

        if (i >= acceptor->listening_len) {
            i -= acceptor->listening_len;
            continue;
        }
        if (acceptor->listening[i].listener.fd < 0)
            return -EBADF;
        *ret_number = acceptor->listening[i].endpoint->number;
        return acceptor->listening[i].listener.fd;
    }
    return -ERANGE;
}

int weir_server_address(struct weir_server *server, size_t i, char *buf, size_t size)
{
    int len;

    if (i >= server->endpoints_len)
        return -ERANGE;
    len = snprintf(buf, size, "%s", server->endpoints[i]->uri);
    return (size_t)len < size ? len : -ENOSPC;
}
