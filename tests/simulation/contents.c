#include "tests/simulation/contents.h"

#include "tests/simulation/files.h"
#include "tests/simulation/language.h"

/* It is always ready, and no epoll set takes it: nobody asks. */
static uint32_t contents_poll(struct file *file)
{
    (void)file;
    return EPOLLIN | EPOLLOUT;
}

static void contents_close(struct file *file)
{
    (void)file;
}

static const struct file_kind contents_kind = { "contents", contents_poll, contents_close };

int contents_open(void)
{
    static struct file file;

    file_init(&file, &contents_kind);
    return file_open(&file);
}

bool contents_is_one(int fd)
{
    const struct file *file = file_of(fd);

    return file && file->kind == &contents_kind;
}

ssize_t contents_read(void *buf, size_t len, off_t offset)
{
    unsigned char *bytes = buf;
    size_t at = offset < CONTENTS_LEN ? (size_t)offset : CONTENTS_LEN;

    if (len > CONTENTS_LEN - at)
        len = CONTENTS_LEN - at;
    for (size_t i = 0; i < len; i++)
        bytes[i] = language_big_byte(0, at + i);
    return (ssize_t)len;
}
