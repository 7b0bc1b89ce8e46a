#include "tests/simulation/files.h"

#include "tests/simulation/scheduler.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>

/* 0 to 2 are the standard streams. */
#define FIRST 3

static struct file *files[FILES_MAX];
static unsigned limit = FILES_MAX, open_len, numbers;
const char files_poll_reason;

void file_init(struct file *file, const struct file_kind *kind)
{
    *file = (struct file){ .kind = kind, .number = ++numbers };
    file->watches_end = &file->watches;
}

int file_open(struct file *file)
{
    for (int fd = FIRST; fd < (int)limit; fd++) {
        if (files[fd])
            continue;
        files[fd] = file;
        file->descriptors++;
        open_len++;
        return fd;
    }
    return -EMFILE;
}

struct file *file_of(int fd)
{
    return fd >= FIRST && fd < FILES_MAX ? files[fd] : NULL;
}

static void release(struct file *file)
{
    if (--file->descriptors > 0)
        return;
    epoll_forget(file);
    file->kind->close(file);
}

void file_replace(int fd, struct file *file)
{
    struct file *before = files[fd];

    files[fd] = file;
    file->descriptors++;
    release(before);
}

int file_close(int fd)
{
    struct file *file = file_of(fd);

    if (!file)
        return -EBADF;
    files[fd] = NULL;
    open_len--;
    release(file);
    return 0;
}

void file_tell(struct file *file, uint32_t events)
{
    epoll_tell(file, events);
    scheduler_wake(&files_poll_reason, true);
}

void files_limit(unsigned wanted)
{
    limit = wanted < FILES_MAX ? wanted : FILES_MAX;
}

unsigned files_open(void)
{
    return open_len;
}

void files_print_open(void)
{
    for (int fd = FIRST; fd < FILES_MAX; fd++)
        if (files[fd])
            printf("open: %d, %s %u\n", fd, files[fd]->kind->name, files[fd]->number);
}
