#include "engine/base/ensure.h"

#include "engine/base/misuse.h"

void ensure_fail(const char *condition, const char *file, int line)
{
    misuse_die("a fault of weir's, or memory that something has written over: %s, line %d: '%s' "
               "does not hold", file, line, condition);
}
