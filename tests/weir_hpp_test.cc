/* weir_hpp_test.cc - weir.hpp: what it adds to the calls of weir.h and weir_sync.h. */
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <future>
#include <mutex>
#include <new>
#include <set>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <tuple>
#include <vector>

#include <sys/socket.h>
#include <unistd.h>
#include <weir/weir.hpp>

/* C has a structure and a function of one name. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
extern "C" {
#include "tests/support.h"
}
#pragma GCC diagnostic pop

/* ------------------------------------------------------------------ what is counted --- */

namespace {

std::atomic<unsigned> allocations;

} // namespace

void *operator new(size_t size)
{
    void *memory = std::malloc(size > 0 ? size : 1);

    allocations++;
    if (!memory)
        throw std::bad_alloc();
    return memory;
}

void operator delete(void *memory) noexcept
{
    std::free(memory);
}

void operator delete(void *memory, size_t) noexcept
{
    std::free(memory);
}

namespace {

using std::chrono::milliseconds;

/* What handle_error was told, one line each. */
std::mutex told_lock;
std::vector<std::string> told;

void write_down(weir_server *, const weir_failure *failure)
{
    std::string line = std::to_string(failure->phase) + " " + std::to_string(failure->error);

    if (failure->hint)
        line += std::string(" ") + failure->hint;

    std::lock_guard<std::mutex> guard(told_lock);

    told.push_back(line);
}

weir::options options_for(const weir_handler &handler, uint32_t workers = 1)
{
    weir::options options;

    options.listen = "tcp://127.0.0.1:0";
    options.handler = &handler;
    options.workers = workers;
    options.handle_error = write_down;
    told.clear();
    return options;
}

weir::server started(const weir::options &options)
{
    weir::server server(options);

    server.start();
    return server;
}

void assert_told(const std::vector<std::string> &expected)
{
    std::lock_guard<std::mutex> guard(told_lock);

    assert_int_equal(told.size(), expected.size());
    for (size_t i = 0; i < told.size(); i++)
        assert_string_equal(told[i].c_str(), expected[i].c_str());
}

/* ------------------------------------------------------------------ requests ---------- */

void a_lambda_is_a_handler(void **)
{
    std::atomic<int> calls{0};
    const weir::handler echo("echo", [&calls](weir::request req) {
        weir::input line;

        calls++;
        while ((line = req.read_line(100)))
            req.write(line.text().substr(0, 1), "-", line);
        return line.status();
    });
    weir::server server = started(options_for(echo));

    support_talk(server, 0, "one\ntwo\n", "o-one\nt-two\n");
    server = started(options_for(echo));
    support_talk(server, 0, "", "");
    assert_int_equal(calls.load(), 2);
    assert_told({});
}

void input_tells_bytes_and_why_there_are_none(void **)
{
    const weir::handler peeks("peeks", [](weir::request req) {
        weir::input seen = req.peek(5);

        if (seen.size() < 5)
            return seen.status() == -ETIMEDOUT ? -EPROTO : -1000;
        std::reverse(seen.begin(), seen.end());
        req.write(seen.text());
        weir_consume(req, seen.size());
        seen = req.peek(1);
        return seen || seen.status() != -ETIMEDOUT ? -1000 : 0;
    });
    weir::options options = options_for(peeks);

    options.read_timeout_ms = 20;
    {
        weir::server server = started(options);

        support_expect_last(support_ask(server, 0, "abcde"), "edcba");
        support_expect_last(support_ask(server, 0, "ab"), "");
    }
    assert_int_equal(told.size(), 1);
    assert_string_equal(told[0].c_str(), "2 -71");
}

int write_own_line(weir::request req)
{
    return req.write("A line", " of ", std::string("several"), "\n");
}

void a_function_is_a_handler_and_what_a_write_returns_is_what_a_handler_may(void **)
{
    const weir::handler function("function", write_own_line);

    support_talk(started(options_for(function)), 0, "", "A line of several\n");
    assert_told({});
}

void what_was_opened_is_hung_up(void **)
{
    const weir::handler echo("echo", [](weir::request req) {
        return req.write(req.read_line(100));
    });
    weir::server backend = started(options_for(echo));
    const std::string address = backend.address();
    const weir::handler relay("relay", [&](weir::request req) {
        weir::stream peer;
        const int refused = req.connect("unix:@there-is-nobody-of-weir_hpp_test", 0, peer);

        if (refused != -ECONNREFUSED || peer)
            return -1000;
        weir::check(req.connect(address.c_str(), 0, peer));
        weir::stream moved(std::move(peer));
        weir::check(moved.write(req.read_line(100)));
        weir::check(req.write(moved.read_line(100)));
        moved.hang_up();
        weir::check(req.connect(address.c_str(), 0, moved));
        return moved.write("bye\n");
    });

    support_talk(started(options_for(relay)), 0, "hello\n", "hello\n");
    SUPPORT_AWAIT(backend, closed, == 2);
    assert_told({});
}

void an_offloaded_function_may_throw(void **)
{
    const weir::handler offloads("offloads", [](weir::request req) {
        int sum = 0;

        if (req.offload([&sum] { return sum = 40; }) != 40)
            return -1000;
        try {
            req.offload([]() -> int { throw std::runtime_error("of the job"); });
        } catch (const std::runtime_error &e) {
            req.sleep(std::chrono::microseconds(1));
            return req.write(e.what(), sum == 40 ? "\n" : "?\n");
        }
        return -1000;
    });

    support_talk(started(options_for(offloads)), 0, "", "of the job\n");
    assert_told({});
}

/* ------------------------------------------------------------------ sessions ---------- */

struct book {
    std::atomic<int> made{0}, setups{0}, handles{0}, finishes{0}, gone{0};
    std::atomic<int> status{1};
    const char *throws_in = "";
};

class visitor : public weir::session {
public:
    explicit visitor(book &of) : book_(of) { fail_in("constructor"); book_.made++; }
    ~visitor() { book_.gone++; }

    int setup(weir::request req)
    {
        book_.setups++;
        fail_in("setup");
        return req.write("hello\n");
    }

    int handle(weir::request req)
    {
        const weir::input line = req.read_line(100);

        book_.handles++;
        fail_in("handle");
        if (!line)
            return line.status();
        lines_ += line;
        req.write(lines_);
        return WEIR_KEEP;
    }

    int finish(weir::request, int status)
    {
        book_.finishes++;
        book_.status = status;
        fail_in("finish");
        return 0;
    }

private:
    void fail_in(const char *where)
    {
        if (std::string(where) == book_.throws_in)
            throw std::out_of_range(where);
    }

    book &book_;
    std::string lines_;
};

void each_connection_has_an_object(void **)
{
    book book;
    const weir::session_handler<visitor, struct book> visits("visits", book);
    weir::server server = started(options_for(visits));
    const int one = support_connect(server, 0);
    const int other = support_connect(server, 0);

    support_expect(one, "hello\n");
    support_expect(other, "hello\n");
    support_say(one, "a\n");
    support_expect(one, "a\n");
    SUPPORT_AWAIT(server, idle, >= 1);
    support_say(other, "b\n");
    support_expect(other, "b\n");
    support_say(one, "c\n");
    support_expect(one, "a\nc\n");
    close(one);
    close(other);
    SUPPORT_AWAIT(server, closed, == 2);
    SUPPORT_UNTIL(book.gone == 2);
    assert_int_equal(book.made.load(), 2);
    assert_int_equal(book.setups.load(), 2);
    assert_int_equal(book.finishes.load(), 2);
    assert_int_equal(book.status.load(), 0);
    assert_told({});
}

/* One client says a line. What happened then to the object. */
void throw_in(book &book, const char *where, const char *answer)
{
    const weir::session_handler<visitor, struct book> visits("visits", book);
    weir::options options = options_for(visits);

    book.throws_in = where;
    weir::server server = started(options);

    support_talk(server, 0, "x\n", answer);
    SUPPORT_AWAIT(server, closed, == 1);
}

void an_exception_ends_a_session_where_it_leaves_it(void **)
{
    const struct {
        const char *where, *answer, *told;
        int made, setups, handles, finishes, status;
    } cases[] = {
        { "constructor", "", "1 -5 constructor", 0, 0, 0, 0, 1 },
        { "setup", "", "1 -5 setup", 1, 1, 0, 0, 1 },
        { "handle", "hello\n", "2 -5 handle", 1, 1, 1, 1, -EIO },
        { "finish", "hello\nx\n", "3 -5 finish", 1, 1, 2, 1, 0 },
    };

    for (const auto &c : cases) {
        book book;

        throw_in(book, c.where, c.answer);
        assert_told({ c.told });
        assert_int_equal(book.made.load(), c.made);
        assert_int_equal(book.gone.load(), c.made);
        assert_int_equal(book.setups.load(), c.setups);
        assert_int_equal(book.finishes.load(), c.finishes);
        assert_int_equal(book.status.load(), c.status);
    }
}

class plain : public weir::session {
public:
    int handle(weir::request req) { return req.write("plain\n"); }
};

/* Nothing is left to be called for it at the end. */
void a_session_without_an_end_has_no_finish(void **)
{
    const weir::session_handler<plain> handler("plain");

    assert_null(handler.finish);
    assert_int_equal(handler.state_size, sizeof(plain));
    support_talk(started(options_for(handler)), 0, "", "plain\n");
}

/* ------------------------------------------------------------------ exceptions -------- */

template <class Throw> void told_of(const Throw &throw_it, const char *expected)
{
    const weir::handler throws("throws", [&](weir::request) -> int { throw_it(); return 0; });
    weir::server server = started(options_for(throws));

    support_talk(server, 0, "", "");
    SUPPORT_AWAIT(server, closed, == 1);
    assert_int_equal(support_stats(server).handle_errors, 1);
    assert_told({ expected });
}

void what_an_exception_is_told_as(void **)
{
    told_of([] { throw std::logic_error("so it is"); }, "2 -5 so it is");
    told_of([] { throw 1; }, "2 -5 an exception that is no std::exception");
    told_of([] { throw std::bad_alloc(); }, "2 -12 std::bad_alloc");
    told_of([] { throw std::system_error(EPERM, std::system_category(), "the file"); },
            "2 -1 the file: Operation not permitted");
    told_of([] { throw std::system_error(1, std::future_category(), "the stream"); },
            ("2 -5 the stream: " + std::future_category().message(1)).c_str());
    told_of([] { throw std::system_error(0, std::generic_category(), "none"); },
            "2 -5 none: Success");
    told_of([] { weir::check(-EPROTO); }, "2 -71");
}

void what_a_server_says_is_told(void **)
{
    const weir::handler parses("parses", [](weir::request) {
        weir::access_rules::parse("allow everybody\n");
        return 0;
    });

    support_talk(started(options_for(parses)), 0, "", "");
    assert_int_equal(told.size(), 1);
    assert_int_equal(told[0].rfind("2 -22 ", 0), 0);
    assert_non_null(std::strstr(told[0].c_str(), "line 1"));
}

/* weir's own words for its errors are not lost. */
void a_checked_error_has_the_hint_that_it_has_in_c(void **)
{
    const weir::handler reads("reads", [](weir::request req) {
        weir::check(req.read_line(10).status());
        return 0;
    });
    weir::options options = options_for(reads);

    options.read_timeout_ms = 10;
    {
        weir::server server = started(options);

        support_expect_last(support_connect(server, 0), "");
    }
    assert_int_equal(told.size(), 1);
    assert_int_equal(told[0].rfind("2 -110 read_timeout_ms has passed", 0), 0);
}

/* A datagram that failed is not answered, and so it is here. */
void a_datagram_whose_handler_throws_is_not_answered(void **)
{
    const weir::handler throws("throws", [](weir::request req) -> int {
        req.write("half of an");
        if (req.peek(1).text() == "x")
            throw std::runtime_error("no");
        return 0;
    });
    weir::options options = options_for(throws);

    options.listen = "udp://127.0.0.1:0";
    weir::server server = started(options);
    const int fd = support_connect(server, 0);
    char reply[20];

    support_say(fd, "x");
    support_say(fd, "y");
    assert_int_equal(recv(fd, reply, sizeof(reply), 0), 10);
    SUPPORT_AWAIT(server, handled, == 2);
    assert_int_equal(recv(fd, reply, sizeof(reply), MSG_DONTWAIT), -1);
    close(fd);
    assert_told({ "2 -5 no" });
}

/* Holds what it has caught while others throw and catch theirs, and lets it out in the end. */
int hold_and_let_out(weir::request req)
{
    const std::string mine(req.read_line(100));

    try {
        throw std::runtime_error(mine.substr(0, mine.size() - 1));
    } catch (const std::exception &e) {
        weir::input line;

        while ((line = req.read_line(100)) && line.text() != "end\n") {
            try {
                throw std::runtime_error(std::string(line));
            } catch (const std::exception &inner) {
                weir::check(req.sleep(milliseconds(inner.what()[0] % 3)));
                weir::check(req.write(e.what(), " ", inner.what()));
            }
        }
        throw;
    }
}

void hold_many(uint32_t workers, unsigned rounds)
{
    const weir::handler holds("holds", hold_and_let_out);
    std::array<int, 60> fds;
    std::set<std::string> expected;
    {
        weir::server server = started(options_for(holds, workers));

        for (size_t i = 0; i < fds.size(); i++) {
            fds[i] = support_ask(server, 0, ("client " + std::to_string(i) + "\n").c_str());
            expected.insert("2 -5 client " + std::to_string(i));
        }
        for (unsigned round = 0; round < rounds; round++) {
            for (size_t i = 0; i < fds.size(); i++)
                support_say(fds[i], (std::to_string((i + round) % 10) + " said\n").c_str());
            for (size_t i = 0; i < fds.size(); i++)
                support_expect(fds[i], ("client " + std::to_string(i) + " " +
                                        std::to_string((i + round) % 10) + " said\n").c_str());
        }
        for (int fd : fds) {
            support_say(fd, "end\n");
            support_expect_last(fd, "");
        }
    }
    assert_int_equal(told.size(), fds.size());
    assert_true(std::set<std::string>(told.begin(), told.end()) == expected);
}

void exceptions_that_park_and_leave_are_told_as_their_own(void **)
{
    hold_many(1, 10);
    hold_many(2, 20);
}

/* ------------------------------------------------------------------ cancel ------------ */

std::atomic<int> destroyed, told_cancelled;

/* Its destructor waits, too. */
struct guarded {
    weir::request req;

    ~guarded()
    {
        told_cancelled += req.sleep(std::chrono::hours(1)) == -ECANCELED;
        destroyed++;
    }
};

int wait_and_return(weir::request req)
{
    guarded guarded{req};

    req.write("waiting\n");
    return req.read_line(100).status();
}

int wait_and_throw(weir::request req)
{
    guarded guarded{req};

    req.write("waiting\n");
    weir::check(weir_flush(req));
    weir::check(req.sleep(std::chrono::hours(1)));
    return -1000;
}

weir::mutex never_free;

int lock_and_throw(weir::request req)
{
    guarded guarded{req};

    req.write("waiting\n");
    weir::check(weir_flush(req));
    return std::unique_lock<weir::mutex>(never_free, std::chrono::hours(1)) ? -1000 : -1001;
}

void cancel_all(int (*handle)(weir::request))
{
    const weir::handler waits("waits", handle);
    std::array<int, 20> fds;
    weir::server server = started(options_for(waits, 2));

    destroyed = told_cancelled = 0;
    for (int &fd : fds) {
        fd = support_connect(server, 0);
        support_expect(fd, "waiting\n");
    }
    weir_server_cancel(server);
    for (int fd : fds)
        support_expect_last(fd, "");
    SUPPORT_AWAIT(server, closed, == fds.size());
    assert_int_equal(destroyed.load(), fds.size());
    assert_int_equal(told_cancelled.load(), fds.size());
    assert_int_equal(support_stats(server).cancelled, fds.size());
    assert_told(std::vector<std::string>(fds.size(), "2 -125"));
}

void a_cancel_runs_destructors(void **)
{
    std::lock_guard<weir::mutex> held(never_free);

    cancel_all(wait_and_return);
    cancel_all(wait_and_throw);
    cancel_all(lock_and_throw);
}

/* ------------------------------------------------------------------ locks ------------- */

void guards_hold_locks_over_waits(void **)
{
    weir::mutex lock;
    unsigned counter = 0;
    const weir::handler counts("counts", [&](weir::request req) {
        std::lock_guard<weir::mutex> guard(lock);
        const unsigned before = counter;

        weir::check(req.sleep(milliseconds(1)));
        counter = before + 1;
        return req.write("counted\n");
    });
    std::array<int, 30> fds;
    weir::server server = started(options_for(counts, 2));
    std::thread thread([&] {
        for (int i = 0; i < 100; i++) {
            std::scoped_lock<weir::mutex> guard(lock);

            counter++;
        }
    });

    for (int &fd : fds)
        fd = support_connect(server, 0);
    for (int fd : fds)
        support_expect_last(fd, "counted\n");
    thread.join();

    std::lock_guard<weir::mutex> guard(lock);

    assert_int_equal(counter, fds.size() + 100);
    assert_told({});
}

void a_time_that_is_over_is_false(void **)
{
    weir::mutex mutex;
    weir::shared_mutex shared;
    std::lock_guard<weir::mutex> held(mutex);
    std::lock_guard<weir::shared_mutex> written(shared);
    int got = 0;

    std::thread([&] {
        const auto now = std::chrono::steady_clock::now();

        got += mutex.try_lock();
        got += mutex.try_lock_for(milliseconds(1));
        got += mutex.try_lock_for(std::chrono::hours::min());
        got += mutex.try_lock_until(now);
        got += shared.try_lock();
        got += shared.try_lock_for(milliseconds(1));
        got += shared.try_lock_shared();
        got += shared.try_lock_shared_for(milliseconds(1));
        got += shared.try_lock_shared_until(now);
    }).join();
    assert_int_equal(got, 0);
}

void a_wait_that_is_over_is_false(void **)
{
    weir::mutex mutex;
    weir::semaphore semaphore(1);
    weir::condition condition;
    weir::wait_group group;
    std::unique_lock<weir::mutex> lock(mutex);

    assert_true(semaphore.try_acquire());
    assert_false(semaphore.try_acquire());
    assert_false(semaphore.try_acquire_for(std::chrono::duration<double>(1e-9)));
    semaphore.release(2);
    assert_true(semaphore.try_acquire_for(std::chrono::hours::max()));
    semaphore.acquire();
    assert_false(condition.wait_for(lock, milliseconds(1)));
    assert_false(condition.wait_for(lock, milliseconds(1), [] { return false; }));
    assert_true(condition.wait_for(lock, std::chrono::hours::max(), [] { return true; }));
    assert_true(lock.owns_lock());
    group.add(2);
    assert_false(group.wait_for(milliseconds(1)));
    group.done();
    group.done();
    assert_true(group.wait_for(std::chrono::hours::max()));
}

void who_asks_for_its_own_lock_is_told(void **)
{
    weir::mutex mutex;
    std::lock_guard<weir::mutex> held(mutex);

    try {
        mutex.lock();
        fail();
    } catch (const weir::error &e) {
        assert_int_equal(e.status(), -EDEADLK);
    }
    assert_false(mutex.try_lock());
    assert_false(mutex.try_lock_for(milliseconds(1)));
}

void readers_are_in_together_and_a_condition_lets_go_on(void **)
{
    weir::shared_mutex shared;
    weir::mutex mutex;
    weir::condition changed;
    weir::wait_group group;
    weir::once_flag flag;
    std::atomic<int> calls{0};
    int in = 0;
    const weir::handler reads("reads", [&](weir::request req) {
        std::shared_lock<weir::shared_mutex> reading(shared);
        std::unique_lock<weir::mutex> lock(mutex);

        weir::call_once(flag, [&] { weir::check(req.sleep(milliseconds(5))); calls++; });
        in++;
        changed.notify_all();
        changed.wait(lock, [&] { return in >= 10; });
        group.done();
        return req.write(calls == 1 ? "all are in\n" : "?\n");
    });
    std::array<int, 10> fds;
    weir::server server = started(options_for(reads, 2));

    group.add(fds.size());
    for (int &fd : fds)
        fd = support_connect(server, 0);
    group.wait();
    for (int fd : fds)
        support_expect_last(fd, "all are in\n");
    assert_told({});
}

void what_fails_once_is_done_by_the_next(void **)
{
    weir::once_flag flag;
    int calls = 0;

    try {
        weir::call_once(flag, [] { throw std::runtime_error("first"); });
        fail();
    } catch (const std::runtime_error &e) {
        assert_string_equal(e.what(), "first");
    }
    weir::call_once(flag, [&] { calls++; });
    weir::call_once(flag, [&] { calls++; });
    assert_int_equal(calls, 1);
}

struct item {
    int from;
    int number;
};

/* Handlers send, a thread receives: all of it, each sender's in order, and then the end. */
void a_channel_carries_items_of_its_type(void **)
{
    constexpr int EACH = 50;
    weir::channel<item, 4> items;
    std::array<int, 10> fds;
    std::atomic<int> senders{0};
    const weir::handler sends("sends", [&](weir::request req) {
        const int from = senders++;

        for (int i = 0; i < EACH; i++)
            weir::check(items.send({ from, i }));
        return req.write("sent\n");
    });
    std::array<int, std::tuple_size<decltype(fds)>::value> next{};
    weir::server server = started(options_for(sends, 2));
    int out_of_order = 0;
    std::thread receiver([&] {
        item got;

        while (items.receive(got) == 0)
            out_of_order += got.number != next[static_cast<size_t>(got.from)]++;
    });

    for (int &fd : fds)
        fd = support_connect(server, 0);
    for (int fd : fds)
        support_expect_last(fd, "sent\n");
    assert_int_equal(items.close(), 0);
    receiver.join();
    assert_int_equal(out_of_order, 0);
    for (int count : next)
        assert_int_equal(count, EACH);
    assert_told({});
}

void a_channel_says_why_it_carries_nothing(void **)
{
    weir::channel<int, 1> one;
    weir::channel<int, 0> none;
    int got = 7;

    assert_int_equal(none.try_send(1), -EAGAIN);
    assert_int_equal(none.receive_for(got, milliseconds(1)), -ETIMEDOUT);
    assert_int_equal(one.try_receive(got), -EAGAIN);
    assert_int_equal(one.try_send(1), 0);
    assert_int_equal(one.send_for(2, milliseconds(1)), -ETIMEDOUT);
    assert_int_equal(one.close(), 0);
    assert_int_equal(one.close(), -EALREADY);
    assert_int_equal(one.send(2), -EPIPE);
    assert_int_equal(got, 7);
    assert_int_equal(one.receive(got), 0);
    assert_int_equal(got, 1);
    assert_int_equal(one.receive(got), -EPIPE);
}

/* ------------------------------------------------------------------ servers ----------- */

void a_server_that_cannot_be_made_says_why(void **)
{
    const weir::handler own("own", write_own_line);
    weir::options options = options_for(own);

    assert_int_equal(options.size, sizeof(weir_options));
    assert_int_equal(options.listener_size, sizeof(weir_listen));
    options.listen = "tcp:/127.0.0.1:0";
    try {
        weir::server server(options);
        fail();
    } catch (const std::system_error &e) {
        assert_int_equal(e.code().value(), EINVAL);
        assert_non_null(std::strstr(e.what(), "tcp:/127.0.0.1:0"));
    }
    try {
        weir::access_rules::parse("allow 10.0.0.0/8\nallow everybody\n");
        fail();
    } catch (const std::system_error &e) {
        assert_non_null(std::strstr(e.what(), "line 2"));
    }
}

void a_server_serves_one_client_at_a_time_and_what_is_submitted(void **)
{
    const weir::handler own("own", write_own_line);
    const weir::handler argued("argued", [](weir::request req) {
        return req.write(static_cast<const char *>(weir_arg(req)));
    });
    weir::options options = options_for(own);
    char argument[] = "what was given\n";
    int pair[2];

    options.timeout_ms = 10;
    weir::server server(options);
    const int fd = support_connect(server, 0);

    assert_true(server.handle_request());
    support_expect_last(fd, "A line of several\n");
    assert_false(server.handle_request());
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    server.submit(pair[0], &argued, argument);
    support_expect_last(pair[1], "what was given\n");
    assert_string_equal(server.address(1).c_str(), "");
    assert_int_equal(server.stats().accepted, 2);
    server.close();
}

void rules_are_the_servers_or_freed(void **)
{
    const weir::handler own("own", write_own_line);
    weir::server server = started(options_for(own));
    weir::access_rules rules = weir::access_rules::parse("allow 127.0.0.0/8\n");

    rules = weir::access_rules::parse("default deny\n");
    server.set_access(std::move(rules));
    support_talk(server, 0, "", "");
    server.set_access(weir::access_rules::parse("default allow\n"));
    support_talk(server, 0, "", "A line of several\n");
    server.shutdown();
}

/* ------------------------------------------------------------------ memory ------------ */

class counted : public weir::session {
public:
    int handle(weir::request req)
    {
        const weir::input line = req.read_line(100);

        if (!line)
            return line.status();

        std::lock_guard<weir::mutex> guard(lock_);

        req.sleep(milliseconds(0));
        req.write("<", line.text().substr(0, line.size() - 1), ">\n");
        return WEIR_KEEP;
    }

private:
    weir::mutex lock_;
};

void nothing_allocates_on_the_way(void **)
{
    const weir::session_handler<counted> handler("counted");
    weir::server server = started(options_for(handler));
    unsigned before;
    const int fd = support_ask(server, 0, "first\n");

    support_expect(fd, "<first>\n");
    before = allocations;
    for (int i = 0; i < 100; i++) {
        support_say(fd, "line\n");
        support_expect(fd, "<line>\n");
    }
    assert_int_equal(allocations - before, 0);
    close(fd);
}

} // namespace

int main()
{
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_lambda_is_a_handler),
        cmocka_unit_test(input_tells_bytes_and_why_there_are_none),
        cmocka_unit_test(a_function_is_a_handler_and_what_a_write_returns_is_what_a_handler_may),
        cmocka_unit_test(what_was_opened_is_hung_up),
        cmocka_unit_test(an_offloaded_function_may_throw),
        cmocka_unit_test(each_connection_has_an_object),
        cmocka_unit_test(an_exception_ends_a_session_where_it_leaves_it),
        cmocka_unit_test(a_session_without_an_end_has_no_finish),
        cmocka_unit_test(what_an_exception_is_told_as),
        cmocka_unit_test(what_a_server_says_is_told),
        cmocka_unit_test(a_checked_error_has_the_hint_that_it_has_in_c),
        cmocka_unit_test(a_datagram_whose_handler_throws_is_not_answered),
        cmocka_unit_test(exceptions_that_park_and_leave_are_told_as_their_own),
        cmocka_unit_test(a_cancel_runs_destructors),
        cmocka_unit_test(guards_hold_locks_over_waits),
        cmocka_unit_test(a_time_that_is_over_is_false),
        cmocka_unit_test(a_wait_that_is_over_is_false),
        cmocka_unit_test(who_asks_for_its_own_lock_is_told),
        cmocka_unit_test(readers_are_in_together_and_a_condition_lets_go_on),
        cmocka_unit_test(what_fails_once_is_done_by_the_next),
        cmocka_unit_test(a_channel_carries_items_of_its_type),
        cmocka_unit_test(a_channel_says_why_it_carries_nothing),
        cmocka_unit_test(a_server_that_cannot_be_made_says_why),
        cmocka_unit_test(a_server_serves_one_client_at_a_time_and_what_is_submitted),
        cmocka_unit_test(rules_are_the_servers_or_freed),
        cmocka_unit_test(nothing_allocates_on_the_way),
    };

    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
