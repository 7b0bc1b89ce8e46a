/*
 * backend_handlers.h - what the suite's clients talk to: see protocol.md, "obey".
 */
#ifndef WEIR_TESTS_CONFORMANCE_BACKEND_HANDLERS_H
#define WEIR_TESTS_CONFORMANCE_BACKEND_HANDLERS_H

struct host;

/* Sets the handler of host->kind: 0 obey, 1 echo, 2 mute. */
void handlers_set(struct host *host);

#endif
