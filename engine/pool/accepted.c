#include "engine/pool/accepted.h"

#include "engine/base/sys.h"
#include "engine/net/cidr.h"
#include "engine/net/crowd.h"

#include <errno.h>

bool accepted_is_welcome(const struct accepted *accepted, const struct admission *admission,
                         struct tally *tally)
{
    const struct weir_peer peer = {
        .address = accepted->peer, .address_len = accepted->peer_len, .fd = accepted->fd,
        .listen = accepted->endpoint->uri,
    };
    const struct packet *packet = accepted->packet;

    return admission_allows(admission, accepted->endpoint, &peer,
                            packet ? packet_sender(packet) : NULL, tally);
}

int accepted_enter_crowd(struct accepted *accepted)
{
    struct crowd *crowd = accepted->endpoint->crowd;
    struct cidr host;

    if (!crowd || accepted->packet || !cidr_of_address(accepted->peer, accepted->peer_len, &host))
        return 0;
    return crowd_enter(crowd, &host, &accepted->guest);
}

void accepted_leave_crowd(struct accepted *accepted)
{
    if (accepted->guest)
        crowd_leave(accepted->endpoint->crowd, accepted->guest);
    accepted->guest = NULL;
}

struct connection *accepted_connect(const struct accepted *accepted,
                                    struct connection_table *table)
{
    struct connection *conn;

    if (accepted->packet) {
        connection_table_lend(table, accepted->endpoint->quota, 1);
        return &accepted->packet->conn;
    }
    conn = connection_create(table, accepted->fd, accepted->peer, accepted->peer_len,
                             accepted->handler, accepted->endpoint);
    if (conn)
        conn->guest = accepted->guest;
    return conn;
}

int accepted_queue(const struct accepted *accepted, struct crew *crew)
{
    struct connection *conn = accepted_connect(accepted, &crew->table);

    if (!conn)
        return -ENOMEM;
    handoff_put(&crew->handoff, conn);
    return 0;
}

void accepted_disconnect(const struct accepted *accepted, struct connection_table *table,
                         struct connection *conn)
{
    if (accepted->packet)
        connection_table_return(table, accepted->endpoint->quota, 1);
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

void accepted_refuse(const struct accepted *accepted, struct tally *tally)
{
    tally_add(tally, TALLY_REFUSED, 1);
    if (!accepted->packet)
        sys_shutdown_write(accepted->fd);
    accepted_drop(accepted);
}
