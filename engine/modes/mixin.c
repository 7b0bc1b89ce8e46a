#include "engine/modes/mixin.h"

#include "engine/base/log.h"

#include <sys/wait.h>

void mixin_tell_death(const struct mixin_config *config, pid_t pid, int status, int error,
                      const char *peer, const char *handler)
{
    if (WIFSIGNALED(status))
        log_line(LOG_CHILD, "child %d was ended by signal %d", (int)pid, WTERMSIG(status));
    config->handle_error(config->server, &(const struct weir_failure){
        .phase = WEIR_PHASE_PROCESS, .error = error, .peer = peer, .handler = handler,
    });
}
