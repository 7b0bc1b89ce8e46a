/*
 * child.c - see child.h.
 */
#include "bench/child.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the child is to do: serve, and write its port into port_fd once it listens. */
struct job {
    int cpu;
    int port_fd;
    enum bare_loop_mode mode;
    unsigned threads;
    const struct weir_options *options;     /* NULL: the bare loop */
    struct weir_stats *stats;
};

static void report_port(void *arg, uint16_t port)
{
    const struct job *job = arg;

    if (write(job->port_fd, &port, sizeof(port)) != sizeof(port))
        _exit(1);
    close(job->port_fd);
}

static void publish_stats(struct weir_server *server)
{
    weir_server_stats(server, weir_server_user(server), sizeof(struct weir_stats));
}

static int serve_weir(struct job *job)
{
    struct weir_options options = *job->options;
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];
    int r;

    options.listen = "tcp://127.0.0.1:0";
    options.service_actions = publish_stats;
    options.user = job->stats;
    r = weir_server_create(&server, &options);
    if (r < 0) {
        fprintf(stderr, "bench: %s\n", weir_why());
        return r;
    }
    r = weir_server_address(server, 0, address, sizeof(address));
    if (r < 0)
        return r;
    report_port(job, (uint16_t)strtoul(strrchr(address, ':') + 1, NULL, 10));
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
    if (job->options)
        serve_weir(job);
    else
        bare_loop_run(job->mode, job->threads, report_port, job);
    _exit(1);
}

static int child_start(struct child *ret_child, struct job *job)
{
    struct child child = { 0 };
    int port_pipe[2];

    job->stats = mmap(NULL, sizeof(*job->stats), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (job->stats == MAP_FAILED)
        return -errno;
    child.stats = job->stats;
    if (pipe(port_pipe) < 0) {
        munmap(job->stats, sizeof(*job->stats));
        return -errno;
    }
    fflush(NULL);       /* or the child inherits what is buffered */
    child.pid = fork();
    if (child.pid == 0) {
        close(port_pipe[0]);
        job->port_fd = port_pipe[1];
        child_main(job);
    }
    close(port_pipe[1]);

    ssize_t n = read(port_pipe[0], &child.port, sizeof(child.port));

    close(port_pipe[0]);
    if (child.pid < 0 || n != sizeof(child.port) ||
        clock_getcpuclockid(child.pid, &child.cpu_clock) != 0) {
        child_end(&child);
        return -ECHILD;
    }
    *ret_child = child;
    return 0;
}

int child_start_bare_loop(struct child *ret_child, int cpu, enum bare_loop_mode mode,
                          unsigned threads)
{
    return child_start(ret_child, &(struct job){ .cpu = cpu, .mode = mode, .threads = threads });
}

int child_start_weir(struct child *ret_child, int cpu, const struct weir_options *options)
{
    return child_start(ret_child, &(struct job){ .cpu = cpu, .options = options });
}

bool child_settled(volatile const uint64_t *figure, uint64_t wanted)
{
    for (int i = 0; i < 1000 && *figure != wanted; i++)
        usleep(10000);
    return *figure == wanted;
}

uint64_t child_cpu_ns(const struct child *child)
{
    struct timespec used;

    if (clock_gettime(child->cpu_clock, &used) < 0)
        return 0;
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
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
    if (child->stats)
        munmap((void *)child->stats, sizeof(*child->stats));
    *child = (struct child){ 0 };
}
