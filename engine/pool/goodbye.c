#include "engine/pool/goodbye.h"

#include "engine/base/sys.h"

#include <errno.h>

/* Of what the client has asked: more than that it may send for longer than anybody waits. */
#define DISCARD_MAX ((size_t)64 << 10)

static void say(int fd, const struct weir_handler *handler)
{
    if (handler->goodbye_len > 0)
        sys_send(fd, handler->goodbye, handler->goodbye_len);
}

void goodbye_say(int fd, const struct weir_handler *handler)
{
    sys_discard(fd, DISCARD_MAX);
    say(fd, handler);
}

bool goodbye_say_if_asked(int fd, const struct weir_handler *handler)
{
    if (sys_discard(fd, DISCARD_MAX) == -EAGAIN && handler->client_first == WEIR_YES)
        return false;
    say(fd, handler);
    return true;
}
