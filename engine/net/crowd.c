#include "engine/net/crowd.h"

#include "engine/base/compiler.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/random.h>

#define LOCKS 64
#define BUCKETS_MAX ((size_t)1 << 20)

struct crowd_guest {
    struct crowd_guest *next;
    struct cidr host;
    size_t bucket;
    uint32_t count;
};

struct crowd_lock {
    WEIR_CACHE_ALIGNED pthread_mutex_t mutex;
};

struct crowd {
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

int crowd_create(uint32_t limit, size_t expected, struct crowd **ret)
{
    struct crowd *crowd = aligned_alloc(WEIR_CACHE_LINE, sizeof(*crowd));

    if (!crowd)
        return -ENOMEM;
    crowd->limit = limit;
    crowd->buckets_len = buckets_for(expected);
    crowd->buckets = calloc(crowd->buckets_len, sizeof(struct crowd_guest *));
    if (!crowd->buckets || getrandom(&crowd->seed, sizeof(crowd->seed), 0) < 0) {
        free(crowd->buckets);
        free(crowd);
        return -ENOMEM;
    }
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_init(&crowd->locks[i].mutex, NULL);
    *ret = crowd;
    return 0;
}

void crowd_destroy(struct crowd *crowd)
{
    if (!crowd)
        return;
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&crowd->locks[i].mutex);
    free(crowd->buckets);
    free(crowd);
}

/* Multiplied to full width and folded, twice: every bit reaches every other. */
static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * (b | 1);

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static size_t bucket_of(const struct crowd *crowd, const struct cidr *host)
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

    while (*link && ((*link)->host.bits != host->bits || (*link)->host.v6 != host->v6))
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

int crowd_enter(struct crowd *crowd, const struct cidr *host, struct crowd_guest **ret)
{
    size_t bucket = bucket_of(crowd, host);
    pthread_mutex_t *lock = lock_of(crowd, bucket);
    int r;

    pthread_mutex_lock(lock);
    r = enter_locked(crowd, bucket, host, ret);
    pthread_mutex_unlock(lock);
    return r;
}

void crowd_leave(struct crowd *crowd, struct crowd_guest *guest)
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
