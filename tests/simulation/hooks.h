/*
 * hooks.h - how much the engine's accesses to memory weigh as points (scheduler.h), and which of
 * them hold whoever comes by.
 *
 * Threads: one. Blocks: as scheduler_point does.
 */
#ifndef WEIR_SIMULATION_HOOKS_H
#define WEIR_SIMULATION_HOOKS_H

#include <stdint.h>

void hooks_weigh(uint32_t plain, uint32_t atomic);

/* Some places of the code, by the seed's dice, at which threads lose the CPU for a while. */
void hooks_choose_places(uint64_t seed);

#endif
