/*
 * body_file.c - see body_file.h.
 */
#include "bench/body_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a failure leaves open goes with the process: the caller has nothing else to do in it. */
int body_file_open(struct body_file *ret_file, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    char *data;

    if (fd < 0 || fstat(fd, &status) < 0)
        return -errno;
    data = malloc((size_t)status.st_size);
    if (!data)
        return -ENOMEM;
    if (read(fd, data, (size_t)status.st_size) != status.st_size)
        return -EIO;
    *ret_file = (struct body_file){ .fd = fd, .len = (size_t)status.st_size, .data = data };
    return 0;
}
