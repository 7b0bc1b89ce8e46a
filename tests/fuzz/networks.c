/*
 * networks.c - for networks_test.py: what engine/net/cidr.h makes of networks and addresses.
 *
 * A line of standard input is a letter, a blank and a text; a line of standard output answers it:
 *   n TEXT    reads a network and adds it to the set: "4 8 0a000000..." (family, length of the
 *             prefix, 32 digits), or "-" if it is none
 *   h TEXT    looks an address up: the number of the smallest network that holds it, from 0 on, or
 *             "-"
 *   c         empties the set
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/net/cidr.h"

enum { NONE = UINT16_MAX };

static struct cidr_set set;
static uint16_t added;

static void add_network(const char *text)
{
    struct cidr network;
    char why[256];

    if (cidr_parse(text, &network, why, sizeof(why)) < 0) {
        puts("-");
        return;
    }
    printf("%d %u %016llx%016llx\n", network.v6 ? 6 : 4, network.len,
           (unsigned long long)(network.bits >> 64), (unsigned long long)network.bits);
    cidr_set_add(&set, &network, added++);
}

static void look_up(const char *text)
{
    struct cidr host;
    char why[256];
    uint16_t found = NONE;

    if (cidr_parse(text, &host, why, sizeof(why)) == 0)
        found = cidr_set_find(&set, &host, NONE);
    if (found == NONE)
        puts("-");
    else
        printf("%u\n", found);
}

static void answer(const char *line)
{
    if (line[0] == 'n') {
        add_network(line + 2);
    } else if (line[0] == 'h') {
        look_up(line + 2);
    } else {
        cidr_set_fini(&set);
        added = 0;
        puts("");
    }
}

int main(void)
{
    char *line = NULL;
    size_t size = 0;

    while (getline(&line, &size, stdin) > 0) {
        line[strcspn(line, "\n")] = '\0';
        answer(line);
    }
    free(line);
    cidr_set_fini(&set);
    return 0;
}
