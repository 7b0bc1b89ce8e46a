#include "engine/pool/accepted.h"

#include "engine/base/sys.h"
#include "engine/pool/goodbye.h"

#include <errno.h>

static struct access_peer peer_of(const struct accepted *accepted)
{
    return (struct access_peer){
        .address = accepted->peer, .address_len = accepted->peer_len, .fd = accepted->fd,
        .sender = accepted->packet ? packet_sender(accepted->packet) : NULL,
    };
}

int accepted_ask(struct accepted *accepted, const struct admission *admission,
                 struct tally *tally)
{
    const struct access_peer peer = peer_of(accepted);

    return admission_ask(admission, accepted->endpoint, &peer,
                         accepted->packet ? NULL : &accepted->guest, tally);
}

int accepted_take_seat(struct accepted *accepted)
{
    const struct access_peer peer = peer_of(accepted);

    return admission_take_seat(accepted->endpoint, &peer, &accepted->guest);
}

struct connection *accepted_to_connection(const struct accepted *accepted,
                                          struct connection_table *table)
{
    struct connection *conn;

    if (accepted->packet) {
        connection_table_lend(table, 1);
        return &accepted->packet->conn;
    }
    conn = connection_create(table, accepted->fd, accepted->peer, accepted->peer_len,
                             accepted->handler, accepted->endpoint);
    if (!conn)
        return NULL;
    conn->guest = accepted->guest;
    connection_set_arg(conn, accepted->arg);
    return conn;
}

int accepted_queue(const struct accepted *accepted, struct crew *crew)
{
    struct connection *conn;

    if (WEIR_UNLIKELY(overload_refuses(&crew->overload, &crew->handoff.queue)))
        return -ENOBUFS;
    conn = accepted_to_connection(accepted, &crew->table);
    if (!conn)
        return -ENOMEM;
    overload_note_queued(&crew->overload, &crew->handoff.queue, conn);
    handoff_put(&crew->handoff, conn);
    return 0;
}

void accepted_disconnect(const struct accepted *accepted, struct connection_table *table,
                         struct connection *conn)
{
    if (accepted->packet)
        connection_table_take_back(table, 1);
    else
        connection_forget(table, conn);
}

void accepted_drop(const struct accepted *accepted)
{
    if (accepted->packet)
        packet_end(accepted->packet, NULL, NULL);
    else
        sys_close(accepted->fd);
}

void accepted_turn_away(struct accepted *accepted, struct connection_table *table,
                        const struct admission *admission, int error, struct tally *tally)
{
    bool is_meant = error == -EACCES || error == -EUSERS || error == -ENOBUFS;

    if (!is_meant)
        admission_tell(admission, WEIR_PHASE_PROCESS, error, accepted->peer, accepted->peer_len,
                       accepted->handler->name);
    if (error == -ENOMEM)
        tally_add(tally, TALLY_NO_MEMORY, 1);
    if (error == -ENOBUFS)
        tally_add(tally, TALLY_SHED, 1);
    tally_add(tally, TALLY_REFUSED, 1);
    admission_leave_seat(accepted->endpoint, &accepted->guest);
    if (!accepted->packet) {
        if (error != -EACCES)
            goodbye_say(accepted->fd, accepted->handler);
        sys_shutdown_write(accepted->fd);
    }
    accepted_drop(accepted);
    connection_table_release(table, accepted->endpoint->quota, 1);
}
