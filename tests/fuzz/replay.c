/*
 * replay.c - gives a target each input of the files named: what has been found once, and a corpus
 * that reaches all that fuzzing has reached.
 *
 * A line is an input. \xNN is such a byte, \r \n \t \0 and \\ are what they are in C. Lines that
 * are empty or begin with '#' are none.
 *
 * A child does the work, since a sanitizer ends the process; so that there is somebody to say
 * which line it was.
 */
#include "tests/fuzz/input.h"

#include <stdbool.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Seen by both processes. */
struct place {
    char file[256];
    unsigned line;
    unsigned inputs;
};

static struct place *place;

static int hex_of(char c)
{
    return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

static char *unescape(char *at, char **ret_end)
{
    static const char names[] = "rnt0\\", bytes[] = "\r\n\t\0\\";
    const char *name;

    if (at[1] == 'x' && at[2] != '\0' && at[3] != '\0') {
        *(*ret_end)++ = (char)(hex_of(at[2]) << 4 | hex_of(at[3]));
        return at + 4;
    }
    name = at[1] != '\0' ? strchr(names, at[1]) : NULL;
    if (!name) {
        fprintf(stderr, "%s:%u: a \\ that means nothing\n", place->file, place->line);
        exit(2);
    }
    *(*ret_end)++ = bytes[name - names];
    return at + 2;
}

/* In place. Returns the length. */
static size_t decode(char *line)
{
    char *end = line, *at = line;

    while (*at != '\0' && *at != '\n') {
        if (*at == '\\')
            at = unescape(at, &end);
        else
            *end++ = *at++;
    }
    return (size_t)(end - line);
}

/* A copy of its own, so that a sanitizer sees where it ends. */
static void run_input(const char *bytes, size_t len)
{
    uint8_t *data = malloc(len > 0 ? len : 1);

    if (!data)
        abort();
    memcpy(data, bytes, len);
    LLVMFuzzerTestOneInput(data, len);
    free(data);
    place->inputs++;
}

static void run_file(const char *name)
{
    FILE *file = fopen(name, "r");
    char *line = NULL;
    size_t size = 0;

    snprintf(place->file, sizeof(place->file), "%s", name);
    place->line = 0;
    if (!file) {
        perror(name);
        exit(2);
    }
    while (getline(&line, &size, file) > 0) {
        place->line++;
        if (line[0] != '\n' && line[0] != '#')
            run_input(line, decode(line));
    }
    free(line);
    fclose(file);
}

int main(int argc, char **argv)
{
    int status = 0;
    pid_t child;

    place = mmap(NULL, sizeof(*place), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED)
        return 2;
    child = fork();
    if (child == 0) {
        for (int i = 1; i < argc; i++)
            run_file(argv[i]);
        return 0;
    }
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return 2;
    if (status != 0) {
        fprintf(stderr, "%s:%u: this input ended it\n", place->file, place->line);
        return 1;
    }
    printf("%u inputs\n", place->inputs);
    return place->inputs > 0 ? 0 : 2;
}
