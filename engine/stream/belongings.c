#include "engine/stream/belongings.h"

#include <errno.h>
#include <stdlib.h>

bool belongings_have(struct weir_request *root)
{
    if (!root->belongings)
        root->belongings = calloc(1, sizeof(*root->belongings));
    return root->belongings;
}

void belongings_end(struct weir_request *root, int status)
{
    struct belongings *belongings = root->belongings;

    if (root->task->family)
        family_end(root->task, status < 0);
    while (belongings->opened)
        weir_hangup(belongings->opened);
    root->belongings = NULL;
    free(belongings);
}

/* ------------------------------------------------------------------ children ---------- */

/* Nobody reads or writes but the caller: of what it opens later nobody does, either. */
static void note_no_user(struct weir_request *root)
{
    root->reader = NULL;
    root->writer = NULL;
}

static int have_family(struct weir_request *root)
{
    int r;

    if (root->task->family)
        return 0;
    if (!belongings_have(root))
        return -ENOMEM;
    r = family_begin(root->task);
    if (r == 0)
        note_no_user(root);
    return r;
}

int weir_spawn(struct weir_request *req, int (*fn)(struct weir_request *req, void *arg), void *arg)
{
    request_check(req, "weir_spawn");
    struct weir_request *root = request_root(req);
    int r;

    if (!root->task->fiber)
        return -EOPNOTSUPP;
    r = have_family(root);
    return r < 0 ? r : family_spawn(request_task(root), fn, root, arg);
}

int weir_join(struct weir_request *req, int child)
{
    request_check(req, "weir_join");
    struct task *task = request_task(req);

    if (!task->family)
        return child == WEIR_ALL_CHILDREN ? 0 : -ESRCH;
    return family_join(task, child);
}

void weir_cancel_others(struct weir_request *req)
{
    request_check(req, "weir_cancel_others");
    struct task *task = request_task(req);

    if (task->family)
        family_cancel_others(task);
}
