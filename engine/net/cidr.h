/*
 * cidr.h - sets of IPv4 and IPv6 networks; the longest prefix that holds an address answers.
 *
 * A path-compressed binary trie for each family: a node for each network and one for each fork,
 * so 2n at most, and no more steps to an answer than there are forks on the way. Nodes lie in one
 * array and name each other by index.
 *
 * An IPv4 address that comes mapped into IPv6 (::ffff:a.b.c.d) is the IPv4 address; networks of
 * IPv6 say nothing about IPv4, not even ::/0.
 *
 * Threads: a set is changed by one; any number may ask one that nobody changes.
 * Owns:    its nodes. Blocks: never.
 */
#ifndef WEIR_CIDR_H
#define WEIR_CIDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* A network, or a single host. The address begins at the uppermost bit, IPv4's too. */
struct cidr {
    unsigned __int128 bits;     /* behind the prefix: zeros */
    uint8_t len;                /* of the prefix */
    bool v6;
};

/*
 * "10.0.0.0/8", "2001:db8::/32", a single address without a slash. Returns 0, or -EINVAL and a
 * sentence; an address with bits behind its prefix is refused, since it may be a slip of either.
 */
int cidr_parse(const char *text, struct cidr *ret, char *why, size_t why_size);

/* The host that a socket address names. False: it is of neither family. */
bool cidr_of_address(const struct sockaddr *address, socklen_t len, struct cidr *ret);

/* Returns true if it is in 127.0.0.0/8, or ::1. */
bool cidr_is_loopback(const struct cidr *host);

struct cidr_node {
    unsigned __int128 bits;
    uint32_t child[2];          /* by the bit behind the prefix; 0: none */
    uint16_t value;
    uint8_t len;
    bool is_member;             /* it was added; else it is a fork */
};

struct cidr_set {
    struct cidr_node *nodes;    /* from index 1 on */
    uint32_t nodes_len;
    uint32_t nodes_size;
    uint32_t roots[2];          /* IPv4's, IPv6's */
};

/* A set of zeros is empty. fini leaves it so. */
void cidr_set_fini(struct cidr_set *set);

/* 0; -EEXIST: the same network is in it; -ENOMEM, also for more than 2^30 networks. */
int cidr_set_add(struct cidr_set *set, const struct cidr *network, uint16_t value);

/* The value of the smallest network that holds the host, or `none`. */
uint16_t cidr_set_find(const struct cidr_set *set, const struct cidr *host, uint16_t none);

#endif
