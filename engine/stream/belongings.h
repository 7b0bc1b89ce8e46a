/*
 * belongings.h - what a request has besides its connection, and what ends with this call of its
 * handler: children, and streams that weir_connect has opened.
 *
 * Few requests have any, so that all of it hangs on one pointer, which is looked at once a call.
 *
 * Threads: the fiber's.
 * Owns:    all that it names.
 * Parks:   belongings_end.
 */
#ifndef WEIR_BELONGINGS_H
#define WEIR_BELONGINGS_H

#include "engine/stream/request.h"

#include <stdbool.h>

/* A root's. Its children are its task's: see family.h. */
struct belongings {
    struct weir_request *opened;    /* weir_connect's, a list */
};

/* The root has belongings from now on, if it had none. False: no memory. */
bool belongings_have(struct weir_request *root);

/* The first of what weir_connect has opened, or NULL. */
static inline struct weir_request *belongings_opened(const struct weir_request *root)
{
    return root->belongings ? root->belongings->opened : NULL;
}

/*
 * The handler's function has returned status: waits for the children, whose waits are cancelled if
 * it has failed, then hangs up what is open. There are belongings.
 */
void belongings_end(struct weir_request *root, int status);

#endif
