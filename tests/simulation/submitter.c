#include "tests/simulation/submitter.h"

#include "tests/simulation/client.h"
#include "tests/simulation/conversation.h"
#include "tests/simulation/files.h"
#include "tests/simulation/report.h"
#include "tests/simulation/scheduler.h"
#include "tests/simulation/streams.h"
#include "tests/simulation/trace.h"

#include <arpa/inet.h>
#include <errno.h>

#define BACKLOG 64

static int listening = -1;

void submitter_listen(struct submitter *submitter)
{
    struct sockaddr_in name = {
        .sin_family = AF_INET, .sin_port = htons(submitter->port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };

    listening = streams_socket();
    if (listening < 0)
        return;
    streams_bind(listening, (const struct sockaddr *)&name);
    streams_listen(listening, BACKLOG);
}

/* What says that it is not to be served: no place, or a server that closes. */
static bool may_say(const struct submitter *submitter, int r)
{
    return submitter->may_refuse || client_excuses.cancelled || client_excuses.stopped_ns != 0 ||
           (r == -ESHUTDOWN && submitter->stops);
}

/* From the call on the descriptor is the server's, which may have closed it when this goes on. */
static void hand_on(const struct submitter *submitter, int fd)
{
    struct conversation *talk = stream_of(fd)->user;
    int r = weir_submit_fd(submitter->server, fd, NULL);

    trace_note("submitter", 0, "descriptor %ld: %ld", fd, r, 0);
    if (r == 0)
        return;
    if (!may_say(submitter, r))
        report_failure("weir_submit_fd says %d: %s", r, weir_why());
    talk->turned_away = true;
    file_close(fd);
}

void *submitter_main(void *arg)
{
    const struct submitter *submitter = arg;
    int fd;

    while (listening >= 0 && !submitter->stops) {
        fd = streams_accept(listening);
        if (fd >= 0)
            hand_on(submitter, fd);
        else
            scheduler_block(&files_poll_reason, scheduler_now_ns() + MS_NS);
    }
    if (listening >= 0)
        file_close(listening);
    return NULL;
}

void submitter_stop(struct submitter *submitter)
{
    submitter->stops = true;
    scheduler_wake(&files_poll_reason, true);
}
