/* old_kernel.c - a madvise(2) that comes before the C library's. */
#include "tests/old_kernel.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

#define END_MAX ((size_t)2 << 20)

bool old_kernel;

bool mappings_have_an_end(void)
{
    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
    size_t max;
    bool read_it = file && fscanf(file, "%zu", &max) == 1;

    if (file)
        fclose(file);
    return read_it && max <= END_MAX;
}

int madvise(void *addr, size_t len, int advice)
{
    if (old_kernel && advice == MADV_GUARD_INSTALL) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_madvise, addr, len, advice);
}
