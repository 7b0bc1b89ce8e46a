#include "engine/accepted.h"

#include "engine/sys.h"

struct connection *accepted_connect(const struct accepted *accepted,
                                    struct connection_table *table)
{
    struct connection *conn;

    if (accepted->packet) {
        connection_table_lend(table, 1);
        return &accepted->packet->conn;
    }
    conn = connection_create(table, accepted->fd, accepted->peer, accepted->peer_len,
                             accepted->handler, accepted->listen);
    if (conn)
        conn->guest = accepted->guest;
    return conn;
}

void accepted_disconnect(const struct accepted *accepted, struct connection_table *table,
                         struct connection *conn)
{
    if (accepted->packet)
        connection_table_return(table, 1);
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
