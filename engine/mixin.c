#include "engine/mixin.h"

struct connection *accepted_connect(const struct accepted *accepted,
                                    struct connection_table *table)
{
    struct connection *conn = connection_create(table, accepted->fd, accepted->peer,
                                                accepted->peer_len, accepted->handler,
                                                accepted->listen);

    if (conn)
        conn->guest = accepted->guest;
    return conn;
}
