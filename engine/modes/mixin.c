#include "engine/modes/mixin.h"

#include <stddef.h>

int mixin_needs_nothing(struct mixin *mixin)
{
    (void)mixin;
    return 0;
}

void mixin_has_nobody(struct mixin *mixin)
{
    (void)mixin;
}

void mixin_calls_nobody(struct mixin *mixin, struct roll *roll)
{
    (void)mixin;
    (void)roll;
}

void mixin_destroy(struct mixin *mixin)
{
    if (mixin)
        mixin->destroy(mixin);
}
