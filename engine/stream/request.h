/*
 * request.h - what a handler holds: one conversation, its rfile and its wfile.
 *
 * The public struct weir_request. One that was accepted lives on its fiber's stack while its
 * handler is at work; one that weir_connect opened lives in the heap, hung to the first.
 * rfile.c and wfile.c implement the calls that read and write, poll.c weir_poll, linger.c
 * weir_linger, patience.c weir_end_head, belongings.c weir_spawn and weir_join, request.c all
 * others; serve.c does what happens around them: setup, handle, finish.
 * A datagram's request has the packet for rfile, and its wfile becomes the reply. What these ask of
 * each other's rfile and wfile is in rfile.h and wfile.h.
 *
 * A handler's children use its requests, too, each on its own fiber: request_task says which. All
 * of them have one worker, and take turns: only where one waits in a read or a write do others come
 * between.
 *
 * Threads: the fiber's.
 */
#ifndef WEIR_REQUEST_H
#define WEIR_REQUEST_H

#include "engine/base/misuse.h"
#include "engine/net/admission.h"
#include "engine/pool/family.h"
#include "engine/pool/offload.h"
#include "engine/pool/worker.h"
#include "engine/weir.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Not where calls are small enough to be a part of who makes them. */
#define REQUEST_CHECK __attribute__((cold, noinline))
REQUEST_CHECK void request_check_now(const struct weir_request *req, const char *call);
REQUEST_CHECK void request_check_reading_now(const struct weir_request *req, const char *call);
REQUEST_CHECK void request_check_writing_now(const struct weir_request *req, const char *call);
REQUEST_CHECK void request_check_asked_now(const struct weir_request *req, const char *call);

/* A look this late was held up, by other handlers or with the whole process. */
#define REQUEST_HELD_MS 100

/* What all requests of a server share. */
struct service {
    struct crew *crew;
    struct offload *offload;
    struct offload *names;      /* looks up what weir_connect is given */
    struct weir_server *server;
    const struct admission *admission;
    void (*stop)(struct weir_server *server);
    void *user;
    void (*handle_error)(struct weir_server *server, const struct weir_failure *failure);
    bool unbuffered;            /* wfile writes through */
    bool reply_always;          /* to datagrams: what is empty or of a failed handler, too */
};

/* Of a connection that is to end: what of its input is still served. */
enum rfile_last {
    RFILE_GOES_ON,      /* all: it is not to end, or nobody has seen that */
    RFILE_LAST_TO_COME, /* what is buffered, and what a last look at the socket will find */
    RFILE_LAST_LOOK,    /* what the last look finds */
    RFILE_LAST_BUFFER,  /* what is buffered, and the request that this breaks off in */
};

/*
 * Marks of this call of handle() alone, all of which the next one takes off, by one store:
 *
 *   mark    it says                                 put on by                  taken off by
 *   OWN     the handler has set timeouts, and       weir_set_timeout
 *           own_timeouts_ms hold
 *   HEAD    patience.head_until_ms is set           the first wait for input;
 *                                                   weir_set_timeout
 *   BODY    the head has been read                  weir_end_head
 *   CREDIT  patience.credit is set                  a wait for a body, or      weir_set_timeout; a
 *                                                   for room                   wait seen late
 *   REST    it is over, and what it has left in     the end of the call,
 *           the buffer waits for more               alone
 *   TOLD    handle_error knows the error that it    weir_fail                  the start of
 *           ends with                                                          finish()
 *   END     finish() has been called                the start of finish()
 */
enum request_timing {
    TIMING_OWN = 1, TIMING_HEAD = 2, TIMING_BODY = 4, TIMING_CREDIT = 8, TIMING_REST = 16,
    TIMING_TOLD = 32, TIMING_END = 64,
};

/* Bytes that have arrived: data[start] to data[end - 1]. No buffer is held for none. */
struct rfile {
    char *data;
    size_t size;
    size_t start;
    size_t end;
    size_t scanned;             /* bytes from start on that hold no '\n' */
    bool eof;                   /* the peer has ended, or the handler wants no more of it */
    bool taken;                 /* this call of handle() took some */
    uint8_t timing;             /* enum request_timing, of writing, too: one store clears both */
    bool received : 1;          /* more has arrived, since serve.c looked last */
    bool said_end : 1;          /* its handler has called weir_end_input, before the peer's end */
    uint8_t last : 6;           /* enum rfile_last */
    int error;                  /* sticky */
};

/* Bytes that wait to be sent, or are the reply to a datagram: see transport_sends. */
struct wfile {
    char *data;
    size_t size;                /* of the block */
    size_t len;
    size_t sent;                /* bytes, since the connection was begun: see connection.h's */
    int error;                  /* sticky */
};

/* What is left of the time that the client is waited for: see patience.h. */
struct patience {
    uint64_t head_until_ms;     /* 0: for ever */
    uint64_t credit;            /* of progress_timeout_ms, in PATIENCE_STEPths of a millisecond */
    uint64_t came;              /* bytes of a body, not credited yet */
    uint64_t taken;             /* bytes of the peer's that are credited; 0: none have been */
};

struct weir_request {
    const struct service *service;
    struct task *task;
    struct connection *conn;
    struct rfile rfile;
    struct wfile wfile;
    uint64_t deadline_ms;       /* of this call of handle(); 0: none */
    struct patience patience;   /* as far as rfile.timing says */
    uint32_t own_timeouts_ms[WEIR_TIMEOUT_IDLE];    /* each of enum weir_timeout; 0: none */
    struct belongings *belongings;      /* what ends with it: see belongings.h; NULL: nothing */
    struct weir_request *next_opened;
    struct weir_request *opener;/* of one that weir_connect opened */
    /* Of a handler with children, and undefined otherwise: whose read or write waits meanwhile. */
    const struct task *reader, *writer;
};

/*
 * Reports a call on a request by a thread or fiber that does not serve it, if misuse is looked for.
 */
static WEIR_ALWAYS_INLINE void request_check(const struct weir_request *req, const char *call)
{
    if (WEIR_UNLIKELY(misuse_is_looked_for))
        request_check_now(req, call);
}

/* The same for the calls that read, or write: also that no other fiber of the handler does. */
static WEIR_ALWAYS_INLINE void request_check_reading(const struct weir_request *req,
                                                     const char *call)
{
    if (WEIR_UNLIKELY(misuse_is_looked_for))
        request_check_reading_now(req, call);
}

static WEIR_ALWAYS_INLINE void request_check_writing(const struct weir_request *req,
                                                     const char *call)
{
    if (WEIR_UNLIKELY(misuse_is_looked_for))
        request_check_writing_now(req, call);
}

/* The same for a call that what the handler has offloaded may make, too, for the handler waits. */
static WEIR_ALWAYS_INLINE void request_check_asked(const struct weir_request *req, const char *call)
{
    if (WEIR_UNLIKELY(misuse_is_looked_for))
        request_check_asked_now(req, call);
}

/* The accepted request, whose handler is at work. */
static inline struct weir_request *request_root(struct weir_request *req)
{
    return req->opener ? req->opener : req;
}

/* Returns true if several fibers may use it. */
static inline bool request_has_family(const struct weir_request *req)
{
    return WEIR_UNLIKELY(req->task->family);
}

/* The task of the fiber that uses it now: of its handler, or of a child. */
static inline struct task *request_task(const struct weir_request *req)
{
    return request_has_family(req) ? req->task->family->here : req->task;
}

/* Returns true if the write of another fiber waits meanwhile, and has what is gathered. */
static inline bool request_is_written(const struct weir_request *req)
{
    return request_has_family(req) && req->writer;
}

/* crew->serve: all that happens to a connection from its input until it is idle or ends. */
void request_serve(struct task *task);

/* A call of fn by an errand, which has no client; at its end what fn has opened is hung up. */
void request_call(struct weir_request *req, void (*fn)(struct weir_request *req, void *arg),
                  void *arg);

/* What the handler has set, or else the endpoint's. 0: none. */
uint32_t request_timeout_ms(const struct weir_request *req, enum weir_timeout which);

/* Whichever comes first: timeout_ms (0: none) from now, or the request's deadline. */
uint64_t request_deadline_ms(const struct weir_request *req, uint32_t timeout_ms);

/*
 * As task_wait. -ETIMEDOUT is not the end yet: our worker may have been held, by another handler or
 * with the whole process, and what we wait for may have come long ago. So a caller that
 * is told of it tries once more, and only then has request_timed_out count it. It is told of it
 * before, too, if others wait for the connection's place: conn->ousted. since_ms: from when the
 * client has kept the handler waiting; 0: from now on.
 */
int request_wait(struct weir_request *req, uint32_t events, uint64_t deadline_ms,
                 uint64_t since_ms);

/* Returns true if the peer reset the connection, or left without reading all: nobody is told. */
static inline bool request_is_end_by_peer(int error)
{
    return error == -ECONNRESET || error == -EPIPE;
}

/*
 * Returns true if our own kernel has refused a send behind the end that the handler has told, which
 * says nothing of the peer.
 */
static inline bool request_is_own_end(const struct weir_request *req, int error)
{
    return error == -EPIPE && req->conn->said_end;
}

/* Returns true if the server has cancelled its handler, whose -ECANCELED tells nothing new then. */
bool request_was_cancelled(const struct weir_request *req);

/* Returns true if the client itself has ended the connection so. */
bool request_was_reset(const struct weir_request *req);

/* Counts that, once a connection; of an error that is about to be noted. */
void request_note_end_by_peer(const struct weir_request *req, int error);

/*
 * Counts a deadline that has passed, and notes which it is: request_timeout_ms, if it is the
 * request's; else the timeout of the call, which is `own`. Returns -ETIMEDOUT.
 */
int request_timed_out(struct weir_request *req, uint64_t deadline_ms, enum connection_late own)
    __attribute__((cold));

/*
 * For calls that may find something every time, and so never wait: after a number of them the
 * worker turns to other connections first. events: EPOLLIN of a read, EPOLLOUT of a write, or 0.
 * Returns 0, -ETIMEDOUT if the request's deadline has passed, or -ECANCELED.
 */
int request_give_way(struct weir_request *req, uint32_t events);

/* Before the close of one that is not kept, while its peer may lose what was sent. May wait. */
void request_linger(struct weir_request *req);

#endif
