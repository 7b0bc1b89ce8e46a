/*
 * epoll.h - epoll sets as Linux has them.
 *
 * A set has a list of entries that may be ready. An entry comes onto it when its file tells of one
 * of the events that it wants, whether the file was ready before or not: that is the edge. It is
 * looked at when somebody waits, and told if the file has any of the events then; a level-triggered
 * one stays on the list.
 *
 * Threads: one. Owns: its entries. Blocks: epoll_wait_for.
 */
#ifndef WEIR_SIMULATION_EPOLL_H
#define WEIR_SIMULATION_EPOLL_H

#include "tests/simulation/files.h"

/* A descriptor, or -errno. */
int epoll_open(void);

/* 0 or -errno, as epoll_ctl(2). */
int epoll_change(int epfd, int op, int fd, const struct epoll_event *event);

/* How many, or -errno; timeout_ms -1: it waits for ever. */
int epoll_wait_for(int epfd, struct epoll_event *events, int max, int timeout_ms);

/* Returns true if the thread sleeps in a wait for that set. */
bool epoll_is_slept_in(int epfd);

/* For a mutant of the kernel's: one edge in so many is dropped; 0: none. */
void epoll_drop_once_in(uint64_t in);

#endif
