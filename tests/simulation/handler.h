/*
 * handler.h - the simulated server's handler: it waits in every call there is, and checks what the
 * call promises (language.h says what it is told to do).
 *
 * Threads: the engine's. Owns: nothing. Blocks: it parks.
 */
#ifndef WEIR_SIMULATION_HANDLER_H
#define WEIR_SIMULATION_HANDLER_H

#include "engine/weir.h"
#include "tests/simulation/conversation.h"

#include <stdint.h>

/* What deadlines the server has, for the handler to check. */
struct handler_deadlines {
    uint32_t read_ms, write_ms, request_ms, head_ms, progress_ms;
    uint32_t rest_ms;       /* ... which a read may have outlived before handle() is called */
    uint32_t grain_ms;      /* how much later than said a wait may end */
};

extern struct handler_deadlines handler_deadlines;

/* A file whose bytes are known (contents.h), and where somebody says lines back (upstream.h). */
extern int handler_file;
extern const char *handler_upstream;

extern struct weir_handler handler_lines;
extern struct weir_handler handler_datagrams;       /* each of them a line */

/*
 * For handlers of other protocols: setup() and finish(); a call of handle(), which serve makes and
 * which waits for what phase says; a wait, or what else a letter says (language.h), behind which
 * the phase is another one; the request's conversation; and the digits of a line.
 */
int handler_set_up(struct weir_request *req);
int handler_finish(struct weir_request *req, int status);
int handler_serve_one(struct weir_request *req, enum phase phase,
                      int (*serve)(struct weir_request *req));
int handler_do(struct weir_request *req, char what, uint32_t number);
struct conversation *handler_talk(struct weir_request *req);
uint32_t handler_number_in(const char *line);

/* How many requests have been answered. */
extern uint64_t handler_requests;

#endif
