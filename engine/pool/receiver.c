#include "engine/pool/receiver.h"

#include "engine/base/sys.h"
#include "engine/pool/outbox.h"
#include "engine/pool/room.h"
#include "engine/pool/worker.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>

struct receiver {
    struct receiver_config config;
    struct crew *crew;
    struct connection *socket;
    _Atomic bool paused;
    _Atomic int failure;                /* -errno that the acceptor has not been told yet; or 0 */
};

/* ------------------------------------------------------------------ begin and end ----- */

/* The sets of the workers get the sockets in turn. */
static struct epoll_set *home_for(struct crew *crew, int fd)
{
    return crew->common.fd >= 0 ? &crew->common : &crew->sets[(unsigned)fd % crew->handoff.workers];
}

int receiver_create(struct crew *crew, const struct receiver_config *config, int fd,
                    const struct endpoint *endpoint, struct receiver **ret)
{
    struct receiver *receiver = malloc(sizeof(*receiver));
    int r;

    if (!receiver)
        return -ENOMEM;
    receiver->config = *config;
    receiver->crew = crew;
    atomic_init(&receiver->paused, true);
    atomic_init(&receiver->failure, 0);
    receiver->socket = connection_create_socket(&crew->table, fd, endpoint, receiver);
    if (!receiver->socket) {
        free(receiver);
        return -ENOMEM;
    }
    r = connection_watch(receiver->socket, home_for(crew, fd), EPOLLIN);
    if (r < 0) {
        connection_forget(&crew->table, receiver->socket);
        free(receiver);
        return r;
    }
    connection_keep(receiver->socket);
    *ret = receiver;
    return 0;
}

void receiver_destroy(struct receiver *receiver)
{
    connection_forget(&receiver->crew->table, receiver->socket);
    free(receiver);
}

/* ------------------------------------------------------------------ on and off -------- */

void receiver_kick(struct receiver *receiver)
{
    struct handoff *handoff = &receiver->crew->handoff;

    if (connection_ready(receiver->socket, EPOLLIN) != CONNECTION_QUEUE)
        return;
    handoff_put(handoff, receiver->socket);
    handoff_call(handoff, 1);
}

void receiver_resume(struct receiver *receiver)
{
    /* seq_cst: then the kick, which finds it IDLE or leaves a mark. pairs: may_receive() */
    atomic_store_explicit(&receiver->paused, false, memory_order_seq_cst);
    receiver_kick(receiver);
}

void receiver_pause(struct receiver *receiver)
{
    /* seq_cst: says so, then looks whether a worker is at it; store buffering.
     * pairs: may_receive() */
    atomic_store_explicit(&receiver->paused, true, memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst);
    while (connection_state(receiver->socket) == CONNECTION_RUNNING)
        sched_yield();
}

/* Only while it is RUNNING, so that a pause can wait for us. */
static bool may_receive(const struct receiver *receiver)
{
    /* seq_cst: RUNNING, then the look; store buffering. pairs: receiver_pause() */
    atomic_thread_fence(memory_order_seq_cst);
    return !atomic_load_explicit(&receiver->paused, memory_order_seq_cst);
}

int receiver_failure(struct receiver *receiver)
{
    /* relaxed: it is for people; the eventfd wakes us. pairs: note_failure() */
    return atomic_exchange_explicit(&receiver->failure, 0, memory_order_relaxed);
}

/* ------------------------------------------------------------------ a turn ------------ */

/* Datagrams in work count as connections. */
static struct quota *quota_of_receiver(const struct receiver *receiver)
{
    return receiver->socket->endpoint->quota;
}

/* For a batch. 0: none is free; the acceptor kicks us once one is. */
static unsigned take_places(const struct receiver *receiver)
{
    struct quota *quota = quota_of_receiver(receiver);
    size_t places = quota_take(quota, PACKET_BATCH);

    if (WEIR_LIKELY(places > 0))
        return (unsigned)places;
    room_make(receiver->crew, quota);
    connection_table_want_room(&receiver->crew->table, SIZE_MAX);
    /* Who gave one back just before we asked told nobody. */
    return (unsigned)quota_take(quota, PACKET_BATCH);
}

static void note_failure(struct worker *worker, struct receiver *receiver, int error)
{
    tally_add(&worker->tally, TALLY_ACCEPT_ERRORS, 1);
    /* relaxed: who finds one there knows that the acceptor has yet to take it, and to kick us then.
     * pairs: receiver_failure() */
    if (atomic_exchange_explicit(&receiver->failure, error, memory_order_relaxed) == 0)
        sys_eventfd_signal(receiver->config.call_fd);
}

/* How many lie in the tray, places at most. They are counted as open from here on. */
static unsigned receive_batch(struct worker *worker, struct receiver *receiver, unsigned places)
{
    struct connection_table *table = &receiver->crew->table;
    struct packet_tray *tray = worker_tray(worker);
    int n = tray ? packet_tray_receive(tray, receiver->socket->fd, places) : -ENOMEM;
    unsigned received = n > 0 ? (unsigned)n : 0;

    if (n < 0 && n != -EAGAIN)
        note_failure(worker, receiver, n);
    if (received > 0)
        connection_table_lend(table, received);
    if (received < places)
        connection_table_give_back(table, quota_of_receiver(receiver), places - received);
    return received;
}

/* Returns true if it has received as many as it had room for. */
static bool may_wait_more(const struct worker *worker, unsigned received, unsigned places)
{
    return received > 0 && (received == places || packet_tray_was_short(worker->tray));
}

/* More may wait behind a full batch: somebody who sleeps shall receive it while we serve. */
static void release_socket(struct receiver *receiver, bool full)
{
    struct handoff *handoff = &receiver->crew->handoff;

    if (!full && connection_keep(receiver->socket))
        return;
    connection_requeue(receiver->socket);
    handoff_put(handoff, receiver->socket);
    if (full)
        handoff_call(handoff, 1);
}

static bool is_admitted(const struct receiver *receiver, const struct packet *packet,
                        struct tally *tally)
{
    const struct connection *socket = receiver->socket;

    return admission_ask(receiver->config.admission, socket->endpoint, &(const struct access_peer){
        .address = (const struct sockaddr *)&packet->peer, .address_len = packet->peer_len,
        .fd = socket->fd, .sender = packet_sender(packet),
    }, NULL, tally) == 0;
}

/* Those that may come in, into the worker's batch, where a rescuer finds them. How many. */
static unsigned admit_received(struct worker *worker, struct receiver *receiver, unsigned received)
{
    const struct connection *socket = receiver->socket;
    const struct packet_origin origin = {
        .fd = socket->fd, .endpoint = socket->endpoint, .receiver = receiver,
    };
    unsigned admitted = 0;

    tally_add(&worker->tally, TALLY_ACCEPTED, received);
    for (unsigned i = 0; i < received; i++) {
        struct packet *packet = packet_tray_look(worker->tray, i);

        tally_add(&worker->tally, TALLY_BYTES_IN, packet->len);
        if (WEIR_UNLIKELY(packet->truncated))
            tally_add(&worker->tally, TALLY_TRUNCATED, 1);
        if (!is_admitted(receiver, packet, &worker->tally))
            continue;
        packet_tray_take(worker->tray, i, &origin);
        worker_put_into_batch(worker, WORKER_BATCH + admitted++, &packet->conn);
    }
    if (admitted < received) {
        tally_add(&worker->tally, TALLY_REFUSED, received - admitted);
        connection_table_return(&receiver->crew->table, quota_of_receiver(receiver),
                                received - admitted);
    }
    return admitted;
}

void receiver_take_turn(struct worker *worker, struct connection *socket)
{
    struct receiver *receiver = socket->receiver;
    unsigned places = may_receive(receiver) ? take_places(receiver) : 0;
    unsigned received = places > 0 ? receive_batch(worker, receiver, places) : 0;

    release_socket(receiver, may_wait_more(worker, received, places));
    /* What is received holds the receiver: it isn't destroyed while something is open. */
    if (received == 0)
        return;
    worker_run_slots(worker, WORKER_BATCH, admit_received(worker, receiver, received));
    outbox_flush(worker);
}

void receiver_tell_unsent(const struct packet *packet, int error, struct tally *tally)
{
    tally_add(tally, TALLY_FINISH_ERRORS, 1);
    admission_tell(packet->receiver->config.admission, WEIR_PHASE_FINISH, error,
                   (const struct sockaddr *)&packet->peer, packet->peer_len,
                   packet->conn.handler->name);
}
