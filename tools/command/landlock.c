/*
 * landlock.c - see landlock.h. By system calls: the C library has no functions for them.
 *
 * /proc as a whole, and not /proc/self: a child's is another folder. Landlock itself keeps what is
 * secret there, which takes the right to trace, from who is in a sandbox. A scope for abstract Unix
 * names is left out: replies to datagrams go to whatever name a client has.
 */
#include "tools/command/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/net/address.h"
#include "tools/command/say.h"

/* Younger than some of the C libraries' headers. The numbers are the same for all architectures. */
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

enum {
    ASK_VERSION = 1,            /* a flag of landlock_create_ruleset(2) */
    BENEATH = 1,                /* a type of landlock_add_rule(2) */
};

/* What is handled is forbidden where no rule allows it: linux/landlock.h, by its ABI's versions. */
enum {
    READ_FILE = 1 << 2,
    REMOVE_FILE = 1 << 5,
    FILES_1 = (1 << 13) - 1,
    REFER_2 = 1 << 13,
    TRUNCATE_3 = 1 << 14,
    DEVICES_5 = 1 << 15,
    BIND_AND_CONNECT_4 = 3,
    SIGNALS_6 = 2,
};

/* As linux/landlock.h has it. Its size, too, says what is known of. */
struct ruleset {
    uint64_t files;
    uint64_t network;           /* since version 4 */
    uint64_t scopes;            /* since version 6 */
};

struct rule {
    uint64_t allowed;
    int32_t folder;
} __attribute__((packed));

static long create_ruleset(int version)
{
    struct ruleset ruleset = { .files = FILES_1 };
    size_t size = version >= 6 ? sizeof(ruleset)
                               : version >= 4 ? offsetof(struct ruleset, scopes)
                                              : offsetof(struct ruleset, network);

    ruleset.files |= version >= 2 ? REFER_2 : 0;
    ruleset.files |= version >= 3 ? TRUNCATE_3 : 0;
    ruleset.files |= version >= 5 ? DEVICES_5 : 0;
    ruleset.network = version >= 4 ? BIND_AND_CONNECT_4 : 0;
    ruleset.scopes = version >= 6 ? SIGNALS_6 : 0;
    return syscall(SYS_landlock_create_ruleset, &ruleset, size, 0);
}

/* A folder that is not there allows nothing. */
static int allow_beneath(int ruleset, const char *folder, uint64_t what)
{
    struct rule rule = { .allowed = what, .folder = open(folder, O_PATH | O_CLOEXEC) };
    int r = 0;

    if (rule.folder < 0)
        return 0;
    if (syscall(SYS_landlock_add_rule, ruleset, BENEATH, &rule, 0) < 0)
        r = -errno;
    close(rule.folder);
    return r;
}

/* Not the file alone: an editor, or a tool that writes files whole, puts another in its place. */
static int allow_folder_of(int ruleset, const char *path, uint64_t what)
{
    char copy[PATH_MAX];

    if ((size_t)snprintf(copy, sizeof(copy), "%s", path) >= sizeof(copy))
        return 0;
    return allow_beneath(ruleset, dirname(copy), what);
}

/* The link may be replaced, or what it leads to. */
static int allow_rules(int ruleset, const char *path)
{
    char *target = realpath(path, NULL);
    int r = allow_folder_of(ruleset, path, READ_FILE);

    if (r == 0 && target)
        r = allow_folder_of(ruleset, target, READ_FILE);
    free(target);
    return r;
}

/* Only a name in the file system begins with something else than a 0. */
static int allow_path(int ruleset, const char *uri)
{
    struct address address;
    char why[400];

    if (!address_is_literal(uri) || address_parse(uri, &address, why, sizeof(why)) < 0 ||
        address.kind != ADDRESS_UNIX || address.un.sun_path[0] == '\0')
        return 0;
    return allow_folder_of(ruleset, address.un.sun_path, REMOVE_FILE);
}

static int allow_paths(int ruleset, struct weir_server *server)
{
    char uri[WEIR_ADDRESS_SIZE];
    int r = 0;

    for (size_t i = 0; r == 0 && weir_server_address(server, i, uri, sizeof(uri)) >= 0; i++)
        r = allow_path(ruleset, uri);
    return r;
}

static int allow_all(int ruleset, struct weir_server *server, const char *rules)
{
    int r = allow_beneath(ruleset, "/proc", READ_FILE);

    if (r == 0 && rules)
        r = allow_rules(ruleset, rules);
    if (r == 0)
        r = allow_paths(ruleset, server);
    if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        r = -errno;
    return r;
}

int landlock_enter(struct weir_server *server, const char *rules)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, ASK_VERSION);
    int ruleset;
    int r;

    if (version < 0) {
        say_now("weir: --sandbox: this kernel keeps no list of files (Landlock: %s), so only "
                "system calls are filtered", strerrordesc_np(errno));
        return 0;
    }
    ruleset = (int)create_ruleset((int)version);
    /* Some distributions' kernels say that they are of version 6, and know no scopes. */
    if (ruleset < 0 && errno == EINVAL && version >= 6)
        ruleset = (int)create_ruleset(5);
    r = ruleset < 0 ? -errno : allow_all(ruleset, server, rules);
    if (ruleset >= 0)
        close(ruleset);
    if (r < 0)
        say("weir serve: --sandbox: files can't be kept from it (Landlock): %s",
            strerrordesc_np(-r));
    return r;
}
