/*
 * child.c - see child.h.
 */
#include "bench/child.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bare_datagrams.h"

/* What the child is to do: serve, and write its address into address_fd once it listens. */
struct job {
    int (*serve)(struct job *job);
    int cpu;
    int address_fd;
    enum bare_loop_mode mode;
    unsigned threads;
    int family;
    const struct weir_options *options;
    struct child_report *report;
};

static void tell_address(void *arg, const char *address)
{
    const struct job *job = arg;
    ssize_t len = (ssize_t)strlen(address) + 1;

    if (write(job->address_fd, address, (size_t)len) != len)
        _exit(1);
    close(job->address_fd);
}

static int serve_bare_loop(struct job *job)
{
    return bare_loop_run(job->mode, job->threads, NULL, tell_address, job);
}

static int serve_bare_datagrams(struct job *job)
{
    return bare_datagrams_run(job->family, tell_address, job);
}

static void publish_report(struct weir_server *server)
{
    struct child_report *report = weir_server_user(server);
    struct rusage reaped;

    weir_server_stats(server, &report->stats, sizeof(report->stats));
    getrusage(RUSAGE_CHILDREN, &reaped);
    report->reaped_ns = 1000 *
        ((uint64_t)(reaped.ru_utime.tv_sec + reaped.ru_stime.tv_sec) * 1000000 +
         (uint64_t)(reaped.ru_utime.tv_usec + reaped.ru_stime.tv_usec));
    /* release: whoever sees the number sees the report. pairs: reports() */
    atomic_fetch_add_explicit((_Atomic uint64_t *)&report->renewed, 1, memory_order_release);
}

static int serve_weir(struct job *job)
{
    struct weir_options options = *job->options;
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];
    int r;

    if (!options.listen)
        options.listen = "tcp://127.0.0.1:0";
    options.service_actions = publish_report;
    options.user = job->report;
    r = weir_server_create(&server, &options);
    if (r < 0) {
        fprintf(stderr, "bench: %s\n", weir_why());
        return r;
    }
    r = weir_server_address(server, 0, address, sizeof(address));
    if (r < 0)
        return r;
    tell_address(job, address);
    return weir_serve_forever(server);
}

static void pin(int cpu)
{
    cpu_set_t set;

    if (cpu == CHILD_ANY_CPU)
        return;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) < 0)
        _exit(1);
}

static _Noreturn void child_main(struct job *job)
{
    /* The bench may be interrupted: nothing of it should go on without it. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pin(job->cpu);
    job->serve(job);
    _exit(1);
}

static int child_start(struct child *ret_child, struct job *job)
{
    struct child child = { 0 };
    int address_pipe[2];

    job->report = mmap(NULL, sizeof(*job->report), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (job->report == MAP_FAILED)
        return -errno;
    child.report = job->report;
    if (pipe(address_pipe) < 0) {
        munmap(job->report, sizeof(*job->report));
        return -errno;
    }
    fflush(NULL);       /* or the child inherits what is buffered */
    child.pid = fork();
    if (child.pid == 0) {
        close(address_pipe[0]);
        job->address_fd = address_pipe[1];
        child_main(job);
    }
    close(address_pipe[1]);

    ssize_t n = read(address_pipe[0], child.address, sizeof(child.address));
    const char *colon = strrchr(child.address, ':');

    close(address_pipe[0]);
    if (child.pid < 0 || n <= 0 || clock_getcpuclockid(child.pid, &child.cpu_clock) != 0) {
        child_end(&child);
        return -ECHILD;
    }
    child.prefork = job->options && job->options->concurrency == WEIR_PREFORK;
    child.port = (uint16_t)strtoul(colon ? colon + 1 : "", NULL, 10);
    *ret_child = child;
    return 0;
}

int child_start_bare_loop(struct child *ret_child, int cpu, enum bare_loop_mode mode,
                          unsigned threads)
{
    return child_start(ret_child, &(struct job){
        .serve = serve_bare_loop, .cpu = cpu, .mode = mode, .threads = threads,
    });
}

int child_start_bare_datagrams(struct child *ret_child, int cpu, int family)
{
    return child_start(ret_child, &(struct job){
        .serve = serve_bare_datagrams, .cpu = cpu, .family = family,
    });
}

int child_start_weir(struct child *ret_child, int cpu, const struct weir_options *options)
{
    return child_start(ret_child, &(struct job){
        .serve = serve_weir, .cpu = cpu, .options = options,
    });
}

bool child_settled(volatile const uint64_t *figure, uint64_t wanted)
{
    for (int i = 0; i < 1000 && *figure != wanted; i++)
        usleep(10000);
    return *figure == wanted;
}

static uint64_t reports(const struct child *child)
{
    /* acquire: the report is as new as its number. pairs: publish_report() */
    return atomic_load_explicit((volatile _Atomic uint64_t *)&child->report->renewed,
                                memory_order_acquire);
}

bool child_rid_of_clients(const struct child *child)
{
    /* A report that is being written now may be older than the last client's end. */
    uint64_t wanted = reports(child) + 2;

    for (int i = 0; i < 5000; i++) {
        if (reports(child) >= wanted && child->report->stats.active == 0)
            return true;
        usleep(2000);
    }
    return false;
}

/* 0: there is no such process any more. */
static uint64_t clock_ns(clockid_t clock)
{
    struct timespec used;

    if (clock_gettime(clock, &used) < 0)
        return 0;
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static pid_t parent_of(const char *process)
{
    char text[512];
    int parent = -1;
    FILE *file;

    snprintf(text, sizeof(text), "/proc/%.20s/stat", process);
    file = fopen(text, "re");
    if (!file)
        return -1;
    if (fgets(text, sizeof(text), file)) {
        const char *name_end = strrchr(text, ')');

        if (!name_end || sscanf(name_end, ") %*c %d", &parent) != 1)
            parent = -1;
    }
    fclose(file);
    return parent;
}

/* Of the processes that live and have this parent. */
static uint64_t children_ns(pid_t parent)
{
    const struct dirent *entry;
    DIR *proc = opendir("/proc");
    uint64_t sum = 0;
    clockid_t clock;

    while (proc && (entry = readdir(proc))) {
        if (parent_of(entry->d_name) == parent &&
            clock_getcpuclockid((pid_t)strtol(entry->d_name, NULL, 10), &clock) == 0)
            sum += clock_ns(clock);
    }
    if (proc)
        closedir(proc);
    return sum;
}

uint64_t child_cpu_ns(const struct child *child)
{
    return clock_ns(child->cpu_clock) + child->report->reaped_ns +
           (child->prefork ? children_ns(child->pid) : 0);
}

uint64_t child_resident_bytes(const struct child *child)
{
    unsigned long long kib = 0;
    char text[128];
    FILE *file;

    /* smaps_rollup walks the pages; the counters behind statm are approximate on many CPUs. */
    snprintf(text, sizeof(text), "/proc/%d/smaps_rollup", (int)child->pid);
    file = fopen(text, "re");
    if (!file)
        return 0;
    while (fgets(text, sizeof(text), file) && sscanf(text, "Rss: %llu kB", &kib) != 1)
        continue;
    fclose(file);
    return kib * 1024;
}

void child_end(struct child *child)
{
    if (child->pid > 0) {
        kill(child->pid, SIGKILL);
        waitpid(child->pid, NULL, 0);
    }
    if (child->report)
        munmap((void *)child->report, sizeof(*child->report));
    *child = (struct child){ 0 };
}
