/*
 * address.c - addresses: what is read of one, and written again, is the same; and what the kernel
 * could tell of a peer is written as a line, into whatever room there is.
 *
 * The first byte says which of both, and how much room there is.
 */
#include "engine/net/address.h"

#include "tests/fuzz/input.h"

#include <errno.h>

static void check_line(const char *text)
{
    for (; *text; text++)
        HOLDS((unsigned char)*text >= ' ' && *text != 0x7f);
}

/* Whatever the room, it is terminated, and what there is room for. */
static void check_room(const struct address *address, size_t room, const char *whole)
{
    char *buf = malloc(room + 1);
    int r;

    if (!buf)
        abort();
    r = address_format(address->type, &address->sa, address->len, buf, room);
    HOLDS(r == (strlen(whole) < room ? (int)strlen(whole) : -ENOSPC));
    if (room > 0)
        HOLDS(strlen(buf) < room && strncmp(buf, whole, strlen(buf)) == 0);
    if (room > 0)
        HOLDS(strlen(address_text(&address->sa, address->len, buf, room)) < room);
    free(buf);
}

static void check_again(const struct address *address, size_t room)
{
    char text[512], again[512], why[512];
    struct address other;
    int r = address_format(address->type, &address->sa, address->len, text, sizeof(text));

    HOLDS(r == (int)strlen(text));
    check_line(text);
    HOLDS(address_is_literal(text));
    HOLDS(address_parse(text, &other, why, sizeof(why)) == 0);
    HOLDS(other.kind == address->kind && other.type == address->type);
    HOLDS(other.len == address->len && memcmp(&other.ss, &address->ss, other.len) == 0);
    HOLDS(address_format(other.type, &other.sa, other.len, again, sizeof(again)) == r);
    HOLDS(strcmp(text, again) == 0);
    check_room(address, room, text);
}

static void read_one(const struct input *input, size_t room)
{
    char *uri = take_text((struct input *)input), why[512] = "";
    bool literal = address_is_literal(uri);
    struct address *list;
    int len = address_parse_all(uri, &list, why, sizeof(why));

    if (len < 0) {
        HOLDS(len == -EINVAL || !literal);
        check_sentence(why);
        free(uri);
        return;
    }
    HOLDS(len > 0);
    for (int i = 0; i < len; i++) {
        if (list[i].kind == ADDRESS_FD)
            HOLDS(list[i].fd >= 0);
        else
            check_again(&list[i], room);
    }
    free(list);
    free(uri);
}

/* A family, and the bytes that a system call would have filled in. */
static void write_one(struct input *input, size_t room)
{
    static const sa_family_t families[] = { AF_UNIX, AF_INET, AF_INET6, AF_NETLINK };
    sa_family_t family = families[take_number(input, 3)];
    size_t least = family == AF_INET ? sizeof(struct sockaddr_in)
                 : family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(sa_family_t);
    size_t most = family == AF_UNIX ? sizeof(struct sockaddr_un) : least;
    struct sockaddr_storage peer = { 0 };
    size_t len = sizeof(sa_family_t) + input->size;
    char *text;

    if (input->size > 0 && input->size <= sizeof(peer) - sizeof(sa_family_t))
        memcpy((char *)&peer + sizeof(sa_family_t), input->data, input->size);
    peer.ss_family = family;
    len = len < least ? least : len > most ? most : len;
    text = malloc(room + 1);
    if (!text)
        abort();
    address_text((const struct sockaddr *)&peer, (socklen_t)len, text, room + 1);
    HOLDS(strlen(text) <= room);
    check_line(text);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };
    uint8_t how = take_byte(&input);

    if (how & 0x80)
        write_one(&input, how & 0x7f);
    else
        read_one(&input, how);
    return 0;
}
