/*
 * datagrams.h - UDP sockets of the simulated kernel.
 *
 * Threads: one. Owns: what waits in a socket. Blocks: never.
 */
#ifndef WEIR_SIMULATION_DATAGRAMS_H
#define WEIR_SIMULATION_DATAGRAMS_H

#include "tests/simulation/files.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define DATAGRAM_MAX 2048

/* A descriptor, or -errno. */
int datagrams_open(void);
bool datagrams_is_one(int fd);
int datagrams_bind(int fd, const struct sockaddr_in *name);
int datagrams_name(int fd, struct sockaddr_in *ret);

/* How many, or -errno, as recvmmsg(2) and sendmmsg(2) that don't wait. */
int datagrams_receive(int fd, struct mmsghdr *messages, unsigned len);
int datagrams_send(int fd, struct mmsghdr *messages, unsigned len);
int datagrams_send_one(int fd, const struct msghdr *message);

/* ---- clients ---- */

/* Who is told of what is sent to a port. */
struct datagram_peer {
    struct sockaddr_in name;
    void (*receive)(struct datagram_peer *peer, const unsigned char *data, size_t len);
};

void datagrams_meet(struct datagram_peer *peer);

/* From a peer to a socket's port. False: nobody is bound there, or there is no room: it is lost. */
bool datagrams_arrive(uint16_t port, const struct datagram_peer *peer, const unsigned char *data,
                      size_t len);

/* How many wait to be received. */
unsigned datagrams_waiting(void);

#endif
