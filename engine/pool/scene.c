#include "engine/pool/scene.h"

#include "engine/fiber/fiber.h"
#include "engine/fiber/stack.h"
#include "engine/pool/offload.h"
#include "engine/pool/task.h"
#include "engine/pool/worker.h"

static void tell_of_task(const struct task *task, const char *place, struct crash_scene *scene)
{
    socklen_t len;

    scene->place = place;
    scene->handler = task->conn->handler->name;
    task_peer(task, &scene->peer, &len);
    scene->peer_len = len;
}

/* On no fiber, a thread of a pool may yet be in a signal handler that has a stack of its own. */
static void tell_of_worker(const struct worker *worker, struct crash_scene *scene)
{
    const char *interrupted = worker->alone ? NULL : worker_handler_here();

    if (worker->on_own_stack) {
        tell_of_task(worker->on_own_stack, "handler", scene);
    } else if (interrupted) {
        scene->place = "what has interrupted handler";
        scene->handler = interrupted;
    }
}

void scene_find(const void *task, struct crash_scene *scene)
{
    if (task)
        tell_of_task(task, "handler", scene);
    else if (offload_task_self())
        tell_of_task(offload_task_self(), "what is offloaded by handler", scene);
    else if (worker_self())
        tell_of_worker(worker_self(), scene);
}

/* ------------------------------------------------------------------ another thread ---- */

/* Of memory that stays as long as the pool does, whatever it holds by now. */
#define OTHERS __attribute__((no_sanitize("address", "thread")))

static OTHERS const struct connection *others_connection(const struct worker *worker,
                                                         uintptr_t stack_pointer)
{
    size_t size;
    void *top = stack_holding((const void *)stack_pointer, &size);
    const struct task *task = top ? fiber_task(fiber_on_stack(top)) : worker->on_own_stack;

    return task ? task->conn : NULL;
}

struct looking {
    const struct connection *wanted;
    struct crash_scene *scene;
};

static void take_peer(struct connection *conn, void *arg)
{
    const struct looking *looking = arg;

    if (conn == looking->wanted && conn->kind == CONNECTION_ACCEPTED)
        connection_peer(conn, &looking->scene->peer, &looking->scene->peer_len);
}

void scene_of_blocked(const struct worker *worker, uintptr_t stack_pointer,
                      struct crash_scene *scene)
{
    struct looking looking = { others_connection(worker, stack_pointer), scene };

    if (looking.wanted)
        connection_table_each(&worker->crew->table, take_peer, &looking);
}
