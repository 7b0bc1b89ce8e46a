/*
 * access.c - access rules: a text of them, against a model that looks at each rule in turn.
 *
 * Of a text that is accepted each network is asked for, and what lies beside it by one bit.
 */
#include "engine/net/access.h"

#include "tests/fuzz/input.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

enum { RULES_MAX = 256 };

struct rule {
    struct in6_addr host;       /* IPv4: mapped */
    unsigned len;               /* of 128 bits */
    bool allow;
};

static struct {
    struct rule rules[RULES_MAX];
    size_t len;
    bool otherwise;
    bool has_users;
} model;

/* ------------------------------------------------------------------ the model --------- */

static bool is_v4(const struct in6_addr *host, unsigned len)
{
    return len >= 96 && IN6_IS_ADDR_V4MAPPED(host);
}

static void add_network(bool allow, char *text)
{
    struct rule *rule = &model.rules[model.len++];
    char *slash = strchr(text, '/');
    struct in_addr v4;

    HOLDS(model.len <= RULES_MAX);
    if (slash)
        *slash++ = '\0';
    *rule = (struct rule){ .allow = allow, .len = slash ? (unsigned)atoi(slash) : 128 };
    if (inet_pton(AF_INET, text, &v4) == 1) {
        rule->host.s6_addr[10] = rule->host.s6_addr[11] = 0xff;
        memcpy(&rule->host.s6_addr[12], &v4, sizeof(v4));
        rule->len = slash ? rule->len + 96 : 128;
    } else {
        HOLDS(inet_pton(AF_INET6, text, &rule->host) == 1);
    }
    HOLDS(rule->len <= 128);
}

/* A line of a text that was accepted. */
static void add_line(char *line)
{
    char first[16], second[64], third[16];
    int words;

    line[strcspn(line, "#")] = '\0';
    words = sscanf(line, "%15s %63s %15s", first, second, third);
    if (words <= 0)
        return;
    HOLDS(words >= 2);
    if (strcmp(first, "default") == 0)
        model.otherwise = strcmp(second, "allow") == 0;
    else if (words == 2)
        add_network(strcmp(first, "allow") == 0, second);
    else
        model.has_users = true;
}

static bool has_bit(const struct in6_addr *host, unsigned i)
{
    return host->s6_addr[i / 8] >> (7 - i % 8) & 1;
}

static bool holds(const struct rule *rule, const struct in6_addr *host)
{
    if (is_v4(host, 128) != is_v4(&rule->host, rule->len))
        return false;
    for (unsigned i = 0; i < rule->len; i++)
        if (has_bit(&rule->host, i) != has_bit(host, i))
            return false;
    return true;
}

static bool model_allows(const struct in6_addr *host)
{
    const struct rule *best = NULL;

    for (size_t i = 0; i < model.len; i++)
        if (holds(&model.rules[i], host) && (!best || model.rules[i].len > best->len))
            best = &model.rules[i];
    return best ? best->allow : model.otherwise;
}

/* ------------------------------------------------------------------ asking ------------ */

static void ask(const struct weir_access *access, const struct in6_addr *host)
{
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = *host };
    struct sockaddr_in in = { .sin_family = AF_INET };
    struct access_peer peer = {
        .address = (struct sockaddr *)&in6, .address_len = sizeof(in6), .fd = -1,
    };
    bool allows = model_allows(host);

    HOLDS(access_allows(access, &peer) == allows);
    if (!is_v4(host, 128))
        return;
    memcpy(&in.sin_addr, &host->s6_addr[12], sizeof(in.sin_addr));
    peer.address = (struct sockaddr *)&in;
    peer.address_len = sizeof(in);
    HOLDS(access_allows(access, &peer) == allows);
}

static void ask_around(const struct weir_access *access, const struct rule *rule, unsigned bit)
{
    struct in6_addr host = rule->host;

    ask(access, &host);
    host.s6_addr[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
    ask(access, &host);
    if (rule->len == 0)
        return;
    host = rule->host;
    host.s6_addr[(rule->len - 1) / 8] ^= (uint8_t)(0x80 >> (rule->len - 1) % 8);
    ask(access, &host);
}

static void compare(const struct weir_access *access, char *text, unsigned bit)
{
    struct in6_addr nowhere = { 0 };

    model.len = 0;
    model.otherwise = model.has_users = false;
    for (char *line = strsep(&text, "\n"); line; line = strsep(&text, "\n"))
        add_line(line);
    ask(access, &nowhere);
    for (size_t i = 0; i < model.len; i++)
        ask_around(access, &model.rules[i], bit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size < RULES_MAX * 8 ? size : RULES_MAX * 8 };
    unsigned bit = take_byte(&input) % 128;
    char *text = take_text(&input), why[512] = "";
    struct weir_access *access;
    int r = access_parse(text, &access, why, sizeof(why));

    if (r < 0) {
        HOLDS(r == -EINVAL);
        check_sentence(why);
    } else {
        compare(access, text, bit);
        access_free(access);
    }
    free(text);
    return 0;
}
