/*
 * weir.h - a server engine for C and C++, after Python's socketserver. (C++17 has weir.hpp, too.)
 *
 *     static int upper(struct weir_request *req)
 *     {
 *         char *line;
 *         ssize_t n = weir_readline(req, &line, 1000);
 *
 *         for (ssize_t i = 0; i < n; i++)
 *             line[i] = (char)toupper((unsigned char)line[i]);
 *         if (n > 0)
 *             n = weir_write(req, line, (size_t)n);
 *         return n > 0 ? WEIR_KEEP : (int)n;
 *     }
 *
 * A handler is written as if it had the machine for itself: it reads, writes and returns. A fixed
 * pool of threads, the workers, runs many handlers at once, each on a fiber: a stack of its own.
 * Where a handler waits for its client, its worker goes on with another one, so that a client that
 * stalls costs no thread.
 *
 * From top to bottom: what a program says (handlers, addresses, who runs the handlers, hooks,
 * options); what it does with a server (make and serve, one client at a time, stop and close,
 * facts, who may connect); the rules inside of a handler (what parks, stacks, signals); and what a
 * handler does (reading, writing, the request, waiting, other servers; datagrams).
 *
 * What holds for all of it:
 *
 *   Errors   A call returns 0 or a count, or a negative errno. After a failure, what a ret_
 *            parameter points to is as it was.
 *   Units    They are in the names: _ms is milliseconds, _size and len are bytes.
 *   Parks    A call that parks lets its worker run other handlers until what it waits for has
 *            come. See "what parks" for what a program must not do across such a call.
 *   Threads  A call that takes a request is for the handler that was given the request, on that
 *            handler's own fiber. Every other call names the threads that may make it.
 *   Owns     Strings and structures stay the caller's and are needed during the call only, except
 *            where it says otherwise.
 *   Options  0 is always the default.
 */
#ifndef WEIR_H
#define WEIR_H

#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_VERSION "0.1.0"

/*
 * For C++, in which each field below has a default: 0, or the size of a type. So empty braces set
 * up a structure, and designated initializers (C++20) may leave fields out. C++11 allows no braces
 * with values around a structure that has defaults; there only the sizes are set. In C the macros
 * are nothing.
 */
#if defined(__cplusplus) && __cplusplus >= 201402L
#define WEIR_0 = {}
#else
#define WEIR_0
#endif
#ifdef __cplusplus
#define WEIR_SIZE_OF(type) = sizeof(type)
#else
#define WEIR_SIZE_OF(type)
#endif

struct weir_server;
struct weir_request;
struct weir_access;

/*
 * What can be said of an option that is yes or no. An option of type enum weir_choice says itself
 * what WEIR_DEFAULT is. The default of one of type weir_default_no is no; true and 1 mean yes, in
 * C++ too, where a bool does not become an enumeration.
 */
enum weir_choice {
    WEIR_DEFAULT = 0,
    WEIR_YES = 1,
    WEIR_NO = 2,
};

#ifdef __cplusplus
typedef uint32_t weir_default_no;
#else
typedef enum weir_choice weir_default_no;
#endif

/* ------------------------------------------------------------------ handlers ---------- */

/*
 * What handle() returns, besides 0 and a negative errno. Hardly any length is such a number: that
 * of a write, returned by mistake, neither keeps a connection nor stops the server. What finish()
 * is to know besides belongs in weir_state().
 */
enum {
    /*
     * "Call me again when more input arrives." Until then the connection is idle: it holds no
     * fiber, no stack and no buffer. What weir_state() gives stays.
     *
     * A pool that is full (max_connections) or short of descriptors or memory while others wait
     * makes room: it ends idle connections, the longest idle ones first, but serves a request that
     * has just come. Connections whose client is to speak first (client_first) and has not spoken
     * count as idle after a second. If none is idle, it ends requests that have a
     * request_timeout_ms and whose client has kept its handler waiting for a second, in a read or a
     * write, which returns -ETIMEDOUT: a second since its last byte; but with a head_timeout_ms
     * since the head began, and with a progress_timeout_ms a second behind the rate of that. Behind
     * the last request it is a second since our side was ended (see handle). Once others have
     * waited for a second without a pause, it is half a second.
     * WEIR_SERIAL, _THREAD and _FORK end idle connections after idle_timeout_ms only.
     */
    WEIR_KEEP = 0x40000001,
    /* "Close the connection, and shut the server down", as SystemExit does in Python. */
    WEIR_STOP_SERVER = 0x40000002,
};

enum weir_stack {
    WEIR_STACK_FIBER = 0,   /* a fiber of stack_size bytes: waiting parks it */
    WEIR_STACK_THREAD = 1,  /* the worker's own stack: waiting blocks the worker */
};

/*
 * What is done for a connection, after socketserver's StreamRequestHandler. The structure must
 * outlive the server: make it static. (A compound literal in the condition of an `if` ends with
 * the `if`.)
 *
 * setup    is called first, once. If it returns a negative errno, handle_error is told, and neither
 *          handle nor finish is called.
 * handle   is called until it returns something other than WEIR_KEEP:
 *            0                  the connection is done
 *            a negative errno   it is done, and handle_error is told
 *            WEIR_STOP_SERVER   it is done, and the server shuts down
 *            any other number   is a mistake, such as the length that weir_write returned: it is
 *                               as if handle had returned -ERANGE, and handle_error's hint tells.
 *                               A later version may give such a number a meaning
 *          In any case what was written is flushed and the connection is closed.
 *
 *          A close must not cost the peer the end of the answer, which a reset would. So if there
 *          is input that nobody has read, or if much was answered (14 KiB and more, earlier calls
 *          included) and the peer's kernel does not have all of it yet, only our side is ended, and
 *          what still comes is thrown away until the peer has the answer and is quiet; for 2
 *          seconds and 64 MiB at most. weir_linger asks for it where more may be on the way. This
 *          is not done where it would hold up others: under WEIR_SERIAL, and with WEIR_STACK_THREAD
 *          in the pool.
 * finish   is called last, once, if setup succeeded. status is what handle returned, or 0 if the
 *          connection was kept and ended without another call of handle: by idle_timeout_ms, by a
 *          drain, or to make room; -ENOMEM if there was no memory to go on with. If finish returns
 *          a negative errno, handle_error is told that one, and not handle's, as in Python.
 * check    is asked by weir_server_create and weir_submit_fd, on the calling thread, whether `data`
 *          is such that it can serve. NULL: it is. Otherwise a sentence that says what is wrong,
 *          which becomes part of weir_why()'s.
 *
 * client_first: in this protocol the client speaks first, so there is nothing to do before it has.
 * Neither setup nor handle is called before there is input, and none of the three for a client that
 * ends without a byte. Until then the connection is idle, as between two calls of handle() (see
 * WEIR_KEEP), and a drain ends it at once. It is given up after the shortest of idle_timeout_ms,
 * head_timeout_ms, read_timeout_ms and request_timeout_ms; all but the first bound a handler's
 * first read, too. Under WEIR_THREAD and WEIR_FORK it has its thread or child all the same
 * (WEIR_FORK counts it as running), and under WEIR_SERIAL nobody else is served meanwhile. The
 * first request costs no further system call. Datagrams bring their input.
 *
 * goodbye: what a client is told, in the words of its protocol, that is turned away because there
 * is no room or no time for it (max_per_address, max_queued, queue_target_ms; no memory, thread or
 * child for it when it was accepted). None of the three functions is called; what the client has
 * sent is thrown away, the goodbye is sent if the socket takes it at once, and the connection is
 * closed. What the client sends afterwards is answered by a reset, which may cost it the goodbye:
 * nobody waits for it. Whom access or verify_request refuse is told nothing.
 *
 * Without client_first, setup and handle are called as soon as the connection is accepted. From
 * then on it is the handler's: a drain waits for it as long as it reads, even if its client never
 * says a byte. A server that speaks first does so in its first call of handle(), and returns
 * WEIR_KEEP.
 */
struct weir_handler {
    const char *name WEIR_0;                     /* for messages; required */
    int (*setup)(struct weir_request *req) WEIR_0;      /* may be NULL */
    int (*handle)(struct weir_request *req) WEIR_0;     /* required */
    int (*finish)(struct weir_request *req, int status) WEIR_0; /* may be NULL */
    const char *(*check)(const struct weir_handler *handler) WEIR_0; /* may be NULL */
    size_t state_size WEIR_0;                    /* bytes of zeroed state per connection */
    const void *data WEIR_0;                     /* yours: weir_handler_data() */
    enum weir_stack stack WEIR_0;
    weir_default_no client_first WEIR_0;         /* not called before there is input */
    const void *goodbye WEIR_0;                  /* for clients that are turned away; may be NULL */
    size_t goodbye_len WEIR_0;                   /* bytes of it */
    uint8_t reserved[16] WEIR_0;                 /* 0: room for what a later version can do */
};

/* ------------------------------------------------------------------ addresses --------- */

/*
 * For a timeout: it never passes. For max_per_address: any number of connections; or half of the
 * places that there are (max_connections; of WEIR_FORK, children), whereby connections of this
 * machine's loopback addresses are not counted.
 */
#define WEIR_FOREVER UINT32_MAX
#define WEIR_ANY_NUMBER UINT32_MAX
#define WEIR_HALF (UINT32_MAX - 1)

/*
 * One address to listen on, the handler that serves it, and what else is its own. Addresses are
 * URIs:
 *
 *   tcp://127.0.0.1:8080   tcp://[::1]:0   tcp://:9999   port 0: the kernel chooses one; no host:
 *                          every address of the machine, of IPv4 and IPv6; weir_server_address
 *                          and `weir serve` then write the host as [::]
 *   tcp://localhost:http   a name: each of the addresses it has on this machine, by one port.
 *                          localhost is 127.0.0.1 and [::1], whatever the resolver says (RFC 6761)
 *   unix:///run/x.sock     a path; %20 is a space, and so on
 *   unix:@abstract         an abstract name: see unix(7)
 *   udp://...  unixgram:///run/x.sock  unixgram:@abstract   the same, of datagrams
 *   fd://3                 an inherited descriptor: a stream socket that listens, or a UDP or Unix
 *                          datagram socket that is bound
 *   fd://3,4               several: of a name's addresses, or of the acceptors of another server.
 *                          Of sockets of one address, each acceptor has its share
 *
 * Who may connect to a Unix path is for its permissions to say (unix_mode, unix_owner). An abstract
 * name has none: every process of the network namespace may connect, and may have taken the name
 * before us; access rules say who is served.
 *
 * The fields below the handler mean what they mean in struct weir_options, and hold for what comes
 * in by this address. 0 or NULL: the server's option holds. So a listener says WEIR_FOREVER for no
 * timeout, and WEIR_ANY_NUMBER for no limit of max_per_address; the server's options take these,
 * too.
 *
 * access             These rules replace the server's for this listener; weir_server_set_access
 *                    does not change them. "default allow" lets everybody in.
 * max_connections    The listener has this many places of its own, and never more connections: they
 *                    do not count among the server's, so an administrator gets in while the server
 *                    is full. The server's
 *                    max_connections is lowered to what the soft limit of descriptors leaves, when
 *                    the sockets have been bound, beside the places of all listeners, and what is
 *                    open or needed for serving then; if it leaves nothing, weir_server_create (or
 *                    weir_server_bind) returns -EMFILE. Files that the program opens later are not
 *                    counted. Under WEIR_FORK the listener has this many children besides
 *                    max_children; all of them are WEIR_MAX_CHILDREN at most.
 * max_per_address    The listener counts its connections only, and nobody else counts them.
 *
 * user               is yours, and only handed on: weir_listener_user()
 * taken_over         of an fd://: whoever had the socket has handed it on to this server, and does
 *                    not keep it. See weir_server_hand_on
 */
struct weir_listen {
    const char *address WEIR_0;
    const struct weir_handler *handler WEIR_0;   /* NULL: options.handler */
    const char *access WEIR_0;
    uint32_t max_connections WEIR_0;
    uint32_t max_per_address WEIR_0;
    uint32_t backlog WEIR_0;
    uint32_t read_timeout_ms WEIR_0;
    uint32_t write_timeout_ms WEIR_0;
    uint32_t idle_timeout_ms WEIR_0;
    uint32_t request_timeout_ms WEIR_0;
    enum weir_choice disable_nagle_algorithm WEIR_0;
    void *user WEIR_0;
    uint32_t head_timeout_ms WEIR_0;
    uint32_t progress_timeout_ms WEIR_0;
    weir_default_no taken_over WEIR_0;
    uint32_t reserved WEIR_0;
};

/* ------------------------------------------------------------------ who runs them ----- */

/*
 * Who runs the handlers. The same handler runs under each; they differ in what it costs to wait.
 *
 * WEIR_POOL     A fixed pool of `workers` runs them on fibers: waiting parks.
 * WEIR_SERIAL   socketserver without a mix-in: the thread that accepts serves each connection to
 *               its end, one after another. While it serves one, it does nothing else: shutdown and
 *               service_actions wait. A stop ends a connection that is kept; drain_timeout_ms after
 *               the stop was seen, every wait of the handler is cancelled.
 * WEIR_THREAD   ThreadingMixIn: a thread for each connection, as many as there are.
 * WEIR_FORK     ForkingMixIn: a child process for each connection, max_children at a time. While
 *               max_children run, nobody is accepted; all else goes on.
 * WEIR_PREFORK  `processes` children that all accept from the same listeners, each with a pool of
 *               its own. A handler that crashes takes no more than its process with it, and another
 *               process takes that one's place.
 *
 * Under WEIR_SERIAL, _THREAD and _FORK a handler runs on a thread's own stack, and waiting blocks
 * that thread. There weir_offload runs its function at once, on the same thread; weir_yield only
 * looks for a cancel; and workers, worker_cpus, stack_size, dispatch, stall_warn_ms and
 * offload_threads mean nothing. Everything else holds: timeouts, WEIR_KEEP, the close policy,
 * cancel.
 *
 * WEIR_FORK, the children: weir_serve_forever, weir_handle_request or weir_submit_fd forks each,
 * on its own thread. A child closes the listeners and inherits everything else, the signal mask and
 * signal handlers too. It ends with _exit(2): 0, or 1 if handle_error was told of something;
 * neither atexit(3) functions nor stdio's buffers are run. What its handler changes in memory, that
 * child alone sees. If a child dies, handle_error is told -ECHILD in the parent. The server reaps
 * all its children, and no other process: while it serves, in weir_handle_request and in
 * weir_server_close. A program may ignore SIGCHLD or reap them itself; then nobody knows how one
 * ended. If no descriptor is left for a child, clients wait. weir_server_stop and
 * weir_server_cancel in a child reach the parent and all children; a child learns of a drain or a
 * cancel whenever it waits. Children that a server leaves behind (daemon_threads) go on even if the
 * program ends.
 *
 * WEIR_PREFORK, the children: weir_serve_forever or weir_server_start forks them, and serving
 * begins when the first one accepts; if none can, its error is returned. One that ends is replaced:
 * at once, or, if it lived for less than a second, after a pause that grows from 0.1 to 5 seconds;
 * and handle_error is told. A child inherits what one of WEIR_FORK does, and is a server of a pool:
 * the struct weir_server stands for that one there. Hooks run in it, except service_actions, which
 * is the parent's. max_connections, max_per_address and workers are each child's. weir_server_stop
 * and weir_server_cancel in a child reach the parent and all children. After a shutdown, children
 * close what is idle and end when their handlers have returned; the next serving has new ones.
 * (Shutdown waits 2 seconds for a child that a signal has stopped.) New access rules do the same to
 * the children that serve; so as long as clients of each stay connected, each set of rules has its
 * children. When the parent ends, in whatever way, its children stop accepting, are cancelled, and
 * end a second later at most. The parent accepts nobody: weir_handle_request, weir_server_fileno
 * and weir_submit_fd are refused there (-EOPNOTSUPP). Other servers of the program stay in the
 * parent: a child has none of their threads.
 *
 * Forks beside other threads: a child has only the thread that forked. In it the engine's own locks
 * are free and none of its threads are missed, and glibc makes malloc, stdio and new threads safe.
 * A program with threads of its own has to see to its own locks (pthread_atfork(3)), or leave alone
 * in handlers what other threads lock.
 */
enum weir_concurrency {
    WEIR_POOL = 0,
    WEIR_SERIAL = 1,
    WEIR_THREAD = 2,
    WEIR_FORK = 3,
    WEIR_PREFORK = 4,
};

/* Who notices that a connection of the pool has more input. */
enum weir_dispatch {
    WEIR_DISPATCH_WORKER = 0,   /* the worker that ran it: it waits in that worker's epoll set */
    WEIR_DISPATCH_ACCEPTOR = 1, /* the acceptor, which queues it for whichever worker is free */
};

/* What happens while max_queued connections wait for a worker. */
enum weir_when_queued {
    WEIR_PAUSE = 0,             /* accepting pauses: further clients wait in the backlog */
    WEIR_REFUSE = 1,            /* further clients are told goodbye: see struct weir_handler */
};

/* ------------------------------------------------------------------ hooks ------------- */

/*
 * What hooks are shown. The library fills these structures in, and later versions may add fields at
 * their ends. They are valid during the call.
 */

/* Who wants to connect: for verify_request. */
struct weir_peer {
    const struct sockaddr *address;
    socklen_t address_len;
    int fd;                                      /* the accepted socket, still the server's */
    const char *listen;                          /* the address it came in on, as a URI */
    void *listener_user;                         /* as weir_listener_user gives it */
    uint32_t listener_number;                    /* as weir_listener_number gives it */
};

/* Where something went wrong. */
enum weir_phase {
    WEIR_PHASE_VERIFY = 0,
    WEIR_PHASE_SETUP = 1,
    WEIR_PHASE_HANDLE = 2,
    WEIR_PHASE_FINISH = 3,
    /*
     * Before any of them. The client was refused, since no stack or memory could be had (-ENOMEM),
     * or for weir_handle_request no thread or child (-EAGAIN). While WEIR_THREAD or WEIR_FORK
     * serves and can have none, clients wait, and only a line on standard error says so.
     * Or a child has died: -ECHILD, or under WEIR_PREFORK the reason why it could not serve. The
     * parent's handle_error is told; under WEIR_PREFORK peer and handler are "" then.
     */
    WEIR_PHASE_PROCESS = 4,
};

/* What went wrong with one connection or datagram: for handle_error. */
struct weir_failure {
    enum weir_phase phase;
    int error;                                   /* negative errno */
    const char *peer;                            /* "127.0.0.1:51234", as text */
    const char *handler;                         /* the handler's name */
    struct weir_request *req;                    /* NULL: it has none yet, or none any more */
    const char *hint;                            /* what to do about it, if the error is weir's own
                                                    finding; which timeout has passed; or what
                                                    weir_report or weir_fail was given: a
                                                    sentence without its full stop; NULL: there
                                                    is nothing to add */
};

/* ------------------------------------------------------------------ options ----------- */

/* For wbufsize: nothing is gathered. */
#define WEIR_UNBUFFERED SIZE_MAX

/* The most that these options may be, and the least that a stack may be. */
#define WEIR_MAX_WORKERS 256
#define WEIR_MAX_PROCESSES 256
#define WEIR_MAX_CHILDREN 4096
#define WEIR_MAX_ACCEPTORS 64
#define WEIR_MAX_OFFLOAD_THREADS 4096
#define WEIR_MIN_STACK_SIZE (16 << 10)
#define WEIR_MAX_STACK_SIZE (256 << 20)
#define WEIR_MAX_BUFSIZE (1 << 30)
#define WEIR_MAX_PACKET_SIZE (1 << 20)
#define WEIR_MAX_MULTICAST_TTL 255

/*
 * Everything a server can be told. Handlers must outlive it, and `user` is only handed on; other
 * strings and arrays are copied, and may go once weir_server_create has returned.
 *
 *   C          weir_server_create(&server, WEIR_OPTIONS(.listen = "tcp://:9999", .handler = &h))
 *   C++20      the same, with the fields in the order that they have here
 *   any C++    weir_options options{};           which sets the sizes; then
 *              options.listen = "tcp://:9999";   and so on: weir_server_create(&server, &options)
 *
 * The two sizes say with which version of the structures a program was compiled: later versions add
 * fields at the ends of weir_options and weir_listen. So initialize structures by field names, or
 * by empty braces in C++, and not by position.
 */
struct weir_options {
    size_t size WEIR_SIZE_OF(struct weir_options);
    size_t listener_size WEIR_SIZE_OF(struct weir_listen);  /* of each of the listeners */

    /* What is served: one address, or several listeners. */
    const char *listen WEIR_0;
    const struct weir_handler *handler WEIR_0;
    const struct weir_listen *listeners WEIR_0;
    size_t listeners_len WEIR_0;
    void *user WEIR_0;                      /* yours: weir_user(), weir_server_user() */

    /*
     * Hooks, after socketserver's methods of the same names. NULL is the default.
     *
     * verify_request   returns 1: serve, 0: refuse, negative: refuse and tell handle_error. Runs on
     *                  an acceptor's thread; for datagrams, and in a rush of connections, on
     *                  workers' threads, several at a time. Must not block.
     * handle_error     by default writes a line to standard error; but not for the -ECANCELED of
     *                  weir_server_cancel or a close, nor for a client that reset its connection or
     *                  left before its answer, which is counted in weir_stats.resets. Runs where
     *                  the error happened: if it blocks, as printing may, it holds up that thread.
     * service_actions  is called every poll_interval_ms, on the first acceptor's thread; never by
     *                  weir_handle_request.
     * handle_timeout   is weir_handle_request's: no client came within timeout_ms.
     *                  weir_serve_forever ignores both, as Python's does.
     */
    int (*verify_request)(struct weir_server *server, const struct weir_peer *peer) WEIR_0;
    void (*handle_error)(struct weir_server *server, const struct weir_failure *failure) WEIR_0;
    void (*service_actions)(struct weir_server *server) WEIR_0;
    void (*handle_timeout)(struct weir_server *server) WEIR_0;
    uint32_t poll_interval_ms WEIR_0;       /* 0: 500 */
    uint32_t timeout_ms WEIR_0;             /* 0: for ever */

    /* Who runs the handlers: see there. */
    enum weir_concurrency concurrency WEIR_0;
    enum weir_dispatch dispatch WEIR_0;
    uint32_t workers WEIR_0;                /* threads of the pool; 0: one per CPU that this process
                                               may use. Of each child of WEIR_PREFORK; 0: its share
                                               of the CPUs */
    uint32_t processes WEIR_0;              /* children of WEIR_PREFORK; 0: one per CPU */
    uint32_t max_children WEIR_0;           /* of WEIR_FORK at once, at most; 0: 40 */
    uint32_t acceptors WEIR_0;              /* threads that accept; 0: 1. With more, each has TCP
                                               listeners of its own, by SO_REUSEPORT: socket(7) */
    const char *worker_cpus WEIR_0;         /* "0,2-3": worker i is bound to the i-th of these, in
                                               turn */
    size_t stack_size WEIR_0;               /* of a fiber; 0: 64 KiB. See stacks */
    uint32_t stall_warn_ms WEIR_0;          /* a line tells of a handler that holds its worker for
                                               longer; 0: never (with WEIR_CHECK=1: a second) */

    /* How many at once, and who. verify_request may refuse more. See struct weir_listen as well. */
    uint32_t max_connections WEIR_0;        /* With this many open, accepting pauses, and idle
                                               connections make room: see WEIR_KEEP. 0: as many as
                                               RLIMIT_NOFILE allows; before Linux 6.13, where a
                                               stack takes two mappings, also as vm.max_map_count
                                               allows. Never more than the hard limit of
                                               descriptors allows when the server is created. It is
                                               never exceeded, however many threads let clients in
                                               */
    uint32_t max_per_address WEIR_0;        /* connections of one IPv4 or IPv6 address; 0: any
                                               number; WEIR_HALF: half of the places */
    uint32_t backlog WEIR_0;                /* listen(2)'s; 0: SOMAXCONN */
    const char *access WEIR_0;              /* rules: see who may connect; NULL: everybody may */

    /* Buffers. A handler holds them while it runs or waits, and a kept connection holds none. */
    size_t rbufsize WEIR_0;                 /* for reading; 0: 8 KiB */
    size_t wbufsize WEIR_0;                 /* for writing; 0: 8 KiB; WEIR_UNBUFFERED: none */

    /*
     * Timeouts. None is set by default, for only the program knows how long things may take; and a
     * client that reads nothing may then hold its handler, and weir_server_close, for ever. A
     * program that serves strangers sets idle_timeout_ms, request_timeout_ms and drain_timeout_ms,
     * which `weir serve` sets to 75 seconds, an hour and 5 seconds; and two that are further below,
     * head_timeout_ms and progress_timeout_ms: 30 and 60 seconds.
     *
     * What had come in time is taken even if a busy machine, or a handler that holds its worker,
     * lets us look only later.
     *
     * Each listener may have others: see struct weir_listen; and each request: weir_set_timeout.
     */
    uint32_t read_timeout_ms WEIR_0;        /* of the wait for each arrival, in a read */
    uint32_t write_timeout_ms WEIR_0;       /* of one write or flush in total: see writing */
    uint32_t idle_timeout_ms WEIR_0;        /* of a kept connection without input, which is closed
                                               then */
    uint32_t request_timeout_ms WEIR_0;     /* of one call of handle(), and of sending what it
                                               wrote, in total. While max_connections are open and
                                               others wait, a client that keeps its handler waiting
                                               has a second: see WEIR_KEEP */

    /* The end: see weir_server_close. */
    uint32_t drain_timeout_ms WEIR_0;       /* it waits so long for handlers, then cancels them; 0:
                                               for ever */
    enum weir_choice block_on_close WEIR_0; /* default yes */
    weir_default_no daemon_threads WEIR_0;

    /* Sockets. */
    weir_default_no defer WEIR_0;           /* create opens none: see weir_server_bind */
    weir_default_no reuse_address WEIR_0;   /* SO_REUSEADDR: bind a TCP port whose old connections
                                               are in TIME_WAIT; share a UDP port */
    weir_default_no reuse_port WEIR_0;      /* SO_REUSEPORT: several servers on one port */
    weir_default_no disable_nagle_algorithm WEIR_0; /* TCP_NODELAY on every connection: tcp(7) */

    /* Unix paths, set before anybody can connect. To connect takes the right to write. A mode or an
     * owner without any such path is refused. */
    uint32_t unix_mode WEIR_0;              /* permissions, such as 0660; 0: 0777 less the umask */
    const char *unix_owner WEIR_0;          /* "USER", "USER:GROUP" or ":GROUP", names or numbers */
    weir_default_no keep_path WEIR_0;       /* the path stays when the server closes, as Python's
                                               does */

    /* Datagrams: see there. */
    weir_default_no reply_always WEIR_0;    /* reply even if nothing was written, or it failed */
    size_t max_packet_size WEIR_0;          /* a longer one is cut: weir_truncated; 0: 8 KiB */

    /*
     * A group of multicast (ip(7), ipv6(7)), and perhaps an interface, by its name or its IPv4
     * address; without one, routes decide: "224.3.29.71", "224.3.29.71%eth0",
     * "224.3.29.71%192.0.2.1", "ff15::1%eth0".
     *
     * Each UDP listener joins it that can hear it: one that is bound to the group, or to every
     * address of the group's family. (Of several acceptors the first one joins, so that a datagram
     * comes once.) These listeners then no longer receive groups that only other programs on this
     * machine have joined. If each has set reuse_address, several servers share a port, and what is
     * sent to the group comes to all of them.
     *
     * ttl and loop are for what the server's UDP sockets send to any group, by that interface.
     */
    const char *multicast WEIR_0;
    uint32_t multicast_ttl WEIR_0;          /* hops; 0: 1, no further than this network */
    enum weir_choice multicast_loop WEIR_0; /* default yes: receivers on this machine get it, too */

    /*
     * When more come than can be served: docs/operations.md. Of WEIR_POOL, and each child of
     * WEIR_PREFORK; beyond these nobody waits for a worker, and to set them is refused.
     *
     * queue_target_ms   how long a new connection may wait for a worker. If all that had their
     *                   first turn within three times that were late, those that have waited for
     *                   twice as long are told goodbye instead, until one is in time again. But
     *                   not the last that waits, nor a client that is to speak first and has not.
     *                   It is no finer than the kernel's clock tick, some milliseconds.
     * max_queued        how many ready connections may wait for a worker, kept ones that have
     *                   input again included; when_queued is what happens to further clients.
     *                   weir_submit_fd and weir_handle_request don't pause.
     */
    uint32_t queue_target_ms WEIR_0;        /* 0: any time */
    uint32_t max_queued WEIR_0;             /* 0: as many as may be open */
    enum weir_when_queued when_queued WEIR_0;

    /*
     * Two more timeouts, of how long a client is waited for. They are for clients that send or take
     * a byte now and then, which read_timeout_ms and write_timeout_ms are not: see weir_end_head.
     */
    uint32_t head_timeout_ms WEIR_0;        /* of the head of a request: until weir_end_head */
    uint32_t progress_timeout_ms WEIR_0;    /* each 64 KiB of a body or a reply move in this time.
                                               A reply that does not is cut off: the client finds
                                               its end behind what the kernel has, or, if it had
                                               sent more than was read, a reset */

    uint32_t offload_threads WEIR_0;        /* for weir_offload, at most; of each child of
                                               WEIR_PREFORK; 0: 64 */
};

/*
 * WEIR_OPTIONS is a pointer to options with these fields set and the others 0. In C they live as
 * long as the block that they are in; in C++ until the end of the full expression.
 */
#ifndef __cplusplus
#define WEIR_OPTIONS(...) (&(const struct weir_options){ \
        .size = sizeof(struct weir_options), .listener_size = sizeof(struct weir_listen), \
        __VA_ARGS__ })
#elif !defined(__cpp_designated_initializers)
#define WEIR_OPTIONS(...) \
    ([]() -> const struct weir_options * { \
        static_assert(sizeof(::weir_options) == 0, "WEIR_OPTIONS needs C++20, for its designated " \
                      "initializers. Before C++20: weir_options options{}; options.listen = ...; " \
                      "weir_server_create(&server, &options);"); \
        return nullptr; \
    }())
#else
#define WEIR_OPTIONS(...) weir_options_pointer(::weir_options{ __VA_ARGS__ })
static inline const struct weir_options *weir_options_pointer(const struct weir_options &&options)
{
    return &options;
}
#endif

/* ------------------------------------------------------------------ make and serve ---- */

/*
 * What a server has to say goes to standard error, in lines that begin with "weir: ". Nobody waits
 * for them: a thread that is made for the first line writes them. Lines are left out where standard
 * error has no room, and beyond a few a second of a kind, child processes included; a later line
 * says how many. weir_server_destroy and exit(3) wait a second at most for what is not written yet.
 */

/* What a line is about. Later versions may tell of more. */
enum weir_log_kind {
    WEIR_LOG_FAILURE = 0,   /* a request has failed, and handle_error is the default one */
    WEIR_LOG_STALL = 1,     /* a handler holds its worker: see stall_warn_ms */
    WEIR_LOG_CHILD = 2,     /* a child process has ended before its time, or can't be had */
    WEIR_LOG_SHORTAGE = 3,  /* descriptors, memory, threads or processes are wanted */
    WEIR_LOG_FULL = 4,      /* max_connections are open, and somebody waits */
    WEIR_LOG_LEFT_OUT = 5,  /* how many lines have been left out */
    WEIR_LOG_OVERLOAD = 6,  /* clients are turned away that have waited too long: queue_target_ms */
};

/*
 * One line. The library fills it in, and later versions may add fields at its end. It is valid
 * during the call.
 */
struct weir_log_line {
    const char *text;       /* as it would be written, "weir: ...", but without an end of line */
    size_t len;             /* of the text, which is terminated besides */
    enum weir_log_kind kind;
};

/*
 * weir_set_log has lines given to a function instead of standard error; NULL: to standard error
 * again. It is the process's, as standard error is, and for the lines of all servers. All are
 * warnings, so there is no level. The limits above hold for it, too.
 *
 * One thread calls the function, that writes otherwise: never two at once, and never a worker or an
 * acceptor, so it may block; while it does, at most 32 lines wait, and further ones are left
 * out. It may make any call but weir_server_destroy, also this one. It is not called any more once
 * exit(3) has run its functions; nor, if its calls return within a second, after the last server
 * was destroyed.
 *
 * Children have it, too, and call it on threads of their own; one of WEIR_FORK on its handler's.
 * But if the parent was calling it at the fork, the child might wait for ever for a lock that the
 * function had taken: such a child writes to standard error. So does a process that can't have
 * another thread. And the last words of a program that weir ends always go there: about a stack
 * that is too small, a call on a request that is not the caller's, or a fault of weir's own.
 *
 * When weir_set_log returns, the function before is not called any more: a call that was under way
 * has returned.
 * Threads: any, before there is a server, too; not signal handlers. Parks: no.
 */
void weir_set_log(void (*log)(void *arg, const struct weir_log_line *line), void *arg);

/*
 * weir_server_create checks the options, binds and listens (unless defer is set), as the
 * constructor of socketserver.TCPServer does. Nothing runs yet, and there is no thread; clients
 * that connect wait in the backlog. The descriptors that it and the server open are numbered above
 * the standard streams, even where the program was started without these.
 *
 * Owns: the server is the caller's, until weir_server_destroy.
 * Threads: any. Parks: no; but a name is looked up by getaddrinfo(3), which may block.
 * Returns 0, or a negative errno with a sentence in weir_why(): -EINVAL an option, handler or
 * address is wrong; -E2BIG an option is set that this version does not know, or a name has too many
 * addresses; -ENOENT, -EAGAIN and -EIO a name can't be looked up; -EADDRINUSE and other errors of
 * bind(2) and listen(2), and for a Unix path of chmod(2) and chown(2); -ENODEV there is no such
 * interface for multicast, or no route to the group; -EMFILE, -ENOMEM; -ENOSYS or -EPERM there is
 * no pidfd_open(2) for WEIR_PREFORK, or a sandbox forbids a system call.
 */
int weir_server_create(struct weir_server **ret_server, const struct weir_options *options);

/*
 * weir_why is a sentence about the calling thread's last failed call that takes a server, or of
 * weir_connect, weir_access_parse and weir_access_read: it names the option or address, and what to
 * change. Owns: it is valid until the thread's next such call, which in a pool may be another
 * handler's: a handler reads it before its next call that parks. Threads: any. Parks: no.
 */
const char *weir_why(void);

/*
 * Two steps of weir_server_create that come later if `defer` is set (Python's
 * bind_and_activate=False), in this order and before serving.
 *
 * weir_server_bind binds every address: ports are ours, and weir_server_address tells them. No
 * client can connect yet, except to an inherited fd://, which listens already; datagrams wait from
 * here on. If one address can't be bound, none is, and it may be tried again; an inherited fd://
 * that had been taken over is closed then. As long as nobody listens on a Unix path of streams,
 * another server may take the path; weir_server_activate tells of that.
 * weir_server_activate listens: clients wait in the backlog. If it fails the server is still bound,
 * and it may be tried again.
 *
 * Threads: any, while no other thread makes a call on the server but weir_server_stop and
 * weir_server_cancel. Parks: no; bind looks names up as create does.
 * Both return 0, or a negative errno with a sentence in weir_why(): what create returns for
 * addresses; -EALREADY it has been done, by create if `defer` is not set; -EINVAL activate before
 * bind; -EBADF the server is closed; -ESRCH it is another process's (see weir_server_destroy).
 */
int weir_server_bind(struct weir_server *server);
int weir_server_activate(struct weir_server *server);

/*
 * weir_serve_forever makes the calling thread the (first) acceptor, and returns when the server has
 * been shut down. Like Python's, it returns while handlers may still run: weir_server_close waits
 * for them. It may be called again after a shutdown.
 *
 * weir_server_start does the same on a thread of its own, and returns once that accepts.
 *
 * Threads: any but a handler of the server. Parks: no; weir_serve_forever blocks.
 * Both return 0, or a negative errno with a sentence in weir_why(), and then nothing was served:
 * -EBUSY it serves already, or a thread is in weir_handle_request; -EBADF it is closed; -EINVAL it
 * does not listen yet (see weir_server_bind); -EDEADLK from a handler; -ESRCH it is another
 * process's (see weir_server_destroy); -EAGAIN, -EMFILE, -ENOMEM threads, processes, descriptors or
 * memory can't be had, or no descriptor for a single client; -ECHILD the children of WEIR_PREFORK
 * end before they accept.
 */
int weir_serve_forever(struct weir_server *server);
int weir_server_start(struct weir_server *server);

/* ------------------------------------------------------------------ one client at a time */

/*
 * weir_handle_request serves one client, without weir_serve_forever. It waits for one to come,
 * timeout_ms at most, accepts it, gives it to the pool (which it starts, the first time), to a
 * thread or to a child, and does not wait for the handler; under WEIR_SERIAL it serves the client
 * to its end. A client that was accepted while the server served, and could have no thread or child
 * yet, is the first. As Python's does, it ignores shutdown and stop and calls no service_actions.
 * While max_connections are open it waits for one of them to end, within the same time.
 *
 * What an acceptor does besides, it does only during the call: it ends connections that have been
 * idle for idle_timeout_ms, moves connections away from workers that are stuck, and tells of
 * stalls. verify_request and handle_timeout run on the calling thread; handle_timeout may make any
 * call.
 *
 * Threads: any but a handler of the server, one at a time. weir_server_close is refused meanwhile
 * (-EBUSY). Parks: no, it blocks.
 * Returns 1 after a client, also after one that was refused by verify_request or since it could
 * have no thread or child. 0 when none came within timeout_ms and handle_timeout has been called:
 * never earlier, and signals don't shorten the wait. Or a negative errno with a sentence in
 * weir_why(): -EBUSY it serves, or another thread is in this call; -EINVAL it does not listen yet
 * (Python raises an OSError); -EBADF it is closed; -EDEADLK from a handler; -EOPNOTSUPP it is
 * WEIR_PREFORK; -ESRCH it is another process's; -EAGAIN the pool can't start; and accept(2)'s
 * -EMFILE, -ENFILE and -ENOMEM, after which the client still waits.
 */
int weir_handle_request(struct weir_server *server);

/*
 * weir_server_fileno gives a descriptor that is readable while a client waits to be accepted. Then
 * weir_handle_request does not wait for one, unless max_connections are open. So one thread serves
 * several servers from a poll(2) loop of its own. It is the same at every call.
 *
 * Owns: it is the server's, is for nothing but to be polled, and is valid until
 * weir_server_destroy. That of a closed server is never readable.
 * Threads: any. Parks: no. Returns it, or a negative errno with a sentence in weir_why(): -EINVAL
 * the server does not listen yet; -EBADF it is closed; -EOPNOTSUPP it is WEIR_PREFORK; -ESRCH it is
 * another process's; and the errors of epoll_create1(2).
 */
int weir_server_fileno(struct weir_server *server);

/*
 * weir_submit_fd serves a connected stream socket that you have, an end of a socketpair(2) or one
 * that you accepted yourself, as if the server had accepted it: it is counted, timeouts and
 * max_connections hold for it, the server's and no listener's, and the close policy is for it, too.
 * But access, max_per_address and verify_request are not asked. handler NULL is options.handler;
 * the handler must outlive the server.
 *
 * A pool is started if it does not run yet. It needs no acceptor to serve, only for what
 * weir_handle_request says that an acceptor does besides. WEIR_THREAD starts a thread for the
 * connection. WEIR_FORK forks, on the calling thread and its stack. WEIR_SERIAL serves it to its
 * end before this returns; if it is serving another one, this waits for its turn. A stop ends it
 * as it ends what the server has accepted: always if a client waits behind it for a turn. If none
 * does, weir_server_shutdown does not wait for it, and it may go on. If a handler of another server
 * has submitted it to a server that is WEIR_SERIAL, that handler waits for its end. So it also
 * obeys what is ordered there: it is not kept once that server drains, and a cancel of that server
 * cancels it; a stop is no order to it, unless that server is WEIR_SERIAL, too. A thread, a child
 * or a pool that has got it obeys its own server alone.
 *
 * Owns: after a success the descriptor is the server's, which makes it non-blocking and
 * close-on-exec, and closes it when its handler is done. After a failure it is still yours (its
 * flags may have been set).
 * Threads: any, handlers and hooks too; before the server serves, while it does, and after. But a
 * handler of WEIR_SERIAL or WEIR_FORK may submit to other servers only (-EDEADLK): not to its own,
 * nor to one that waits for its own, as when two serial servers submit to each other. The same goes
 * for the handlers of what it has submitted, which run on its thread. A child of WEIR_FORK may
 * submit only to a server that is WEIR_SERIAL and that its parent is not serving (-ESRCH).
 * Parks: no. Returns 0, or a negative errno with a sentence in weir_why(): -EBADF; -ENOTSOCK;
 * -EPROTOTYPE it is no stream socket; -ENOTCONN it has no peer; -EBUSY the server has it already;
 * -EAGAIN max_connections or max_children are open (or a thread that accepts has the last place,
 * for a client that may be coming), or no thread or child could be had; -ENOBUFS max_queued wait,
 * and when_queued is WEIR_REFUSE; -ESHUTDOWN the server is closed; -EINVAL the handler is wrong;
 * -EOPNOTSUPP it is WEIR_PREFORK; -EDEADLK, -ESRCH see above; -ENOMEM.
 */
int weir_submit_fd(struct weir_server *server, int fd, const struct weir_handler *handler);

/*
 * weir_submit is weir_submit_fd with something for the handler: weir_arg() gives it in each call of
 * setup, handle and finish.
 *
 * Owns: arg is yours, and only handed on. No call may come of a success, so none is the one that
 * frees it without fail: a client that is to speak first (client_first) may leave without a word,
 * be turned away (queue_target_ms), or find no memory. In a child of WEIR_FORK it points into that
 * child's copy of the memory.
 * Threads, parks and returns: as weir_submit_fd.
 */
int weir_submit(struct weir_server *server, int fd, const struct weir_handler *handler, void *arg);

/* ------------------------------------------------------------------ timers ------------ */

/*
 * A timer calls fn(req, arg) on a fiber of the pool: once, when ms have passed, or every ms, the
 * first time when ms have passed. There is no thread for it, and it is never early. Calls of one
 * timer never overlap: those that fall due while one is under way, or while its worker is held, are
 * left out. Each timer has one of the workers, in turn; a handler that holds that one holds up its
 * timers, too.
 *
 * req has no client. So what reads or writes it returns -ENOTCONN, and weir_request_fd -1; but fn
 * may make every other call that a handler may, and parks in those that park: weir_sleep,
 * weir_poll, weir_offload, weir_connect, those of weir_sync.h. What it has opened is hung up when
 * it returns. An error is told by weir_report. No timeout of the server's bounds a call, unless
 * weir_set_timeout sets one.
 *
 * The first timer starts the pool, as weir_submit_fd does; whether the server serves does not
 * matter, and weir_server_shutdown leaves timers alone. Once weir_server_close has begun no call
 * begins any more, and one that is under way is waited for, and cancelled, as a handler is; after
 * weir_server_cancel there are no calls either. A timer is no connection: it is not counted in
 * weir_stats, takes no place of max_connections, and is not in weir_server_dump. It takes a fiber,
 * with its stack: some 5 KiB.
 *
 * weir_timer_cancel ends it: no call begins any more. -EBUSY says that one is under way, so that
 * arg is needed until that has returned; fn itself may cancel its own timer, and gets this. In a
 * process that has only a copy of the server (see weir_server_destroy) it does nothing.
 *
 * Owns: with a ret_timer, which is set before the first call of fn, the timer is the caller's until
 * weir_timer_cancel, which frees it, also one that has made its only call; it is called once, and
 * before weir_server_destroy, which frees the rest. With NULL it is the server's alone. arg is
 * yours.
 * Threads: any, handlers, hooks and timers too; not signal handlers. Parks: no. weir_timer_cancel
 * returns 0 or -EBUSY. The others return 0, or a negative errno with a sentence in weir_why():
 * -EINVAL no fn, or an ms of 0 for weir_timer_every; -EOPNOTSUPP the server has no fibers, since it
 * is neither WEIR_POOL nor a child of WEIR_PREFORK (service_actions is for these); -ESHUTDOWN the
 * server is closed, or closes; -ESRCH it is another process's (see weir_server_destroy); -EAGAIN
 * the pool can't start; -ENOMEM. If there is no memory for its fiber, handle_error is told -ENOMEM
 * in WEIR_PHASE_PROCESS, and it makes no call.
 */
struct weir_timer;
int weir_timer_after(struct weir_server *server, uint32_t ms,
                     void (*fn)(struct weir_request *req, void *arg), void *arg,
                     struct weir_timer **ret_timer);
int weir_timer_every(struct weir_server *server, uint32_t ms,
                     void (*fn)(struct weir_request *req, void *arg), void *arg,
                     struct weir_timer **ret_timer);
int weir_timer_cancel(struct weir_timer *timer);

/* ------------------------------------------------------------------ stop and close ---- */

/*
 * weir_server_shutdown ends serving, and waits until the acceptor has left its loop, even if
 * serving begins again at once. Handlers go on, and listeners stay bound. If serving has not begun,
 * the next weir_serve_forever returns at once.
 *
 * Threads: any but a handler or hook of the server; weir_server_stop is for these. Parks: no, it
 * blocks. Returns 0, or -EDEADLK with a sentence in weir_why().
 */
int weir_server_shutdown(struct weir_server *server);

/*
 * weir_server_stop asks for a shutdown, and does not wait for it.
 * Threads: any, handlers and hooks; signal handlers. Parks: no.
 */
void weir_server_stop(struct weir_server *server);

/*
 * weir_server_cancel makes every call that a handler waits in return -ECANCELED, and from now on
 * every call that would have to wait: it is for a server that is about to end. Does not wait.
 * Threads: any, handlers and hooks; signal handlers. Parks: no.
 */
void weir_server_cancel(struct weir_server *server);

/*
 * A restart that refuses nobody: another process, the successor, is given the sockets that listen,
 * and serves them before this server stops. So at every moment somebody accepts.
 *
 *   1  weir_server_listen_fd gives the descriptors. The program passes them on: to what it starts
 *      by posix_spawn(3) (they are close-on-exec), or by SCM_RIGHTS (unix(7)).
 *   2  The successor names them as fd:// addresses, with taken_over, and serves.
 *   3  When it has said so, weir_server_hand_on notes it here; weir_server_stop and
 *      weir_server_close follow. A successor that fails has changed nothing.
 *      (handlers/examples/successor.c is a program that does so.)
 *
 * weir_server_listen_fd gives the i-th socket, streams' and datagrams', of all acceptors: each has
 * clients in a backlog of its own, so a successor needs all of them. *ret_number is which of
 * options.listeners it is of: those of one number belong into one fd:// address.
 * Owns: it stays the server's.
 * Threads: any, while no other thread is in weir_server_bind or weir_server_close. Parks: no.
 * Returns it; -ERANGE there is no i-th one; or -EBADF the server has closed it.
 *
 * weir_server_hand_on says that other processes serve the sockets, too. Then weir_server_close
 *   - leaves Unix paths, and clients that wait to be accepted, to these;
 *   - takes a second to take leave, if it is to wait for handlers: weir_draining is true, but
 *     connections are kept. Whoever has been accepted, or answered, within the last second may have
 *     a request under way, and is answered; connections that have been idle for longer end at once,
 *     the others after that second. It is part of drain_timeout_ms.
 * It is not taken back, also where the server serves again: so call it once the successor has said
 * that it serves, and not before. Only a server that has not served yet is the one for sockets that
 * were taken_over once it begins to, whatever was said before.
 * An inherited fd:// is served elsewhere from the start: by whoever has passed it, now or later (a
 * service manager that keeps it). One that was taken_over is the successor's alone once that has
 * begun to serve: then it removes a Unix path at its end, if it still leads to the file that was
 * there when the server was created. Where that is another server's by then, leave taken_over out.
 * Without a pool (WEIR_SERIAL, WEIR_THREAD, WEIR_FORK) nobody looks how long a connection has been
 * idle, and all of them have that second. A serial server takes it before weir_server_shutdown
 * returns, for the one client that it serves, accepted or submitted (weir_submit_fd), and then for
 * one that waits behind that.
 *
 * Threads: any, handlers and hooks; not signal handlers. Parks: no. Returns 0, or a negative errno
 * with a sentence in weir_why(): -EINVAL it does not listen yet; -EBADF it is closed; -ESRCH it is
 * another process's (see weir_server_destroy).
 */
int weir_server_listen_fd(struct weir_server *server, size_t i, uint32_t *ret_number);
int weir_server_hand_on(struct weir_server *server);

/*
 * weir_server_close closes the listeners, as socketserver's server_close does, and treats the
 * connections by the close policy:
 *
 *   daemon_threads  block_on_close   idle connections are closed, and ...
 *   false           yes (default)    it waits until queued and running handlers have returned;
 *                                    after drain_timeout_ms it cancels them, and still waits
 *   true            any              it cancels handlers and returns at once: the calls that they
 *                                    wait in return -ECANCELED, and finish() is called; one that
 *                                    computes is left to itself
 *   false           no               it returns at once; weir_server_destroy waits
 *
 * Clients that have connected and said something, and wait to be accepted, are accepted first, or
 * the close would reset them; if the server has served, is WEIR_POOL or WEIR_THREAD, has room, and
 * is without daemon_threads. Where other processes serve the socket, too (weir_server_hand_on), all
 * who wait are left to these. Elsewhere the others that wait are reset, and so is one that connects
 * or speaks just as its listener is closed. Whoever was accepted before the close is served,
 * however shortly before it was. But with client_first, unless the server takes leave, only a
 * request that has arrived is served: a client that sends its first one a moment later finds the
 * connection closed, as a client does that asks again on a connection that is idle.
 *
 * While a server drains it still answers the requests of a kept connection that have arrived: those
 * that it has read, and of the others as many as a read buffer (rbufsize) takes, which ends at
 * descriptors that were sent along by a Unix socket. It waits for the rest of one that breaks off
 * there, and then closes the connection, whatever else its client sends. A handler may end it
 * earlier, as HTTP's does with the first reply that says so.
 *
 * Children that were cancelled while this waits, by it or by weir_server_cancel, and have not ended
 * 2 seconds later, because they block, loop or are stopped, are killed, with a line each on
 * standard error. daemon_threads leaves them alone.
 *
 * If a thread waits in here already, a second one hurries it: what still waits is cancelled, and
 * the second call returns. After it all, to close once more does nothing.
 *
 * Threads: any but a handler of the server, and what it has offloaded. Parks: no, it blocks.
 * Returns 0, or a negative errno with a sentence in weir_why(): -EDEADLK from one of these; -EBUSY
 * the server serves, or a thread is in weir_handle_request.
 */
int weir_server_close(struct weir_server *server);

/*
 * weir_server_destroy shuts the server down, closes it, waits for every handler, joins the threads,
 * and frees everything. Daemon handlers it does not wait for: the server goes with the last of
 * them. NULL is fine. At the end of main() it waits for non-daemon handlers, as Python does when it
 * exits. A program that ends without it waits for nobody: handlers on its threads end with it, and
 * those in children of WEIR_FORK go on, as Python's do.
 *
 * Threads: any but a handler or hook of the server, and what it has offloaded; no other thread
 * may be using the server. Parks: no, it blocks.
 * Returns 0, or a negative errno with a sentence in weir_why(), and nothing has been done: -EDEADLK
 * from one of these (so atexit(3) functions that destroy do no harm if a handler calls exit(3));
 * -EBUSY a thread is in weir_handle_request or weir_server_close.
 *
 * Forks of the program's own: it may fork whenever it likes, and each process has the server then.
 * The server belongs to the process that first serves it, or binds it. In any other one it has no
 * threads: to serve it, submit to it or change its rules is refused (-ESRCH), and to close or
 * destroy it gives up that process's copy and nothing else; connections, clients that wait and Unix
 * paths are left alone. No call on a copy waits for what other threads were doing at the fork. As
 * long as nobody has served it: to destroy it leaves it to other processes if there was a fork
 * since it was created, and weir_server_shutdown is for this process's next serving. But
 * weir_server_stop and weir_server_cancel reach the server from any process.
 */
int weir_server_destroy(struct weir_server *server);

/* ------------------------------------------------------------------ facts of a server - */

/*
 * weir_server_address writes the i-th listening address as a URI into buf, always terminated, with
 * a port of 0 resolved. They are in the order of the listeners; if a name has several addresses,
 * these follow one another. WEIR_ADDRESS_SIZE is enough for any.
 *
 * Threads: any. Parks: no. Returns its length; -ERANGE there is no i-th one, or it is not bound
 * yet; -ENOSPC buf is too small.
 */
#define WEIR_ADDRESS_SIZE 160
int weir_server_address(struct weir_server *server, size_t i, char *buf, size_t size);

/* weir_server_user is options.user. Threads: any. Parks: no. */
void *weir_server_user(struct weir_server *server);

/*
 * What a server has done and is doing. Each count is right, but they are read one after another.
 * Later versions may add counts at the end.
 */
struct weir_stats {
    uint64_t accepted;      /* connections taken from the kernel, or by weir_submit_fd */
    uint64_t refused;       /* by rules, verify_request, max_per_address; or because there was no
                               memory, or nobody to serve them */
    uint64_t handled;       /* calls of handle() that returned */
    uint64_t closed;        /* connections that have ended; one that waits for its peer to take
                               what it was sent counts already, and is still active */
    uint64_t active;        /* open now; = idle + parked + queued + running */
    uint64_t idle;          /* between two calls of handle(), or before the first one */
    uint64_t parked;        /* a handler waits for its client */
    uint64_t queued;        /* ready, and waiting for a worker */
    uint64_t running;       /* a handler works, sleeps, or waits for another stream; beyond
                               WEIR_POOL also those that wait for their client, and each child */
    uint64_t setup_errors, handle_errors, finish_errors, verify_errors;
    uint64_t timeouts;      /* read, write, head, progress, idle and request timeouts that passed */
    uint64_t cancelled;     /* handlers that failed by -ECANCELED, once the server had been
                               cancelled */
    uint64_t accept_errors; /* descriptors, memory or processes could not be had to serve */
    uint64_t bytes_in, bytes_out;
    uint64_t busy_ns;       /* the time that workers did not sleep, summed over all of them */
    uint64_t wakeups;       /* a worker slept, and another thread woke it */
    uint64_t rescued;       /* ready connections taken over from a worker that was stuck */
    uint64_t stalls;        /* handlers that held a worker longer than stall_warn_ms */
    uint64_t workers;       /* of the pool; beyond WEIR_POOL the threads or children that serve
                               now */
    uint64_t resets;        /* clients that reset their connection, or left before their answer */
    uint64_t no_memory;     /* connections and datagrams refused or ended for want of it */
    uint64_t full;          /* times that accepting paused because there was no room, and somebody
                               waited */
    uint64_t made_room;     /* connections that were ended because others waited */
    uint64_t truncated;     /* datagrams that were longer than max_packet_size, and cut */
    uint64_t shed;          /* of the refused, those that had waited longer than queue_target_ms
                               allows, or found max_queued before them */
    uint64_t offload_queued;    /* what handlers have offloaded, and no thread has taken yet */
    uint64_t offload_threads;   /* those that there are now: they come as they are needed, and one
                                   without a job ends after some seconds */
};

/*
 * weir_server_stats fills in size bytes: pass sizeof(struct weir_stats). A program that was
 * compiled with another version may know fewer counts than the library, or more, which are 0 then.
 * Under WEIR_PREFORK they are the sums of all children, for whose answers it waits a tenth of a
 * second at most; of a child that gives none, or has died, what it last said. In a child they are
 * its own.
 * For another process's server (see weir_server_destroy) they are what its acceptors and pool had
 * counted at the fork, and nothing is open or at work there.
 *
 * Threads: any. Parks: no. Returns 0.
 */
int weir_server_stats(struct weir_server *server, struct weir_stats *ret_stats, size_t size);

enum weir_stat_kind {
    WEIR_STAT_COUNTER = 0, /* what has happened since the start: it only grows */
    WEIR_STAT_GAUGE = 1,   /* how many there are now */
};

/* One member of struct weir_stats, for a program that shows all of them. */
struct weir_stat {
    const char *name;       /* "accepted" */
    const char *meaning;    /* in a few words, without a full stop */
    uint32_t offset;        /* of the uint64_t in struct weir_stats */
    enum weir_stat_kind kind;
};

/*
 * weir_stats_field gives the i-th member of struct weir_stats, or NULL behind the last. A library
 * that is newer than the program's header knows more of them: leave out those whose offset is not
 * below sizeof(struct weir_stats). Threads: any. Parks: no.
 */
const struct weir_stat *weir_stats_field(size_t i);

/*
 * weir_server_dump tells of the connections that there are at this moment, in lines for people and
 * scripts: how many; then how many of them wait for the same, by listener and handler; then a line
 * for each, `most` of them at most. Those come first that are not idle, and of these, as of the
 * idle ones, those that have waited longest. It costs the server a walk through its connections,
 * without a lock; nobody waits while lines are taken. The handler's name has the last place:
 *
 *   weir: dump connections=3 datagrams=0 silent_children=0 shown=3
 *   weir: dump count=2 state=idle waits=idle longest_ms=75200 listen=tcp://[::]:80 handler=upper
 *   weir: dump peer=127.0.0.1:51234 age_ms=80100 state=parked waits=read for_ms=1300 pid=7 fd=17
 *         listen=tcp://[::]:80 handler=upper                              (which is one line)
 *
 * age_ms is the time since the client was accepted, to a tenth of a second. state is as in struct
 * weir_stats. waits is what for:
 *
 *   idle             input, between two calls of handle() or before the first
 *   queue, turn      a worker: to be begun, or to go on, since what it waited for has come
 *   read, write      its client
 *   linger, greeting its client, after the last call of handle() or before the first
 *   read_opened, write_opened, connect    another server: see weir_connect
 *   poll, sleep, offload                  what weir_poll, weir_sleep and weir_offload wait for
 *   lock             another handler or thread: see weir_sync.h
 *   children                              what weir_spawn has begun, of a handler that has returned
 *                                         or is in weir_join. Of a handler with children its own
 *                                         fiber's wait is told
 *   nothing          it works
 *
 * for_ms is for how long; of a client that is too slow (see WEIR_KEEP) in all. at_most_ms stands in
 * its place where that is not known, since a handler's call and the queue begin without a note:
 * that long ago the connection was idle or was accepted. peer is "-" until a greeting has told it.
 * fd is -1 under WEIR_FORK, where children have it.
 * datagrams that are being served are only counted. Under WEIR_PREFORK all children are asked, for
 * whose answers it waits a tenth of a second, and each tells of 8,192 connections; those that have
 * not answered are silent. In a child it tells of that child alone; but in one of WEIR_FORK of the
 * other children that there were at its fork.
 *
 * line() is called on the calling thread; the text is terminated, and valid during the call.
 * Threads: any, but not signal handlers. Parks: no. Returns 0; or -ESRCH with a sentence in
 * weir_why(): the server is another process's (see weir_server_destroy).
 */
int weir_server_dump(struct weir_server *server, size_t most,
                     void (*line)(void *arg, const char *text, size_t len), void *arg);

/* ------------------------------------------------------------------ who may connect --- */

/*
 * Access rules, one in a line. '#' begins a comment, and lines may be empty.
 *
 *   allow 10.0.0.0/8         deny 2001:db8::/32      a network, or a single address
 *   allow uid 1000           deny gid 100            a Unix peer (SO_PEERCRED: unix(7)), by number
 *   default allow            default deny            for everybody without a rule; if there is no
 *                                                    such line: deny
 *
 * Their order does not matter. Of the networks that hold an address, the one with the longest
 * prefix decides. For a Unix peer the rule of its uid decides, else that of its primary gid. An
 * IPv4 address mapped into IPv6 (RFC 4291) counts as the IPv4 address, and ::/0 does not hold it.
 *
 * A new connection is checked in this order: rules, verify_request, max_per_address. If it is
 * refused, it is closed and counted in weir_stats.refused. For max_per_address it is told the
 * handler's goodbye before, else nothing.
 *
 * max_per_address counts the connections of whole addresses, from accept to close. A client that
 * ends its connection may be counted until the handler has noticed; one that sees the server end it
 * is not counted any more. Unix peers and streams of weir_connect are not counted.
 */

/*
 * weir_access_parse reads rules from a text, weir_access_read from a regular file below 32 MiB.
 * Owns: the rules are the caller's, until weir_server_set_access has taken them.
 * Threads: any. Parks: no; weir_access_read blocks as reading the file does. Returns 0, or a
 * negative errno with a sentence in weir_why(): -EINVAL a line is bad, and which one; -ENOMEM; for
 * a file also -EFBIG, and errors of open(2) and read(2).
 */
int weir_access_parse(const char *text, struct weir_access **ret_access);
int weir_access_read(const char *path, struct weir_access **ret_access);

/* weir_access_free frees rules that no server has taken. NULL is fine. Threads: any. Parks: no. */
void weir_access_free(struct weir_access *access);

/*
 * weir_server_set_access puts rules in force, in place of those before; NULL: everybody may
 * connect. Open connections stay. Acceptors never wait for it: they see the old rules or the new
 * ones, whole, and whoever is accepted after its return is checked by the new ones. A listener that
 * has rules of its own keeps them. Under WEIR_PREFORK new children replace those that have the old
 * rules; until then a client may still meet one of the old children, which ends as after a
 * shutdown. In a child it is for that child alone.
 *
 * Owns: after a success the rules are the server's, which frees them.
 * Threads: any, handlers and hooks, several at once; not signal handlers. Parks: no. Returns 0, or
 * a negative errno with a sentence in weir_why(): -EBUSY these rules are a server's already; -ESRCH
 * the server is another process's (see weir_server_destroy).
 */
int weir_server_set_access(struct weir_server *server, struct weir_access *access);

/* ------------------------------------------------------------------ what parks -------- */

/*
 * While a call parks, other handlers run on its thread; afterwards the handler goes on, on the same
 * thread. (In a pool only, and not with WEIR_STACK_THREAD.) These calls may park: all reads and
 * writes, weir_flush, weir_sendfile, weir_end_output, weir_sleep, weir_yield, weir_poll,
 * weir_offload, weir_join, weir_connect and weir_hangup; of http.h and weir_sync.h those that say
 * so. So across such a call a program must not
 *
 *   hold a lock        of threads: a mutex, flockfile(3), a static local variable of C++ that is
 *                      being initialized, std::call_once. The next handler on that thread that
 *                      wants it waits for ever, and so does the one that has it. A recursive mutex
 *                      lets both in. Those of weir_sync.h are made to be held so.
 *   keep what is the   That is errno, a thread_local variable, the text of strerror(3) and
 *   thread's own       strtok(3)'s place in its text, the locale that uselocale(3) has set,
 *                      OpenSSL's queue of errors. Afterwards it is another handler's. Read errno
 *                      before the next call that parks. The next call of handle() may come on
 *                      another thread, so no address of such a variable belongs in weir_state().
 *
 * C++: a handler may park in a catch block, and in destructors while the stack unwinds. Exceptions
 * that it has thrown or caught stay its own, as those of threads do. (This is so for the one C++
 * library of the program, linked statically or not.) When weir_server_cancel ends a wait, the call
 * returns -ECANCELED: nothing is thrown. An exception must not leave a handler, a hook or a
 * function that weir_offload runs, for their caller is C: the program ends by std::terminate. Those
 * that weir.hpp makes handlers of may throw: it stands between.
 *
 * A request belongs to one handler and its children (weir_spawn) until that returns, WEIR_KEEP
 * included; and what weir_connect opened belongs to them until weir_hangup. Nobody else makes a
 * call on it: no other handler, no thread of your own, no function that weir_offload runs. To have
 * something written to another client, tell that one's handler, by an eventfd(2) that it has in its
 * weir_poll. Of a handler and its children, two are never in a read of one stream at once, nor in a
 * write.
 *
 * Nine calls only tell something that doesn't change: weir_state, weir_handler_data, weir_arg,
 * weir_user, weir_request_server, weir_request_fd, weir_worker_number, weir_listener_number and
 * weir_listener_user. The function that a handler has offloaded may make these, too, since the
 * handler waits for it.
 *
 * What is found: in a pool, whoever makes a call that has to wait on somebody else's request, which
 * would wreck the stack of a fiber, ends the program with a line; and so does who has to wait in a
 * read or write of a stream that another fiber of the handler waits in. With WEIR_CHECK=1 in the
 * environment, in whatever build,
 *   - every call by somebody else, and every call on a request that is over or NULL, ends the
 *     program with a line that names the call, the handler and the rule;
 *   - what a handler does to others ends the program with a line, when its turn is over: it has
 *     closed its client's descriptor, or made it blocking; has written behind weir_state()'s bytes,
 *     or above its stack; or has left signals of its thread blocked or unblocked. The bytes that a
 *     read gave are overwritten with 0xa5, so that a pointer that was kept is noticed;
 *   - waits for locks of weir_sync.h that wait for each other end it with a line that names each
 *     lock, who waits for it, and who has it;
 *   - weir looks at its own state around each such call, and when a server is freed;
 *   - a line tells of a handler that has held its worker for a second (stall_warn_ms), and whether
 *     it waits in futex(2), as a thread does that waits for a lock. Nobody can tell which handler
 *     has the lock, for the C library does not say which ones a thread holds.
 * The memory of a request that is over becomes no other one's before 65,536 more have ended. A weir
 * that was built without NDEBUG looks for the calls always, but keeps no memory for that. What is
 * not found: a request that is over and whose memory is a new one's by now; what a handler kept of
 * its thread's own; and outside of the pool a call by an offloaded function, which runs on the
 * handler's own thread.
 */

/* ------------------------------------------------------------------ stacks ------------ */

/*
 * A handler of a pool runs on a fiber's stack of stack_size bytes, rounded up to pages. Only pages
 * that it touches take memory; a large stack_size costs address space. weir's own calls need some
 * KiB of it, getaddrinfo(3) and printf(3) of floating point numbers 10 or so, std::regex any
 * amount.
 *
 * Below each stack lie 256 KiB that can't be touched: a handler that needs more than it has ends
 * the program with a line that names it. This finds deep recursion in any case. But a function
 * whose local variables are larger than that, say char text[1 << 20], may jump over it into the
 * stack of another handler, unless it is compiled with -fstack-clash-protection. weir.pc asks for
 * that; if you do not use it, ask for it yourself.
 *
 * valgrind knows of these stacks if its header (Debian's package valgrind) was there when weir was
 * built: memcheck can be used on a program with weir in it.
 */

/* ------------------------------------------------------------------ signals ----------- */

/*
 * Signals are the program's. While a server serves, weir handles SIGSEGV, to say which handler's
 * stack was too small, and passes every other fault on to whoever handled it before. It handles
 * SIGBUS, SIGILL, SIGFPE and SIGABRT, too, where the program hasn't handled or ignored them when
 * serving begins. It changes no signal mask.
 *
 * If nobody handles one of these five, and a thread of weir's raises it by what it does (an
 * instruction, abort(3), raise(3)), lines on standard error tell of it before the process ends by
 * it, core file and all:
 *
 *   weir: SIGSEGV at address 0x8 in handler 'upper', which serves 127.0.0.1:51234
 *   weir:   #0 0x55d0c3a1b2c4 program+0x1b2c4
 *
 * with 48 frames at most, for "addr2line -fie program 0x1b2c4". Threads of weir's are those that
 * handlers, what they offload, and hooks run on; the one that is in weir_serve_forever; and those
 * of its children. Who is at no client's service is told of by what it does, "in the thread that
 * accepts".
 *
 * If the program handles it, nothing is said: the program has the context to say it. What the
 * kernel does not blame a thread for (kill(2)), and what crashes on threads of the program's own,
 * ends the process without a word, as it would without weir. So does a stack that was too small
 * other than a fiber's.
 *
 * With stall_warn_ms a line tells of a handler that holds its worker, whom it serves and where:
 *
 *   weir: handler 'upper' has held worker 0 for 127.0.0.1:51234, in clock_nanosleep(2) at
 *         libc.so.6+0xcc2a9 program+0x1b2c4, for 1000 ms without waiting: ...       (in one line)
 *
 * A worker that is in a system call is left alone, and the places are the return addresses that
 * lie on its stack: the callers, and perhaps what earlier calls have left. One that computes is
 * asked by SIGURG, which is handled while a server with stall_warn_ms serves, unless the program
 * handles or ignores it. So a handler's own system calls are not cut short (EINTR), but for one
 * that it begins within the microseconds between the look and the signal, and SA_RESTART has most
 * of these go on.
 *
 * Its threads, on which handlers, hooks and weir_offload's functions run, have the signal mask of
 * the thread that first called weir_serve_forever, weir_server_start, weir_handle_request or
 * weir_submit_fd; only faults, SIGSEGV and the like, are never blocked on them. So programs that a
 * handler starts, by posix_spawn(3), fork(2), popen(3) or system(3), begin with the mask that the
 * program had. And what you wait for with sigwait(3) or signalfd(2) has to be blocked before
 * serving begins, as with any threads.
 *
 * What isn't blocked may interrupt any thread, also a handler on its fiber. Linux asks the main
 * thread first, if that one does not block the signal. A signal handler that needs more than some
 * KiB of stack sets SA_ONSTACK: workers have an alternate stack, of 64 KiB.
 *
 * No call of weir's raises SIGPIPE. What a handler itself writes to pipes and sockets of its own
 * does, as anywhere in C: use signal(SIGPIPE, SIG_IGN), or send(2) with MSG_NOSIGNAL.
 */

/* ------------------------------------------------------------------ reading ----------- */

/*
 * rfile, after StreamRequestHandler's. The calls that read park until there is something to return.
 * Before they wait they flush what was written, so that no client waits for an answer that is still
 * in our buffer; if that fails they return its error, as weir_flush does.
 *
 * Besides what each says, they return -ETIMEDOUT (read_timeout_ms, head_timeout_ms,
 * progress_timeout_ms or request_timeout_ms have passed; every later read returns it, too),
 * -ECANCELED (weir_server_cancel), -ECONNRESET and other
 * errors of recv(2), and -ENOMEM.
 */

/*
 * weir_readline gives the next line with its '\n': at most limit bytes of it, and the rest with the
 * next call; at end of file what there is. *ret_line points into the buffer: it is not terminated.
 * Owns: it may be changed in place, and is valid until the next read. Parks.
 * Returns its length, 0 at end of file, or -EINVAL for a limit of 0.
 */
ssize_t weir_readline(struct weir_request *req, char **ret_line, size_t limit);

/* weir_read reads what has arrived, 1 to len bytes. Parks. Returns how many; 0 at end of file. */
ssize_t weir_read(struct weir_request *req, void *buf, size_t len);

/* weir_read_exact reads len bytes. Parks. Returns how many: fewer only at end of file. */
ssize_t weir_read_exact(struct weir_request *req, void *buf, size_t len);

/*
 * weir_peek gives all that is buffered, once that is at least min bytes or the file ends: it may be
 * more than min, or less at end of file. With a min of 0 it does not wait. *ret_data points into
 * the buffer. weir_consume moves on, behind len bytes of it.
 *
 * min may be more than rbufsize. Then the buffer grows as bytes arrive, to min or beyond, with no
 * limit but memory (-ENOMEM): where a peer says how much it will send, check that first. The cost
 * is in proportion to the bytes, even if you ask for one more again and again; a buffer of rbufsize
 * that has room for all is cheaper still, by a copy.
 *
 * Owns: the bytes are valid until the next read, also after weir_consume. Parks, weir_consume
 * never. Returns how many bytes are buffered.
 */
ssize_t weir_peek(struct weir_request *req, char **ret_data, size_t min);
void weir_consume(struct weir_request *req, size_t len);

/* ------------------------------------------------------------------ writing ----------- */

/*
 * wfile. Writes are gathered in the buffer. It is sent when it is full, before the handler waits
 * for input, when handle() has returned and no more input is at hand, and by weir_flush. The calls
 * park while the peer does not take what is sent; and while it takes everything, other handlers
 * have their turn now and then.
 *
 * Each returns the number of bytes it was given, all of them (weir_flush: 0), or -ETIMEDOUT
 * (write_timeout_ms in total, progress_timeout_ms or request_timeout_ms), -ECANCELED, -EPIPE,
 * -ECONNRESET and other errors of send(2), -ENOMEM, -EINVAL (more than SSIZE_MAX bytes, or a format
 * that can't be printed). There is no SIGPIPE. After an error of the connection every later write
 * returns it.
 *
 * If a peer has gone, or does not take in time what was written for it, handle_error is told only
 * if handle() returns the error; a timeout is counted in any case. If write_timeout_ms passed while
 * the process was stopped, or its worker was held, so that we saw its end 100 ms late or more, a
 * peer that takes more then has that time anew.
 */
ssize_t weir_write(struct weir_request *req, const void *buf, size_t len);
ssize_t weir_writev(struct weir_request *req, const struct iovec *iov, int iov_len);
ssize_t weir_printf(struct weir_request *req, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
ssize_t weir_vprintf(struct weir_request *req, const char *format, va_list args);
int weir_flush(struct weir_request *req);

/*
 * weir_try_write writes as weir_write does, but only as much as goes without a wait: into the
 * buffer, and where that has no room, what is gathered and then buf to the socket (256 KiB at a
 * time). It is for a handler that must not be held up by a peer that does not read, since it has
 * others to serve. Who has to wait after all does so in weir_poll, for POLLOUT of weir_request_fd:
 * that goes on sending what is gathered meanwhile, which a read's wait, weir_flush and the end of
 * handle() do, too, and may park for.
 *
 * Parks: no, nor does it give way to other handlers: weir_yield does. Returns how many bytes it has
 * taken, from the beginning of buf: these are written. 0 only for a len of 0; -EAGAIN nothing goes
 * now; or the errors of weir_write, but no timeout. The reply to a datagram takes all.
 */
ssize_t weir_try_write(struct weir_request *req, const void *buf, size_t len);

/*
 * weir_sendfile sends len bytes of a file from offset, behind what was written before. Where the
 * file system and the kernel know how (sendfile(2)), they do not pass through user space; else they
 * are copied. The file stays yours, and so does its own offset.
 *
 * Parks. Returns the bytes sent: fewer than len only if the file ends first, for example because it
 * was truncated meanwhile. Besides the errors of weir_write there are those of reading the file
 * (pread(2): -EBADF, -EIO; -ESPIPE a pipe or socket, which has no offset) and -ENOMEM, after which
 * writing goes on behind what has been sent; and -EOPNOTSUPP for a datagram.
 */
ssize_t weir_sendfile(struct weir_request *req, int file_fd, off_t offset, size_t len);

/*
 * weir_end_output flushes what was written, and then tells the peer that no more comes (FIN): its
 * reads find the end of file, while reads of req go on as before. Whatever is written afterwards
 * can't be sent: -EPIPE, which is not counted in weir_stats.resets. It is for a protocol in which
 * the end of one direction says something; the end of a handler does all this by itself.
 *
 * Parks as weir_flush does. Returns 0, also when called again; the errors of weir_write;
 * -ENOTCONN the peer has reset the connection; or -EOPNOTSUPP for a datagram, whose socket is the
 * server's: its reply is sent as always.
 */
int weir_end_output(struct weir_request *req);

/*
 * weir_end_input says that nothing more is read: what is buffered is thrown away, and every later
 * read returns 0, as at the end of file. Writes go on as before. A peer on a Unix socket that sends
 * more is told (EPIPE). TCP has no word for it: the peer's kernel sends until the socket's buffer
 * is full, and what has come is thrown away at the end, as with weir_linger. There will be no
 * further request, so WEIR_KEEP means 0 afterwards.
 *
 * Parks: no. Returns 0, also when called again, or when the peer has ended its side itself; or
 * -EOPNOTSUPP for a datagram.
 */
int weir_end_input(struct weir_request *req);

/*
 * weir_linger says that the peer may still be sending what no handler will read: the body of a
 * request that is refused, for example. A close would answer these bytes by a reset, and the peer
 * might lose the answer. So when the connection ends, what comes is thrown away (see struct
 * weir_handler) even if nothing has come yet: until the peer ends, too, for 2 seconds and 64 MiB
 * at most. Timeouts of the server do not matter then, nor does the connection count for
 * max_per_address any more. Of a datagram, or of what weir_connect has opened, it changes nothing.
 * Parks: no.
 */
void weir_linger(struct weir_request *req);

/* ------------------------------------------------------------------ the request ------- */

/*
 * The addresses of both ends. The local one of a datagram is that which it was sent to, and that
 * the reply comes from, also where the server listens on every address; if it was sent to a group
 * or to all, it is the interface's, where that is known.
 * Parks: no. Return 0, or the error of getpeername(2) or getsockname(2).
 */
int weir_peer_address(struct weir_request *req, struct sockaddr_storage *ret, socklen_t *ret_len);
int weir_local_address(struct weir_request *req, struct sockaddr_storage *ret, socklen_t *ret_len);

/*
 * weir_peer_text writes the peer as text, "127.0.0.1:51234" or "unix:", into buf, always
 * terminated; WEIR_ADDRESS_SIZE is enough. Parks: no. Returns buf.
 */
const char *weir_peer_text(struct weir_request *req, char *buf, size_t size);

/*
 * weir_truncated says whether a datagram was longer than max_packet_size, so that its rest is lost.
 * Nothing else tells, but weir_stats.truncated. Parks: no.
 */
bool weir_truncated(struct weir_request *req);

/*
 * weir_report tells handle_error of an error, a negative errno, in WEIR_PHASE_HANDLE, with a hint:
 * a sentence without its full stop, or NULL. The request goes on: this is for what the log should
 * have, but the client should not pay for, and for an error with more to say than an errno. A
 * handler that then ends for that error calls weir_fail instead: what it returns is told by itself.
 * Owns: the hint is needed until handle_error has returned. Parks: no.
 */
void weir_report(struct weir_request *req, int error, const char *hint);

/*
 * weir_fail ends a setup, handle or finish with an error and a hint:
 *
 *     return weir_fail(req, -ENOSPC, "there is no room for notes");
 *
 * It tells handle_error at once, in the phase of the function that is running, and that function's
 * negative errno is then not told a second time. All else is as after any error: finish() is given
 * what handle() returned, and a datagram that failed is not answered.
 * Owns: the hint is needed until handle_error has returned. Parks: no. Returns error.
 */
int weir_fail(struct weir_request *req, int error, const char *hint);

/*
 * weir_end_head says that the head of the request has been read: what says how the rest of it is to
 * be taken, or all of a small one. Two timeouts go by it, of which neither minds how many bytes a
 * client sends at a time:
 *
 *   head_timeout_ms       all that setup() or this call of handle() waits for input before, from
 *                         its first wait on: that is when the first byte has come (client_first, or
 *                         a kept connection) or the connection was accepted. A handler that never
 *                         says it has nothing but heads
 *   progress_timeout_ms   all that it waits for input afterwards, and for the client to take what
 *                         was written, before and afterwards. It is a least rate, of 64 KiB in that
 *                         time: each wait uses it up, and what moves gives it back in proportion,
 *                         up to all of it. So a client that is faster is waited for as long as that
 *                         takes, a slower one is not; and one may pause for that time. What our
 *                         kernel holds has not moved. While the handler itself keeps the client
 *                         waiting, nothing passes
 *
 * Both begin anew with each call of handle(), and a read or write whose time is over returns
 * -ETIMEDOUT. A head's end is as good as the end of a request, so that a handler whose requests
 * have no more than a line or a head need not say it: as it reads nothing behind. Of what
 * weir_connect has opened it changes nothing, and neither timeout is asked for there, nor in
 * weir_poll.
 * Parks: no.
 */
void weir_end_head(struct weir_request *req);

/*
 * weir_set_timeout changes a timeout of its own request: a handler that knows what a client may ask
 * for gives a long upload the time that it needs, and a login less than the listener allows.
 *
 *   WEIR_TIMEOUT_READ      read_timeout_ms of the reads that follow
 *   WEIR_TIMEOUT_WRITE     write_timeout_ms of the writes and flushes that follow. A datagram's
 *                          reply keeps the listener's
 *   WEIR_TIMEOUT_REQUEST   request_timeout_ms: this call of setup(), handle() or finish(), with the
 *                          sending of what it writes, has ms more from now on. It bounds sleeps,
 *                          polls and the reads and writes of all streams, too
 *   WEIR_TIMEOUT_HEAD      head_timeout_ms: the head has ms more from now on
 *   WEIR_TIMEOUT_PROGRESS  progress_timeout_ms, which begins anew
 *   WEIR_TIMEOUT_IDLE      idle_timeout_ms of the connection, from now until it ends: in seconds,
 *                          rounded up; and more than 65,534 of them are WEIR_FOREVER. It is looked
 *                          at once a second
 *
 * ms is at least 1, or WEIR_FOREVER. But for _IDLE it holds until handle() is called next; that
 * call has the listener's timeouts again. WEIR_TIMEOUT_READ and _WRITE of what weir_connect opened
 * are that stream's own, until it is hung up; the others are always those of the request that
 * opened it. What has failed with -ETIMEDOUT stays failed.
 *
 * Parks: no. Returns 0; or -EINVAL: no such timeout, or an ms of 0.
 */
enum weir_timeout {
    WEIR_TIMEOUT_READ = 0,
    WEIR_TIMEOUT_WRITE = 1,
    WEIR_TIMEOUT_REQUEST = 2,
    WEIR_TIMEOUT_HEAD = 3,
    WEIR_TIMEOUT_PROGRESS = 4,
    WEIR_TIMEOUT_IDLE = 5,
};
int weir_set_timeout(struct weir_request *req, enum weir_timeout which, uint32_t ms);

/* weir_draining says whether the server is closing, and nothing will be kept. Parks: no. */
bool weir_draining(struct weir_request *req);

/*
 * What doesn't change. Of what weir_connect opened, weir_request_fd is its own socket, and all else
 * is the handler's. Threads: the handler's, and what it has offloaded. Parks: no.
 *
 *   weir_state           state_size bytes, zeroed when the connection begins; NULL if there are
 *                        none. Owns: they are the connection's, and stay until finish() has
 *                        returned
 *   weir_handler_data    the handler's data
 *   weir_arg             what weir_submit was given for it; NULL of all others
 *   weir_user            options.user
 *   weir_request_server  the server
 *   weir_request_fd      the socket: do not close it. That of a datagram is the server's, and
 *                        everybody's: do not shut it down either
 *   weir_worker_number   which worker, thread or child runs the handler: 0 and up
 *   weir_listener_number by which of options.listeners its client came in: 0 and up, and 0 where
 *                        options.listen is the only one; WEIR_NO_LISTENER by weir_submit_fd. Of
 *                        what weir_connect opened: the number of the request that opened it
 *   weir_listener_user   that listener's user; NULL if it has none
 */
#define WEIR_NO_LISTENER UINT32_MAX
void *weir_state(struct weir_request *req);
const void *weir_handler_data(struct weir_request *req);
void *weir_arg(struct weir_request *req);
void *weir_user(struct weir_request *req);
struct weir_server *weir_request_server(struct weir_request *req);
int weir_request_fd(struct weir_request *req);
uint32_t weir_worker_number(struct weir_request *req);
uint32_t weir_listener_number(struct weir_request *req);
void *weir_listener_user(struct weir_request *req);

/* ------------------------------------------------------------------ waiting ----------- */

/*
 * weir_sleep parks for at least ms. It sends nothing: call weir_flush before it if the client is
 * to have what was written. Returns 0, -ECANCELED, or -ETIMEDOUT: request_timeout_ms has passed
 * before.
 */
int weir_sleep(struct weir_request *req, uint32_t ms);

/* weir_yield parks while the worker's other ready connections go first. Returns 0 or -ECANCELED. */
int weir_yield(struct weir_request *req);

/*
 * weir_poll is poll(2) for a fiber. events, revents, negative and closed descriptors, timeout_ms
 * (0: it does not wait, negative: for ever) and n (0: it only sleeps) mean what they mean there.
 * The descriptors may be any: sockets of your own, pipes, eventfds, weir_request_fd() of req and of
 * what weir_connect opened. They may differ from call to call, and stay the caller's.
 *
 * First it sends what was written to req and to all that weir_connect opened. If a peer has no room
 * for something it goes on sending that while it waits; some may be left when it returns. If
 * sending fails, the next write to that stream says so. poll(2) knows nothing of rfile's buffer:
 * ask weir_peek(req, &data, 0), which does not wait, for what was read from the socket and not
 * consumed, and wait only if that is nothing.
 *
 * A wait for a descriptor that some hundreds of fibers wait for at once may notice it 10 ms late.
 *
 * Parks, unless something is ready; with WEIR_STACK_THREAD it blocks. It takes one descriptor while
 * it waits. Returns how many entries have revents; 0 when timeout_ms has passed, never earlier
 * (signals don't shorten it); -ETIMEDOUT request_timeout_ms has passed (read_timeout_ms is not
 * asked for); -ECANCELED, -EMFILE, -ENOMEM, and other errors of poll(2) and epoll_ctl(2), such as
 * -ELOOP for an epoll descriptor with several levels of others in it.
 */
int weir_poll(struct weir_request *req, struct pollfd *fds, size_t n, int timeout_ms);

/*
 * weir_offload runs fn(arg) on a thread that may block, and parks until fn has returned: for
 * getaddrinfo(3), a database driver, a long computation. No timeout and no cancel cuts it short, so
 * that arg may be a local variable. Up to options.offload_threads run at once; more wait for their
 * turn: see weir_stats.offload_queued. Returns what fn returned; -EAGAIN no thread could be had.
 */
int weir_offload(struct weir_request *req, int (*fn)(void *arg), void *arg);

/* ------------------------------------------------------------------ children ---------- */

/*
 * weir_spawn runs fn(req, arg) on another fiber, of the same worker: a child of the handler, or of
 * the child that spawns it. It begins at once: weir_spawn returns when it first waits, or has
 * ended. All fibers of a handler take turns, and only calls that park give a turn away; so what
 * they share needs no lock, unless it has to stay as it is across such a call.
 *
 *   Streams    Each of them may make every call on req, and on all that weir_connect has opened.
 *              While one is in a read, another may write to the same stream, and the other way
 *              round. Two in reads of one stream at once, or two in writes, is misuse (see what
 *              parks), and so is weir_hangup of a stream that another one is in. A read does not
 *              wait for what another fiber has gathered, but sends of it what goes. So who has
 *              written, and then returns or waits for anything but input of that stream, calls
 *              weir_flush
 *   The end    A child has ended when fn has returned and the children that it spawned have ended,
 *              too. handle() is over when all have, and so is finish(): arg may be a local variable
 *              of who spawns, if that joins it. If handle() or setup() returns a negative errno,
 *              the waits of its children are cancelled. Children of setup() end with that, or else
 *              with the first call of handle()
 *   Deadlines  request_timeout_ms and the server's cancel end the waits of all of them. From the
 *              first child on until handle() is over, head_timeout_ms and progress_timeout_ms are
 *              not asked for, and the request makes no room (see WEIR_KEEP)
 *
 * Only where handlers run on fibers: in a pool, and in the children of WEIR_PREFORK. Under
 * WEIR_SERIAL, _THREAD and _FORK, and with WEIR_STACK_THREAD, a wait holds its thread. There a
 * child would have to be a thread of its own, and all that handlers share with their thread
 * (buffers, counts, orders) would need locks, which handlers without children would pay for, too.
 *
 * Parks: no. Returns a number above 0, by which weir_join knows the child; -EOPNOTSUPP there are no
 * fibers; -ENOMEM no stack or memory; -EAGAIN 65,535 children have not been joined.
 */
int weir_spawn(struct weir_request *req, int (*fn)(struct weir_request *req, void *arg), void *arg);

/*
 * weir_join waits until a child has ended that the calling fiber has spawned, and forgets it. For
 * WEIR_ALL_CHILDREN it waits for all that this fiber has spawned and not joined. Nothing cuts it
 * short, but what ends the waits of the child does. Who is not joined is joined by the end of who
 * has spawned it, and its result is dropped.
 * Parks. Returns what fn returned; for all: 0, or the result of the one spawned first of those that
 * returned a negative number. -ESRCH it is no such child.
 */
#define WEIR_ALL_CHILDREN 0
int weir_join(struct weir_request *req, int child);

/*
 * weir_cancel_others ends the waits of all other fibers of the handler, its own included: those
 * that they are in return -ECANCELED, and so does each wait that they, or children that they spawn
 * then, begin later. So one that has failed ends all. Reads and writes that it has ended stay
 * failed, for whoever makes them. The caller goes on as before, and so does the handler's own fiber
 * with its next call of handle(). weir_join and weir_offload are not cut short. Parks: no.
 */
void weir_cancel_others(struct weir_request *req);

/* ------------------------------------------------------------------ other servers ----- */

/*
 * weir_connect opens a stream to another server, "tcp://host:port", "unix:///path" or "unix:@name",
 * and gives it as a request of its own: every call above works on it, and parks the same fiber. A
 * thread looks a name up, and each of its addresses is tried: up to 64 names at once, on threads
 * that weir_offload does not use. The stream has the timeouts of the listener that req has come in
 * by.
 *
 * timeout_ms bounds all of the connecting. 0 is read_timeout_ms; if that is none either, each
 * address has the kernel's patience, some two minutes.
 *
 * Owns: the stream is the handler's until weir_hangup, or until handle() returns, which hangs up.
 * Parks. Returns 0, or a negative errno with a sentence in weir_why(), which weir_report() may be
 * given: -ETIMEDOUT; -ECANCELED; -ECONNREFUSED and other errors of connect(2) and socket(2);
 * -EINVAL the address is no stream's or is wrong; -ENOENT, -EAGAIN and -EIO the name can't be
 * looked up; -ENOMEM.
 */
int weir_connect(struct weir_request *req, const char *address, uint32_t timeout_ms,
                 struct weir_request **ret_peer);

/*
 * weir_hangup closes what weir_connect opened, and nothing else. What was written and not sent yet
 * leaves first: a peer that takes nothing is given write_timeout_ms for that (0: five seconds), and
 * one from which a read has failed none. NULL is fine. Parks.
 */
void weir_hangup(struct weir_request *peer);

/* ------------------------------------------------------------------ datagrams --------- */

/*
 * Of udp:// and unixgram:// each datagram is a request of its own, after DatagramRequestHandler.
 * For each, setup, handle (for which WEIR_KEEP is 0) and finish run once, beside those of others.
 *
 * rfile is what has arrived; then the file ends. A read never waits. What is written is gathered,
 * and when the handler is done it becomes one datagram to the sender: weir_flush sends nothing, and
 * weir_sendfile and weir_end_output return -EOPNOTSUPP. A reply is sent if the handler has
 * succeeded and has written something. With reply_always one is sent in any case, empty if need be,
 * except after a failed setup.
 *
 * If a reply can't be sent, handle_error is told in WEIR_PHASE_FINISH: -EMSGSIZE it is too long
 * (65,507 bytes fit into one of IPv4, 65,527 of IPv6); -EDESTADDRREQ the sender is a Unix socket
 * without a name; -ECONNREFUSED or -ENOENT the sender has gone; -ETIMEDOUT its queue had no room
 * within write_timeout_ms (0: a second); and other errors of sendto(2). What Unix peers have not
 * read yet fills the socket's send buffer; when that is full, it is as if everybody's queue were.
 *
 * max_connections counts datagrams, too, until their reply has left. Beyond it they wait in the
 * socket's receive buffer, and the kernel drops those that don't fit. Access rules (for a Unix
 * sender by SCM_CREDENTIALS: unix(7)) and verify_request, on a worker's thread, are asked for each;
 * max_per_address does not count them. When the server has been closed, the socket is closed as
 * soon as no handler is left that may reply by it.
 */

#ifdef __cplusplus
}
#endif
#endif
