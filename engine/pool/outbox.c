#include "engine/pool/outbox.h"

#include "engine/pool/receiver.h"
#include "engine/pool/worker.h"

#include <errno.h>

/* The sender: a worker, into whose caches the blocks go, or a rescuer, which has none. */
struct sender {
    struct crew *crew;
    struct tally *tally;
    struct buffers *packets;
    struct buffers *replies;
};

static void end_packet(const struct sender *sender, struct packet *packet)
{
    packet_end(packet, sender->packets, sender->replies);
}

static void note_packets_sent(const struct sender *sender, struct packet *const *packets,
                              unsigned len)
{
    for (unsigned i = 0; i < len; i++) {
        tally_add(sender->tally, TALLY_BYTES_OUT, packets[i]->reply_len);
        end_packet(sender, packets[i]);
    }
}

/* It is answered all the same: the worker that takes it from the queue sends the reply. */
static void leave_to_a_fiber(const struct sender *sender, struct packet *packet)
{
    connection_requeue(&packet->conn);
    handoff_put(&sender->crew->handoff, &packet->conn);
    handoff_call(&sender->crew->handoff, 1);
}

/* One could not be sent with the others. True: it is over with it. */
static bool is_packet_over(const struct sender *sender, struct packet *packet, int error)
{
    if (error == -EAGAIN) {
        leave_to_a_fiber(sender, packet);
        return false;
    }
    receiver_tell_unsent(packet, error, sender->tally);
    end_packet(sender, packet);
    return true;
}

static unsigned of_same_socket(struct packet *const *packets, unsigned len)
{
    unsigned n = 1;

    while (n < len && packets[n]->conn.fd == packets[0]->conn.fd)
        n++;
    return n;
}

/* The first of them, and those behind it that leave with it. How many. */
static unsigned send_some_packets(const struct sender *sender, struct packet **packets,
                                  unsigned len)
{
    struct quota *quota = packets[0]->conn.endpoint->quota;
    int n = packet_send_all(packets, of_same_socket(packets, len));
    unsigned over;

    if (n > 0) {
        note_packets_sent(sender, packets, (unsigned)n);
        over = (unsigned)n;
    } else {
        over = is_packet_over(sender, packets[0], n);
    }
    tally_add(sender->tally, TALLY_CLOSED, over);
    connection_table_return(&sender->crew->table, quota, over);
    return n > 0 ? (unsigned)n : 1;
}

static void send_packets(const struct sender *sender, struct packet **packets, unsigned len)
{
    for (unsigned i = 0; i < len;)
        i += send_some_packets(sender, &packets[i], len - i);
}

static unsigned take_all(struct outbox *outbox, unsigned len, struct packet **ret)
{
    unsigned n = 0;

    for (unsigned i = 0; i < len; i++) {
        /* acq_rel: of worker and rescuer exactly one gets it, whole. pairs: outbox_put() */
        struct packet *packet = atomic_exchange_explicit(&outbox->slots[i], NULL,
                                                         memory_order_acq_rel);

        if (packet)
            ret[n++] = packet;
    }
    return n;
}

void outbox_flush(struct worker *worker)
{
    struct packet *packets[PACKET_BATCH];
    unsigned len = take_all(&worker->outbox, worker->outbox.len, packets);

    worker->outbox.len = 0;
    if (len > 0)
        send_packets(&(const struct sender){
            worker->crew, &worker->tally, &worker->packets, &worker->wbufs,
        }, packets, len);
}

void outbox_put(struct worker *worker, struct packet *packet)
{
    struct outbox *outbox = &worker->outbox;

    /* release: the packet, to the thread that exchanges it out. pairs: take_all() */
    atomic_store_explicit(&outbox->slots[outbox->len++], packet, memory_order_release);
    if (outbox->len == PACKET_BATCH)
        outbox_flush(worker);
}

void outbox_rescue(struct worker *stuck, struct tally *tally)
{
    struct packet *packets[PACKET_BATCH];
    unsigned len = take_all(&stuck->outbox, PACKET_BATCH, packets);

    if (len > 0)
        send_packets(&(const struct sender){ stuck->crew, tally, NULL, NULL }, packets, len);
}
