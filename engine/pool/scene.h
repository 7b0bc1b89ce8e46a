/*
 * scene.h - what the calling thread is at, and for whom: for the report of a crash.
 *
 * Threads: any; it is asked in signal handlers.
 */
#ifndef WEIR_SCENE_H
#define WEIR_SCENE_H

#include "engine/fiber/crash.h"

/* A crash_find_scene. task is a struct task. */
void scene_find(const void *task, struct crash_scene *scene);

#endif
