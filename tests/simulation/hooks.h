/*
 * hooks.h - how much the engine's accesses to memory weigh as points (scheduler.h).
 *
 * Threads: one. Blocks: as scheduler_point does.
 */
#ifndef WEIR_SIMULATION_HOOKS_H
#define WEIR_SIMULATION_HOOKS_H

#include <stdint.h>

void hooks_weigh(uint32_t plain, uint32_t atomic);

#endif
