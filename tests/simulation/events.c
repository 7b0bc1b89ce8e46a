#include "tests/simulation/events.h"

#include <errno.h>
#include <stdlib.h>

struct counter {
    struct file file;
    uint64_t count;
};

void *__real_malloc(size_t size);
void __real_free(void *memory);

static uint32_t counter_poll(struct file *file)
{
    const struct counter *counter = (const struct counter *)file;

    return EPOLLOUT | (counter->count > 0 ? EPOLLIN : 0u);
}

static void counter_close(struct file *file)
{
    __real_free(file);
}

static const struct file_kind counter_kind = { "eventfd", counter_poll, counter_close };

int events_open(void)
{
    struct counter *counter = __real_malloc(sizeof(*counter));
    int fd;

    if (!counter)
        abort();
    file_init(&counter->file, &counter_kind);
    counter->count = 0;
    fd = file_open(&counter->file);
    if (fd < 0)
        __real_free(counter);
    return fd;
}

static int counter_of(int fd, struct counter **ret)
{
    struct file *file = file_of(fd);

    if (!file)
        return -EBADF;
    if (file->kind != &counter_kind)
        return -EINVAL;
    *ret = (struct counter *)file;
    return 0;
}

int events_add(int fd, uint64_t count)
{
    struct counter *counter;
    int r = counter_of(fd, &counter);

    if (r < 0)
        return r;
    if (count > UINT64_MAX - 1 - counter->count)
        return -EAGAIN;
    counter->count += count;
    file_tell(&counter->file, EPOLLIN);
    return 0;
}

int events_take(int fd, uint64_t *ret_count)
{
    struct counter *counter;
    int r = counter_of(fd, &counter);

    if (r < 0)
        return r;
    if (counter->count == 0)
        return -EAGAIN;
    *ret_count = counter->count;
    counter->count = 0;
    file_tell(&counter->file, EPOLLOUT);
    return 0;
}
