#include "tests/conformance/backend_handlers.h"

#include "tests/conformance/backend_host.h"
#include "tests/conformance/backend_tell.h"

#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_LIMIT = 1 << 17 };      /* more than a datagram can bring */

/* ------------------------------------------------------------------ obey -------------- */

/* A line of the client's, less the word that it begins with. */
struct order {
    struct weir_request *req;
    char *text;                 /* not terminated, and only until the next read */
    size_t text_len;
};

/* An order is followed by: 0 the next one, -errno, WEIR_STOP_SERVER, or the end of the handler. */
enum { END = 3 };

static int done(ssize_t n)
{
    return n < 0 ? (int)n : 0;
}

static int answer(const struct order *order, const char *text)
{
    return done(weir_printf(order->req, "%s\n", text));
}

static int answer_number(const struct order *order, long long n)
{
    return done(weir_printf(order->req, "%lld\n", n));
}

/* How many bytes, and all in hexadecimal. */
static int answer_data(const struct order *order, const char *data, size_t len)
{
    int r = done(weir_printf(order->req, "%zu ", len));

    for (size_t i = 0; i < len && r == 0; i++)
        r = done(weir_printf(order->req, "%02x", (unsigned char)data[i]));
    return r < 0 ? r : answer(order, "");
}

static size_t argument(const struct order *order)
{
    char text[24];

    if (order->text_len >= sizeof(text))
        mistake("'%.*s' is not a number", (int)order->text_len, order->text);
    memcpy(text, order->text, order->text_len);
    text[order->text_len] = '\0';
    return number_of(text, 10);
}

static int say(const struct order *order)
{
    return done(weir_write(order->req, order->text, order->text_len));
}

static int echo(const struct order *order)
{
    int r = say(order);

    return r < 0 ? r : answer(order, "");
}

static int upper(const struct order *order)
{
    for (size_t i = 0; i < order->text_len; i++)
        order->text[i] = (char)toupper((unsigned char)order->text[i]);
    return echo(order);
}

static int flush(const struct order *order)
{
    return weir_flush(order->req);
}

static int pid(const struct order *order)
{
    return answer_number(order, getpid());
}

static int tid(const struct order *order)
{
    return answer_number(order, gettid());
}

static int count(const struct order *order)
{
    static _Atomic long long counter;

    /* relaxed: a count. pairs: none */
    return answer_number(order, atomic_fetch_add_explicit(&counter, 1, memory_order_relaxed) + 1);
}

static int sleep_so_long(const struct order *order)
{
    int r = weir_sleep(order->req, (uint32_t)argument(order));

    return r < 0 ? r : answer(order, "slept");
}

/* poll(2) and not weir_poll: the thread is to be lost for as long. */
static int block(const struct order *order)
{
    struct pollfd fd = { .fd = weir_request_fd(order->req), .events = POLLIN };

    while (poll(&fd, 1, -1) < 0)
        ;
    return answer(order, "woken");
}

static int wait_for_release(void *host)
{
    host_hold(host);
    return 0;
}

static int hold(const struct order *order)
{
    int r = weir_offload(order->req, wait_for_release, weir_user(order->req));

    return r < 0 ? r : answer(order, "released");
}

static int fail(const struct order *order)
{
    (void)order;
    return -EIO;
}

static int stop(const struct order *order)
{
    (void)order;
    return WEIR_STOP_SERVER;
}

static int end(const struct order *order)
{
    (void)order;
    return END;
}

static int shut_down(const struct order *order)
{
    return answer(order, error_name(weir_server_shutdown(weir_request_server(order->req))));
}

/* A bad pointer would do the same, but tell a sanitizer first. */
static int crash(const struct order *order)
{
    (void)order;
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
    return -EFAULT;
}

static int leak(const struct order *order)
{
    int duplicate = dup(weir_request_fd(order->req));

    return duplicate < 0 ? -errno : answer_number(order, duplicate);
}

static int nodelay(const struct order *order)
{
    socklen_t len = sizeof(int);
    int on;

    if (getsockopt(weir_request_fd(order->req), IPPROTO_TCP, TCP_NODELAY, &on, &len) < 0)
        return -errno;
    return answer_number(order, on != 0);
}

static int peer(const struct order *order)
{
    char text[WEIR_ADDRESS_SIZE];

    return answer(order, weir_peer_text(order->req, text, sizeof(text)));
}

static int read_bytes(const struct order *order)
{
    size_t len = argument(order);
    char *data = malloc(len);
    ssize_t n = data ? weir_read_exact(order->req, data, len) : -ENOMEM;
    int r = n < 0 ? (int)n : answer_data(order, data, (size_t)n);

    free(data);
    return r;
}

static int read_line(const struct order *order)
{
    char *line;
    ssize_t n = weir_readline(order->req, &line, argument(order));

    return n < 0 ? (int)n : answer_data(order, line, (size_t)n);
}

static int insist(const struct order *order)
{
    char *line;
    int first = done(weir_readline(order->req, &line, LINE_LIMIT));
    int second = done(weir_readline(order->req, &line, LINE_LIMIT));

    return done(weir_printf(order->req, "%s %s\n", error_name(first), error_name(second)));
}

static int write_bytes(const struct order *order)
{
    size_t len = argument(order);
    unsigned char *data = malloc(len);
    ssize_t n = -ENOMEM;

    if (data) {
        for (size_t i = 0; i < len; i++)
            data[i] = (unsigned char)(i % 251);
        n = weir_write(order->req, data, len);
        free(data);
    }
    return n < 0 ? (int)n : answer_number(order, n);
}

static int truncated(const struct order *order)
{
    return answer_number(order, weir_truncated(order->req));
}

static const struct {
    const char *word;
    int (*follow)(const struct order *order);
} orders[] = {
    { "echo", echo }, { "upper", upper }, { "say", say }, { "flush", flush },
    { "pid", pid }, { "tid", tid }, { "count", count },
    { "sleep", sleep_so_long }, { "block", block }, { "hold", hold },
    { "fail", fail }, { "stop", stop }, { "end", end }, { "shutdown", shut_down },
    { "crash", crash }, { "leak", leak }, { "nodelay", nodelay }, { "peer", peer },
    { "read", read_bytes }, { "line", read_line }, { "insist", insist }, { "write", write_bytes },
    { "truncated", truncated },
};

static int follow(struct weir_request *req, char *line, size_t len)
{
    const char *blank;
    size_t word_len;
    size_t skipped;

    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
        len--;
    blank = memchr(line, ' ', len);
    word_len = blank ? (size_t)(blank - line) : len;
    skipped = blank ? word_len + 1 : word_len;
    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++)
        if (strlen(orders[i].word) == word_len && memcmp(orders[i].word, line, word_len) == 0)
            return orders[i].follow(&(struct order){ req, line + skipped, len - skipped });
    return -EINVAL;
}

static int obey(struct weir_request *req)
{
    char *line;
    ssize_t n;

    while ((n = weir_readline(req, &line, LINE_LIMIT)) > 0) {
        int r = follow(req, line, (size_t)n);

        if (r != 0)
            return r == END ? 0 : r;
    }
    return (int)n;
}

/* ------------------------------------------------------------------ the others -------- */

static int echo_lines(struct weir_request *req)
{
    char *line;
    ssize_t n;

    while ((n = weir_readline(req, &line, LINE_LIMIT)) > 0) {
        n = weir_write(req, line, (size_t)n);
        if (n < 0)
            return (int)n;
    }
    return (int)n;
}

static int say_nothing(struct weir_request *req)
{
    (void)req;
    return 0;
}

static int (*const handlers[])(struct weir_request *req) = { obey, echo_lines, say_nothing };

/* ------------------------------------------------------------------ every one --------- */

static int setup(struct weir_request *req)
{
    const struct host *host = weir_user(req);

    host_tell(host, "setup");
    return host->setup == 0 ? 0 : -EIO;
}

static int handle(struct weir_request *req)
{
    const struct host *host = weir_user(req);

    host_tell(host, "handle");
    return handlers[host->kind](req);
}

static int finish(struct weir_request *req, int status)
{
    const struct host *host = weir_user(req);

    (void)status;
    host_tell(host, "finish");
    return host->finish == 0 ? 0 : -EIO;
}

void handlers_set(struct host *host)
{
    host->handler.name = "conformance";
    host->handler.setup = setup;
    host->handler.handle = handle;
    host->handler.finish = finish;
}
