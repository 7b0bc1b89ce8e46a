/*
 * support.h - what the tests of a running server share: clients, and waiting for what must happen.
 *
 * Every wait is for an event and has a deadline, PLENTY, that only a failure reaches. What cannot
 * be done fails the test that asked for it, so that nothing here needs its result checked.
 *
 * Threads: the test's own, and clients that it started; a failure is told from the test's only.
 */
#ifndef WEIR_TESTS_SUPPORT_H
#define WEIR_TESTS_SUPPORT_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <weir/weir.h>

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

#define PLENTY_MS 20000

/* ... and so long a waiting thread runs on each CPU itself, before it gives up. */
#define FAIR_MS 50

/* A gate of a test that has failed opens at last; never while its client may still be waiting. */
#define GATE_MS (10 * PLENTY_MS)

/* A server that serves, on a thread of its own. */
struct weir_server *support_start(const struct weir_options *options);
struct weir_server *support_create(const struct weir_options *options);

/* "unix:@...", the name in it of this process only. Valid until the next call. */
const char *support_abstract(const char *name);

/* A blocking client of the i-th address, no Unix datagram one; its calls fail after PLENTY. */
int support_connect(struct weir_server *server, size_t i);
int support_connect_to(const char *uri);        /* its host is a number */

void support_send(int fd, const void *data, size_t len);
void support_say(int fd, const char *text);

/* Up to size bytes, until the peer has closed or reset. */
size_t support_read_all(int fd, char *buf, size_t size);

void support_expect(int fd, const char *text);  /* exactly these bytes come next */
void support_expect_end(int fd);                /* nothing more comes: FIN or RST */
bool support_is_silent(int fd);                 /* nothing has come, and it is open */
void support_half_close(int fd);
void support_reset(int fd);                     /* closes it with a RST */

/* Exactly these bytes come, and then the end; closes it. */
void support_expect_last(int fd, const char *text);

/* A client of the i-th address that has said this. */
int support_ask(struct weir_server *server, size_t i, const char *say);

/* One conversation: connects, says, expects, waits for the end, closes. */
void support_talk(struct weir_server *server, size_t i, const char *say, const char *expect);

/* The statistics now; the whole structure. */
struct weir_stats support_stats(struct weir_server *server);

/* Until a count has reached a value: SUPPORT_AWAIT(server, handled, >= 3). */
#define SUPPORT_AWAIT(server, field, ...) do { \
        struct support_patience patience_ = support_patience(); \
        while (!(support_stats(server).field __VA_ARGS__)) \
            support_be_patient(&patience_, #field " " #__VA_ARGS__, __FILE__, __LINE__); \
    } while (0)

/* Until a condition of the test's own holds. */
#define SUPPORT_UNTIL(...) do { \
        struct support_patience patience_ = support_patience(); \
        while (!(__VA_ARGS__)) \
            support_be_patient(&patience_, #__VA_ARGS__, __FILE__, __LINE__); \
    } while (0)

struct support_patience {
    uint64_t until_ms;
    bool last_look;             /* then it is over */
};

struct support_patience support_patience(void);
void support_be_patient(struct support_patience *patience, const char *what, const char *file,
                        int line);

uint64_t support_now_ms(void);
size_t support_open_descriptors(void);

/* Lets the process open so many more descriptors. Returns the limit, to be set again. */
struct rlimit support_leave_descriptors(unsigned spare);

/* A gate between threads: closed until somebody opens it, then open for all. */
struct gate {
    int fd;
};

void gate_init(struct gate *gate);
void gate_fini(struct gate *gate);
void gate_open(const struct gate *gate);        /* any thread, any handler */
void gate_pass(const struct gate *gate);        /* blocks the thread until it is open */

/* So many clients that ask for the gate. Then it is opened, and all of them have passed it. */
void support_come_to_gate(struct weir_server *server, int *fds, int len);
void support_pass_gate(const struct gate *gate, const int *fds, int len);

/*
 * Zeroed memory that a test shares with its children, whose ends shall not interrupt a client from
 * now on: SIGCHLD is blocked. Before the first test. There is no memory: ends the program.
 */
void *support_board(size_t size);

/* Requests of usual lengths, and one that no usual buffer holds: a line of SUPPORT_LONG bytes. */
#define SUPPORT_LINE "a line of 32 bytes, as elsewhere\n"
#define SUPPORT_HELLO "GET / HTTP/1.1\r\nHost: weir\r\n\r\n"
#define SUPPORT_LONG 100000

const char *support_long_line(void);

/* A handler: answers a line, and wants to be called for the next one. */
int support_echo(struct weir_request *req);

/* Handlers: they look for such a line as often as a byte more comes, or at all, and answer "!". */
int support_peek_for_one_more(struct weir_request *req);
int support_peek_at_all(struct weir_request *req);
int support_answer_long(struct weir_request *req, size_t len);

/*
 * How a child ends, for which it has PLENTY: its exit status, or the negative number of a signal.
 */
int support_status_of(pid_t child);

/* That, and what the child wrote to standard error, terminated. */
struct support_end {
    int status;
    char said[2048];
};

/* A child does this, and exits with 0 if it returns. It takes as long as it needs. */
struct support_end support_run_in_child(void (*body)(void));

/* Standard error into a file, for a while. end gives what was written, terminated. */
struct capture {
    int saved_fd;
    int file_fd;
};

void capture_begin(struct capture *capture);
size_t capture_end(struct capture *capture, char *buf, size_t size);

#endif
