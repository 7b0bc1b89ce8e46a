/*
 * multicast_sender.c - sends a message to a group, and prints who acknowledges it until nobody has
 * for a fifth of a second. A TTL of 1 keeps it within the local network. No weir in it.
 *
 * Run:     multicast_sender GROUP PORT [INTERFACE]
 * Try:     multicast_sender 224.3.29.71 10000 lo          (beside multicast_receiver)
 * Python:  sock.settimeout(0.2); sock.setsockopt(IPPROTO_IP, IP_MULTICAST_TTL, 1); sock.sendto()
 */
#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* A socket whose multicasts leave by the interface (NULL: by the default one), or -1. */
static int open_sender(const char *interface)
{
    struct ip_mreqn out = { .imr_ifindex = interface ? (int)if_nametoindex(interface) : 0 };
    struct timeval fifth = { .tv_usec = 200000 };
    unsigned char ttl = 1;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    if (fd < 0 || setsockopt(fd, IPPROTO_IP, IP_MULTICAST_TTL, &ttl, sizeof(ttl)) < 0 ||
        setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &out, sizeof(out)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &fifth, sizeof(fifth)) < 0)
        return -1;
    return fd;
}

int main(int argc, char **argv)
{
    static const char message[] = "very important data";
    struct sockaddr_in group = { .sin_family = AF_INET };
    struct sockaddr_in from;
    socklen_t from_len = sizeof(from);
    char reply[16];
    ssize_t n;
    int fd;

    if (argc < 3 || inet_pton(AF_INET, argv[1], &group.sin_addr) != 1) {
        fprintf(stderr, "usage: multicast_sender GROUP PORT [INTERFACE]\n");
        return 2;
    }
    group.sin_port = htons((uint16_t)atoi(argv[2]));
    fd = open_sender(argc > 3 ? argv[3] : NULL);
    if (fd < 0 || sendto(fd, message, strlen(message), 0, (const struct sockaddr *)&group,
                         sizeof(group)) < 0) {
        perror("multicast_sender");
        return 1;
    }
    while ((n = recvfrom(fd, reply, sizeof(reply), 0, (struct sockaddr *)&from, &from_len)) >= 0)
        printf("received '%.*s' from %s\n", (int)n, reply, inet_ntoa(from.sin_addr));
    close(fd);
    return 0;
}
