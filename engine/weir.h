/*
 * weir.h - the public face of weir, a thread-pool server engine.
 *
 * You write a blocking-style handler (weir_readline, weir_write, return). An acceptor thread
 * hands ready connections to a lock-free queue; a fixed pool of threads runs the handlers on
 * fibers, so that a client which stalls costs no thread.
 *
 * Conventions
 *   Errors   0 or a count on success, -errno on failure; a ret_ parameter is left alone then.
 *   Units    are in the names: _ms milliseconds, _size and len bytes.
 *   Parks    a call that "parks" gives its worker to other connections while it waits.
 *   Threads  a call on a request belongs to the handler that was given the request, and is made
 *            from that handler's own fiber; every other call names its threads. See what parks.
 *   Options  zero is always the default.
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
 * What these stand behind is 0, or the size of a type, in a structure of C++ that is written with
 * empty braces, as the rest of it is; designated initializers (C++20) leave it so, too. In C, and
 * in a C++11 that knows no such structure with braces round values, they are nothing.
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

/* ------------------------------------------------------------------ signals ----------- */

/*
 * Signals are the program's. Weir handles none but SIGSEGV, to say which handler's stack was too
 * small, and passes every other fault on to whoever handled it before; it changes no mask.
 *
 * Its threads, on which handlers, hooks and weir_offload's functions run, have the signal mask of
 * the thread that called weir_serve_forever or weir_server_start first (or weir_handle_request, or
 * weir_submit_fd); faults alone, SIGSEGV and the like, are never blocked on them. So programs that
 * a handler starts, by posix_spawn, fork, popen or system, begin with the mask that the program
 * had; and what you wait for with sigwait or signalfd has to be blocked before serving begins, as
 * with any threads.
 *
 * What isn't blocked may interrupt any thread, a handler on its fiber too: Linux asks the main
 * thread first, if it does not block the signal. A signal handler that needs more than some KiB of
 * stack sets SA_ONSTACK: workers have an alternate stack, of 64 KiB.
 *
 * No call of weir's raises SIGPIPE. What a handler writes itself to pipes and sockets of its own
 * does, as anywhere in C: signal(SIGPIPE, SIG_IGN), or send with MSG_NOSIGNAL.
 */

/* ------------------------------------------------------------------ stacks ------------ */

/*
 * A handler of a pool runs on a fiber's stack of stack_size bytes, rounded up to pages. Memory is
 * what it touches, so a large stack_size costs address space alone. weir's own calls need some KiB
 * of it, getaddrinfo and printf of floating point numbers 10 or so, std::regex any amount.
 *
 * Below each stack lie 256 KiB that can't be touched: a handler that needs more than it has ends
 * the program with a line that names it. So deep recursion is found in any case. But a function
 * with larger local variables than that, say char text[1 << 20], may touch those far below first,
 * which are another handler's, unless it is compiled with -fstack-clash-protection. weir.pc says
 * that; where you don't ask it, say so yourself.
 *
 * valgrind knows of these stacks if its header (Debian's package valgrind) was there when weir was
 * built: memcheck can be used on a program with weir in it.
 */

/* ------------------------------------------------------------------ what parks -------- */

/*
 * While a call parks, other handlers run on its thread; afterwards the handler goes on, on the same
 * thread. (Only in a pool, and not with WEIR_STACK_THREAD.) So a program must not, across such a
 * call,
 *
 *   hold a lock        a mutex, flockfile, a static local variable of C++ that is being
 *                      initialized, std::call_once: whoever wants it next on that thread waits for
 *                      ever, and so does the one that has it. A recursive mutex lets both in.
 *   keep what is the   errno, a thread_local variable, strerror's and strtok's text, the locale that
 *   thread's own       uselocale has set, OpenSSL's queue of errors: it is another handler's then.
 *                      Compilers may keep even the address of such a variable.
 *
 * C++: a handler may park in a catch block, and in destructors while the stack unwinds: exceptions
 * that it has thrown or caught stay its own, as those of threads do. (This is so for the one C++
 * library of the program, be it linked statically or not.) When weir_server_cancel ends a wait the
 * call returns -ECANCELED: nothing is thrown. An exception must not leave a handler, a hook or
 * weir_offload's function, for its caller is C: the program ends by std::terminate.
 *
 * A request belongs to one handler, until that returns (with WEIR_KEEP, too), and what weir_connect
 * opened until weir_hangup. Nobody else makes a call on it: no other handler, no thread of your own,
 * no function that weir_offload runs. To write to another client, tell its handler, by an eventfd
 * that it has in its weir_poll. What only tells something that doesn't change, weir_state,
 * weir_handler_data, weir_user, weir_request_server, weir_request_fd, weir_worker_number, an
 * offloaded function may ask as well: its handler waits for it. A call of somebody else's that has
 * to wait ends a pool's program with a line, where it would wreck the stack of a fiber.
 *
 * WEIR_CHECK=1 in the environment looks for more, in whatever build: each call of somebody else's,
 * and each on a request that is over or NULL, ends the program with a line that names the call, the
 * handler and the rule; and a handler that has held its worker for a second is told of
 * (stall_warn_ms), and that it waits for a lock, if it does. Who has that lock nobody can tell: the
 * C library does not say which ones a thread holds. A weir that was built without NDEBUG looks for
 * the calls always. What a handler kept of its thread's own, over a wait, nobody can find.
 */

/* ------------------------------------------------------------------ handlers ---------- */

enum {
    /*
     * handle() may return this: "call me again when more input arrives". Between the calls the
     * connection holds no fiber, no stack and no buffer. State from weir_state() stays.
     * While a server of a pool is full (max_connections) or short of descriptors or memory, and
     * others wait, connections that rest so, or whose client is to speak first and hasn't
     * (client_first) for a second, end to make room, the longest idle ones first; a request that has
     * just come is still served. (WEIR_SERIAL, _THREAD and _FORK end them after
     * idle_timeout_ms only.)
     */
    WEIR_KEEP = 1,
    /* handle() may return this: close the connection and shut the server down (SystemExit). */
    WEIR_STOP_SERVER = 2,
};

enum weir_stack {
    WEIR_STACK_FIBER = 0,   /* a fiber of stack_size bytes: waiting parks it */
    WEIR_STACK_THREAD = 1,  /* the worker's own stack: waiting blocks the worker */
};

/*
 * What is done for a connection, after StreamRequestHandler. The structure must outlive the server:
 * make it static. (A compound literal within the condition of an `if` ends with the `if`.)
 *
 * setup    once, first. Negative: handle_error is told, handle and finish are not called.
 * handle   until it returns something other than WEIR_KEEP. 0: done. Negative errno: handle_error
 *          is told. WEIR_STOP_SERVER: see there. Any other number is for finish to know the meaning
 *          of; without a finish it is a mistake, and handle_error is told -ERANGE. In any case what was written is flushed and the connection closed.
 *          What its peer sends and nobody has read costs the peer nothing of the answer: if there
 *          is input left, or much was answered (14 KiB and more, be it in calls before) and has not
 *          all reached the peer's kernel yet, our side alone is ended, and what comes is thrown
 *          away, until it has and the peer is quiet; for 2 seconds and 64 MiB at most. Not where
 *          that would hold up others, under WEIR_SERIAL and with WEIR_STACK_THREAD in the pool.
 * finish   once, if setup succeeded; status is what handle returned. A negative return is
 *          told to handle_error (in place of handle's, as in Python).
 *
 * check    asked by weir_server_create and weir_submit_fd, on the calling thread, whether `data` is
 *          such that it can serve: NULL it is, else a sentence that says what is wrong, which
 *          becomes part of weir_why()'s.
 *
 * client_first: the client speaks first, so that nothing is to be done before it has. Neither setup
 * nor handle is called before there is input, and none of the three for a client that ends without
 * a byte. Until then the connection is idle as one is between two calls of handle() (WEIR_KEEP): it
 * holds no fiber, no stack and no buffer, is counted as idle, and a drain ends it at once. It is
 * given up after the shortest of idle_timeout_ms, read_timeout_ms and request_timeout_ms: the latter
 * two bound a handler's first read, too. With WEIR_THREAD and WEIR_FORK it has its thread or child
 * all the same (which are counted as running in WEIR_FORK), and with WEIR_SERIAL nobody else is
 * served meanwhile. The first request costs no call of the kernel's more. Datagrams bring input.
 *
 * Without it they are called as soon as the connection is accepted, and from then on it is the
 * handler's: a drain waits for it as long as it reads, even if its client never says a byte. A
 * server that speaks first does so in its first call of handle(), and returns WEIR_KEEP.
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
    bool client_first WEIR_0;                    /* not called before there is input */
    uint8_t reserved[35] WEIR_0;                 /* 0: room for what a later version can do */
};

/* ------------------------------------------------------------------ options ----------- */

/*
 * One address to listen on, and the handler that serves it. Addresses are URIs:
 *   tcp://127.0.0.1:8080   tcp://[::1]:0   tcp://:9999 (every address)
 *   tcp://localhost:http   a name: each of its addresses that this machine has, by the same port.
 *                          localhost is 127.0.0.1 and [::1], whatever the resolver says
 *   unix:///run/x.sock     unix:@abstract
 *   udp://...  unixgram:///run/x.sock  unixgram:@abstract   the same, of datagrams
 *   fd://3 (an inherited descriptor: a stream socket that listens, or a UDP or Unix datagram
 *   socket that is bound)
 *
 * Who may connect to a Unix path its permissions say (unix_mode, unix_owner). An abstract name has
 * none: every process of the network namespace may connect, and may have taken the name before;
 * rules (access) say who is served.
 */
struct weir_listen {
    const char *address WEIR_0;
    const struct weir_handler *handler WEIR_0;   /* NULL: options.handler */
};

enum weir_dispatch {
    WEIR_DISPATCH_WORKER = 0,   /* a connection waits in the epoll set of the worker that ran it */
    WEIR_DISPATCH_ACCEPTOR = 1, /* every readiness goes acceptor -> ready queue -> a free worker */
};

/*
 * Who runs the handlers. The same handler runs under each; they differ in what it costs to wait.
 *
 * POOL     a fixed pool of `workers`, fibers: waiting parks. Everything above is about this one.
 * SERIAL   socketserver without a mix-in: each connection to its end, one after another, on the
 *          thread that accepts. While one is served, nothing else happens: shutdown and
 *          service_actions wait for it. A stop ends a connection that is kept, and from
 *          drain_timeout_ms after it has been seen on cancels every wait of the handler's.
 * THREAD   ThreadingMixIn: a thread for each connection, as many as there are.
 * FORK     ForkingMixIn: a child process for each connection, `max_children` at a time; beyond
 *          them accepting pauses, and nothing else does. See weir_serve_forever.
 * PREFORK  `processes` children that all accept from the same listeners, each with a pool of its
 *          own: as POOL, but a handler that crashes takes no more than its process with it, and
 *          another takes its place. See weir_serve_forever.
 *
 * With SERIAL, THREAD and FORK a handler runs on a thread's own stack, and waiting blocks that
 * thread: weir_offload runs its job there and then, weir_yield only looks for orders, and workers,
 * worker_cpus, stack_size, dispatch and stall_warn_ms mean nothing. Everything else holds:
 * timeouts, WEIR_KEEP, the close policy, cancel.
 */
enum weir_concurrency {
    WEIR_POOL = 0, WEIR_SERIAL = 1, WEIR_THREAD = 2, WEIR_FORK = 3, WEIR_PREFORK = 4,
};

/* The most that these options may be; and a stack's least size. */
#define WEIR_MAX_WORKERS 256
#define WEIR_MAX_PROCESSES 256
#define WEIR_MAX_CHILDREN 4096
#define WEIR_MAX_ACCEPTORS 64
#define WEIR_MIN_STACK_SIZE (16 << 10)
#define WEIR_MAX_STACK_SIZE (256 << 20)
#define WEIR_MAX_BUFSIZE (1 << 30)
#define WEIR_MAX_PACKET_SIZE (1 << 20)
#define WEIR_MAX_MULTICAST_TTL 255

enum weir_choice { WEIR_DEFAULT = 0, WEIR_YES = 1, WEIR_NO = 2 };

#define WEIR_UNBUFFERED SIZE_MAX

/*
 * Who asked: what verify_request sees of a connection. Later versions may add fields at the end of
 * this and of the other structures that the library fills in.
 */
struct weir_peer {
    const struct sockaddr *address;
    socklen_t address_len;
    int fd;                                      /* the accepted socket, still the server's */
    const char *listen;                          /* the address it came in on, as a URI */
};

enum weir_phase {
    WEIR_PHASE_VERIFY, WEIR_PHASE_SETUP, WEIR_PHASE_HANDLE, WEIR_PHASE_FINISH,
    /*
     * No stack or memory could be had (-ENOMEM), or for weir_handle_request no thread or child
     * (-EAGAIN): the client is refused. While WEIR_THREAD or WEIR_FORK serves and can have none,
     * clients wait, and nobody is told but by a line on standard error.
     * Or a child died (-ECHILD, or with WEIR_PREFORK the reason why it could not serve). Told in the
     * parent, where there is one.
     * With WEIR_PREFORK it is about no client: peer and handler are "".
     */
    WEIR_PHASE_PROCESS,
};

/* What went wrong with one connection: the argument of handle_error, valid during the call. */
struct weir_failure {
    enum weir_phase phase;
    int error;                                   /* negative errno */
    const char *peer;                            /* "127.0.0.1:51234", as text */
    const char *handler;                         /* the handler's name */
    struct weir_request *req;                    /* NULL: it has none yet, or none any more */
};

/*
 * Everything a server can be told. Nothing is kept by reference but the handlers and `user`:
 * strings and arrays may go once weir_server_create has returned.
 *
 * The sizes say which version of the structures a program was compiled with: later versions add
 * fields at the ends. WEIR_OPTIONS sets them. The order of fields matters to C++ only.
 *
 *   C          weir_server_create(&server, WEIR_OPTIONS(.listen = "tcp://:9999", .handler = &h))
 *   C++20      the same, with the fields in their order
 *   any C++    weir_options options{};           which sets the sizes; then
 *              options.listen = "tcp://:9999";   and so on: weir_server_create(&server, &options)
 *
 * The other structures that a program fills in, weir_handler and weir_listen, are 0 after empty
 * braces as well. In C, initialize them by name, for they grow.
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
     * Hooks; NULL is the default.
     * verify_request   1 serve, 0 refuse, negative: refuse and tell handle_error. Runs on an
     *                  acceptor's thread, for datagrams and in a rush of connections on workers',
     *                  several at a time, and must not block.
     * handle_error     default: one line on standard error, as weir's other lines (see below); none
     *                  for -ECANCELED, nor of a client that reset its connection or left before
     *                  its answer: these are weir_stats.resets. Runs where the error happened: one
     *                  that blocks, as printing may, holds its thread.
     * service_actions  every poll_interval_ms, on the first acceptor's thread; never by
     *                  weir_handle_request.
     * handle_timeout   weir_handle_request's alone: no client came within timeout_ms.
     *                  weir_serve_forever ignores both, as Python's does.
     */
    int (*verify_request)(struct weir_server *server, const struct weir_peer *peer) WEIR_0;
    void (*handle_error)(struct weir_server *server, const struct weir_failure *failure) WEIR_0;
    void (*service_actions)(struct weir_server *server) WEIR_0;
    void (*handle_timeout)(struct weir_server *server) WEIR_0;
    uint32_t poll_interval_ms WEIR_0;       /* between service_actions; 0: 500 */
    uint32_t timeout_ms WEIR_0;             /* weir_handle_request waits so long; 0: for ever */

    /* Who runs the handlers. */
    enum weir_concurrency concurrency WEIR_0;
    enum weir_dispatch dispatch WEIR_0;
    uint32_t workers WEIR_0;                /* 0: one per CPU this process may use.
                                               With WEIR_PREFORK of each child; 0: its share of
                                               the CPUs */
    uint32_t processes WEIR_0;              /* WEIR_PREFORK: children; 0: one per CPU */
    uint32_t max_children WEIR_0;           /* WEIR_FORK: at most so many at once; 0: 40 */
    uint32_t acceptors WEIR_0;              /* 0: 1; more: each has its own
                                               SO_REUSEPORT TCP listeners */
    const char *worker_cpus WEIR_0;         /* "0,2-3": worker i is bound to the i-th of these, in
                                               turn */
    size_t stack_size WEIR_0;               /* of a fiber; 0: 64 KiB. See stacks */
    uint32_t stall_warn_ms WEIR_0;          /* log a handler that holds its worker longer; 0: never
                                               (but with WEIR_CHECK=1 a second) */

    /* How many at once, and who may connect, besides what verify_request says. */
    uint32_t max_connections WEIR_0;        /* 0: what RLIMIT_NOFILE allows (and, before Linux 6.13,
                                               where a stack takes two mappings, vm.max_map_count).
                                               Beyond it accepting pauses, and idle connections
                                               make room: WEIR_KEEP. Never more than its hard limit
                                               at the creating allows */
    uint32_t max_per_address WEIR_0;        /* connections of one IPv4 or IPv6 address; 0: any
                                               number */
    uint32_t backlog WEIR_0;                /* listen(2)'s; 0: SOMAXCONN. With max_connections it is
                                               what sheds load: docs/operations.md */
    const char *access WEIR_0;              /* rules, as for weir_access_parse; NULL: everybody */

    /* Buffers, each held while a handler runs or waits. */
    size_t rbufsize WEIR_0;                 /* rfile's; 0: 8 KiB */
    size_t wbufsize WEIR_0;                 /* wfile's; 0: 8 KiB; WEIR_UNBUFFERED: write through */

    /*
     * What has come when one of these passes is taken all the same, however late a busy machine,
     * or a handler that keeps its worker, lets us look.
     *
     * How long things may take is for the program to know: none of these is set by default, and one
     * client that reads nothing may then hold its handler, and weir_server_close, for ever. A program
     * that serves strangers sets request_timeout_ms, idle_timeout_ms and drain_timeout_ms; `weir
     * serve` does, to 60, 75 and 5 s.
     */
    uint32_t read_timeout_ms WEIR_0;        /* a read waits so long for each arrival; 0: for ever */
    uint32_t write_timeout_ms WEIR_0;       /* one write or flush, in total: see weir_write; 0: for
                                               ever */
    uint32_t idle_timeout_ms WEIR_0;        /* a kept connection with no input is closed; 0:
                                               never */
    uint32_t request_timeout_ms WEIR_0;     /* one call of handle() and the sending of what it
                                               wrote, in total; 0: for ever */

    /* The end: see weir_server_close. */
    uint32_t drain_timeout_ms WEIR_0;       /* it waits this long, then cancels; 0: for ever */
    enum weir_choice block_on_close WEIR_0; /* default yes */
    bool daemon_threads WEIR_0;

    /* Sockets. */
    bool defer WEIR_0;                      /* create opens nothing: see weir_server_bind */
    bool reuse_address WEIR_0;              /* SO_REUSEADDR. TCP: bind over TIME_WAIT. UDP: share a
                                               port */
    bool reuse_port WEIR_0;                 /* SO_REUSEPORT: several servers on one port */
    bool disable_nagle_algorithm WEIR_0;    /* TCP_NODELAY on every connection */

    /* Unix paths only, set before anybody can connect. To connect takes the right to write. */
    uint32_t unix_mode WEIR_0;              /* permissions, 0660 say; 0: what the umask leaves of
                                               0777 */
    const char *unix_owner WEIR_0;          /* "USER", "USER:GROUP", ":GROUP", names or numbers */
    bool keep_path WEIR_0;                  /* it stays when the server closes, as Python's does */

    /* Datagrams. */
    bool reply_always WEIR_0;               /* reply if nothing was written or it failed, too */
    size_t max_packet_size WEIR_0;          /* a longer one is cut (weir_truncated); 0: 8 KiB */

    /*
     * A group of multicast, and perhaps the interface, by its name or its IPv4 address; otherwise
     * routes decide: "224.3.29.71", "224.3.29.71%eth0", "224.3.29.71%192.0.2.1", "ff15::1%eth0".
     * Each UDP listener that can hear the group joins it: one that is bound to it, or to every
     * address of its family. (Of several acceptors the first one does, so that a datagram comes
     * once.) They hear no group, then, that only others on this machine have joined. If each has
     * set reuse_address, several servers share a port, and what is sent to the group comes to all.
     * ttl and loop are of what the server's UDP sockets send to any group, by that interface.
     */
    const char *multicast WEIR_0;
    uint32_t multicast_ttl WEIR_0;          /* hops; 0: 1, no further than this network */
    enum weir_choice multicast_loop WEIR_0; /* default yes: it comes to this machine's receivers as
                                               well */
};

/*
 * WEIR_OPTIONS is a pointer to options with these fields set and the others 0. In C they live as
 * long as the block that they are in; in C++ until the end of the full expression.
 */
#ifndef __cplusplus
#define WEIR_OPTIONS(...) (&(const struct weir_options){ \
        .size = sizeof(struct weir_options), .listener_size = sizeof(struct weir_listen), \
        __VA_ARGS__ })
#elif defined(__cpp_designated_initializers)
#define WEIR_OPTIONS(...) weir_options_pointer(::weir_options{ __VA_ARGS__ })
static inline const struct weir_options *weir_options_pointer(const struct weir_options &&options)
{
    return &options;
}
#endif

/* ------------------------------------------------------------------ the server -------- */

/*
 * What a server has to say goes to standard error, in lines that begin with "weir: ". Nobody waits
 * for them: a thread, which is made for the first line, writes. What standard error has no room for
 * is left out, and so is all but a few lines a second of a kind, child processes included; how many
 * were, a line says later.
 * weir_server_destroy and exit(3) wait a second at most for what is not written yet.
 */

/*
 * weir_set_log has lines given to a function instead of standard error; NULL: to standard error
 * again. It is the process's, as standard error is, and for the lines of all servers. Each is one
 * string, as it would be written, without its end of line: all are warnings of a kind, so there is no
 * level. As many are taken as said above.
 *
 * One thread calls the function, that writes otherwise: never two at once, and never a worker or an
 * acceptor, so it may block; what it keeps waiting beyond 32 lines is left out. It may make any call
 * but weir_server_destroy, also this one. Nothing calls it once exit(3) has run its functions, or,
 * if it returns within a second, while there is no server.
 *
 * Children have it, too, and call it by threads of their own; in one of WEIR_FORK the handler's does.
 * But one that was forked while its parent called it might wait for ever for a lock that it had
 * taken then: this child writes to standard error. So do a process that can't have another thread,
 * and, always, the last words of a program that weir ends: of a stack that is too small, of a call
 * on a request that is not the caller's.
 *
 * On return the function before is not called any more: it waits for a call that is under way.
 * Threads: any, before there is a server, too; not signal handlers. Parks: no.
 */
void weir_set_log(void (*log)(void *arg, const char *line), void *arg);

/*
 * weir_server_create checks the options, binds and listens (unless defer is set). Nothing runs
 * yet, and no thread exists; clients that connect wait in the backlog. What it and the server open
 * is numbered above the standard streams, even where the program was started without them.
 * Threads: any. Parks: no (it resolves names: getaddrinfo may block).
 * Returns 0, or -errno with the reason as a sentence in weir_why(): -EINVAL an option or address
 * is wrong, -E2BIG an option this version does not know is set, -EADDRINUSE and other errors of
 * bind(2), listen(2), and of chmod(2) and chown(2) for a Unix path, -ENODEV there is no such
 * interface for multicast or no route to the group, -ENOMEM; -ENOSYS or -EPERM for WEIR_PREFORK
 * where there is no pidfd_open(2).
 */
int weir_server_create(struct weir_server **ret_server, const struct weir_options *options);

/*
 * With the option defer (Python's bind_and_activate=False), weir_server_create opens no socket, and
 * what it does otherwise takes two more calls, in this order and before serving.
 *
 * weir_server_bind binds every address: weir_server_address tells them, a port is ours, but no
 * client can connect (but to an inherited fd://, which listens already); datagrams wait from here
 * on. If one can't be bound none is, and it may be tried again; an inherited fd:// that was taken
 * over is closed then. A Unix path of streams may be taken by another server as long as nobody
 * listens there: weir_server_activate tells.
 * weir_server_activate listens: clients wait in the backlog. After a failure it is still bound,
 * and it may be tried again.
 *
 * Threads: any, with no other call on the server meanwhile but weir_server_stop and
 * weir_server_cancel. Parks: no (bind resolves names, as create does). Both return 0, or -errno
 * with a sentence in weir_why(): what create returns for the addresses, -EALREADY it is done
 * already (by create, if defer is not set), -EINVAL activate before bind, -EBADF it is closed.
 */
int weir_server_bind(struct weir_server *server);
int weir_server_activate(struct weir_server *server);

/*
 * weir_why is the sentence for the calling thread's last failed call that takes a server, or
 * weir_access_ call: it names the option or address and what to change. Valid until that thread's
 * next such call.
 */
const char *weir_why(void);

/*
 * weir_serve_forever makes the calling thread the acceptor and returns when the server has been
 * shut down: 0, or -errno if it could not start (-EBUSY: it runs already, or a thread is in
 * weir_handle_request; -EBADF: it is closed; -EINVAL: it does not listen yet, see defer; -ESRCH:
 * it is another process's, see weir_server_destroy). Like Python's, it returns with handlers
 * possibly still running: weir_server_close waits. It may be called again after a shutdown.
 * Threads: any but a handler (-EDEADLK).
 *
 * WEIR_FORK: each child is forked here and ends with _exit: 0, or 1 if handle_error was told of
 * something; neither atexit functions nor stdio's buffers are run. It has closed the listeners,
 * and inherits everything else, the signal mask and handlers too. A child
 * that dies takes nobody with it: handle_error is told -ECHILD, in the parent. All children are
 * reaped, and no other process: while serving, by weir_handle_request and by weir_server_close. A
 * program may ignore SIGCHLD, or reap them itself: how one ended is not known then. Where no
 * descriptor is left for a child, clients wait.
 * What handlers change in memory is seen by that child only. weir_server_stop and _cancel in a
 * child reach the parent and all children; a child learns of a drain or cancel whenever it waits.
 * Children that a server leaves behind (daemon_threads) go on even if the program ends.
 *
 * WEIR_PREFORK: the children are forked before this, or weir_server_start, begins to serve, which
 * the first one that accepts does; if none of them can, its error is returned. One that ends is
 * replaced: at once, or, if it had lived for less than a second, after a pause that grows from 0.1
 * to 5 seconds; handle_error is told. A child inherits what WEIR_FORK's do and is a
 * server of a pool: struct weir_server stands for it there. Hooks run in it, but service_actions,
 * which is the parent's; max_connections, max_per_address and workers are each child's. What asks
 * the server to stop or to cancel in a child reaches the parent and all children. After a
 * shutdown, children close what is kept and end when their handlers have; those of the next
 * serving are others. (A child that is stopped by a signal is waited for by shutdown for 2 seconds.)
 * New access rules do the same to those that serve: as long as clients of each stay connected, each
 * set of rules has its children. When the parent ends, however that may be, its children stop
 * accepting, are cancelled, and end, after a second at the latest. Nothing is accepted in the
 * parent: weir_handle_request, weir_server_fileno and weir_submit_fd are refused there
 * (-EOPNOTSUPP).
 * Other servers of the program stay in the parent: a child has none of their threads.
 *
 * Beside other threads: a child has only the thread that forked. The engine's own locks are free
 * in it, none of its threads are missed there, and glibc makes malloc, stdio and further threads
 * safe. A program with threads of its own has to see to its own locks (pthread_atfork), or leave
 * alone in handlers what other threads lock.
 */
int weir_serve_forever(struct weir_server *server);

/* weir_server_start does the same on a thread of its own and returns once it accepts. */
int weir_server_start(struct weir_server *server);

/*
 * weir_server_shutdown ends serving and waits until the acceptor has left its loop, even if serving
 * begins again at once; handlers go on, listeners stay bound. Before serving began, the next
 * weir_serve_forever returns at once.
 * Threads: any, except from a handler or a hook (-EDEADLK: use weir_server_stop there).
 */
int weir_server_shutdown(struct weir_server *server);

/* weir_server_stop asks for the same and does not wait. Any thread, handlers, signal handlers. */
void weir_server_stop(struct weir_server *server);

/*
 * weir_handle_request serves one client, without weir_serve_forever: it waits timeout_ms at most
 * for one to come, accepts it, gives it to the pool (which it starts, the first time), a thread or
 * a child, and does not wait for its handler; with WEIR_SERIAL it serves it to its end. As Python's
 * it ignores shutdown and stop, and calls no service_actions. While max_connections are open it
 * waits for one of them to end, in the same time.
 *
 * Returns 1 for a client, one that verify_request refused included; 0 after it has called
 * handle_timeout, since none came within timeout_ms: never earlier, and signals don't shorten
 * the wait. Or -errno with a sentence in weir_why(): -EBUSY it serves, or another thread is in
 * here, -EINVAL it does not listen yet (see defer; Python raises an OSError), -EBADF it is closed,
 * -EDEADLK from a handler, -EOPNOTSUPP it is WEIR_PREFORK; accept(2)'s -EMFILE, -ENFILE, -ENOMEM:
 * the client still waits; and if the pool cannot start, -EAGAIN. For want of a thread or child for
 * the client it is refused.
 *
 * What an acceptor does besides, it does while it serves only: end idle connections after
 * idle_timeout_ms, rescue connections from stuck workers, warn of stalls.
 * Threads: any but a handler, one at a time; weir_server_close is refused meanwhile (-EBUSY).
 * verify_request and handle_timeout run on the calling thread; the latter may make any call.
 */
int weir_handle_request(struct weir_server *server);

/*
 * weir_server_fileno gives a descriptor that is readable while a client waits to be accepted:
 * weir_handle_request will not wait for one then, unless max_connections are open. Thus one
 * thread serves several servers from a poll(2) loop of its own. It is the server's, for nothing
 * but to be polled, the same at every call, and valid until weir_server_destroy; a closed
 * server's is never readable.
 * Threads: any. Returns it, or -errno with a sentence in weir_why(): -EINVAL it does not listen
 * yet, -EBADF it is closed, -EOPNOTSUPP it is WEIR_PREFORK, and the errors of epoll_create1(2).
 */
int weir_server_fileno(struct weir_server *server);

/*
 * weir_submit_fd serves a connected stream socket that you have, an end of a socketpair(2) or one
 * that you accepted yourself, as if the server had accepted it: in statistics, timeouts,
 * max_connections and when it closes. But access, max_per_address and verify_request are not
 * asked. handler NULL: options.handler; it must outlive the server. The pool is started if it does
 * not run yet: it needs no acceptor to serve, only for what weir_handle_request says that an
 * acceptor does besides. WEIR_THREAD starts a thread for it, and WEIR_FORK forks, on the
 * calling thread and its stack. WEIR_SERIAL serves it here, to its end, before this returns; while
 * another is being served it waits for its turn.
 * On success the descriptor is the server's, non-blocking and close-on-exec, and is closed when
 * its handler is done. After a failure it is still yours (its flags may have been set).
 *
 * Threads: any, handlers and hooks too, before or while it serves, and after. But a handler of
 * WEIR_SERIAL or WEIR_FORK only to other servers (-EDEADLK), also if what it has submitted is
 * served on its own thread and submits in turn, or if the server that it submits to waits, by
 * whatever detour, for the one that it serves; and in a child of WEIR_FORK only to servers that
 * are WEIR_SERIAL and that the parent does not serve (-ESRCH). Parks: no. Returns 0, or -errno
 * with a sentence in weir_why(): -EBADF, -ENOTSOCK, -EPROTOTYPE no stream socket, -ENOTCONN it has
 * no peer, -EBUSY it is served already, -EAGAIN max_connections or max_children are open (or no
 * thread or child could be had), -ESHUTDOWN the server is closed, -EINVAL the handler, -ENOMEM.
 */
int weir_submit_fd(struct weir_server *server, int fd, const struct weir_handler *handler);

/*
 * weir_server_close closes the listeners, and treats the connections by the close policy. Who has
 * connected and asked, and waits to be accepted, is let in before, not reset: where the server has
 * served, is WEIR_POOL or WEIR_THREAD, has room, and is without daemon_threads. The policy:
 *
 *   daemon_threads  block_on_close   kept idle connections are closed, and ...
 *   false           yes (default)    queued and running handlers finish; waits for them,
 *                                    drain_timeout_ms at most, then cancels and waits
 *   true            any              cancels: a parked handler's calls return -ECANCELED and its
 *                                    finish() runs; a running one is left; returns at once
 *   false           no               returns at once; weir_server_destroy waits
 *
 * A drained server answers what has arrived of a kept connection's requests, waits for the rest of
 * one that breaks off there, and closes it, whatever else its client sends; a handler may end it
 * before, as HTTP's does with the first reply that says so. Twice is harmless.
 * Children that have been cancelled while it waits, by it or by weir_server_cancel, and have not
 * ended after 2 seconds, because they block, loop or are stopped, are killed, with a line each on
 * standard error. daemon_threads leaves them alone.
 * A second caller, while one waits, hurries it: everything still parked is cancelled.
 * Threads: any, except from a handler or what it has offloaded (-EDEADLK). Returns 0, or -EBUSY
 * while it still serves, or a thread is in weir_handle_request.
 */
int weir_server_close(struct weir_server *server);

/*
 * weir_server_cancel makes every parked handler's call return -ECANCELED, and from now on every
 * call that would park: it is for a server that is about to end. Does not wait.
 * Threads: any, handlers, signal handlers.
 */
void weir_server_cancel(struct weir_server *server);

/*
 * weir_server_destroy closes, waits for every handler (but daemon ones: the server goes with the
 * last of them), joins the pool, frees. NULL is fine. At the end of main() it is what Python's
 * interpreter does when it exits. A program that ends without it waits for nobody: handlers on its
 * threads end with it, those in children (WEIR_FORK) go on, as Python's do.
 * Threads: any, with no other call on the server meanwhile that it could take it away from:
 * returns 0; or, with a sentence in weir_why() and nothing done, -EDEADLK from a handler or hook
 * of the server or from what a handler has offloaded (so an exit(3) there passes by atexit(3)
 * functions that destroy), -EBUSY while a thread is in weir_handle_request or weir_server_close.
 *
 * A program may fork whenever it likes, and each process has the server then. It belongs to the
 * one that first serves it (or binds it): for any other it has no threads, to serve it, to submit
 * to it or to change its rules is refused (-ESRCH), and to close or destroy it gives up that
 * process's copy and nothing else: connections, clients that wait, and Unix paths are left alone.
 * No call on it waits for what other threads were doing at the fork. While nobody has
 * served it, to destroy it leaves it to other processes if there was a fork since it was made, and
 * weir_server_shutdown is for this process's next serving. But weir_server_stop and _cancel reach
 * it from any.
 */
int weir_server_destroy(struct weir_server *server);

/*
 * weir_server_address writes the i-th listening address as a URI, a port 0 resolved (in the order
 * of the listeners; those of a name that has several, one after another), into buf (always
 * terminated; WEIR_ADDRESS_SIZE is enough). Returns its length, -ERANGE when there is no i-th one
 * (or it is not bound yet), -ENOSPC. Threads: any.
 */
#define WEIR_ADDRESS_SIZE 160
int weir_server_address(struct weir_server *server, size_t i, char *buf, size_t size);

void *weir_server_user(struct weir_server *server);

/* What a server has done and is doing; the counts are consistent one by one, not together. */
struct weir_stats {
    uint64_t accepted;      /* connections taken from the kernel, or by weir_submit_fd */
    uint64_t refused;       /* by rules, verify_request, max_per_address; for want of memory, or of
                               somebody to serve them */
    uint64_t handled;       /* calls of handle() that returned */
    uint64_t closed;        /* connections ended */
    uint64_t active;        /* open now; = idle + parked + queued + running */
    uint64_t idle;          /* kept between two calls of handle(), or before the first one */
    uint64_t parked;        /* a handler waits for its peer */
    uint64_t queued;        /* ready, waiting for a worker */
    uint64_t running;       /* at work: on a worker, asleep, or waiting for another stream; beyond
                               WEIR_POOL also those that wait for their peer, and each child */
    uint64_t setup_errors, handle_errors, finish_errors, verify_errors;
    uint64_t timeouts;      /* read, write, idle and request deadlines that passed */
    uint64_t cancelled;     /* handlers whose call returned -ECANCELED */
    uint64_t accept_errors; /* what serving takes ran out: descriptors, memory, processes */
    uint64_t bytes_in, bytes_out;
    uint64_t busy_ns;       /* summed over the workers: time not asleep */
    uint64_t wakeups;       /* a sleeping worker was woken by another thread */
    uint64_t rescued;       /* ready connections taken over from a worker that was stuck */
    uint64_t stalls;        /* handlers that held a worker longer than stall_warn_ms */
    uint64_t workers;       /* beyond WEIR_POOL: the threads or children that serve now */
    uint64_t resets;        /* clients that reset their connection, or left before their answer */
    uint64_t no_memory;     /* connections and datagrams that were refused or ended for want of it */
    uint64_t full;          /* times that accepting paused since the server was full, and somebody
                               waited */
    uint64_t made_room;     /* kept connections that were ended since others waited */
    uint64_t truncated;     /* datagrams that were longer than max_packet_size, and cut */
};

/*
 * weir_server_stats fills in the first size bytes. With WEIR_PREFORK, the sums of all children, for
 * whose answers it waits a tenth of a second at most: of one that does not give any, or has died,
 * what it said last. In a child, its own. Of another process's server (see weir_server_destroy), what
 * its acceptors and pool had counted at the fork, and nothing is open or at work there. Threads: any.
 * Returns 0 or -EINVAL.
 */
int weir_server_stats(struct weir_server *server, struct weir_stats *ret_stats, size_t size);

enum weir_stat_kind {
    WEIR_STAT_COUNTER,     /* what has happened since the start: it only grows */
    WEIR_STAT_GAUGE,       /* how many there are now */
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
 * below sizeof(struct weir_stats). Threads: any.
 */
const struct weir_stat *weir_stats_field(size_t i);

/* ------------------------------------------------------------------ who may connect --- */

/*
 * Rules, one in a line. '#' begins a comment; an empty line is fine.
 *
 *   allow 10.0.0.0/8         deny 2001:db8::/32      a network, or a single address
 *   allow uid 1000           deny gid 100            a Unix peer (SO_PEERCRED), by number
 *   default allow            default deny            who has no rule; without the line: deny
 *
 * Their order does not matter. Of the networks that hold an address the one with the longest
 * prefix decides; for a Unix peer its uid's rule, else that of its primary gid. An IPv4 address
 * that comes mapped into IPv6 is the IPv4 address, and ::/0 says nothing of IPv4.
 *
 * A new connection is checked in this order: rules, verify_request, max_per_address. One that is
 * refused is closed without a byte and counted in weir_stats.refused. max_per_address counts whole
 * addresses, from accept to close; a client that ends its connection may be counted until its
 * handler has noticed, one that sees the server's end is not counted any more. Unix peers and
 * streams of weir_connect aren't counted.
 */

/*
 * weir_access_parse reads rules from a text, weir_access_read from a regular file below 32 MiB. The
 * rules are the caller's, until weir_server_set_access has taken them.
 * Threads: any. Parks: no; weir_access_read blocks as reading the file does. Returns 0, or -errno
 * with a sentence in weir_why(): -EINVAL, with the number of the bad line; -ENOMEM; for a file
 * also -EFBIG and errors of open(2) and read(2).
 */
int weir_access_parse(const char *text, struct weir_access **ret_access);
int weir_access_read(const char *path, struct weir_access **ret_access);

/* weir_access_free: rules that no server has taken. NULL is fine. Threads: any. */
void weir_access_free(struct weir_access *access);

/*
 * weir_server_set_access puts rules in force in place of those before (NULL: everybody may
 * connect), and takes them over. Connections that are open stay. Acceptors never wait for it: they
 * see the old rules or the new ones, whole. One that is accepted after the return is checked by
 * the new ones. With WEIR_PREFORK new children take the place of those that have the old ones: a
 * client may still meet one of these until then, and it ends as after a shutdown. In a child
 * it is for that child alone.
 * Threads: any, handlers and hooks, several at once; not signal handlers. Parks: no. Returns 0, or
 * -EBUSY: these rules are a server's already; -ESRCH: the server is another process's, see
 * weir_server_destroy. Then the rules are still the caller's.
 */
int weir_server_set_access(struct weir_server *server, struct weir_access *access);

/* ------------------------------------------------------------------ datagrams --------- */

/*
 * Of udp:// and unixgram: each datagram is a request of its own, after DatagramRequestHandler:
 * setup, handle (WEIR_KEEP counts as 0) and finish run for it once, beside those of others.
 *
 * rfile is what has arrived, then the file ends: a read never waits. What is written is gathered,
 * and becomes one datagram to the sender when the handler is done: weir_flush sends nothing, and
 * weir_sendfile returns -EOPNOTSUPP. It is sent if the handler has succeeded and has written
 * something; with reply_always in any case, empty if need be, but not after a failed setup.
 *
 * A reply that can't be sent is told to handle_error, in WEIR_PHASE_FINISH: -EMSGSIZE it is too
 * long (65,507 bytes fit into one of IPv4, 65,527 of IPv6), -EDESTADDRREQ a Unix sender without a
 * name, -ECONNREFUSED or -ENOENT one that is gone, -ETIMEDOUT one whose queue had no room for it
 * within write_timeout_ms (0: a second), and other errors of sendto(2). What Unix peers have not
 * read yet fills the socket's send buffer: if that is full, it is as if everybody's queue were.
 *
 * max_connections counts datagrams whose reply has not left, too. Beyond it they wait in the
 * socket's receive buffer, where the kernel drops those that don't fit. Access rules (of a Unix
 * sender by SCM_CREDENTIALS) and verify_request, on a worker's thread, are asked for each of them;
 * max_per_address does not count them. Once the server is closed, the socket is, too, as soon as no
 * handler is left that may reply by it.
 */

/* ------------------------------------------------------------------ rfile ------------- */

/*
 * Reads flush what was written before they wait, so that a peer is never left waiting for an
 * answer that sits in our buffer. All of them park until there is something to return.
 * Besides what each says: -ETIMEDOUT (read_timeout_ms or request_timeout_ms; sticky: every later
 * read fails the same way), -ECANCELED, -ECONNRESET and other errors of recv(2), -ENOMEM.
 */

/*
 * weir_readline gives the next line with its '\n': at most limit bytes of it (the rest comes with
 * the next call), or what there is at end of file. *ret_line is a view into the buffer: it may be
 * changed in place, is not terminated, and is valid until the next read. Returns its length, 0 at
 * end of file, -EINVAL for a limit of 0.
 */
ssize_t weir_readline(struct weir_request *req, char **ret_line, size_t limit);

/* weir_read reads what has arrived, 1 to len bytes. 0 at end of file. */
ssize_t weir_read(struct weir_request *req, void *buf, size_t len);

/* weir_read_exact reads len bytes; fewer only at end of file. */
ssize_t weir_read_exact(struct weir_request *req, void *buf, size_t len);

/*
 * weir_peek waits until at least min bytes (0: does not wait) are buffered or the file ends, and
 * gives a view of all that is buffered, which may be more, or less at end of file. The view is
 * valid until the next read; weir_consume moves past bytes of it and leaves the view valid.
 *
 * min may be more than rbufsize: the buffer grows as the bytes arrive, to min or beyond, and there
 * is no limit but memory (-ENOMEM). So bound min where a peer says how much it will send. What it
 * costs is in proportion to the bytes, also to ask for one more again and again; a buffer of
 * rbufsize that has room for all is cheaper still, by a copy.
 */
ssize_t weir_peek(struct weir_request *req, char **ret_data, size_t min);
void weir_consume(struct weir_request *req, size_t len);

/* ------------------------------------------------------------------ wfile ------------- */

/*
 * Writes are gathered in the buffer. It is sent when it is full, when the fiber is about to wait
 * for input, when handle() has returned and no more input is at hand, and by weir_flush. All of
 * them park while the peer does not take what is sent; while it takes everything, others have their
 * turn now and then. Each returns the number of bytes given, all
 * of them, or -ETIMEDOUT (write_timeout_ms in total, or request_timeout_ms), -ECANCELED, -EPIPE,
 * -ECONNRESET and other errors of send(2); no SIGPIPE. After an error every later write returns it
 * again. That a peer has gone, or doesn't take in time what was written for it, is told to
 * handle_error only if handle() returns it; a time-out is counted in any case.
 * Where write_timeout_ms passed while the process was stopped, or its worker held, so that its end
 * was seen 100 ms late or more, a peer that takes more then has that time anew.
 */
ssize_t weir_write(struct weir_request *req, const void *buf, size_t len);
ssize_t weir_writev(struct weir_request *req, const struct iovec *iov, int iov_len);
ssize_t weir_printf(struct weir_request *req, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
ssize_t weir_vprintf(struct weir_request *req, const char *format, va_list args);
int weir_flush(struct weir_request *req);

/*
 * weir_sendfile sends len bytes of a file from offset, behind what was written before, without
 * copying them through user space, where the file system and the kernel know how; else it copies.
 * Returns the bytes sent: fewer than len only if the file ends, be it because it was cut meanwhile.
 * Errors are those of weir_write, and those of reading the file (pread(2): -EBADF, -EIO, -ESPIPE of
 * a pipe or a socket, which have no offset) and -ENOMEM, after which writing goes on behind what
 * has been sent.
 */
ssize_t weir_sendfile(struct weir_request *req, int file_fd, off_t offset, size_t len);

/* ------------------------------------------------------------------ the request ------- */

/*
 * The addresses of both ends. Return 0, or the error of getpeername(2) and getsockname(2). Of a
 * datagram the local one is that which it was sent to, and that the reply comes from: also where
 * the server listens on every address. (Of one to a group or to all: the interface's, if known.)
 */
int weir_peer_address(struct weir_request *req, struct sockaddr_storage *ret, socklen_t *ret_len);
int weir_local_address(struct weir_request *req, struct sockaddr_storage *ret, socklen_t *ret_len);

/*
 * weir_truncated: of a datagram, that it was longer than max_packet_size, and the rest is gone:
 * nobody else tells, but weir_stats.truncated.
 */
bool weir_truncated(struct weir_request *req);

/* weir_peer_text writes the peer as text ("127.0.0.1:51234", "unix:"), always terminated. */
const char *weir_peer_text(struct weir_request *req, char *buf, size_t size);

/* The socket; do not close it. That of a datagram is the server's: do not shut it down either. */
int weir_request_fd(struct weir_request *req);

void *weir_state(struct weir_request *req);           /* state_size zeroed bytes, or NULL */
const void *weir_handler_data(struct weir_request *req);
void *weir_user(struct weir_request *req);            /* options.user */
struct weir_server *weir_request_server(struct weir_request *req);
uint32_t weir_worker_number(struct weir_request *req);/* which worker, thread or child: 0 and up */
bool weir_draining(struct weir_request *req);         /* the server is closing: keep nothing */

/* weir_sleep parks for at least ms. Returns 0, -ECANCELED, or -ETIMEDOUT (request_timeout_ms). */
int weir_sleep(struct weir_request *req, uint32_t ms);

/* weir_yield lets the worker's other ready connections go first. Returns 0 or -ECANCELED. */
int weir_yield(struct weir_request *req);

/*
 * weir_poll is poll(2) that parks the fiber: events, revents, negative and closed descriptors,
 * timeout_ms (0: does not wait, negative: for ever) and n (0: only sleeps) mean what they mean
 * there. The descriptors may be any: sockets of your own, pipes, eventfds, weir_request_fd() of
 * req and of what weir_connect opened. They may differ from call to call, and are the caller's.
 *
 * First it sends what was written to req and to all that weir_connect opened, and what a peer has
 * no room for it sends while it waits: when it returns, some may be left. If that fails, the next
 * write to that stream says so. poll(2) knows nothing of rfile's buffer:
 * ask weir_peek(req, &data, 0), which does not wait, for what has been read from the socket and
 * not been consumed, and wait only if that is nothing.
 *
 * A wait for a descriptor that some hundreds of fibers wait for at once may notice it 10 ms late.
 *
 * Parks, unless something is ready; with WEIR_STACK_THREAD it blocks. It takes one descriptor
 * while it waits. Returns how many entries have revents, 0 when timeout_ms has passed (never
 * earlier; signals don't shorten it), -ETIMEDOUT (request_timeout_ms; read_timeout_ms is not
 * asked), -ECANCELED, -EMFILE, -ENOMEM, and other errors of poll(2) and epoll_ctl(2): -ELOOP an
 * epoll descriptor with several levels of others in it.
 */
int weir_poll(struct weir_request *req, struct pollfd *fds, size_t n, int timeout_ms);

/*
 * weir_offload runs fn(arg) on a thread that may block and parks until it has returned: for
 * getaddrinfo, a database driver, a long computation. Returns what fn returned; -EAGAIN when no
 * thread could be had. Nothing cuts it short: arg stays valid until fn has ended.
 */
int weir_offload(struct weir_request *req, int (*fn)(void *arg), void *arg);

/*
 * weir_connect opens a stream to another server ("tcp://host:port", "unix:///path", "unix:@name";
 * names are resolved by an offload thread, and each address is tried, however many there are) and
 * gives it as a request of its own: every call above works on it and parks the same fiber.
 * timeout_ms bounds the connecting in all (0: read_timeout_ms; if that is none, each address has
 * the kernel's patience, some two minutes). It is closed by weir_hangup, or when handle() returns:
 * what was written and not sent yet leaves first, for which a peer that takes nothing is given
 * write_timeout_ms (0: five seconds), and one whose reads have failed no time at all.
 * Returns 0, -ETIMEDOUT, -ECONNREFUSED and other errors of connect(2), -EINVAL a bad address.
 */
int weir_connect(struct weir_request *req, const char *address, uint32_t timeout_ms,
                 struct weir_request **ret_peer);

/* weir_hangup is for what weir_connect opened, and nothing else. NULL is fine. Parks. */
void weir_hangup(struct weir_request *peer);

#ifdef __cplusplus
}
#endif
#endif
