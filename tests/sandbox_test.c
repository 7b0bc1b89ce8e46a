/*
 * sandbox_test.c - what is left to a process that serves in a sandbox, and what is not. Each trial
 * is a child, for there is no way back.
 */
#include "tests/support.h"

#include "tools/command/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char folder[64], elsewhere[64], rules[80], secret[80], path[80], uri[90];
static const struct weir_handler echoing = { .name = "echoing", .handle = support_echo };

/* In a child, whose failure is its exit status: the number of the line. */
#define CHECK(...) do { \
        if (!(__VA_ARGS__)) { \
            fprintf(stderr, "line %d: %s: %s\n", __LINE__, #__VA_ARGS__, strerrordesc_np(errno)); \
            _exit(1); \
        } \
    } while (0)
#define CHECK_FAILS(error, ...) CHECK((long)(__VA_ARGS__) == -1 && errno == (error))

static struct weir_server *enter_as(enum weir_concurrency concurrency)
{
    struct weir_server *server;

    CHECK(weir_server_create(&server, WEIR_OPTIONS(
            .listen = uri, .handler = &echoing, .concurrency = concurrency)) == 0);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(sandbox_enter(server, concurrency, rules) == 0);
    return server;
}

/* 0 or less: the kernel has none. */
static int landlock_version(void)
{
    return (int)syscall(444, NULL, 0, 1);   /* landlock_create_ruleset(2) */
}

static void expect_success_of(void (*body)(void))
{
    struct support_end end = support_run_in_child(body);

    if (end.status != 0)
        fail_msg("status %d: %s", end.status, end.said);
}

/* ------------------------------------------------------------------ system calls ------ */

static void try_what_only_an_intruder_does(void)
{
    char *const argv[] = { "true", NULL };
    void *page;

    enter_as(WEIR_POOL);
    CHECK_FAILS(EPERM, execve("/bin/true", argv, argv));
    CHECK_FAILS(EPERM, socket(AF_INET, SOCK_STREAM, 0));
    CHECK_FAILS(EPERM, unshare(CLONE_NEWUSER));
    CHECK_FAILS(EPERM, fork());
    CHECK_FAILS(EPERM, mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    CHECK_FAILS(EPERM, mprotect(page, 4096, PROT_READ | PROT_EXEC));
}

static void who_has_taken_over_a_handler_can_do_little(void **state)
{
    (void)state;
    expect_success_of(try_what_only_an_intruder_does);
}

/* As a kernel says that doesn't know the call: the C library has another way, or none is needed. */
static void try_what_is_on_no_list(void)
{
    pid_t parent = getppid();

    enter_as(WEIR_POOL);
    CHECK_FAILS(ENOSYS, open("/proc/self/comm", O_WRONLY | O_CLOEXEC));
    CHECK_FAILS(ENOSYS, chmod(rules, 0600));
    CHECK_FAILS(ENOSYS, rename(rules, secret));
    CHECK_FAILS(ENOSYS, setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 100, 100 }));
    CHECK_FAILS(ENOSYS, kill(parent, SIGTERM));
}

static void all_else_is_as_if_the_kernel_did_not_know_it(void **state)
{
    (void)state;
    expect_success_of(try_what_is_on_no_list);
}

static void try_processes(void)
{
    int status;
    pid_t child;

    enter_as(WEIR_FORK);
    child = fork();
    if (child == 0)
        _exit(3);
    CHECK(child > 0);
    CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3);
    CHECK_FAILS(ENOSYS, syscall(SYS_clone3, NULL, 0));
    CHECK_FAILS(ENOSYS, syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL));
}

static void processes_are_for_who_serves_by_processes(void **state)
{
    (void)state;
    expect_success_of(try_processes);
}

/* ------------------------------------------------------------------ files ------------- */

static void try_files(void)
{
    enter_as(WEIR_POOL);
    CHECK(open(rules, O_RDONLY | O_CLOEXEC) >= 0);
    CHECK(open("/proc/self/status", O_RDONLY | O_CLOEXEC) >= 0);
    CHECK_FAILS(EACCES, open(secret, O_RDONLY | O_CLOEXEC));
    CHECK_FAILS(EACCES, open("/etc/passwd", O_RDONLY | O_CLOEXEC));
    CHECK_FAILS(EACCES, unlink(secret));
}

static void only_the_files_of_rules_can_be_read(void **state)
{
    (void)state;
    if (landlock_version() < 1)
        skip();
    expect_success_of(try_files);
    assert_int_equal(access(secret, F_OK), 0);
}

static void try_signals(void)
{
    pid_t parent = getppid();

    enter_as(WEIR_FORK);
    CHECK_FAILS(EPERM, kill(parent, 0));
    CHECK(kill(getpid(), 0) == 0);
}

static void signals_go_to_the_servers_own_processes_only(void **state)
{
    (void)state;
    if (landlock_version() < 6)
        skip();
    expect_success_of(try_signals);
}

/* ------------------------------------------------------------------ serving ----------- */

/* Rules that another process puts in the place of the first ones are found. */
static void replace_rules(const char *text)
{
    char fresh[100];
    FILE *file;

    snprintf(fresh, sizeof(fresh), "%s.new", rules);
    file = fopen(fresh, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(fresh, rules), 0);
}

static int orders[2], reports[2];

static void report(char what)
{
    CHECK(write(reports[1], &what, 1) == 1);
}

static void await_order(void)
{
    char order;

    CHECK(read(orders[0], &order, 1) == 1);
}

static enum weir_concurrency concurrency;

static void serve_in_it(void)
{
    struct weir_server *server = enter_as(concurrency);
    struct weir_access *access_rules;

    CHECK(weir_server_start(server) == 0);
    report('s');
    await_order();
    CHECK(weir_access_read(rules, &access_rules) == 0);
    CHECK(weir_server_set_access(server, access_rules) == 0);
    report('r');
    await_order();
    CHECK(weir_server_destroy(server) == 0);
    CHECK(access(path, F_OK) < 0);
}

static void await_report(char what)
{
    char said = 0;

    assert_int_equal(read(reports[0], &said, 1), 1);
    assert_int_equal(said, what);
}

static void order(void)
{
    assert_int_equal(write(orders[1], "", 1), 1);
}

static void talk(void)
{
    char answer[8];
    int fd = support_connect_to(uri);

    support_say(fd, "hello\n");
    assert_int_equal(read(fd, answer, 6), 6);
    close(fd);
}

static void it_serves_reads_new_rules_and_removes_its_path(void **state)
{
    static const enum weir_concurrency all[] = {
        WEIR_POOL, WEIR_SERIAL, WEIR_THREAD, WEIR_FORK, WEIR_PREFORK,
    };

    (void)state;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        pid_t child;

        concurrency = all[i];
        assert_int_equal(pipe(orders), 0);
        assert_int_equal(pipe(reports), 0);
        child = fork();
        if (child == 0) {
            close(reports[0]);
            serve_in_it();
            _exit(0);
        }
        close(reports[1]);
        await_report('s');
        talk();
        replace_rules("default allow\n");
        order();
        await_report('r');
        talk();
        order();
        assert_int_equal(support_status_of(child), 0);
        close(reports[0]);
        close(orders[0]);
        close(orders[1]);
    }
}

/* ------------------------------------------------------------------ what is told ------ */

static struct weir_server *stalling_server;

/* Holds its worker until somebody has been told where. */
static int hold_worker(struct weir_request *req)
{
    const struct timespec pause = { .tv_nsec = 200 * 1000 * 1000 };

    (void)req;
    while (support_stats(stalling_server).stalls == 0)
        nanosleep(&pause, NULL);
    return 0;
}

static void stall_in_it(void)
{
    static const struct weir_handler holding = { .name = "holding", .handle = hold_worker };
    int ends[2];
    char byte;

    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CHECK(weir_server_create(&stalling_server, WEIR_OPTIONS(
            .listen = uri, .handler = &holding, .workers = 1, .stall_warn_ms = 300)) == 0);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(sandbox_enter(stalling_server, WEIR_POOL, rules) == 0);
    CHECK(weir_server_start(stalling_server) == 0);
    CHECK(weir_submit_fd(stalling_server, ends[1], &holding) == 0);
    CHECK(read(ends[0], &byte, 1) == 0);
    weir_server_destroy(stalling_server);
}

static void a_handler_that_holds_its_worker_is_found_in_it(void **state)
{
    struct support_end end = support_run_in_child(stall_in_it);

    (void)state;
    if (end.status != 0 || !strstr(end.said, ", in clock_nanosleep(2) at "))
        fail_msg("status %d: %s", end.status, end.said);
}

static int prepare(void **state)
{
    int fd;

    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/weir-sandbox-XXXXXX");
    snprintf(elsewhere, sizeof(elsewhere), "/tmp/weir-elsewhere-XXXXXX");
    if (!mkdtemp(folder) || !mkdtemp(elsewhere))
        return -1;
    snprintf(rules, sizeof(rules), "%s/rules", folder);
    snprintf(path, sizeof(path), "%s/socket", folder);
    snprintf(secret, sizeof(secret), "%s/secret", elsewhere);
    snprintf(uri, sizeof(uri), "unix://%s", path);
    replace_rules("default allow\n");
    fd = open(secret, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    return fd >= 0 ? close(fd) : -1;
}

static int clear(void **state)
{
    (void)state;
    unlink(path);
    unlink(rules);
    unlink(secret);
    return rmdir(folder) | rmdir(elsewhere);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_has_taken_over_a_handler_can_do_little),
        cmocka_unit_test(all_else_is_as_if_the_kernel_did_not_know_it),
        cmocka_unit_test(processes_are_for_who_serves_by_processes),
        cmocka_unit_test(only_the_files_of_rules_can_be_read),
        cmocka_unit_test(signals_go_to_the_servers_own_processes_only),
        cmocka_unit_test(it_serves_reads_new_rules_and_removes_its_path),
        cmocka_unit_test(a_handler_that_holds_its_worker_is_found_in_it),
    };

    return cmocka_run_group_tests(tests, prepare, clear);
}
