#include "engine/net/listener.h"

#include "engine/base/sys.h"
#include "engine/base/why.h"
#include "engine/net/address.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One listener_bind: what is wanted, and where to say what went wrong. */
struct attempt {
    const struct address *address;
    const struct listener_options *options;
    const struct why_subject *uri;
};

static int get_option(int fd, int name, int *ret_value)
{
    socklen_t len = sizeof(*ret_value);

    return getsockopt(fd, SOL_SOCKET, name, ret_value, &len) == 0 ? 0 : -errno;
}

static bool is_ip(const struct address *address)
{
    return address->kind == ADDRESS_IP;
}

/* Returns true if the socket has a file in a folder, not a name in the abstract namespace. */
static bool has_path(const struct address *address)
{
    return address->kind == ADDRESS_UNIX && address->un.sun_path[0] != '\0';
}

/* What depends on the kind of socket, whether weir has made it or the program. */
static int set_traits(int fd, int family, int type, const struct listener_options *options)
{
    if (family == AF_UNIX)
        return type == SOCK_DGRAM ? sys_set_option(fd, SOL_SOCKET, SO_PASSCRED, 1) : 0;
    return type == SOCK_STREAM && options->nodelay ? sys_set_nodelay(fd) : 0;
}

/*
 * A datagram that came to a socket of every address is answered from the one that it was sent to:
 * so the kernel is to tell which. On an IPv6 socket it tells that of IPv4's, too.
 */
static int ask_for_local(int fd, const struct address *bound)
{
    if (bound->sa.sa_family == AF_INET && bound->in.sin_addr.s_addr == htonl(INADDR_ANY))
        return sys_set_option(fd, IPPROTO_IP, IP_PKTINFO, 1);
    if (bound->sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&bound->in6.sin6_addr))
        return sys_set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    return 0;
}

/* bind(2) makes the file with the socket's own permissions, less the umask's. */
static int limit_mode(int fd, mode_t mode)
{
    return mode == 0 || fchmod(fd, mode) == 0 ? 0 : -errno;
}

static int set_options(int fd, const struct address *address,
                       const struct listener_options *options)
{
    int r = set_traits(fd, address->sa.sa_family, address->type, options);

    if (r == 0 && has_path(address))
        r = limit_mode(fd, options->mode);
    if (r < 0 || !is_ip(address))
        return r;
    if (address->sa.sa_family == AF_INET6)
        r = sys_set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, !address->every);
    if (r == 0 && address->type == SOCK_DGRAM)
        r = ask_for_local(fd, address);
    if (r == 0 && options->reuse_address)
        r = sys_set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (r == 0 && options->reuse_port)
        r = sys_set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    return r;
}

static int bind_address(int fd, const struct address *address)
{
    return bind(fd, &address->sa, address->len) == 0 ? 0 : -errno;
}

/* ---- a Unix path that exists already ---- */

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/*
 * Connects to see whether somebody listens there: 0 or -EAGAIN somebody, -ECONNREFUSED nobody;
 * -EPERM a datagram socket that takes from its own peer only. Nothing is sent: a datagram socket
 * notices nothing.
 */
static int probe(const struct address *address)
{
    int fd = sys_socket(AF_UNIX, address->type);
    int r;

    if (fd < 0)
        return fd;
    r = sys_connect(fd, &address->sa, address->len);
    sys_close(fd);
    return r;
}

static int refuse_path(const struct attempt *attempt, int probed)
{
    bool stream = attempt->address->type == SOCK_STREAM;

    switch (probed) {
    case 0:
    case -EAGAIN:
    case -EPERM:
        return why_refuse(attempt->uri, -EADDRINUSE, "the path is in use: a server %s there",
                          stream ? "listens" : "is bound");
    case -EPROTOTYPE:
        return why_refuse(attempt->uri, -EADDRINUSE,
                          "the path is in use by a socket that is not a %s socket",
                          stream ? "stream" : "datagram");
    default:
        return why_refuse(attempt->uri, -EADDRINUSE, "a socket is there already, and whether a "
                          "server %s it cannot be found out: %s",
                          stream ? "listens on" : "is bound to", strerrordesc_np(-probed));
    }
}

/*
 * Removes the socket that a server left behind when it was killed, and nothing else. The file is
 * looked at again after the probe, because another server may take the path over as well. What
 * remains is a window of two system calls, and that of a server between its bind and its listen.
 * What a stream server left behind cannot be told from what a datagram server did.
 */
static int remove_stale_path(const struct attempt *attempt)
{
    const char *path = attempt->address->un.sun_path;
    struct stat before, now;
    int r;

    if (lstat(path, &before) < 0)
        return 0;   /* gone meanwhile, or bind will say what is wrong with it */
    if (!S_ISSOCK(before.st_mode))
        return why_refuse(attempt->uri, -EADDRINUSE, "what is at that path is not a socket: "
                          "remove it yourself, or choose another path");
    r = probe(attempt->address);
    if (r != -ECONNREFUSED && r != -ENOENT)
        return refuse_path(attempt, r);
    if (lstat(path, &now) == 0 && !same_file(&before, &now))
        return refuse_path(attempt, 0);
    if (unlink(path) < 0 && errno != ENOENT)
        return why_refuse(attempt->uri, -errno, "nobody is there any more, but the old socket "
                          "cannot be removed: %s", strerrordesc_np(errno));
    return 0;
}

static int own_path(struct listener *listener, const char *path)
{
    struct stat made;

    if (lstat(path, &made) < 0)
        return -errno;
    strcpy(listener->path, path);   /* both are as large as sun_path */
    listener->path_dev = made.st_dev;
    listener->path_ino = made.st_ino;
    return 0;
}

/* Returns true if the file at the path is still the one that we made. */
static bool owns_path(const struct listener *listener)
{
    struct stat now;

    return listener->path[0] != '\0' && lstat(listener->path, &now) == 0 &&
           now.st_dev == listener->path_dev && now.st_ino == listener->path_ino;
}

/*
 * The path goes before the descriptor does: as long as ours is open, the file system cannot give
 * its inode number to somebody else's socket.
 */
static void disown_path(struct listener *listener)
{
    if (!listener->keep_path && !listener_is_kept_elsewhere(listener) && owns_path(listener))
        unlink(listener->path);
    listener->path[0] = '\0';
}

/* ---- who may connect to a Unix path ---- */

static int refuse_owner(const struct attempt *attempt, int error)
{
    const struct listener_options *options = attempt->options;
    char owner[32] = "";

    if (options->set_uid)
        snprintf(owner, sizeof(owner), "%u", (unsigned)options->uid);
    if (options->set_gid)
        snprintf(owner + strlen(owner), sizeof(owner) - strlen(owner), ":%u",
                 (unsigned)options->gid);
    return why_refuse(attempt->uri, error, "unix_owner: the socket cannot be given to %s: %s",
                      owner, error == -EPERM ? "that takes root, or for a group alone, to be in it"
                                             : strerrordesc_np(-error));
}

static int refuse_mode(const struct attempt *attempt, int error)
{
    unsigned mode = attempt->options->mode;

    if (error == -EOPNOTSUPP)
        return why_refuse(attempt->uri, error, "unix_mode: before Linux 6.6 it takes /proc to give "
                          "%04o more permissions than the umask leaves", mode);
    return why_refuse(attempt->uri, error, "unix_mode: the permissions cannot be set to %04o: %s",
                      mode, strerrordesc_np(-error));
}

/* Mostly the socket's own mode was it. */
static int set_mode(const char *path, mode_t mode)
{
    struct stat made;

    if (mode == 0 || (lstat(path, &made) == 0 && (made.st_mode & 07777) == mode))
        return 0;
    return sys_chmod(path, mode);
}

/*
 * Before listen, when nobody can connect yet; who may send datagrams was limited before bind, and
 * is let in here. The mode comes first, since a process that has given the file away may not change
 * it any more. Neither follows a link that was put there instead.
 */
static int set_access(const struct attempt *attempt)
{
    const struct listener_options *options = attempt->options;
    const char *path = attempt->address->un.sun_path;
    int r = set_mode(path, options->mode);

    if (r < 0)
        return refuse_mode(attempt, r);
    if ((options->set_uid || options->set_gid) &&
        fchownat(AT_FDCWD, path, options->set_uid ? options->uid : (uid_t)-1,
                 options->set_gid ? options->gid : (gid_t)-1, AT_SYMLINK_NOFOLLOW) < 0)
        return refuse_owner(attempt, -errno);
    return 0;
}

/* ---- why bind or listen failed ---- */

static const char *ip_reason(int family, int type, int error)
{
    switch (error) {
    case -EADDRINUSE:
        if (type == SOCK_DGRAM)
            return "the port is in use: another socket is bound to it";
        return "the port is in use: a server listens on it, or connections of one that ran "
               "without reuse_address are still closing (wait a minute)";
    case -EACCES:
        return "permission denied: choose a port above 1023";
    case -EADDRNOTAVAIL:
        return "this machine does not have that address";
    case -EINVAL:
        if (family == AF_INET6)
            return "a link-local address needs its interface, as in [fe80::1%eth0]";
        break;
    }
    return strerrordesc_np(-error);
}

static const char *unix_reason(int error)
{
    switch (error) {
    case -EADDRINUSE:
        return "the name is in use by another socket";
    case -EACCES:
        return "permission denied: this user may not create files in that folder";
    case -ENOENT:
        return "the folder does not exist";
    default:
        return strerrordesc_np(-error);
    }
}

static int refuse_socket(const struct why_subject *uri, int family, int error)
{
    if (family == AF_INET6 && error == -EAFNOSUPPORT)
        return why_refuse(uri, error, "this machine has no IPv6");
    if (family != AF_UNIX && address_family_is_missing(error))
        return why_refuse(uri, error, "a policy on this machine keeps this program from IPv%d "
                          "sockets: %s",
                          family == AF_INET6 ? 6 : 4, strerrordesc_np(-error));
    return why_refuse(uri, error, "no socket can be had: %s", strerrordesc_np(-error));
}

static int refuse_address(const struct why_subject *uri, int family, int type, int error)
{
    return why_refuse(uri, error, "%s", family == AF_UNIX ? unix_reason(error)
                                                          : ip_reason(family, type, error));
}

/* ---- binding ---- */

static int name_listener(struct listener *listener, int fd, int type,
                         const struct why_subject *uri)
{
    struct address bound = { .len = sizeof(bound.ss) };
    int r;

    if (getsockname(fd, &bound.sa, &bound.len) < 0)
        return why_refuse(uri, -errno, "%s", strerrordesc_np(errno));
    listener->family = bound.sa.sa_family;
    listener->type = type;
    r = address_format(type, &bound.sa, bound.len, listener->uri, sizeof(listener->uri));
    if (r == -ENOSPC)
        return why_refuse(uri, -ENAMETOOLONG, "the name has too many bytes that are written %%XX");
    if (r < 0)
        return why_refuse(uri, r, "it is neither a TCP nor a UDP nor a Unix socket");
    return 0;
}

static bool folder_exists(const char *path)
{
    char folder[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
    const char *slash = strrchr(path, '/');

    snprintf(folder, sizeof(folder), "%.*s.", slash ? (int)(slash + 1 - path) : 0, path);
    return access(folder, F_OK) == 0;
}

static int bind_or_take_over(int fd, const struct attempt *attempt)
{
    const struct address *address = attempt->address;
    int r = bind_address(fd, address);

    if (r == -EADDRINUSE && has_path(address)) {
        r = remove_stale_path(attempt);
        if (r < 0)
            return r;
        r = bind_address(fd, address);
    }
    if (r == -ENOENT && has_path(address) && folder_exists(address->un.sun_path))
        return why_refuse(attempt->uri, r, "that folder is the kernel's, and takes no files");
    return r < 0 ? refuse_address(attempt->uri, address->sa.sa_family, address->type, r) : 0;
}

static int make_path_ours(struct listener *listener, const struct attempt *attempt)
{
    int r = own_path(listener, attempt->address->un.sun_path);

    if (r < 0)
        return refuse_address(attempt->uri, AF_UNIX, attempt->address->type, r);
    return set_access(attempt);
}

static int bind_new(struct listener *listener, const struct attempt *attempt)
{
    int family = attempt->address->sa.sa_family;
    int type = attempt->address->type;
    int r;

    listener->fd = sys_socket(family, type);
    if (listener->fd < 0)
        return refuse_socket(attempt->uri, family, listener->fd);
    r = set_options(listener->fd, attempt->address, attempt->options);
    if (r < 0)
        return refuse_address(attempt->uri, family, type, r);
    r = bind_or_take_over(listener->fd, attempt);
    if (r == 0 && has_path(attempt->address))
        r = make_path_ours(listener, attempt);
    return r < 0 ? r : name_listener(listener, listener->fd, type, attempt->uri);
}

/* ---- adopting an inherited descriptor ---- */

static int check_stream(int fd, const struct why_subject *uri)
{
    int listening;
    int r = get_option(fd, SO_ACCEPTCONN, &listening);

    if (r < 0)
        return why_refuse(uri, r, "%s", strerrordesc_np(-r));
    if (!listening)
        return why_refuse(uri, -EINVAL, "descriptor %d does not listen: "
                          "the program that opens it must call listen(2)", fd);
    return 0;
}

/* A UDP socket that nobody has bound has no port, a Unix socket no name. */
static bool is_bound(const struct address *name)
{
    switch (name->sa.sa_family) {
    case AF_INET:
        return name->in.sin_port != 0;
    case AF_INET6:
        return name->in6.sin6_port != 0;
    default:
        return name->len > sizeof(name->un.sun_family);
    }
}

/* Ping sockets, too, are datagram sockets of an IP family. */
static int check_datagram(int fd, const struct why_subject *uri)
{
    struct address name = { .len = sizeof(name.ss) };
    int protocol;
    int r = get_option(fd, SO_PROTOCOL, &protocol);

    if (r == 0 && getsockname(fd, &name.sa, &name.len) < 0)
        r = -errno;
    if (r < 0)
        return why_refuse(uri, r, "%s", strerrordesc_np(-r));
    if (name.sa.sa_family != AF_UNIX && protocol != IPPROTO_UDP)
        return why_refuse(uri, -EINVAL, "descriptor %d is neither a UDP nor a Unix socket", fd);
    if (!is_bound(&name))
        return why_refuse(uri, -EINVAL, "descriptor %d is not bound: "
                          "the program that opens it must call bind(2)", fd);
    return 0;
}

static int check_inherited(int fd, int *ret_type, const struct why_subject *uri)
{
    int r = get_option(fd, SO_TYPE, ret_type);

    if (r == -EBADF)
        return why_refuse(uri, -EINVAL, "descriptor %d is not open", fd);
    if (r == -ENOTSOCK)
        return why_refuse(uri, -EINVAL, "descriptor %d is not a socket", fd);
    if (r < 0)
        return why_refuse(uri, r, "%s", strerrordesc_np(-r));
    if (*ret_type == SOCK_STREAM)
        return check_stream(fd, uri);
    if (*ret_type == SOCK_DGRAM)
        return check_datagram(fd, uri);
    return why_refuse(uri, -EINVAL, "descriptor %d is neither a stream nor a datagram socket", fd);
}

/* By whichever way it was bound. */
static int ask_for_local_of(int fd)
{
    struct address name = { .len = sizeof(name.ss) };

    return getsockname(fd, &name.sa, &name.len) < 0 ? -errno : ask_for_local(fd, &name);
}

/* Who gave the socket up has left its path to us, too; unless somebody has removed it. */
static void take_path_over(struct listener *listener, int fd)
{
    struct address name = { .len = sizeof(name.ss) };

    if (getsockname(fd, &name.sa, &name.len) == 0 && name.sa.sa_family == AF_UNIX &&
        name.len > sizeof(name.un.sun_family) && name.un.sun_path[0] != '\0')
        own_path(listener, name.un.sun_path);
}

/* The descriptor becomes the listener's last, so that a failure leaves it open and the caller's. */
static int adopt(struct listener *listener, const struct attempt *attempt)
{
    int fd = attempt->address->fd;
    int type;
    int r = check_inherited(fd, &type, attempt->uri);

    if (r < 0)
        return r;
    r = name_listener(listener, fd, type, attempt->uri);
    if (r < 0)
        return r;
    r = sys_set_nonblocking(fd);
    if (r == 0)
        r = set_traits(fd, listener->family, type, attempt->options);
    if (r == 0 && type == SOCK_DGRAM)
        r = ask_for_local_of(fd);
    if (r < 0)
        return why_refuse(attempt->uri, r, "%s", strerrordesc_np(-r));
    listener->fd = fd;
    listener->listens = true;
    listener_keep_elsewhere(listener, true);
    if (attempt->options->taken_over)
        take_path_over(listener, fd);
    return 0;
}

int listener_bind(struct listener *ret, const char *uri, const struct listener_options *options,
                  char *why, size_t why_size)
{
    const struct why_subject subject = { uri, why, why_size };
    struct listener listener = { .fd = -1 };
    struct address address;
    const struct attempt attempt = { &address, options, &subject };
    int r = address_parse(uri, &address, why, why_size);

    if (r < 0)
        return r;
    if (address.kind == ADDRESS_FD)
        r = adopt(&listener, &attempt);
    else
        r = bind_new(&listener, &attempt);
    if (r < 0) {
        listener_close(&listener);
        return r;
    }
    /* Not before: what could not be bound as was asked leaves nothing behind. */
    listener.keep_path = options->keep_path;
    *ret = listener;
    return 0;
}

/* ---- listening ---- */

static int listen_backlog(int fd, uint32_t backlog)
{
    if (backlog == 0)
        backlog = SOMAXCONN;
    return listen(fd, backlog < INT_MAX ? (int)backlog : INT_MAX) == 0 ? 0 : -errno;
}

/* What is to be done for a stream socket. */
static int start_listening(const struct listener *listener, uint32_t backlog,
                           const struct why_subject *uri)
{
    int r;

    if (listener->path[0] != '\0' && !owns_path(listener))
        return why_refuse(uri, -EADDRINUSE, "the path was removed or taken over after it was "
                          "bound, while nobody listened there");
    r = listen_backlog(listener->fd, backlog);
    return r < 0 ? refuse_address(uri, listener->family, SOCK_STREAM, r) : 0;
}

static int activate(struct listener *listener, uint32_t backlog, const struct why_subject *uri)
{
    int r = 0;

    if (!listener->listens && listener->type == SOCK_STREAM)
        r = start_listening(listener, backlog, uri);
    if (r == 0)
        listener->listens = true;
    return r;
}

int listener_activate(struct listener *listener, uint32_t backlog, char *why, size_t why_size)
{
    return activate(listener, backlog, &(const struct why_subject){ listener->uri, why, why_size });
}

int listener_open(struct listener *ret, const char *uri, const struct listener_options *options,
                  char *why, size_t why_size)
{
    struct listener listener;
    int r = listener_bind(&listener, uri, options, why, why_size);

    if (r < 0)
        return r;
    r = activate(&listener, options->backlog, &(const struct why_subject){ uri, why, why_size });
    if (r < 0) {
        listener.keep_path = false;
        listener_close(&listener);
        return r;
    }
    *ret = listener;
    return 0;
}

void listener_close(struct listener *listener)
{
    if (listener->fd < 0)
        return;
    disown_path(listener);
    sys_close(listener->fd);
    listener->fd = -1;
}
