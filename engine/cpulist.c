#include "engine/cpulist.h"

#include "engine/why.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>

struct range {
    int first;
    int last;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Reads a number below CPU_SETSIZE; moves past it. Returns it, or -1. */
static int take_number(const char **text)
{
    const char *c = *text;
    int number = 0;

    if (!is_digit(*c))
        return -1;
    for (; is_digit(*c); c++) {
        number = number * 10 + (*c - '0');
        if (number >= CPU_SETSIZE)
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

static int check_allowed(const int *cpus, int len, const struct why_subject *list)
{
    cpu_set_t allowed;

    if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
        return why_refuse(list, -EINVAL, "this process's CPUs cannot be read: %s",
                          strerrordesc_np(errno));
    for (int i = 0; i < len; i++)
        if (!CPU_ISSET(cpus[i], &allowed))
            return why_refuse(list, -EINVAL, "this process may not run on CPU %d", cpus[i]);
    return 0;
}

int cpulist_parse(const char *text, int *ret_cpus, size_t max, char *why, size_t why_size)
{
    const struct why_subject list = { text, why, why_size };
    int cpus[CPU_SETSIZE];
    int len, r;

    len = read_list(cpus, max < CPU_SETSIZE ? max : CPU_SETSIZE, &list);
    if (len < 0)
        return len;
    r = check_allowed(cpus, len, &list);
    if (r < 0)
        return r;
    memcpy(ret_cpus, cpus, (size_t)len * sizeof(*cpus));
    return len;
}
