/*
 * greeting.h - what comes between accept and setup(), where the endpoint has something to agree
 * with a client before its handler hears of it.
 *
 * A greeting (endpoint.greet) runs on the fiber, thread or child that serves the connection, once,
 * as soon as that begins: for a handler with client_first with the client's first bytes, which are
 * the greeting's. It reads and writes as a handler does, and as one it may wait, for
 * head_timeout_ms in all, and is cancelled. It may
 *
 *   say that the peer is another     connection_set_peer: rules, verify_request and the crowd are
 *                                    asked for that one then
 *   give it another transport        conn->transport, for all that is read and written afterwards
 *   leave in rfile what it has read  the handler's input begins with that
 *   refuse it                        by a negative errno: see greeting_run
 *
 * Threads: the fiber's.
 * Parks:   as the greeting does, and until what it has written is sent.
 */
#ifndef WEIR_GREETING_H
#define WEIR_GREETING_H

#include "engine/stream/request.h"

/*
 * Returns 0: the client may be served; or the -errno for which it is to be refused, which may be
 * the greeting's own, or of the flush behind it. -EACCES or -EUSERS: the program wants it to be
 * kept out, see admission_ask.
 */
int greeting_run(struct weir_request *req);

#endif
