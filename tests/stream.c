#include "tests/stream.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const struct way ways[WAYS] = {
    { .name = "tcp, worker", .family = AF_INET },
    { .name = "tcp, acceptor", .family = AF_INET, .dispatch = WEIR_DISPATCH_ACCEPTOR },
    { .name = "unix, worker", .family = AF_UNIX },
    { .name = "unix, acceptor", .family = AF_UNIX, .dispatch = WEIR_DISPATCH_ACCEPTOR },
    { .name = "tcp, worker, its own stack", .family = AF_INET, .stack = WEIR_STACK_THREAD },
    { .name = "unix, acceptor, its own stack", .family = AF_UNIX,
      .dispatch = WEIR_DISPATCH_ACCEPTOR, .stack = WEIR_STACK_THREAD },
    { .name = "tcp, a thread each", .family = AF_INET, .stack = WEIR_STACK_THREAD,
      .concurrency = WEIR_THREAD },
    { .name = "unix, a thread each", .family = AF_UNIX, .stack = WEIR_STACK_THREAD,
      .concurrency = WEIR_THREAD },
};

const struct way *way = ways;

/* ------------------------------------------------------------------ the server -------- */

static struct weir_server *served;
static struct weir_handler handler_of_way;

/* Most errors here are wanted; what the test wants to know of them is in the statistics. */
static void keep_quiet(struct weir_server *server, const struct weir_failure *failure)
{
    (void)server;
    (void)failure;
}

const char *stream_listen(void)
{
    static char name[64];
    static unsigned count;

    if (way->family == AF_INET)
        return "tcp://127.0.0.1:0";
    snprintf(name, sizeof(name), "unix:@weir-stream-%d-%u", (int)getpid(), count++);
    return name;
}

struct weir_server *stream_serve(const struct weir_handler *handler,
                                 const struct weir_options *options)
{
    struct weir_options mine = *options;

    assert_null(served);
    handler_of_way = *handler;
    handler_of_way.stack = way->stack;
    mine.handler = &handler_of_way;
    mine.listen = stream_listen();
    mine.dispatch = way->dispatch;
    mine.concurrency = way->concurrency;
    if (!mine.handle_error)
        mine.handle_error = keep_quiet;
    if (mine.workers == 0)
        mine.workers = 2;
    served = support_start(&mine);
    return served;
}

/* ------------------------------------------------------------------ the notebook ------ */

static struct {
    pthread_mutex_t lock;
    size_t len;
    char text[16384];
} notes = { .lock = PTHREAD_MUTEX_INITIALIZER };

void note_bytes(const void *data, size_t len)
{
    pthread_mutex_lock(&notes.lock);
    if (len < sizeof(notes.text) - notes.len) {
        memcpy(notes.text + notes.len, data, len);
        notes.len += len;
        notes.text[notes.len] = '\0';
    }
    pthread_mutex_unlock(&notes.lock);
}

void note(const char *format, ...)
{
    char text[256];
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    note_bytes(text, (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1);
}

size_t notes_len(void)
{
    size_t len;

    pthread_mutex_lock(&notes.lock);
    len = notes.len;
    pthread_mutex_unlock(&notes.lock);
    return len;
}

const char *notes_wait(size_t len)
{
    struct support_patience patience = support_patience();
    static char got[sizeof(notes.text)];

    while (notes_len() < len && support_now_ms() < patience.until_ms)
        poll(NULL, 0, 1);
    /* A copy: an assertion that fails does not return, and would leave it locked. */
    pthread_mutex_lock(&notes.lock);
    memcpy(got, notes.text, notes.len + 1);
    pthread_mutex_unlock(&notes.lock);
    return got;
}

void notes_expect(const char *text)
{
    assert_string_equal(notes_wait(strlen(text)), text);
}

/* ------------------------------------------------------------------ begin and end ----- */

int stream_begin(void **state)
{
    (void)state;
    pthread_mutex_lock(&notes.lock);
    notes.len = 0;
    notes.text[0] = '\0';
    pthread_mutex_unlock(&notes.lock);
    return 0;
}

int stream_end(void **state)
{
    (void)state;
    if (!served)
        return 0;
    weir_server_shutdown(served);
    weir_server_cancel(served);
    weir_server_destroy(served);
    served = NULL;
    return 0;
}
