/* privileges.c - see privileges.h. */
#include "tools/command/privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "engine/base/owner.h"
#include "tools/command/arguments.h"
#include "tools/command/say.h"

#define refuse(...) arguments_refuse("serve", __VA_ARGS__)

/* ------------------------------------------------------------------ who it is to be --- */

static int read_names(struct privileges *privileges, const char *user)
{
    struct owner owner;
    const struct passwd *entry;
    char why[400];

    if (owner_parse(user, &owner, why, sizeof(why)) < 0)
        return refuse("--user: %s", why);
    if (!owner.set_uid)
        return refuse("--user: %s: it must be USER or USER:GROUP", user);
    entry = getpwuid(owner.uid);    /* NOLINT(concurrency-mt-unsafe): there is no other thread */
    if (!owner.set_gid && !entry)
        return refuse("--user: %s: nothing is known of that user: name a group as well, as in "
                      "%u:%u", user, (unsigned)owner.uid, (unsigned)owner.uid);
    *privileges = (struct privileges){
        .user = user, .uid = owner.uid, .gid = owner.set_gid ? owner.gid : entry->pw_gid,
    };
    return 0;
}

static bool is_already(const struct privileges *privileges)
{
    uid_t uid, effective_uid, saved_uid;
    gid_t gid, effective_gid, saved_gid;

    return getresuid(&uid, &effective_uid, &saved_uid) == 0 &&
           getresgid(&gid, &effective_gid, &saved_gid) == 0 &&
           uid == privileges->uid && effective_uid == uid && saved_uid == uid &&
           gid == privileges->gid && effective_gid == gid && saved_gid == gid;
}

int privileges_read(struct privileges *ret_privileges, const char *user)
{
    int r;

    *ret_privileges = (struct privileges){ .user = NULL };
    if (!user)
        return 0;
    r = read_names(ret_privileges, user);
    if (r < 0)
        return r;
    /* Who is root and stays it has said so; the groups remain as well. */
    ret_privileges->changes = !is_already(ret_privileges);
    if (ret_privileges->changes && geteuid() != 0)
        return refuse("--user: %s: it takes root to become another user: be root, or leave the "
                      "option out", user);
    return 0;
}

/*
 * An owner without a path that it could own is refused. The engine, which does that, lets a socket
 * pass that was taken over, for its path may have been given that owner; this process gives none.
 */
static bool has_unix_path(const struct weir_options *options)
{
    for (size_t i = 0; i < options->listeners_len; i++)
        if (strncmp(options->listeners[i].address, "unix:///", strlen("unix:///")) == 0 ||
            strncmp(options->listeners[i].address, "unixgram:///", strlen("unixgram:///")) == 0)
            return true;
    return false;
}

void privileges_own(struct privileges *privileges, struct weir_options *options)
{
    if (!privileges->changes || options->unix_owner || !has_unix_path(options))
        return;
    snprintf(privileges->owner, sizeof(privileges->owner), "%u:%u", (unsigned)privileges->uid,
             (unsigned)privileges->gid);
    options->unix_owner = privileges->owner;
}

/* ------------------------------------------------------------------ becoming it ------- */

/* A user without an entry is in no group but the one that was named. */
static int take_groups(const struct privileges *privileges)
{
    const struct passwd *entry;

    entry = getpwuid(privileges->uid);      /* NOLINT(concurrency-mt-unsafe): as above */
    return entry ? initgroups(entry->pw_name, privileges->gid)
                 : setgroups(1, &privileges->gid);
}

/* The user comes last, since it takes root to change the groups. */
static int become(const struct privileges *privileges)
{
    if (take_groups(privileges) < 0 ||
        setresgid(privileges->gid, privileges->gid, privileges->gid) < 0 ||
        setresuid(privileges->uid, privileges->uid, privileges->uid) < 0)
        return -errno;
    return 0;
}

/* A process that keeps capabilities across a change of its user could. */
static bool could_go_back(const struct privileges *privileges)
{
    return privileges->uid != 0 &&
           (setresuid((uid_t)-1, 0, (uid_t)-1) == 0 ||
            (privileges->gid != 0 && setresgid((gid_t)-1, 0, (gid_t)-1) == 0));
}

static int refuse_drop(const struct privileges *privileges, int error, const char *why)
{
    say("weir serve: --user: %s: %s", privileges->user, why);
    return error;
}

int privileges_drop(const struct privileges *privileges)
{
    int r;

    if (!privileges->changes)
        return 0;
    r = become(privileges);
    if (r < 0)
        return refuse_drop(privileges, r, strerrordesc_np(-r));
    if (could_go_back(privileges))
        return refuse_drop(privileges, -EPERM, "the process could become root again: start it "
                           "without the secure bits that keep capabilities");
    /*
     * The kernel hides /proc/self from a process that has changed its user, and the watchdog reads
     * there. Nothing that only root may see has been read.
     */
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    return 0;
}

void privileges_warn(const struct privileges *privileges)
{
    if (!privileges->user && geteuid() == 0)
        say_now("weir: it runs as root: name the user to become (--user USER), even if that is "
                "root");
}

void privileges_renounce(void)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        say_now("weir: no_new_privs cannot be set: %s", strerrordesc_np(errno));
}
