#include "engine/net/cidr.h"

#include "engine/base/why.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define V4_BITS 32
#define V6_BITS 128
#define MAPPED_BITS 96          /* of ::ffff:0:0/96, which stands before an IPv4 address */
#define NODES_FIRST 16
#define NODES_MAX (UINT32_C(1) << 31)

/* ------------------------------------------------------------------ bits -------------- */

static unsigned __int128 bits_of_bytes(const void *bytes, size_t len)
{
    const unsigned char *byte = bytes;
    unsigned __int128 bits = 0;

    for (size_t i = 0; i < len; i++)
        bits |= (unsigned __int128)byte[i] << (V6_BITS - 8 - 8 * i);
    return bits;
}

/* The first len bits are ones. */
static unsigned __int128 mask(unsigned len)
{
    return len == 0 ? 0 : ~(unsigned __int128)0 << (V6_BITS - len);
}

static unsigned bit_at(unsigned __int128 bits, unsigned i)
{
    return (unsigned)(bits >> (V6_BITS - 1 - i)) & 1;
}

/* How many bits both begin with, at most max. */
static unsigned common_len(unsigned __int128 a, unsigned __int128 b, unsigned max)
{
    unsigned __int128 differ = a ^ b;
    uint64_t upper = (uint64_t)(differ >> 64);
    uint64_t lower = (uint64_t)differ;
    unsigned len = upper ? (unsigned)__builtin_clzll(upper)
                 : lower ? 64 + (unsigned)__builtin_clzll(lower)
                         : V6_BITS;

    return len < max ? len : max;
}

/* ------------------------------------------------------------------ addresses --------- */

static bool is_mapped(const struct cidr *cidr)
{
    return cidr->v6 && cidr->len >= MAPPED_BITS && cidr->bits >> 32 == 0xffff;
}

static void unmap_cidr(struct cidr *cidr)
{
    if (is_mapped(cidr))
        *cidr = (struct cidr){ .bits = cidr->bits << MAPPED_BITS,
                               .len = (uint8_t)(cidr->len - MAPPED_BITS) };
}

static struct cidr of_v4(const struct in_addr *host)
{
    return (struct cidr){
        .bits = (unsigned __int128)ntohl(host->s_addr) << (V6_BITS - V4_BITS), .len = V4_BITS,
    };
}

static struct cidr of_v6(const struct in6_addr *host)
{
    return (struct cidr){ .bits = bits_of_bytes(host, sizeof(*host)), .len = V6_BITS, .v6 = true };
}

static bool parse_host(const char *text, struct cidr *ret)
{
    struct in6_addr v6;
    struct in_addr v4;

    if (inet_pton(AF_INET, text, &v4) == 1)
        *ret = of_v4(&v4);
    else if (inet_pton(AF_INET6, text, &v6) == 1)
        *ret = of_v6(&v6);
    else
        return false;
    return true;
}

/* "0" to max, without anything that a reader of octal or signs might take otherwise. */
static bool parse_len(const char *text, unsigned max, uint8_t *ret)
{
    size_t digits = strspn(text, "0123456789");
    unsigned long len;

    if (digits == 0 || digits > 3 || text[digits] != '\0' || (digits > 1 && text[0] == '0'))
        return false;
    len = strtoul(text, NULL, 10);
    if (len > max)
        return false;
    *ret = (uint8_t)len;
    return true;
}

int cidr_parse(const char *text, struct cidr *ret, char *why, size_t why_size)
{
    const struct why_subject subject = { .text = text, .why = why, .why_size = why_size };
    const char *slash = strchr(text, '/');
    size_t host_len = slash ? (size_t)(slash - text) : strlen(text);
    char host[INET6_ADDRSTRLEN];
    struct cidr cidr;

    if (host_len >= sizeof(host))
        return why_refuse(&subject, -EINVAL, "not an address or network");
    memcpy(host, text, host_len);
    host[host_len] = '\0';
    if (!parse_host(host, &cidr))
        return why_refuse(&subject, -EINVAL, "not an IPv4 or IPv6 address or network");
    if (slash && !parse_len(slash + 1, cidr.len, &cidr.len))
        return why_refuse(&subject, -EINVAL, "the prefix is not a number from 0 to %u", cidr.len);
    if ((cidr.bits & ~mask(cidr.len)) != 0)
        return why_refuse(&subject, -EINVAL, "the address has bits behind its prefix of %u: write "
                          "the network's address, or a longer prefix", cidr.len);
    unmap_cidr(&cidr);
    *ret = cidr;
    return 0;
}

bool cidr_of_address(const struct sockaddr *address, socklen_t len, struct cidr *ret)
{
    if (len < sizeof(sa_family_t))
        return false;
    if (address->sa_family == AF_INET) {
        *ret = of_v4(&((const struct sockaddr_in *)address)->sin_addr);
        return true;
    }
    if (address->sa_family != AF_INET6)
        return false;
    *ret = of_v6(&((const struct sockaddr_in6 *)address)->sin6_addr);
    unmap_cidr(ret);
    return true;
}

bool cidr_is_loopback(const struct cidr *host)
{
    return host->v6 ? host->bits == 1 : host->bits >> 120 == 127;
}

/* ------------------------------------------------------------------ the trie ---------- */

void cidr_set_fini(struct cidr_set *set)
{
    free(set->nodes);
    *set = (struct cidr_set){ .nodes = NULL };
}

/* Room for two more nodes, what one network needs: so links into the array stay good meanwhile. */
static int reserve(struct cidr_set *set)
{
    struct cidr_node *nodes;
    uint32_t size;

    if (set->nodes_len + 2 <= set->nodes_size)
        return 0;
    size = set->nodes_size > 0 ? set->nodes_size * 2 : NODES_FIRST;
    if (size > NODES_MAX)
        return -ENOMEM;
    nodes = realloc(set->nodes, size * sizeof(*nodes));
    if (!nodes)
        return -ENOMEM;
    set->nodes = nodes;
    set->nodes_size = size;
    if (set->nodes_len == 0)
        set->nodes_len = 1;     /* index 0 means none */
    return 0;
}

static uint32_t new_node(struct cidr_set *set, unsigned __int128 bits, unsigned len)
{
    set->nodes[set->nodes_len] = (struct cidr_node){
        .bits = bits & mask(len), .len = (uint8_t)len,
    };
    return set->nodes_len++;
}

static void make_member(struct cidr_node *node, uint16_t value)
{
    node->is_member = true;
    node->value = value;
}

/* A new node with this prefix takes the place of *link, which goes below it. */
static struct cidr_node *put_above(struct cidr_set *set, uint32_t *link, unsigned __int128 bits,
                                   unsigned len)
{
    uint32_t below = *link;
    struct cidr_node *node;

    *link = new_node(set, bits, len);
    node = &set->nodes[*link];
    node->child[bit_at(set->nodes[below].bits, len)] = below;
    return node;
}

int cidr_set_add(struct cidr_set *set, const struct cidr *network, uint16_t value)
{
    uint32_t *link = &set->roots[network->v6];
    int r = reserve(set);

    if (r < 0)
        return r;
    while (*link != 0) {
        struct cidr_node *node = &set->nodes[*link];
        unsigned shorter = network->len < node->len ? network->len : node->len;
        unsigned common = common_len(network->bits, node->bits, shorter);

        if (common < node->len)
            node = put_above(set, link, network->bits, common);
        else if (node->len == network->len && node->is_member)
            return -EEXIST;
        if (node->len == network->len) {
            make_member(node, value);
            return 0;
        }
        link = &node->child[bit_at(network->bits, node->len)];
    }
    *link = new_node(set, network->bits, network->len);
    make_member(&set->nodes[*link], value);
    return 0;
}

uint16_t cidr_set_find(const struct cidr_set *set, const struct cidr *host, uint16_t none)
{
    uint32_t at = set->roots[host->v6];

    while (at != 0) {
        const struct cidr_node *node = &set->nodes[at];

        if (((host->bits ^ node->bits) & mask(node->len)) != 0)
            break;
        if (node->is_member)
            none = node->value;
        if (node->len >= host->len)
            break;
        at = node->child[bit_at(host->bits, node->len)];
    }
    return none;
}
