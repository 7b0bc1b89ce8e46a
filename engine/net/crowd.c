#include "engine/net/crowd.h"

#include "engine/base/compiler.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>

#define LOCKS 64
#define BUCKETS_MAX ((size_t)1 << 20)

struct crowd_guest {
    struct crowd_guest *next;
    struct cidr host;
    size_t bucket;
    uint32_t count;                     /* shared: 1, or 0 for one without an address */
    bool is_taken;                      /* shared: somebody has this seat, counted or not */
};

/* What processes share: a seat for each guest, whichever process has entered it. */
struct crowd_seats {
    pthread_mutex_t lock;               /* of all seats; robust: its owner may be killed */
    struct crowd_guest guests[];
};

struct crowd_lock {
    WEIR_CACHE_ALIGNED pthread_mutex_t mutex;
};

struct crowd {
    struct crowd_seats *seats;          /* shared; NULL: it is not, and what follows is used */
    size_t seats_len;
    bool is_parents;                    /* shared: this is a child, its parent has the seats */
    struct crowd_lock locks[LOCKS];     /* bucket i is under the i-th, modulo */
    struct crowd_guest **buckets;
    size_t buckets_len;                 /* a power of two */
    uint64_t seed;                      /* nobody outside shall choose who shares a bucket */
    uint32_t limit;
};

static size_t buckets_for(size_t expected)
{
    size_t len = LOCKS;

    while (len < expected && len < BUCKETS_MAX)
        len *= 2;
    return len;
}

/*
 * Where a policy refuses getrandom(2): what the kernel has given this program as it was executed.
 * The C library makes a secret of either half, so neither is told by what is made of both.
 */
static uint64_t choose_seed(void)
{
    const void *at = (const void *)getauxval(AT_RANDOM);
    uint64_t given[2] = { 0 };
    uint64_t seed;

    if (getrandom(&seed, sizeof(seed), 0) == (ssize_t)sizeof(seed))
        return seed;
    if (at)
        memcpy(given, at, sizeof(given));
    return given[0] ^ given[1];
}

int crowd_create(uint32_t limit, size_t expected, struct crowd **ret)
{
    struct crowd *crowd = aligned_alloc(WEIR_CACHE_LINE, sizeof(*crowd));

    if (!crowd)
        return -ENOMEM;
    crowd->seats = NULL;
    crowd->limit = limit;
    crowd->buckets_len = buckets_for(expected);
    crowd->buckets = calloc(crowd->buckets_len, sizeof(struct crowd_guest *));
    if (!crowd->buckets) {
        free(crowd);
        return -ENOMEM;
    }
    crowd->seed = choose_seed();
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_init(&crowd->locks[i].mutex, NULL);
    *ret = crowd;
    return 0;
}

/* ------------------------------------------------------------------ shared ------------ */

static size_t seats_size(size_t len)
{
    return sizeof(struct crowd_seats) + len * sizeof(struct crowd_guest);
}

static void init_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

int crowd_create_shared(uint32_t limit, size_t seats, struct crowd **ret)
{
    struct crowd *crowd = aligned_alloc(WEIR_CACHE_LINE, sizeof(*crowd));

    if (!crowd)
        return -ENOMEM;
    crowd->seats = mmap(NULL, seats_size(seats), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (crowd->seats == MAP_FAILED) {
        free(crowd);
        return -ENOMEM;
    }
    init_lock(&crowd->seats->lock);
    crowd->seats_len = seats;
    crowd->limit = limit;
    crowd->is_parents = false;
    *ret = crowd;
    return 0;
}

void crowd_leave_to_parent(struct crowd *crowd)
{
    crowd->is_parents = true;
}

/* A seat is whole whenever its owner dies: each is changed by a store or two that nobody reads. */
static void lock_seats(struct crowd_seats *seats)
{
    if (pthread_mutex_lock(&seats->lock) == EOWNERDEAD)
        pthread_mutex_consistent(&seats->lock);
}

static bool has_host(const struct crowd_guest *guest, const struct cidr *host)
{
    return guest->host.bits == host->bits && guest->host.v6 == host->v6;
}

/* How many others are counted at that host. */
static uint32_t others_at_locked(const struct crowd *crowd, const struct cidr *host,
                                 const struct crowd_guest *self)
{
    uint32_t others = 0;

    for (size_t i = 0; i < crowd->seats_len; i++) {
        const struct crowd_guest *guest = &crowd->seats->guests[i];

        if (guest != self && guest->is_taken && guest->count > 0 && has_host(guest, host))
            others++;
    }
    return others;
}

static struct crowd_guest *free_seat_locked(const struct crowd *crowd)
{
    for (size_t i = 0; i < crowd->seats_len; i++)
        if (!crowd->seats->guests[i].is_taken)
            return &crowd->seats->guests[i];
    return NULL;
}

static int move_locked(struct crowd *crowd, const struct cidr *host, struct crowd_guest **guest)
{
    struct crowd_guest *seat = *guest ? *guest : free_seat_locked(crowd);

    if (!seat)
        return -ENOMEM;
    if (host && others_at_locked(crowd, host, seat) >= crowd->limit)
        return -EUSERS;
    /* Not counted while it is half changed: its owner may be killed. */
    seat->count = 0;
    if (host)
        seat->host = *host;
    seat->count = host != NULL;
    seat->is_taken = true;
    *guest = seat;
    return 0;
}

static int move_shared(struct crowd *crowd, const struct cidr *host, struct crowd_guest **guest)
{
    int r;

    lock_seats(crowd->seats);
    r = move_locked(crowd, host, guest);
    pthread_mutex_unlock(&crowd->seats->lock);
    return r;
}

static void leave_shared(struct crowd *crowd, struct crowd_guest *guest)
{
    lock_seats(crowd->seats);
    guest->count = 0;
    guest->is_taken = crowd->is_parents;
    pthread_mutex_unlock(&crowd->seats->lock);
}

/* ------------------------------------------------------------------ of one process ---- */

/* Multiplied to full width and folded, twice: every bit reaches every other. */
static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * (b | 1);

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static size_t bucket_of_host(const struct crowd *crowd, const struct cidr *host)
{
    uint64_t upper = (uint64_t)(host->bits >> 64) ^ crowd->seed;
    uint64_t lower = (uint64_t)host->bits ^ (uint64_t)host->v6;
    uint64_t hash = mix(mix(upper, 0x9e3779b97f4a7c15) ^ lower, crowd->seed);

    return (size_t)hash & (crowd->buckets_len - 1);
}

static pthread_mutex_t *lock_of(struct crowd *crowd, size_t bucket)
{
    return &crowd->locks[bucket % LOCKS].mutex;
}

/* The link that points to the host's guest, or the empty one at the end of its bucket. */
static struct crowd_guest **find_locked(struct crowd *crowd, size_t bucket,
                                        const struct cidr *host)
{
    struct crowd_guest **link = &crowd->buckets[bucket];

    while (*link && !has_host(*link, host))
        link = &(*link)->next;
    return link;
}

static int enter_locked(struct crowd *crowd, size_t bucket, const struct cidr *host,
                        struct crowd_guest **ret)
{
    struct crowd_guest **link = find_locked(crowd, bucket, host);

    if (!*link) {
        struct crowd_guest *guest = malloc(sizeof(*guest));

        if (!guest)
            return -ENOMEM;
        *guest = (struct crowd_guest){ .host = *host, .bucket = bucket };
        *link = guest;
    } else if ((*link)->count >= crowd->limit) {
        return -EUSERS;
    }
    (*link)->count++;
    *ret = *link;
    return 0;
}

static int enter_crowd(struct crowd *crowd, const struct cidr *host, struct crowd_guest **ret)
{
    size_t bucket = bucket_of_host(crowd, host);
    pthread_mutex_t *lock = lock_of(crowd, bucket);
    int r;

    pthread_mutex_lock(lock);
    r = enter_locked(crowd, bucket, host, ret);
    pthread_mutex_unlock(lock);
    return r;
}

static void leave_crowd(struct crowd *crowd, struct crowd_guest *guest)
{
    size_t bucket = guest->bucket;      /* written once, before anybody had the guest */
    pthread_mutex_t *lock = lock_of(crowd, bucket);
    bool last;

    pthread_mutex_lock(lock);
    last = --guest->count == 0;
    if (last)
        *find_locked(crowd, bucket, &guest->host) = guest->next;
    pthread_mutex_unlock(lock);
    if (last)
        free(guest);
}

static void destroy_buckets(struct crowd *crowd)
{
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&crowd->locks[i].mutex);
    free(crowd->buckets);
}

/* ------------------------------------------------------------------ either ------------ */

void crowd_destroy(struct crowd *crowd)
{
    if (!crowd)
        return;
    if (crowd->seats)
        munmap(crowd->seats, seats_size(crowd->seats_len));
    else
        destroy_buckets(crowd);
    free(crowd);
}

int crowd_move(struct crowd *crowd, const struct cidr *host, struct crowd_guest **guest)
{
    if (crowd->seats)
        return move_shared(crowd, host, guest);
    /* First, or a limit of one would keep out a guest that changes its seat. */
    if (*guest)
        leave_crowd(crowd, *guest);
    *guest = NULL;
    return host ? enter_crowd(crowd, host, guest) : 0;
}

int crowd_enter(struct crowd *crowd, const struct cidr *host, struct crowd_guest **ret)
{
    struct crowd_guest *guest = NULL;
    int r = crowd_move(crowd, host, &guest);

    if (r == 0)
        *ret = guest;
    return r;
}

void crowd_leave(struct crowd *crowd, struct crowd_guest *guest)
{
    if (crowd->seats)
        leave_shared(crowd, guest);
    else
        leave_crowd(crowd, guest);
}
