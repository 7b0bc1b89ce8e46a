#include "engine/net/address.h"

#include "engine/base/sys.h"
#include "engine/base/why.h"

#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNIX_HEAD offsetof(struct sockaddr_un, sun_path)
#define UNIX_NAME_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

/* What an address begins with, and what that says. */
struct scheme {
    const char *prefix;
    enum address_kind kind;
    int type;
};

static const struct scheme schemes[] = {
    { "tcp://", ADDRESS_IP, SOCK_STREAM },
    { "udp://", ADDRESS_IP, SOCK_DGRAM },
    { "unix:", ADDRESS_UNIX, SOCK_STREAM },
    { "unixgram:", ADDRESS_UNIX, SOCK_DGRAM },
    { "fd://", ADDRESS_FD, 0 },
};

/* What follows "tcp://" or "udp://", taken apart but not understood yet. */
struct host_port {
    char host[NI_MAXHOST];  /* "": every address */
    const char *port;
    bool bracketed;
};

static const char *after_prefix(const char *text, const char *prefix)
{
    size_t len = strlen(prefix);

    return strncmp(text, prefix, len) == 0 ? text + len : NULL;
}

/* NULL: no address begins so. */
static const struct scheme *find_scheme(const char *uri, const char **ret_rest)
{
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        const char *rest = after_prefix(uri, schemes[i].prefix);

        if (rest) {
            *ret_rest = rest;
            return &schemes[i];
        }
    }
    return NULL;
}

static bool is_all_digits(const char *text)
{
    return *text != '\0' && text[strspn(text, "0123456789")] == '\0';
}

/* ---- tcp://, udp:// ---- */

/* Returns the port, behind the colon, or NULL and the reason. */
static const char *find_port(const char *host, bool bracketed, const struct why_subject *uri)
{
    const char *colon = strrchr(host, ':');

    if (bracketed) {
        const char *close = strchr(host, ']');
        if (!close) {
            why_refuse(uri, -EINVAL, "the closing ] is missing");
            return NULL;
        }
        colon = close + 1;
        if (*colon != ':' && *colon != '\0') {
            why_refuse(uri, -EINVAL, "only :port may follow the ]");
            return NULL;
        }
    }
    if (!colon || colon[0] == '\0' || colon[1] == '\0') {
        why_refuse(uri, -EINVAL, "the port is missing (with :0 the kernel chooses one)");
        return NULL;
    }
    return colon + 1;
}

static int split_ip(const struct scheme *scheme, const char *text, struct host_port *ret,
                    const struct why_subject *uri)
{
    const char *junk = strpbrk(text, "/?#@ ");
    bool bracketed = *text == '[';
    const char *host = text + bracketed;
    const char *port;

    if (junk)
        return why_refuse(uri, -EINVAL, "only host:port may follow %s, without \"%s\"",
                          scheme->prefix, junk);
    port = find_port(host, bracketed, uri);
    if (!port)
        return -EINVAL;

    size_t len = (size_t)(port - host) - (bracketed ? strlen("]:") : strlen(":"));
    if (!bracketed && memchr(host, ':', len))
        return why_refuse(uri, -EINVAL, "there are too many colons (an IPv6 address goes in "
                          "brackets, as in %s[::1]:80)", scheme->prefix);
    if (bracketed && len == 0)
        return why_refuse(uri, -EINVAL, "there is no address between the brackets");
    if (len >= sizeof(ret->host))
        return why_refuse(uri, -EINVAL, "the host is too long");
    if (is_all_digits(port) && strtoul(port, NULL, 10) > UINT16_MAX)
        return why_refuse(uri, -EINVAL, "the port must be 0 to 65535");
    memcpy(ret->host, host, len);
    ret->host[len] = '\0';
    ret->port = port;
    ret->bracketed = bracketed;
    return 0;
}

static bool has_ipv6(void)
{
    int fd = sys_socket(AF_INET6, SOCK_DGRAM);

    if (fd < 0)
        return !address_family_is_missing(fd);
    sys_close(fd);
    return true;
}

static int refuse_resolution(int gai, const struct host_port *parts,
                             const struct why_subject *uri)
{
    switch (gai) {
    case EAI_SERVICE:
        return why_refuse(uri, -EINVAL, "the port must be 0 to 65535 or the name of a service");
    case EAI_NONAME:
    case EAI_NODATA:
    case EAI_ADDRFAMILY:
        if (parts->bracketed)
            return why_refuse(uri, -EINVAL, "between the brackets must stand an IPv6 address "
                              "(behind a %% the name of an interface)");
        return why_refuse(uri, -ENOENT, "there is no host of that name: %s", parts->host);
    case EAI_AGAIN:
        return why_refuse(uri, -EAGAIN, "the host %s cannot be looked up now: "
                          "try again later, or give its address", parts->host);
    case EAI_MEMORY:
        return why_refuse(uri, -ENOMEM, "out of memory");
    default:
        return why_refuse(uri, -EIO, "the host %s cannot be looked up: %s", parts->host,
                          gai_strerror(gai));
    }
}

/* The resolver is not asked: it may have no line about it, or one about half of it. */
static bool is_localhost(const struct host_port *parts)
{
    return !parts->bracketed && strcasecmp(parts->host, "localhost") == 0;
}

static int resolve_host(const struct host_port *parts, int type, struct addrinfo **ret_list)
{
    bool every = parts->host[0] == '\0';
    bool any_host = every || is_localhost(parts);
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = type };

    if (is_all_digits(parts->port))
        hints.ai_flags |= AI_NUMERICSERV;
    if (parts->bracketed) {
        hints.ai_family = AF_INET6;
        hints.ai_flags |= AI_NUMERICHOST;
    }
    if (every) {
        hints.ai_family = has_ipv6() ? AF_INET6 : AF_INET;
        hints.ai_flags |= AI_PASSIVE;
    }
    return getaddrinfo(any_host ? NULL : parts->host, parts->port, &hints, ret_list);
}

static bool is_among(const struct addrinfo *info, const struct address *addresses, int len)
{
    for (int i = 0; i < len; i++)
        if (addresses[i].len == info->ai_addrlen &&
            memcmp(&addresses[i].ss, info->ai_addr, info->ai_addrlen) == 0)
            return true;
    return false;
}

/* A name may have the same address twice, in two lines of /etc/hosts. */
static int copy_list(const struct addrinfo *list, const struct address *model, struct address **ret)
{
    struct address *addresses;
    int len = 0;

    for (const struct addrinfo *info = list; info; info = info->ai_next)
        len++;
    addresses = calloc((size_t)len, sizeof(*addresses));
    if (!addresses)
        return -ENOMEM;
    len = 0;
    for (const struct addrinfo *info = list; info; info = info->ai_next) {
        if (is_among(info, addresses, len))
            continue;
        addresses[len] = *model;
        addresses[len].len = info->ai_addrlen;
        memcpy(&addresses[len++].ss, info->ai_addr, info->ai_addrlen);
    }
    *ret = addresses;
    return len;
}

static int parse_ip(const struct scheme *scheme, const char *text, struct address **ret,
                    const struct why_subject *uri)
{
    struct address model = { .kind = ADDRESS_IP, .type = scheme->type, .fd = -1 };
    struct host_port parts;
    struct addrinfo *list;
    int r = split_ip(scheme, text, &parts, uri);

    if (r < 0)
        return r;
    r = resolve_host(&parts, scheme->type, &list);
    if (r != 0)
        return refuse_resolution(r, &parts, uri);
    model.every = parts.host[0] == '\0';
    r = copy_list(list, &model, ret);
    freeaddrinfo(list);
    return r < 0 ? why_refuse(uri, r, "out of memory") : r;
}

static bool is_literal_ip(const struct scheme *scheme, const char *text)
{
    const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST };
    const struct why_subject nobody = { .text = "" };
    struct host_port parts;
    struct addrinfo *list;

    if (split_ip(scheme, text, &parts, &nobody) < 0)
        return true;
    if (!is_all_digits(parts.port))
        return false;
    if (parts.bracketed || parts.host[0] == '\0' || is_localhost(&parts))
        return true;
    if (getaddrinfo(parts.host, NULL, &hints, &list) != 0)
        return false;
    freeaddrinfo(list);
    return true;
}

/* ---- unix:, unixgram: ---- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Undoes %XX. Returns the length of what is in name now. */
static int decode_name(const char *text, char name[UNIX_NAME_MAX], const struct why_subject *uri)
{
    size_t len = 0;

    for (; *text != '\0'; text++) {
        char c = *text;
        if (c == '%') {
            int high = hex_value(text[1]);
            int low = high < 0 ? -1 : hex_value(text[2]);
            if (low < 0)
                return why_refuse(uri, -EINVAL, "two hexadecimal digits must follow a %% "
                                  "(a percent sign itself is %%25)");
            c = (char)(high * 16 + low);
            text += 2;
        }
        if (len == UNIX_NAME_MAX)
            return why_refuse(uri, -EINVAL, "the name of a Unix socket has at most %zu bytes",
                              UNIX_NAME_MAX);
        name[len++] = c;
    }
    return (int)len;
}

static int parse_unix(const struct scheme *scheme, const char *text, struct address *ret,
                      const struct why_subject *uri)
{
    bool abstract = *text == '@';
    const char *encoded = abstract ? text + 1 : after_prefix(text, "//");
    char name[UNIX_NAME_MAX];
    int len;

    if (!encoded || (!abstract && *encoded != '/'))
        return why_refuse(uri, -EINVAL, "a Unix socket is %s///path, with three slashes, or "
                          "%s@name", scheme->prefix, scheme->prefix);
    len = decode_name(encoded, name, uri);
    if (len < 0)
        return len;
    if (abstract ? len == 0 : len == 1)
        return why_refuse(uri, -EINVAL, "the socket's name is missing");
    if (!abstract && memchr(name, '\0', (size_t)len))
        return why_refuse(uri, -EINVAL, "a path cannot hold the byte %%00");

    /* An abstract name begins with a zero byte, a path ends with one: one more byte either way. */
    *ret = (struct address){
        .kind = ADDRESS_UNIX,
        .type = scheme->type,
        .fd = -1,
        .len = (socklen_t)(UNIX_HEAD + (size_t)len + 1),
        .un.sun_family = AF_UNIX,
    };
    memcpy(ret->un.sun_path + (abstract ? 1 : 0), name, (size_t)len);
    return 0;
}

/* ---- fd:// ---- */

/* One of the numbers, which ends at a comma or with the text. Returns its length, or -errno. */
static int parse_fd(const char *text, struct address *ret, const struct why_subject *uri)
{
    size_t len = strspn(text, "0123456789");
    unsigned long number;

    if (len == 0 || (text[len] != '\0' && text[len] != ','))
        return why_refuse(uri, -EINVAL, "a descriptor's number must follow fd://");
    number = strtoul(text, NULL, 10);
    if (number > INT_MAX)
        return why_refuse(uri, -EINVAL, "there is no descriptor with such a number");
    *ret = (struct address){ .kind = ADDRESS_FD, .fd = (int)number };
    return (int)len;
}

static bool has_fd(const struct address *list, int len, int fd)
{
    for (int i = 0; i < len; i++)
        if (list[i].fd == fd)
            return true;
    return false;
}

/* Into a list that has room for all of them. Returns how many, or -errno. */
static int parse_fds_into(struct address *list, const char *text, const struct why_subject *uri)
{
    for (int len = 0;; text++) {
        struct address address;
        int r = parse_fd(text, &address, uri);

        if (r < 0)
            return r;
        if (has_fd(list, len, address.fd))
            return why_refuse(uri, -EINVAL, "descriptor %d is named twice", address.fd);
        list[len++] = address;
        text += r;
        if (*text == '\0')
            return len;
    }
}

static int parse_fds(const char *text, struct address **ret, const struct why_subject *uri)
{
    struct address *list;
    size_t most = 1;
    int r;

    for (const char *at = text; *at; at++)
        most += *at == ',';
    list = calloc(most, sizeof(*list));
    if (!list)
        return why_refuse(uri, -ENOMEM, "out of memory");
    r = parse_fds_into(list, text, uri);
    if (r < 0) {
        free(list);
        return r;
    }
    *ret = list;
    return r;
}

/* ---- all of them ---- */

static int parse_one_unix(const struct scheme *scheme, const char *rest, struct address **ret,
                          const struct why_subject *uri)
{
    struct address *address = malloc(sizeof(*address));
    int r;

    if (!address)
        return why_refuse(uri, -ENOMEM, "out of memory");
    r = parse_unix(scheme, rest, address, uri);
    if (r < 0) {
        free(address);
        return r;
    }
    *ret = address;
    return 1;
}

int address_parse_all(const char *uri, struct address **ret_list, char *why, size_t why_size)
{
    const struct why_subject subject = { uri, why, why_size };
    const struct scheme *scheme;
    const char *rest;

    if (*uri == '\0')
        return why_set(why, why_size, -EINVAL,
                       "the address is empty (one would be tcp://127.0.0.1:8080)");
    scheme = find_scheme(uri, &rest);
    if (!scheme)
        return why_refuse(&subject, -EINVAL,
                          "an address begins with tcp://, udp://, unix:, unixgram: or fd://");
    switch (scheme->kind) {
    case ADDRESS_IP:
        return parse_ip(scheme, rest, ret_list, &subject);
    case ADDRESS_UNIX:
        return parse_one_unix(scheme, rest, ret_list, &subject);
    default:
        return parse_fds(rest, ret_list, &subject);
    }
}

int address_parse(const char *uri, struct address *ret, char *why, size_t why_size)
{
    struct address *list;
    int r = address_parse_all(uri, &list, why, why_size);

    if (r < 0)
        return r;
    *ret = list[0];
    free(list);
    return 0;
}

bool address_family_is_missing(int error)
{
    return error == -EAFNOSUPPORT || error == -EACCES || error == -EPERM;
}

bool address_is_literal(const char *uri)
{
    const char *rest;
    const struct scheme *scheme = find_scheme(uri, &rest);

    return !scheme || scheme->kind != ADDRESS_IP || is_literal_ip(scheme, rest);
}

static __attribute__((format(printf, 3, 4))) int print(char *buf, size_t size,
                                                       const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(buf, size, format, args);
    va_end(args);
    return n >= 0 && (size_t)n < size ? n : -ENOSPC;
}

static int print_ip(const struct sockaddr *addr, socklen_t len, const char *prefix,
                    char *buf, size_t size)
{
    char host[INET6_ADDRSTRLEN + IF_NAMESIZE];
    char port[sizeof("65535")];
    bool ipv6 = addr->sa_family == AF_INET6;

    if (getnameinfo(addr, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return -EAFNOSUPPORT;
    return print(buf, size, ipv6 ? "%s[%s]:%s" : "%s%s:%s", prefix, host, port);
}

/* Writes name with its control bytes and percent signs as %XX: at most three times its length. */
static void encode_name(const char *name, size_t len, char *ret)
{
    static const char hex[] = "0123456789ABCDEF";

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c >= 0x20 && c != 0x7f && c != '%') {
            *ret++ = (char)c;
            continue;
        }
        *ret++ = '%';
        *ret++ = hex[c >> 4];
        *ret++ = hex[c & 15];
    }
    *ret = '\0';
}

static int print_unix(const struct sockaddr_un *addr, socklen_t len, const char *prefix,
                      const char *slashes, char *buf, size_t size)
{
    char encoded[3 * sizeof(addr->sun_path) + 1];
    size_t name_len = len > UNIX_HEAD ? len - UNIX_HEAD : 0;

    if (name_len == 0)
        return print(buf, size, "%s", prefix);
    if (addr->sun_path[0] == '\0') {
        encode_name(addr->sun_path + 1, name_len - 1, encoded);
        return print(buf, size, "%s@%s", prefix, encoded);
    }
    encode_name(addr->sun_path, strnlen(addr->sun_path, name_len), encoded);
    return print(buf, size, "%s%s%s", prefix, slashes, encoded);
}

int address_format(int type, const struct sockaddr *addr, socklen_t len, char *buf, size_t size)
{
    switch (addr->sa_family) {
    case AF_INET:
    case AF_INET6:
        return print_ip(addr, len, type == SOCK_DGRAM ? "udp://" : "tcp://", buf, size);
    case AF_UNIX:
        return print_unix((const struct sockaddr_un *)addr, len,
                          type == SOCK_DGRAM ? "unixgram:" : "unix:", "//", buf, size);
    default:
        return -EAFNOSUPPORT;
    }
}

/* An IPv4 peer of a socket that takes both families looks like ::ffff:127.0.0.1. */
static bool unmap_sockaddr(const struct sockaddr *addr, struct sockaddr_in *ret)
{
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;

    if (addr->sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
        return false;
    *ret = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = in6->sin6_port };
    memcpy(&ret->sin_addr, &in6->sin6_addr.s6_addr[12], sizeof(ret->sin_addr));
    return true;
}

const char *address_text(const struct sockaddr *addr, socklen_t len, char *buf, size_t size)
{
    struct sockaddr_in in;
    int r;

    if (unmap_sockaddr(addr, &in))
        r = print_ip((const struct sockaddr *)&in, sizeof(in), "", buf, size);
    else if (addr->sa_family == AF_UNIX)
        r = print_unix((const struct sockaddr_un *)addr, len, "unix:", "", buf, size);
    else
        r = print_ip(addr, len, "", buf, size);
    if (r == -EAFNOSUPPORT)
        (void)print(buf, size, "address family %d", addr->sa_family);
    return buf;
}
