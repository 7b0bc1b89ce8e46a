#include "engine/net/access.h"

#include "engine/base/sys.h"
#include "engine/base/why.h"
#include "engine/net/cidr.h"
#include "engine/sync/reclaim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_LEN 255        /* without its comment */
#define WORDS_MAX 4             /* one more than any rule has */
#define FILE_MAX ((size_t)32 << 20)

enum { DENY = 0, ALLOW = 1 };

struct id_rule {
    uint32_t id;
    bool of_group;
    bool allow;
};

struct weir_access {
    struct cidr_set networks;   /* DENY or ALLOW */
    struct id_rule *ids;
    size_t ids_len;
    uint16_t otherwise;
    bool has_default;
    _Atomic bool taken;         /* it is, or was, in a slot */
    struct reclaim_head reclaim;
};

/* ------------------------------------------------------------------ one line ---------- */

/* Where a rule is read into, and where to say what is wrong with it. */
struct reading {
    struct weir_access *access;
    unsigned line;
    char *why;
    size_t why_size;
};

#define REFUSE(reading, format, ...) \
    why_set((reading)->why, (reading)->why_size, -EINVAL, "line %u: " format, (reading)->line, \
            __VA_ARGS__)

static int no_memory(const struct reading *reading)
{
    return why_set(reading->why, reading->why_size, -ENOMEM, "line %u: %s", reading->line,
                   why_error(-ENOMEM));
}

static int read_verdict(const struct reading *reading, const char *word, bool *ret_allow)
{
    *ret_allow = strcmp(word, "allow") == 0;
    if (*ret_allow || strcmp(word, "deny") == 0)
        return 0;
    return REFUSE(reading, "'%s' is neither allow nor deny", word);
}

static int read_default(const struct reading *reading, const char *word)
{
    struct weir_access *access = reading->access;
    bool allow;
    int r = read_verdict(reading, word, &allow);

    if (r < 0)
        return r;
    if (access->has_default)
        return REFUSE(reading, "%s", "there is a default already");
    access->has_default = true;
    access->otherwise = allow;
    return 0;
}

/* Decimal digits; the last number is (uid_t)-1, which means nobody. */
static bool parse_id(const char *text, uint32_t *ret)
{
    size_t digits = strspn(text, "0123456789");
    unsigned long id;

    if (digits == 0 || digits > 10 || text[digits] != '\0')
        return false;
    id = strtoul(text, NULL, 10);
    if (id >= UINT32_MAX)
        return false;
    *ret = (uint32_t)id;
    return true;
}

static const struct id_rule *find_id(const struct weir_access *access, bool of_group, uint32_t id)
{
    for (size_t i = 0; i < access->ids_len; i++)
        if (access->ids[i].id == id && access->ids[i].of_group == of_group)
            return &access->ids[i];
    return NULL;
}

static int read_id(const struct reading *reading, bool allow, const char *kind, const char *text)
{
    struct weir_access *access = reading->access;
    struct id_rule rule = { .of_group = strcmp(kind, "gid") == 0, .allow = allow };
    struct id_rule *ids;

    if (!parse_id(text, &rule.id))
        return REFUSE(reading, "%s '%s' is not a number from 0 to 4294967294", kind, text);
    if (find_id(access, rule.of_group, rule.id))
        return REFUSE(reading, "%s %s has a rule already", kind, text);
    ids = realloc(access->ids, (access->ids_len + 1) * sizeof(*ids));
    if (!ids)
        return no_memory(reading);
    ids[access->ids_len++] = rule;
    access->ids = ids;
    return 0;
}

static int read_network(const struct reading *reading, bool allow, const char *text)
{
    struct cidr network;
    char why[300];
    int r = cidr_parse(text, &network, why, sizeof(why));

    if (r < 0)
        return REFUSE(reading, "%s", why);
    r = cidr_set_add(&reading->access->networks, &network, allow ? ALLOW : DENY);
    if (r == -EEXIST)
        return REFUSE(reading, "%s has a rule already", text);
    return r < 0 ? no_memory(reading) : 0;
}

static int read_rule(const struct reading *reading, char *const *words, unsigned words_len)
{
    bool allow;
    int r;

    if (words_len == 2 && strcmp(words[0], "default") == 0)
        return read_default(reading, words[1]);
    r = read_verdict(reading, words[0], &allow);
    if (r < 0)
        return r;
    if (words_len == 2)
        return read_network(reading, allow, words[1]);
    if (words_len == 3 && (strcmp(words[1], "uid") == 0 || strcmp(words[1], "gid") == 0))
        return read_id(reading, allow, words[1], words[2]);
    return REFUSE(reading, "%s what? A network such as 10.0.0.0/8, or uid or gid and a number",
                  words[0]);
}

static int read_line(const struct reading *reading, const char *text, size_t len)
{
    char line[LINE_MAX_LEN + 1];
    char *words[WORDS_MAX];
    unsigned words_len = 0;
    char *rest = line;

    if (len >= sizeof(line))
        return REFUSE(reading, "longer than %d bytes", LINE_MAX_LEN);
    memcpy(line, text, len);
    line[len] = '\0';
    while (words_len < WORDS_MAX && (words[words_len] = strtok_r(rest, " \t\r", &rest)))
        words_len++;
    return words_len == 0 ? 0 : read_rule(reading, words, words_len);
}

/* ------------------------------------------------------------------ the text ---------- */

static int read_lines(struct reading *reading, const char *text)
{
    for (;;) {
        size_t len = strcspn(text, "\n");
        int r;

        reading->line++;
        r = read_line(reading, text, strcspn(text, "\n#"));
        if (r < 0)
            return r;
        if (text[len] == '\0')
            return 0;
        text += len + 1;
    }
}

int access_parse(const char *text, struct weir_access **ret, char *why, size_t why_size)
{
    struct weir_access *access = calloc(1, sizeof(*access));
    struct reading reading = { .access = access, .why = why, .why_size = why_size };
    int r = access ? read_lines(&reading, text)
                   : why_set(why, why_size, -ENOMEM, "%s", why_error(-ENOMEM));

    if (r < 0) {
        access_free(access);
        return r;
    }
    *ret = access;
    return 0;
}

/* All of a file, terminated; the caller frees it. */
static int slurp(FILE *file, char **ret)
{
    size_t size = 4096;
    size_t len = 0;
    char *text = NULL;

    for (;;) {
        char *larger = size <= FILE_MAX ? realloc(text, size) : NULL;

        if (!larger) {
            free(text);
            return size <= FILE_MAX ? -ENOMEM : -EFBIG;
        }
        text = larger;
        len += fread(text + len, 1, size - 1 - len, file);
        if (len < size - 1)
            break;
        size *= 2;
    }
    text[len] = '\0';
    if (ferror(file) || strlen(text) != len) {
        int r = ferror(file) ? -errno : -EINVAL;

        free(text);
        return r;
    }
    *ret = text;
    return 0;
}

/*
 * The thread that answers signals reads rules, too: it must not wait for the other end of a FIFO,
 * as opening would, or reading.
 */
static int open_file(const char *path, FILE **ret)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat info;
    int r = 0;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &info) < 0)
        r = -errno;
    else if (S_ISDIR(info.st_mode))
        r = -EISDIR;
    else if (!S_ISREG(info.st_mode))
        r = -ESPIPE;
    else if (!(*ret = fdopen(fd, "r")))
        r = -errno;
    if (r < 0)
        close(fd);
    return r;
}

static int read_file(const char *path, char **ret)
{
    FILE *file = NULL;
    int r = open_file(path, &file);

    if (r < 0)
        return r;
    r = slurp(file, ret);
    fclose(file);
    return r;
}

int access_read(const char *path, struct weir_access **ret, char *why, size_t why_size)
{
    const struct why_subject subject = { .text = path, .why = why, .why_size = why_size };
    char line_why[400];
    char *text = NULL;
    int r = read_file(path, &text);

    if (r == -ESPIPE)
        return why_refuse(&subject, -EINVAL, "it is no regular file");
    if (r < 0)
        return why_refuse(&subject, r, "%s", r == -EINVAL ? "it is not text" : why_error(r));
    r = access_parse(text, ret, line_why, sizeof(line_why));
    free(text);
    return r < 0 ? why_refuse(&subject, r, "%s", line_why) : 0;
}

void access_free(struct weir_access *access)
{
    if (!access)
        return;
    cidr_set_fini(&access->networks);
    free(access->ids);
    free(access);
}

/* ------------------------------------------------------------------ answers ----------- */

static bool knows_ids(const struct access_peer *peer, uid_t *ret_uid, gid_t *ret_gid)
{
    if (!peer->sender)
        return sys_peer_ids(peer->fd, ret_uid, ret_gid) == 0;
    *ret_uid = peer->sender->uid;
    *ret_gid = peer->sender->gid;
    return true;
}

static bool allows_user(const struct weir_access *access, const struct access_peer *peer)
{
    const struct id_rule *rule;
    uid_t uid;
    gid_t gid;

    if (!knows_ids(peer, &uid, &gid))
        return access->otherwise == ALLOW;
    rule = find_id(access, false, uid);
    if (!rule)
        rule = find_id(access, true, gid);
    return rule ? rule->allow : access->otherwise == ALLOW;
}

bool access_allows(const struct weir_access *access, const struct access_peer *peer)
{
    struct cidr host;

    if (cidr_of_address(peer->address, peer->address_len, &host))
        return cidr_set_find(&access->networks, &host, access->otherwise) == ALLOW;
    return allows_user(access, peer);
}

/* ------------------------------------------------------------------ in force ---------- */

static void free_replaced(struct reclaim_head *head)
{
    reclaim_settle();
    access_free(caa_container_of(head, struct weir_access, reclaim));
}

int access_slot_set(struct access_slot *slot, struct weir_access *rules)
{
    struct weir_access *old;

    /* relaxed: of several slots one gets them; nothing hangs on it. pairs: none */
    if (rules && atomic_exchange_explicit(&rules->taken, true, memory_order_relaxed))
        return -EBUSY;
    /* acq_rel: who finds the rules finds them whole, and so do we the old ones, that another
     * thread may have set. pairs: access_slot_admits() */
    old = atomic_exchange_explicit(&slot->rules, rules, memory_order_acq_rel);
    if (!old)
        return 0;
    reclaim_defer(&old->reclaim, free_replaced);
    return 0;
}

void access_slot_fini(struct access_slot *slot)
{
    /* acquire: what the thread that set them wrote. pairs: access_slot_set() */
    access_free(atomic_load_explicit(&slot->rules, memory_order_acquire));
}

bool access_slot_admits(struct access_slot *slot, const struct access_peer *peer)
{
    const struct weir_access *rules;
    bool admits;

    /* relaxed: without rules there is nothing to look into. pairs: none */
    if (!atomic_load_explicit(&slot->rules, memory_order_relaxed))
        return true;
    reclaim_enter();
    /* acquire: shows the rules as they were set. pairs: access_slot_set() */
    rules = atomic_load_explicit(&slot->rules, memory_order_acquire);
    admits = !rules || access_allows(rules, peer);
    reclaim_exit();
    return admits;
}
