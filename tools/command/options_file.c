/*
 * options_file.c - see options_file.h.
 *
 * Only a regular file will do: whoever reads it again, or another process that does, must find the
 * same, and no reader waits for it.
 *
 * Whether it has changed is asked of its bytes: a file that was written anew with the same words,
 * as tools do that write all of their files each time, is worth no restart, and one that was
 * written within a tick of the clock has a new content at the old time. Where it can't be read,
 * as in a sandbox, what stat(2) says has to do.
 */
#include "tools/command/options_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_MAX_READ (1 << 20)

static int refuse_file(const struct arguments *it, const char *path, const char *why)
{
    return arguments_refuse(it->command, "--options: %s: %s", path, why);
}

/* ------------------------------------------------------------------ a line ------------ */

static bool is_blank_char(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Ends the text where a comment begins. */
static void cut_comment(char *line)
{
    for (char *at = line; *at; at++)
        if (*at == '#' && (at == line || is_blank_char(at[-1]))) {
            *at = '\0';
            return;
        }
}

/* Without blanks around it. */
static char *trim(char *text)
{
    char *end = text + strlen(text);

    while (end > text && is_blank_char(end[-1]))
        end--;
    *end = '\0';
    while (is_blank_char(*text))
        text++;
    return text;
}

static int take_option(const struct arguments *it, void *settings, char *line)
{
    char *equals;

    cut_comment(line);
    line = trim(line);
    if (*line == '\0')
        return 0;
    equals = strchr(line, '=');
    if (!equals)
        return arguments_take(it, settings, line, NULL);
    *equals = '\0';
    return arguments_take(it, settings, trim(line), trim(equals + 1));
}

static int take_options(struct options_file *file, const struct arguments *it, void *settings)
{
    char *line = file->text;
    int r = 0;

    for (unsigned number = 1; r == 0 && line; number++) {
        char *next = strchr(line, '\n');

        if (next)
            *next++ = '\0';
        arguments_are_at(file->path, number);
        r = take_option(it, settings, line);
        line = next;
    }
    arguments_are_at(NULL, 0);
    return r;
}

/* ------------------------------------------------------------------ the file ---------- */

static void note_identity(struct options_file *file, const struct stat *now)
{
    file->dev = now->st_dev;
    file->ino = now->st_ino;
    file->size = now->st_size;
    file->changed = now->st_mtim;
}

/* All of it: 0, or -errno. A file that grows meanwhile has changed, which is seen later. */
static int read_all(int fd, char *text, size_t size)
{
    size_t len = 0;
    ssize_t n = 1;

    while (n != 0 && len < size) {
        n = read(fd, text + len, size - len);
        if (n < 0 && errno != EINTR)
            return -errno;
        len += n > 0 ? (size_t)n : 0;
    }
    text[len] = '\0';
    return strlen(text) == len ? 0 : -EBADMSG;
}

static int load_from(struct options_file *file, int fd)
{
    struct stat now;

    if (fstat(fd, &now) < 0)
        return -errno;
    if (!S_ISREG(now.st_mode))
        return -ENOTSUP;
    if (now.st_size > SIZE_MAX_READ)
        return -EFBIG;
    note_identity(file, &now);
    file->content = malloc((size_t)now.st_size + 1);
    return file->content ? read_all(fd, file->content, (size_t)now.st_size) : -ENOMEM;
}

/* 0, or -errno: -ENOTSUP it is no regular file; -EFBIG; -EBADMSG it has a NUL byte. */
static int load(struct options_file *file)
{
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int r;

    if (fd < 0)
        return -errno;
    r = load_from(file, fd);
    close(fd);
    return r;
}

static const char *reason(int error)
{
    switch (error) {
    case -ENOTSUP:
        return "it is no regular file";
    case -EFBIG:
        return "it is larger than 1M";
    case -EBADMSG:
        return "it has a NUL byte";
    default:
        return strerrordesc_np(-error);
    }
}

int options_file_read(struct options_file *ret_file, const struct arguments *it, void *settings,
                      const char *path)
{
    int r;

    *ret_file = (struct options_file){ .path = path };
    r = load(ret_file);
    if (r == 0) {
        ret_file->text = strdup(ret_file->content);
        r = ret_file->text ? 0 : -ENOMEM;
    }
    return r < 0 ? refuse_file(it, path, reason(r)) : take_options(ret_file, it, settings);
}

static bool was_written(const struct options_file *file)
{
    struct stat now;

    if (stat(file->path, &now) < 0)
        return true;
    return now.st_dev != file->dev || now.st_ino != file->ino || now.st_size != file->size ||
           now.st_mtim.tv_sec != file->changed.tv_sec ||
           now.st_mtim.tv_nsec != file->changed.tv_nsec;
}

bool options_file_has_changed(const struct options_file *file)
{
    struct options_file now = { .path = file->path };
    bool has_changed = load(&now) == 0 ? strcmp(now.content, file->content) != 0
                                       : was_written(file);

    free(now.content);
    return has_changed;
}
