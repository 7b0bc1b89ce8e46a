/*
 * address.h - URIs to socket addresses, and back.
 *
 *   tcp://host:port   udp://host:port   host: a name, an IPv4 address, or [an IPv6 address, %scope
 *                     if need be]; none at all: every address of this machine. port: 0 to 65535,
 *                     or a service's name.
 *   unix:///path      unix:@name   a Unix stream socket's path, or a name in the abstract
 *                     namespace. %XX is the byte XX, so "%25" is a percent sign; a name may hold
 *                     any byte.
 *   unixgram:///path  unixgram:@name   the same of a Unix datagram socket.
 *   fd://N            a descriptor that this process was given; fd://N,N: several sockets.
 *
 * Threads: any. Owns: nothing.
 * Blocks:  address_parse, when it has to resolve a name; see address_is_literal.
 */
#ifndef WEIR_ADDRESS_H
#define WEIR_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

enum address_kind { ADDRESS_IP, ADDRESS_UNIX, ADDRESS_FD };

struct address {
    enum address_kind kind;
    int type;                      /* SOCK_STREAM or SOCK_DGRAM; ADDRESS_FD: 0, it will show */
    int fd;                        /* ADDRESS_FD: which; nothing below is set then */
    bool every;                    /* no host was given: [::] that takes IPv4 too, or 0.0.0.0 */
    socklen_t len;
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
        struct sockaddr_storage ss;
    };
};

/*
 * address_parse resolves names with getaddrinfo and takes the first address it gives. "localhost"
 * is both loopback addresses, whatever the resolver has to say about it. Returns 0, or -errno and
 * the reason in why: -EINVAL the text is wrong, -ENOENT no such host, -EAGAIN the resolver doesn't
 * answer now, -ENOMEM.
 */
int address_parse(const char *uri, struct address *ret, char *why, size_t why_size);

/*
 * All that the name resolves to, in the resolver's order, or all descriptors; to be freed. Returns
 * how many, or -errno.
 */
int address_parse_all(const char *uri, struct address **ret_list, char *why, size_t why_size);

/* What socket(2) says where there is no IPv6, or a policy has it that there is none. */
bool address_family_is_missing(int error);

/* True when address_parse has no name to resolve (a wrong text included): it does not block. */
bool address_is_literal(const char *uri);

/*
 * address_format writes the URI of a socket of that type: "tcp://[::1]:80", "unix:///p",
 * "unix:@n", "unix:" if unnamed; "udp://[::1]:80", "unixgram:///p" and so on for SOCK_DGRAM.
 * Returns its length, -ENOSPC (what fits is written, terminated), or -EAFNOSUPPORT.
 */
int address_format(int type, const struct sockaddr *addr, socklen_t len, char *buf, size_t size);

/*
 * address_text writes a peer for people to read: "127.0.0.1:51234" (also if it came mapped into
 * IPv6), "[::1]:51234", "unix:/p", "unix:@n", "unix:" if unnamed. Returns buf, always
 * terminated, cut off if it must be; without control bytes.
 */
const char *address_text(const struct sockaddr *addr, socklen_t len, char *buf, size_t size);

#endif
