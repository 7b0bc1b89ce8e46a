#include "engine/base/cpulist.h"

#include "engine/base/why.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>

/* Far more than any kernel can be built for; and the CPUs of a list. */
#define CPUS_MAX 65536
#define LIST_MAX 1024

struct range {
    int first;
    int last;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Reads a number below CPUS_MAX; moves past it. Returns it, or -1. */
static int take_number(const char **text)
{
    const char *c = *text;
    int number = 0;

    if (!is_digit(*c))
        return -1;
    for (; is_digit(*c); c++) {
        number = number * 10 + (*c - '0');
        if (number >= CPUS_MAX)
            return -1;
    }
    *text = c;
    return number;
}

/* Reads "2" or "2-3" and moves past it. */
static bool take_range(const char **text, struct range *ret)
{
    int first = take_number(text);
    int last = first;

    if (first < 0)
        return false;
    if (**text == '-') {
        (*text)++;
        last = take_number(text);
    }
    if (last < first)
        return false;
    *ret = (struct range){ first, last };
    return true;
}

/* Reads the whole list: what it says, whether this machine has such CPUs or not. */
static int read_list(int *cpus, size_t max, const struct why_subject *list)
{
    const char *rest = list->text;
    struct range range;
    size_t len = 0;

    for (;;) {
        if (!take_range(&rest, &range) || (*rest != ',' && *rest != '\0'))
            return why_refuse(list, -EINVAL, "not a list of CPUs such as 0,2-3");
        for (int cpu = range.first; cpu <= range.last; cpu++) {
            if (len == max)
                return why_refuse(list, -EINVAL, "more than %zu CPUs", max);
            cpus[len++] = cpu;
        }
        if (*rest == '\0')
            return (int)len;
        rest++;     /* the comma */
    }
}

/* 0 and a set to be freed, or -errno: -EINVAL while it is smaller than the kernel's. */
static int read_allowed_of(size_t cpus, cpu_set_t **ret_set, size_t *ret_size)
{
    cpu_set_t *set = CPU_ALLOC(cpus);
    int r;

    *ret_size = CPU_ALLOC_SIZE(cpus);
    if (!set)
        return -ENOMEM;
    r = sched_getaffinity(0, *ret_size, set) < 0 ? -errno : 0;
    if (r < 0)
        CPU_FREE(set);
    else
        *ret_set = set;
    return r;
}

static int read_allowed(cpu_set_t **ret_set, size_t *ret_size)
{
    int r = -EINVAL;

    for (size_t cpus = CPU_SETSIZE; r == -EINVAL && cpus <= CPUS_MAX; cpus *= 2)
        r = read_allowed_of(cpus, ret_set, ret_size);
    return r;
}

static int check_allowed(const int *cpus, int len, const struct why_subject *list)
{
    cpu_set_t *allowed;
    size_t size;
    int r = read_allowed(&allowed, &size);

    if (r < 0)
        return why_refuse(list, -EINVAL, "this process's CPUs cannot be read: %s",
                          strerrordesc_np(-r));
    for (int i = 0; i < len && r == 0; i++)
        if (!CPU_ISSET_S((size_t)cpus[i], size, allowed))
            r = why_refuse(list, -EINVAL, "this process may not run on CPU %d", cpus[i]);
    CPU_FREE(allowed);
    return r;
}

unsigned cpulist_count_allowed(void)
{
    cpu_set_t *allowed;
    size_t size;
    int count;

    if (read_allowed(&allowed, &size) < 0)
        return 1;
    count = CPU_COUNT_S(size, allowed);
    CPU_FREE(allowed);
    return (unsigned)count;
}

cpu_set_t *cpulist_set_of(int cpu, size_t *ret_size)
{
    size_t cpus = (size_t)cpu + 1;
    cpu_set_t *set = CPU_ALLOC(cpus);

    if (!set)
        return NULL;
    *ret_size = CPU_ALLOC_SIZE(cpus);
    CPU_ZERO_S(*ret_size, set);
    CPU_SET_S((size_t)cpu, *ret_size, set);
    return set;
}

int cpulist_parse(const char *text, int *ret_cpus, size_t max, char *why, size_t why_size)
{
    const struct why_subject list = { text, why, why_size };
    int cpus[LIST_MAX];
    int len, r;

    len = read_list(cpus, max < LIST_MAX ? max : LIST_MAX, &list);
    if (len < 0)
        return len;
    r = check_allowed(cpus, len, &list);
    if (r < 0)
        return r;
    memcpy(ret_cpus, cpus, (size_t)len * sizeof(*cpus));
    return len;
}
