/* exceptions_test.cc - handlers in C++ that wait with an exception in flight or in hand. */
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* C has a structure and a function of one name. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
extern "C" {
#include "tests/support.h"
}
#pragma GCC diagnostic pop

namespace {

/* ------------------------------------------------------------------ the handlers ------ */

/*
 * Says where it is, and waits for a word. What the word was; empty: it was cancelled, or the end.
 */
std::string ask(weir_request *req, const char *where)
{
    char *line;
    ssize_t n;

    weir_printf(req, "%s\n", where);
    weir_flush(req);
    n = weir_readline(req, &line, 100);
    return n > 1 ? std::string(line, static_cast<size_t>(n) - 1) : std::string();
}

void tell(weir_request *req, const char *what, const std::string &text)
{
    weir_printf(req, "%s %s %d\n", what, text.c_str(), std::uncaught_exceptions());
}

int catch_wait_and_throw_again(weir_request *req)
{
    const std::string name = ask(req, "name?");

    try {
        try {
            throw std::runtime_error(name);
        } catch (const std::exception &e) {
            ask(req, e.what());
            tell(req, "holds", e.what());
            throw;
        }
    } catch (const std::exception &e) {
        tell(req, "again", e.what());
    }
    return 0;
}

int catch_within_a_catch(weir_request *req)
{
    const std::string name = ask(req, "name?");

    try {
        throw std::runtime_error(name + " outside");
    } catch (const std::exception &) {
        try {
            throw std::runtime_error(name + " inside");
        } catch (const std::exception &) {
            ask(req, "inside");
            try {
                throw;
            } catch (const std::exception &e) {
                tell(req, "inside", e.what());
            }
        }
        ask(req, "outside");
        try {
            throw;
        } catch (const std::exception &e) {
            tell(req, "outside", e.what());
        }
    }
    return 0;
}

/* Its destructor waits, and throws and catches besides. */
struct waits_at_its_end {
    weir_request *req;
    const std::string &name;

    ~waits_at_its_end()
    {
        const int before = std::uncaught_exceptions();

        ask(req, "unwinding");
        try {
            throw std::runtime_error(name + " at the end");
        } catch (const std::exception &e) {
            ask(req, "within");
            tell(req, before == 1 ? "unwinding" : "wrong", e.what());
        }
    }
};

int wait_while_unwinding(weir_request *req)
{
    const std::string name = ask(req, "name?");

    try {
        waits_at_its_end end{req, name};

        throw std::runtime_error(name);
    } catch (const std::exception &e) {
        tell(req, "caught", e.what());
    }
    return 0;
}

std::atomic<int> cancelled_right;

/* Until it is cancelled, in the catch. */
int be_cancelled(weir_request *req)
{
    const std::string name = ask(req, "name?");

    try {
        try {
            throw std::runtime_error(name);
        } catch (const std::exception &) {
            if (weir_sleep(req, UINT32_MAX) == -ECANCELED)
                throw;
        }
    } catch (const std::exception &e) {
        cancelled_right += e.what() == name && std::uncaught_exceptions() == 0;
    }
    return 0;
}

/* Each line is thrown, and answered after a while of its own. */
int throw_lines(weir_request *req)
{
    char *line;
    ssize_t n;

    while ((n = weir_readline(req, &line, 100)) > 0) {
        try {
            throw std::runtime_error(std::string(line, static_cast<size_t>(n)));
        } catch (const std::exception &e) {
            if (weir_sleep(req, static_cast<unsigned char>(e.what()[0]) % 4) < 0)
                return -ECANCELED;
            weir_printf(req, "%s", e.what());
        }
    }
    return static_cast<int>(n);
}

int let_out(weir_request *)
{
    throw std::runtime_error("out");
}

int let_out_of_job(void *)
{
    throw std::runtime_error("out");
}

int let_out_of_offload(weir_request *req)
{
    return weir_offload(req, let_out_of_job, nullptr);
}

/* ------------------------------------------------------------------ conversations ----- */

weir_handler made_handler(int (*handle)(weir_request *), weir_stack stack = WEIR_STACK_FIBER)
{
    weir_handler handler{};

    handler.name = "c++";
    handler.handle = handle;
    handler.stack = stack;
    return handler;
}

weir_server *serve(const weir_handler *handler, unsigned workers,
                   weir_concurrency how = WEIR_POOL)
{
    weir_options options{};

    options.listen = "tcp://127.0.0.1:0";
    options.handler = handler;
    options.workers = workers;
    options.concurrency = how;
    return support_start(&options);
}

/* Clients go through it step by step, each time in another order; $ stands for who says it. */
struct step {
    const char *expect;
    const char *say;
};

std::string for_client(const char *text, size_t client)
{
    std::string mine(text);

    std::replace(mine.begin(), mine.end(), '$', static_cast<char>('a' + client));
    return mine;
}

void converse(int (*handle)(weir_request *), const std::vector<step> &steps)
{
    const weir_handler handler = made_handler(handle);
    weir_server *server = serve(&handler, 1);
    std::array<int, 5> fds;
    size_t turn = 0;

    for (int &fd : fds)
        fd = support_connect(server, 0);
    for (const step &step : steps) {
        turn += 3;
        for (size_t i = 0; i < fds.size(); i++) {
            const size_t client = turn % 2 ? (turn + i) % fds.size()
                                           : (turn + fds.size() - i) % fds.size();

            support_expect(fds[client], for_client(step.expect, client).c_str());
            support_say(fds[client], for_client(step.say, client).c_str());
        }
    }
    for (int fd : fds) {
        support_expect_end(fd);
        close(fd);
    }
    weir_server_destroy(server);
}

void an_exception_is_thrown_again_by_who_caught_it(void **)
{
    converse(catch_wait_and_throw_again, {
        {"name?\n", "$\n"},
        {"$\n", "go\n"},
        {"holds $ 0\nagain $ 0\n", ""},
    });
}

void a_catch_within_a_catch_has_both(void **)
{
    converse(catch_within_a_catch, {
        {"name?\n", "$\n"},
        {"inside\n", "go\n"},
        {"inside $ inside 0\noutside\n", "go\n"},
        {"outside $ outside 0\n", ""},
    });
}

void a_destructor_may_wait_while_the_stack_unwinds(void **)
{
    converse(wait_while_unwinding, {
        {"name?\n", "$\n"},
        {"unwinding\n", "go\n"},
        {"within\n", "go\n"},
        {"unwinding $ at the end 1\ncaught $ 0\n", ""},
    });
}

void who_is_cancelled_in_a_catch_has_its_own(void **)
{
    const weir_handler handler = made_handler(be_cancelled);
    weir_server *server = serve(&handler, 1);
    std::array<int, 20> fds;

    cancelled_right = 0;
    for (size_t i = 0; i < fds.size(); i++) {
        fds[i] = support_ask(server, 0, (std::to_string(i) + "\n").c_str());
        support_expect(fds[i], "name?\n");
    }
    weir_server_cancel(server);
    for (int fd : fds) {
        support_expect_end(fd);
        close(fd);
    }
    weir_server_destroy(server);
    assert_int_equal(cancelled_right.load(), fds.size());
}

void throw_many(unsigned workers)
{
    const weir_handler handler = made_handler(throw_lines);
    weir_server *server = serve(&handler, workers);
    std::array<int, 40> fds;

    for (int &fd : fds)
        fd = support_connect(server, 0);
    for (unsigned round = 0; round < 30; round++) {
        for (size_t i = 0; i < fds.size(); i++) {
            std::string line(1, static_cast<char>('a' + (i + round) % 26));

            line += " exception of client " + std::to_string(i) + "\n";
            support_say(fds[i], line.c_str());
        }
        for (size_t i = 0; i < fds.size(); i++) {
            std::string line(1, static_cast<char>('a' + (i + round) % 26));

            line += " exception of client " + std::to_string(i) + "\n";
            support_expect(fds[i], line.c_str());
        }
    }
    for (int fd : fds)
        close(fd);
    weir_server_destroy(server);
}

void many_exceptions_are_each_their_handlers_own(void **)
{
    throw_many(1);
    throw_many(3);
}

/* ------------------------------------------------------------------ out of handle() --- */

[[noreturn]] void serve_until_it_ends(int (*handle)(weir_request *), weir_concurrency how,
                                      weir_stack stack)
{
    const weir_handler handler = made_handler(handle, stack);
    const rlimit no_core{};
    weir_server *server;
    char byte;

    setrlimit(RLIMIT_CORE, &no_core);
    std::signal(SIGABRT, SIG_DFL);
    std::set_terminate([] { _exit(42); });
    server = serve(&handler, how == WEIR_POOL, how);
    support_read_all(support_connect(server, 0), &byte, 1);
    _exit(43);
}

void expect_terminate(int (*handle)(weir_request *), weir_concurrency how, weir_stack stack)
{
    const pid_t child = fork();
    int status;

    if (child == 0)
        serve_until_it_ends(handle, how, stack);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
}

void one_that_leaves_a_handler_terminates_the_program(void **)
{
    expect_terminate(let_out, WEIR_POOL, WEIR_STACK_FIBER);
    expect_terminate(let_out, WEIR_POOL, WEIR_STACK_THREAD);
    expect_terminate(let_out, WEIR_THREAD, WEIR_STACK_FIBER);
    expect_terminate(let_out, WEIR_SERIAL, WEIR_STACK_FIBER);
    expect_terminate(let_out_of_offload, WEIR_POOL, WEIR_STACK_FIBER);
}

} // namespace

int main()
{
    const CMUnitTest tests[] = {
        cmocka_unit_test(an_exception_is_thrown_again_by_who_caught_it),
        cmocka_unit_test(a_catch_within_a_catch_has_both),
        cmocka_unit_test(a_destructor_may_wait_while_the_stack_unwinds),
        cmocka_unit_test(who_is_cancelled_in_a_catch_has_its_own),
        cmocka_unit_test(many_exceptions_are_each_their_handlers_own),
        cmocka_unit_test(one_that_leaves_a_handler_terminates_the_program),
    };

    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
