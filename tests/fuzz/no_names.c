/* no_names.c - in place of getaddrinfo(3): whoever fuzzes has no business with a name server. */
#include <netdb.h>

int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **ret);
int __real_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **ret);

int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **ret)
{
    struct addrinfo literal = { 0 };

    if (hints)
        literal = *hints;
    literal.ai_flags |= AI_NUMERICHOST | AI_NUMERICSERV;
    return __real_getaddrinfo(host, port, &literal, ret);
}
