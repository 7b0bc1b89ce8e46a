#include "engine/base/owner.h"

#include "engine/base/why.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Longer than useradd(8) lets a name be. */
#define NAME_SIZE 256

/* For one entry of the database: a group may have thousands of members. */
#define ENTRY_SIZE ((size_t)256 * 1024)

/* A look-up of one name. `found` tells of a name that exists; the result is an error otherwise. */
typedef int look_up_fn(const char *name, char *entry, uint32_t *ret_id, bool *found);

static int look_up_user(const char *name, char *entry, uint32_t *ret_id, bool *found)
{
    struct passwd passwd, *result;
    int error = getpwnam_r(name, &passwd, entry, ENTRY_SIZE, &result);

    *found = result != NULL;
    if (result)
        *ret_id = result->pw_uid;
    return -error;
}

static int look_up_group(const char *name, char *entry, uint32_t *ret_id, bool *found)
{
    struct group group, *result;
    int error = getgrnam_r(name, &group, entry, ENTRY_SIZE, &result);

    *found = result != NULL;
    if (result)
        *ret_id = result->gr_gid;
    return -error;
}

/* A name that is a number means that id. But 2^32 - 1 means "unchanged" to chown(2). */
static bool is_id_number(const char *text, uint32_t *ret)
{
    uint64_t n = 0;

    if (*text == '\0')
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        n = n * 10 + (uint64_t)(*text - '0');
        if (n >= UINT32_MAX)
            return false;
    }
    *ret = (uint32_t)n;
    return true;
}

/* Some directories say that a name is missing by an error. */
static bool means_missing(int error)
{
    return error == 0 || error == -ENOENT || error == -ESRCH || error == -EBADF || error == -EPERM;
}

static int find(look_up_fn *look_up, const char *kind, const char *name, uint32_t *ret_id,
                const struct why_subject *subject)
{
    char *entry = malloc(ENTRY_SIZE);
    bool found = false;
    int r = entry ? look_up(name, entry, ret_id, &found) : -ENOMEM;

    free(entry);
    if (found || is_id_number(name, ret_id))
        return 0;
    if (means_missing(r))
        return why_refuse(subject, -EINVAL, "there is no %s '%s'", kind, name);
    return why_refuse(subject, r, "%s '%s': %s", kind, name, strerrordesc_np(-r));
}

int owner_parse(const char *text, struct owner *ret, char *why, size_t why_size)
{
    const struct why_subject subject = { text, why, why_size };
    size_t user_len = strcspn(text, ":");
    const char *group = text[user_len] == ':' ? text + user_len + 1 : NULL;
    struct owner owner = { .set_uid = user_len > 0, .set_gid = group != NULL };
    char user[NAME_SIZE];
    int r = 0;

    if (user_len >= sizeof(user) || (!owner.set_uid && !group) || (group && *group == '\0'))
        return why_refuse(&subject, -EINVAL, "it must be USER, USER:GROUP or :GROUP");
    snprintf(user, sizeof(user), "%.*s", (int)user_len, text);
    if (owner.set_uid)
        r = find(look_up_user, "user", user, &owner.uid, &subject);
    if (r == 0 && owner.set_gid)
        r = find(look_up_group, "group", group, &owner.gid, &subject);
    if (r == 0)
        *ret = owner;
    return r;
}
