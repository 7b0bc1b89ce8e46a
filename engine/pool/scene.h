/*
 * scene.h - what the calling thread is at, and for whom: for the report of a crash.
 *
 * Threads: any; it is asked in signal handlers.
 */
#ifndef WEIR_SCENE_H
#define WEIR_SCENE_H

#include "engine/fiber/crash.h"

#include <stdint.h>

struct worker;

/*
 * Whom the handler serves that another thread, a worker, is blocked in; its stack ends there. What
 * is read of that thread may be old, so a connection counts only if it is in the table: of a
 * datagram nothing is told.
 */
void scene_of_blocked(const struct worker *worker, uintptr_t stack_pointer,
                      struct crash_scene *scene);

/* A crash_find_scene. task is a struct task. */
void scene_find(const void *task, struct crash_scene *scene);

#endif
