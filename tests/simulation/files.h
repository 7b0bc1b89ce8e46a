/*
 * files.h - the simulated kernel's files: descriptors, who watches a file, and who is woken.
 *
 * Threads: one. Owns: a file, until its last descriptor is closed.
 * Blocks:  never; poll(2) is in calls.c, epoll_wait(2) in epoll.c.
 */
#ifndef WEIR_SIMULATION_FILES_H
#define WEIR_SIMULATION_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#define FILES_MAX 1024

struct file;

/* What a kind of file does. */
struct file_kind {
    const char *name;
    uint32_t (*poll)(struct file *file);        /* the events that are there now */
    void (*close)(struct file *file);           /* it has no descriptor any more */
};

/* An entry of an epoll set: epoll.c's. */
struct watch {
    struct epoll *set;
    struct file *file;
    int fd;
    uint32_t events;
    uint64_t data;
    bool is_ready;
    struct watch *next_of_set, *next_of_file, *next_ready;
};

struct file {
    const struct file_kind *kind;
    struct watch *watches, **watches_end;   /* in the order in which they came */
    unsigned descriptors;
    unsigned number;                        /* for traces: each file has another */
    bool nonblocking;
};

void file_init(struct file *file, const struct file_kind *kind);

/* The lowest free descriptor from 3 on, for the file; or -EMFILE. */
int file_open(struct file *file);

/* The descriptor is another file's from now on, and the one before has one less. */
void file_replace(int fd, struct file *file);

/* NULL: there is no such descriptor. */
struct file *file_of(int fd);

/* 0 or -EBADF. */
int file_close(int fd);

/* Something has happened to it: those hear of it who want one of these events; 0: all of them. */
void file_tell(struct file *file, uint32_t events);

/* How many descriptors may be open, and are. */
void files_limit(unsigned limit);
unsigned files_open(void);
void files_print_open(void);

/* epoll.c: of a file that goes, and of one that something has happened to. */
void epoll_forget(struct file *file);
void epoll_tell(struct file *file, uint32_t events);

/* The reason of those who wait in poll(2). */
extern const char files_poll_reason;

#endif
