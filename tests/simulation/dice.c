#include "tests/simulation/dice.h"

/* Steele, Lea and Flood's SplitMix: each number is a hash of a counter. */
#define STEP UINT64_C(0x9e3779b97f4a7c15)

void dice_init(struct dice *dice, uint64_t seed)
{
    dice->state = seed * STEP + STEP;
}

uint64_t dice_roll(struct dice *dice)
{
    uint64_t x = dice->state += STEP;

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

uint64_t dice_below(struct dice *dice, uint64_t below)
{
    /* The upper half of a product: no division, and no bias that anybody could notice. */
    return (uint64_t)((unsigned __int128)dice_roll(dice) * below >> 64);
}

uint64_t dice_between(struct dice *dice, uint64_t least, uint64_t most)
{
    return least + dice_below(dice, most - least + 1);
}

bool dice_once_in(struct dice *dice, uint64_t in)
{
    return in > 0 && dice_below(dice, in) == 0;
}

uint64_t dice_around(struct dice *dice, uint64_t middle)
{
    uint64_t roll = dice_roll(dice);
    unsigned doublings = (unsigned)__builtin_ctzll(roll | 256);

    /* Half of them below the middle, a quarter below twice that, and so on. */
    return 1 + dice_below(dice, middle << doublings);
}
