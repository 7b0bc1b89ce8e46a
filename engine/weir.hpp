/*
 * weir.hpp - weir for C++17 and later, with exceptions: handlers, servers, locks and channels.
 *
 *     int main()
 *     {
 *         weir::handler upper("upper", [](weir::request req) {
 *             weir::input line;
 *
 *             while ((line = req.read_line(4096))) {
 *                 for (char &c : line)
 *                     c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
 *                 req.write(line);
 *             }
 *             return line.status();
 *         });
 *         weir::options options;
 *
 *         options.listen = "tcp://127.0.0.1:9999";
 *         options.handler = &upper;
 *         try {
 *             weir::server(options).serve_forever();
 *         } catch (const std::system_error &e) {
 *             std::cerr << e.what() << '\n';
 *         }
 *     }
 *
 * It is a header alone, on top of weir.h and weir_sync.h. Its classes give back what they own, know
 * the type of a connection's state, and make errors of exceptions and exceptions of errors. For
 * everything else there are the calls of weir.h, which take a weir::request or a weir::server where
 * they want a pointer: weir_end_head(req), weir_server_stop(server).
 *
 * Errors are told in two ways:
 *
 *   Calls that a handler makes on its request return a negative errno, as in C. That a client is
 *   slow or gone, or that the server is about to end, is an everyday event, which an attacker may
 *   cause as often as he likes, and to throw costs hundreds of times what to return does.
 *   weir::check() throws where that is wanted: weir::check(req.write(line)).
 *
 *   Calls that make, serve or lock something throw std::system_error, whose what() has the sentence
 *   of weir_why(). There an error is rare, a constructor and std::lock_guard know no other way, and
 *   to go on without the lock would be worse than to end.
 *
 * An exception that leaves a handler ends its connection as a negative errno does, that of
 * weir::fail_by_exception(), and handle_error is told, with what() as failure->hint. One that is
 * caught stays its handler's across everything that parks: see weir.h. No exception may leave a
 * hook, such as options.handle_error, for its caller is C.
 *
 * weir_server_cancel by itself throws nothing. Calls return -ECANCELED, and a lock with a time
 * throws it; so the handler returns or is unwound, and its destructors run. A destructor that waits
 * then is told -ECANCELED, too.
 *
 * Memory: only the calls that return a std::string allocate, and exceptions.
 * Threads, what parks and what is owned: as the calls of weir.h say, unless it is said here.
 */
#ifndef WEIR_HPP
#define WEIR_HPP

#if __cplusplus < 201703L
#error "weir/weir.hpp needs C++17: compile with -std=c++17, or use weir/weir.h"
#endif

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#include <weir/weir.h>
#include <weir/weir_sync.h>

namespace weir {

/* Its constructor sets the sizes, and every field has its default: see struct weir_options. */
using options = weir_options;

/* ------------------------------------------------------------------ errors ------------ */

/* check() throws it. If it leaves a handler, it is as if the handler had returned status(). */
class error : public std::system_error {
public:
    explicit error(int status) : std::system_error(-status, std::generic_category()) {}

    int status() const noexcept { return -code().value(); }   /* the negative errno */
};

/* Returns what a call of weir's has returned, unless that is an error: then throws weir::error. */
template <class Number> Number check(Number returned)
{
    if (returned < 0)
        throw error(static_cast<int>(returned));
    return returned;
}

/* The same for a call that weir_why() has a sentence about: throws std::system_error with that. */
inline int check_why(int returned)
{
    if (returned < 0)
        throw std::system_error(-returned, std::generic_category(), weir_why());
    return returned;
}

/*
 * In a catch block: tells handle_error of the exception, by weir_fail, and returns the negative
 * errno that it stands for, with which the handler is to end:
 *
 *   weir::error         its status(); handle_error is told when the handler ends
 *   std::system_error   its number, if that is an errno
 *   std::bad_alloc      -ENOMEM
 *   all others          -EIO
 *
 * Handlers made by the classes below do this by themselves.
 */
inline int fail_by_exception(weir_request *req) noexcept
{
    try {
        throw;
    } catch (const error &e) {
        return e.status();
    } catch (const std::system_error &e) {
        const std::error_category &category = e.code().category();
        const bool is_errno = e.code().value() > 0 && (category == std::generic_category() ||
                                                       category == std::system_category());

        return weir_fail(req, is_errno ? -e.code().value() : -EIO, e.what());
    } catch (const std::bad_alloc &e) {
        return weir_fail(req, -ENOMEM, e.what());
    } catch (const std::exception &e) {
        return weir_fail(req, -EIO, e.what());
    } catch (...) {
        return weir_fail(req, -EIO, "an exception that is no std::exception");
    }
}

namespace detail {

using milliseconds = std::chrono::milliseconds;

/* Rounded up. Below 0 is 0, and beyond what there are milliseconds for is the most of them. */
template <class Rep, class Period>
uint32_t to_ms(const std::chrono::duration<Rep, Period> &time)
{
    constexpr uint32_t most = WEIR_FOREVER - 1;
    const std::chrono::duration<double, std::milli> rough(time);

    if (!(rough.count() > 0))
        return 0;
    if (rough.count() >= most)
        return most;
    return static_cast<uint32_t>(std::chrono::ceil<milliseconds>(time).count());
}

/* Of a wait with a time. Returns true if it got what it waited for, false if the time is over. */
inline bool came_in_time(int returned)
{
    if (returned == -ETIMEDOUT)
        return false;
    check(returned);
    return true;
}

/* Returns what the call returns, or the errno of what it throws. */
template <class Call> int guard(weir_request *req, const Call &call) noexcept
{
    try {
        return call();
    } catch (...) {
        return fail_by_exception(req);
    }
}

} // namespace detail

/* ------------------------------------------------------------------ the request ------- */

class stream;

/*
 * Bytes that a read gave, which lie in the request's buffer: valid until its next read, and to be
 * changed in place. It is false if there are none; then status() is 0 at end of file, or a negative
 * errno, and in either case what a handler may return.
 */
class input {
public:
    input() noexcept = default;
    input(char *data, ssize_t returned) noexcept : data_(data), returned_(returned) {}

    explicit operator bool() const noexcept { return returned_ > 0; }
    int status() const noexcept { return returned_ < 0 ? static_cast<int>(returned_) : 0; }

    char *data() const noexcept { return data_; }
    size_t size() const noexcept { return returned_ > 0 ? static_cast<size_t>(returned_) : 0; }
    char *begin() const noexcept { return data_; }
    char *end() const noexcept { return data_ + size(); }
    std::string_view text() const noexcept { return { data_, size() }; }
    operator std::string_view() const noexcept { return text(); }

private:
    char *data_ = nullptr;
    ssize_t returned_ = 0;
};

/*
 * A handler's request, or a stream that it has opened. It owns nothing, and is passed by value.
 * Every call of weir.h that takes a request takes this one.
 */
class request {
public:
    request(weir_request *req) noexcept : req_(req) {}

    operator weir_request *() const noexcept { return req_; }

    /* weir_readline: the next line with its '\n', limit bytes of it at most. Parks. */
    input read_line(size_t limit) const
    {
        char *line = nullptr;
        const ssize_t n = weir_readline(req_, &line, limit);

        return { line, n };
    }

    /* weir_peek: what is buffered, once that is min bytes or the file ends. Parks, if min > 0. */
    input peek(size_t min) const
    {
        char *data = nullptr;
        const ssize_t n = weir_peek(req_, &data, min);

        return { data, n };
    }

    /*
     * Writes all of one text, or of several, one behind the other. Parks. Returns 0, and not the
     * length, or a negative errno: so a handler may return what this does. See weir_write.
     */
    int write(std::string_view text) const
    {
        const ssize_t n = weir_write(req_, text.data(), text.size());

        return n < 0 ? static_cast<int>(n) : 0;
    }

    template <class... Texts>
    int write(std::string_view first, std::string_view second, const Texts &...others) const
    {
        const std::array<iovec, 2 + sizeof...(others)> parts{
            part(first), part(second), part(others)...
        };
        const ssize_t n = weir_writev(req_, parts.data(), static_cast<int>(parts.size()));

        return n < 0 ? static_cast<int>(n) : 0;
    }

    /* weir_sleep, of a time that is rounded up to milliseconds. Parks. */
    template <class Rep, class Period>
    int sleep(const std::chrono::duration<Rep, Period> &time) const
    {
        return weir_sleep(req_, detail::to_ms(time));
    }

    /*
     * weir_offload: runs work() on a thread that may block, and parks until that has returned.
     * Returns the int that work() did; -EAGAIN no thread could be had. What work() throws is thrown
     * here, on the handler's fiber.
     */
    template <class Work> int offload(Work &&work) const
    {
        struct job {
            std::remove_reference_t<Work> &work;
            std::exception_ptr thrown;

            static int run(void *arg) noexcept
            {
                job *self = static_cast<job *>(arg);

                try {
                    return self->work();
                } catch (...) {
                    self->thrown = std::current_exception();
                    return 0;
                }
            }
        } job{ work, nullptr };
        const int returned = weir_offload(req_, job::run, &job);

        if (job.thrown)
            std::rethrow_exception(job.thrown);
        return returned;
    }

    /* weir_connect, see there: 0 and a stream, or a negative errno. 0 ms: read_timeout_ms. */
    int connect(const char *address, uint32_t timeout_ms, stream &ret_stream) const;

protected:
    weir_request *req_;

private:
    static iovec part(std::string_view text) noexcept
    {
        return { const_cast<char *>(text.data()), text.size() };
    }
};

/*
 * A stream that connect() has opened. The destructor hangs it up, and parks: weir_hangup. It is a
 * local variable of the handler, for when handle() returns, the stream under it is gone.
 */
class stream : public request {
public:
    stream() noexcept : request(nullptr) {}
    stream(stream &&other) noexcept : request(std::exchange(other.req_, nullptr)) {}
    stream &operator=(stream &&other) noexcept
    {
        std::swap(req_, other.req_);
        return *this;
    }
    ~stream() { weir_hangup(req_); }

    /* To close it before its time. */
    void hang_up() { weir_hangup(std::exchange(req_, nullptr)); }

private:
    friend class request;
    explicit stream(weir_request *opened) noexcept : request(opened) {}
};

inline int request::connect(const char *address, uint32_t timeout_ms, stream &ret_stream) const
{
    weir_request *opened;
    const int r = weir_connect(req_, address, timeout_ms, &opened);

    if (r == 0)
        ret_stream = stream(opened);
    return r;
}

/* ------------------------------------------------------------------ handlers ---------- */

/*
 * A handler of one function, by its name and the function: int work(weir::request), which is
 * handle() of struct weir_handler. All workers call the one object at once, so it is const to them:
 * a lambda is not mutable, and what it refers to is for locks or atomics to guard.
 *
 * It is a struct weir_handler, of which further fields may be set before a server has it:
 * upper.client_first = true. It must outlive the server, stays where it is, and is no temporary.
 */
template <class Work> class handler : public weir_handler {
    static_assert(std::is_same_v<std::invoke_result_t<const Work &, request>, int>,
                  "a handler returns an int: 0, WEIR_KEEP, WEIR_STOP_SERVER or a negative errno");

public:
    handler(const char *its_name, Work work) : weir_handler{}, work_(std::move(work))
    {
        name = its_name;
        handle = run;
        data = &work_;
    }
    handler(const handler &) = delete;
    handler &operator=(const handler &) = delete;

private:
    static int run(weir_request *req) noexcept
    {
        return detail::guard(req, [req] {
            return (*static_cast<const Work *>(weir_handler_data(req)))(request(req));
        });
    }

    Work work_;
};

/*
 * The base of a class of one's own, of which each connection has an object:
 *
 *     class visitor : public weir::session {
 *     public:
 *         explicit visitor(guest_book &book);      or visitor(), if nothing is shared
 *         int setup(weir::request req);            may be left out
 *         int handle(weir::request req);
 *         int finish(weir::request req, int status);   may be left out
 *     };
 *     weir::session_handler<visitor, guest_book> visits("visits", book);
 *
 * setup, handle and finish are those of struct weir_handler. The object is made before setup(), and
 * is destroyed after finish(), or after a setup() that has failed; its destructor may park. It lies
 * in weir_state(), so that it stays while the connection is idle (WEIR_KEEP) and costs as much.
 */
class session {
public:
    int setup(request) { return 0; }
    int finish(request, int) { return 0; }
};

namespace detail {

/* A type for a parameter, also where nothing is shared and nothing is given. */
struct nothing;
template <class Shared>
using given = std::conditional_t<std::is_void_v<Shared>, const nothing, Shared>;

/* What the constructor of each Session is given. */
template <class Shared> Shared &shared_by(weir_request *req)
{
    return *const_cast<Shared *>(static_cast<const Shared *>(weir_handler_data(req)));
}

template <class Session, class Shared> void construct(weir_request *req)
{
    if constexpr (std::is_void_v<Shared>)
        new (weir_state(req)) Session();
    else
        new (weir_state(req)) Session(shared_by<Shared>(req));
}

template <class Session> Session &session_of(weir_request *req)
{
    return *std::launder(static_cast<Session *>(weir_state(req)));
}

} // namespace detail

/*
 * The handler of such a class: by its name, and what is shared by all connections, if anything. Of
 * both it is true what class handler says.
 */
template <class Session, class Shared = void> class session_handler : public weir_handler {
    static_assert(std::is_base_of_v<session, Session>, "derive the class from weir::session");
    static_assert(alignof(Session) <= alignof(std::max_align_t), "weir_state() is aligned to that");

public:
    explicit session_handler(const char *its_name) : weir_handler{}
    {
        static_assert(std::is_void_v<Shared>, "what is shared comes behind the name");
        fill(its_name, nullptr);
    }

    session_handler(const char *its_name, detail::given<Shared> &shared) : weir_handler{}
    {
        fill(its_name, &shared);
    }

    session_handler(const session_handler &) = delete;
    session_handler &operator=(const session_handler &) = delete;

private:
    void fill(const char *its_name, const void *shared) noexcept
    {
        /* Without finish() the end leaves in the segment of the last bytes. */
        constexpr bool ends_by_itself =
            std::is_trivially_destructible_v<Session> &&
            std::is_same_v<decltype(&Session::finish), decltype(&session::finish)>;

        name = its_name;
        setup = run_setup;
        handle = run_handle;
        finish = ends_by_itself ? nullptr : run_finish;
        state_size = sizeof(Session);
        data = shared;
    }

    static int run_setup(weir_request *req) noexcept
    {
        const int made = detail::guard(req, [req] {
            detail::construct<Session, Shared>(req);
            return 0;
        });

        if (made < 0)
            return made;

        const int returned = detail::guard(req, [req] {
            return detail::session_of<Session>(req).setup(request(req));
        });

        if (returned < 0)
            detail::session_of<Session>(req).~Session();
        return returned;
    }

    static int run_handle(weir_request *req) noexcept
    {
        return detail::guard(req, [req] {
            return detail::session_of<Session>(req).handle(request(req));
        });
    }

    static int run_finish(weir_request *req, int status) noexcept
    {
        const int returned = detail::guard(req, [req, status] {
            return detail::session_of<Session>(req).finish(request(req), status);
        });

        detail::session_of<Session>(req).~Session();
        return returned;
    }
};

/* ------------------------------------------------------------------ servers ----------- */

/*
 * Access rules that no server has taken: weir_access_parse, weir_access_read. Both throw
 * std::system_error, with the line that is bad.
 */
class access_rules {
public:
    static access_rules parse(const char *text)
    {
        weir_access *rules;

        check_why(weir_access_parse(text, &rules));
        return access_rules(rules);
    }

    static access_rules read(const char *path)
    {
        weir_access *rules;

        check_why(weir_access_read(path, &rules));
        return access_rules(rules);
    }

    access_rules(access_rules &&other) noexcept : rules_(std::exchange(other.rules_, nullptr)) {}
    access_rules &operator=(access_rules &&other) noexcept
    {
        std::swap(rules_, other.rules_);
        return *this;
    }
    ~access_rules() { weir_access_free(rules_); }

private:
    friend class server;
    explicit access_rules(weir_access *rules) noexcept : rules_(rules) {}

    weir_access *rules_;
};

/*
 * A server: weir_server_create, and weir_server_destroy at the end, which waits for the handlers as
 * the options say (daemon_threads, drain_timeout_ms). Where it may not be destroyed, in a handler
 * or hook of its own, as by exit(3) there, the destructor leaves it alone.
 *
 * The members throw std::system_error with the sentence of weir_why(); each is for the threads, and
 * blocks, as the call of weir.h's that has its name. What can't fail, and the rest, is weir.h's:
 * weir_server_stop(server), weir_server_cancel(server). Nothing of it is for a server that was
 * moved from.
 */
class server {
public:
    explicit server(const options &its_options)
    {
        check_why(weir_server_create(&server_, &its_options));
    }
    server(server &&other) noexcept : server_(std::exchange(other.server_, nullptr)) {}
    server &operator=(server &&other) noexcept
    {
        std::swap(server_, other.server_);
        return *this;
    }
    ~server() { weir_server_destroy(server_); }

    operator weir_server *() const noexcept { return server_; }

    void serve_forever() { check_why(weir_serve_forever(server_)); }
    void start() { check_why(weir_server_start(server_)); }
    void shutdown() { check_why(weir_server_shutdown(server_)); }
    void close() { check_why(weir_server_close(server_)); }

    /* Returns true after a client, and false if none came within options.timeout_ms. */
    bool handle_request() { return check_why(weir_handle_request(server_)) > 0; }

    /* weir_submit: after a success the descriptor is the server's. */
    void submit(int fd, const weir_handler *handler = nullptr, void *arg = nullptr)
    {
        check_why(weir_submit(server_, fd, handler, arg));
    }

    /* The rules are the server's after a success. */
    void set_access(access_rules rules)
    {
        check_why(weir_server_set_access(server_, rules.rules_));
        rules.rules_ = nullptr;
    }

    /* The i-th address as a URI; empty: there is none. */
    std::string address(size_t i = 0) const
    {
        std::array<char, WEIR_ADDRESS_SIZE> text;

        return weir_server_address(server_, i, text.data(), text.size()) > 0 ? text.data() : "";
    }

    weir_stats stats() const
    {
        weir_stats stats{};

        weir_server_stats(server_, &stats, sizeof(stats));
        return stats;
    }

private:
    weir_server *server_ = nullptr;
};

/* ------------------------------------------------------------------ locks ------------- */

/*
 * Those of weir_sync.h, with the names and rules of the standard's, so that std::lock_guard,
 * std::unique_lock, std::scoped_lock and std::shared_lock work with them. A handler that waits
 * parks, and may hold them across every call that parks. Constructors cost nothing, and static
 * locks are ready before the program begins. For weir_sync.h's calls there is native_handle().
 *
 * lock() throws weir::error of -EDEADLK, if that can be seen, and waits through a cancel.
 *
 * try_lock_for() and all others with a time return false if the time is over; also if what was left
 * of request_timeout_ms is over before, so a handler that tries again and again counts its tries. A
 * cancel would be the end of all waiting, and false would not tell it: they throw weir::error of
 * -ECANCELED. A time is rounded up to milliseconds, and 49 days are the most. Times of day are left
 * out, since the clock that weir waits by is not set: try_lock_until takes those of
 * std::chrono::steady_clock alone.
 */
namespace detail {

template <class Lock> class timed : public Lock {
public:
    template <class Rep, class Period>
    bool try_lock_for(const std::chrono::duration<Rep, Period> &time)
    {
        return in_time(this->lock_within(to_ms(time)));
    }

    template <class Duration>
    bool try_lock_until(const std::chrono::time_point<std::chrono::steady_clock, Duration> &end)
    {
        return try_lock_for(end - std::chrono::steady_clock::now());
    }

protected:
    /* -EDEADLK, too, is a lock that is not to be had, as it is for try_lock(). */
    static bool in_time(int returned)
    {
        return returned != -EDEADLK && came_in_time(returned);
    }
};

class plain_mutex {
public:
    constexpr plain_mutex() noexcept = default;
    plain_mutex(const plain_mutex &) = delete;
    plain_mutex &operator=(const plain_mutex &) = delete;

    void lock() { check(weir_mutex_lock(&mutex_)); }
    bool try_lock() noexcept { return weir_mutex_try_lock(&mutex_) == 0; }
    void unlock() noexcept { weir_mutex_unlock(&mutex_); }
    weir_mutex *native_handle() noexcept { return &mutex_; }

protected:
    int lock_within(uint32_t ms) { return weir_mutex_lock_within(&mutex_, ms); }

private:
    weir_mutex mutex_ = {};
};

class plain_shared_mutex {
public:
    constexpr plain_shared_mutex() noexcept = default;
    plain_shared_mutex(const plain_shared_mutex &) = delete;
    plain_shared_mutex &operator=(const plain_shared_mutex &) = delete;

    void lock() { check(weir_rwlock_write_lock(&rwlock_)); }
    bool try_lock() noexcept { return weir_rwlock_try_write_lock(&rwlock_) == 0; }
    void unlock() noexcept { weir_rwlock_write_unlock(&rwlock_); }
    void lock_shared() { check(weir_rwlock_read_lock(&rwlock_)); }
    bool try_lock_shared() noexcept { return weir_rwlock_try_read_lock(&rwlock_) == 0; }
    void unlock_shared() noexcept { weir_rwlock_read_unlock(&rwlock_); }
    weir_rwlock *native_handle() noexcept { return &rwlock_; }

protected:
    int lock_within(uint32_t ms) { return weir_rwlock_write_lock_within(&rwlock_, ms); }
    int lock_shared_within(uint32_t ms) { return weir_rwlock_read_lock_within(&rwlock_, ms); }

private:
    weir_rwlock rwlock_ = {};
};

} // namespace detail

/* struct weir_mutex, as std::timed_mutex. */
class mutex : public detail::timed<detail::plain_mutex> {};

/* struct weir_rwlock, as std::shared_timed_mutex. Its holder does not ask for it again. */
class shared_mutex : public detail::timed<detail::plain_shared_mutex> {
public:
    template <class Rep, class Period>
    bool try_lock_shared_for(const std::chrono::duration<Rep, Period> &time)
    {
        return in_time(lock_shared_within(detail::to_ms(time)));
    }

    template <class Duration>
    bool try_lock_shared_until(
        const std::chrono::time_point<std::chrono::steady_clock, Duration> &end)
    {
        return try_lock_shared_for(end - std::chrono::steady_clock::now());
    }
};

/*
 * struct weir_condition, as std::condition_variable, but that nobody goes on for no reason. wait()
 * and wait_for() have the mutex again when they return or throw: weir::error of -ECANCELED, and
 * wait() also of -ETIMEDOUT, for request_timeout_ms.
 */
class condition {
public:
    constexpr condition() noexcept = default;
    condition(const condition &) = delete;
    condition &operator=(const condition &) = delete;

    void wait(std::unique_lock<mutex> &lock)
    {
        check(weir_condition_wait(&condition_, lock.mutex()->native_handle()));
    }

    template <class Ready> void wait(std::unique_lock<mutex> &lock, Ready ready)
    {
        while (!ready())
            wait(lock);
    }

    /* Returns false if the time is over. */
    template <class Rep, class Period>
    bool wait_for(std::unique_lock<mutex> &lock, const std::chrono::duration<Rep, Period> &time)
    {
        return detail::came_in_time(weir_condition_wait_within(
            &condition_, lock.mutex()->native_handle(), detail::to_ms(time)));
    }

    /* Returns what ready() says at last: false only if the time is over. */
    template <class Rep, class Period, class Ready>
    bool wait_for(std::unique_lock<mutex> &lock, const std::chrono::duration<Rep, Period> &time,
                  Ready ready)
    {
        const auto end = std::chrono::steady_clock::now() + detail::milliseconds(
            detail::to_ms(time));

        while (!ready()) {
            if (!wait_for(lock, end - std::chrono::steady_clock::now()))
                return ready();
        }
        return true;
    }

    void notify_one() noexcept { weir_condition_signal(&condition_); }
    void notify_all() noexcept { weir_condition_broadcast(&condition_); }

private:
    weir_condition condition_ = {};
};

/* struct weir_semaphore, as std::counting_semaphore. acquire() throws what wait() does. */
class semaphore {
public:
    constexpr semaphore() noexcept = default;
    explicit semaphore(uint32_t units) { release(units); }
    semaphore(const semaphore &) = delete;
    semaphore &operator=(const semaphore &) = delete;

    void acquire() { check(weir_semaphore_acquire(&semaphore_)); }
    bool try_acquire() noexcept { return weir_semaphore_try_acquire(&semaphore_) == 0; }

    template <class Rep, class Period>
    bool try_acquire_for(const std::chrono::duration<Rep, Period> &time)
    {
        return detail::came_in_time(
            weir_semaphore_acquire_within(&semaphore_, detail::to_ms(time)));
    }

    /* Throws weir::error of -EOVERFLOW: there would be more than UINT32_MAX. */
    void release(uint32_t units = 1) { check(weir_semaphore_release(&semaphore_, units)); }

private:
    weir_semaphore semaphore_ = {};
};

/* struct weir_wait_group. wait() throws what a condition's does, add() as release() above. */
class wait_group {
public:
    constexpr wait_group() noexcept = default;
    wait_group(const wait_group &) = delete;
    wait_group &operator=(const wait_group &) = delete;

    void add(uint32_t n = 1) { check(weir_wait_group_add(&group_, n)); }
    void done() noexcept { weir_wait_group_done(&group_); }
    void wait() { check(weir_wait_group_wait(&group_)); }

    template <class Rep, class Period>
    bool wait_for(const std::chrono::duration<Rep, Period> &time)
    {
        return detail::came_in_time(weir_wait_group_wait_within(&group_, detail::to_ms(time)));
    }

private:
    weir_wait_group group_ = {};
};

/* struct weir_once_flag: a std::once_flag that may be waited for. */
class once_flag {
public:
    constexpr once_flag() noexcept = default;
    once_flag(const once_flag &) = delete;
    once_flag &operator=(const once_flag &) = delete;

private:
    template <class Work> friend void call_once(once_flag &flag, Work &&work);

    weir_once_flag flag_ = {};
};

/*
 * weir_once, as std::call_once: work(), which may park, is called by one of those who come, and all
 * of them return when it has. If it throws, that one's call throws the same, and the next one calls
 * its own. Throws also weir::error: of -EDEADLK, -ECANCELED, -ETIMEDOUT.
 */
template <class Work> void call_once(once_flag &flag, Work &&work)
{
    struct job {
        std::remove_reference_t<Work> &work;
        std::exception_ptr thrown;

        static int run(void *arg) noexcept
        {
            job *self = static_cast<job *>(arg);

            try {
                self->work();
                return 0;
            } catch (...) {
                self->thrown = std::current_exception();
                return -EIO;
            }
        }
    } job{ work, nullptr };
    const int returned = weir_once(&flag.flag_, job::run, &job);

    if (job.thrown)
        std::rethrow_exception(job.thrown);
    check(returned);
}

/* ------------------------------------------------------------------ channels ---------- */

/*
 * struct weir_channel of items of one type, with the array for Capacity of them in it. Items are
 * copied as bytes, so the type is trivially copyable: of others send pointers, or indices.
 *
 * A closed channel ends every receiver's loop sooner or later, so these return, as the calls of a
 * handler on its request do: 0; -EPIPE, it is closed; of waits also -ECANCELED and -ETIMEDOUT, of
 * try_ -EAGAIN. With a Capacity of 0 a sender waits until its item is received.
 */
template <class Item, uint32_t Capacity> class channel {
    static_assert(std::is_trivially_copyable_v<Item>, "items are copied as bytes");

public:
    channel() noexcept
    {
        channel_.slots = Capacity > 0 ? slots_.data() : nullptr;
        channel_.size = sizeof(Item);
        channel_.capacity = Capacity;
    }
    channel(const channel &) = delete;
    channel &operator=(const channel &) = delete;

    /* Park. */
    int send(const Item &item) { return weir_channel_send(&channel_, &item); }
    int receive(Item &ret_item) { return weir_channel_receive(&channel_, &ret_item); }

    template <class Rep, class Period>
    int send_for(const Item &item, const std::chrono::duration<Rep, Period> &time)
    {
        return weir_channel_send_within(&channel_, &item, detail::to_ms(time));
    }

    template <class Rep, class Period>
    int receive_for(Item &ret_item, const std::chrono::duration<Rep, Period> &time)
    {
        return weir_channel_receive_within(&channel_, &ret_item, detail::to_ms(time));
    }

    /* Never park. */
    int try_send(const Item &item) { return weir_channel_try_send(&channel_, &item); }
    int try_receive(Item &ret_item) { return weir_channel_try_receive(&channel_, &ret_item); }
    int close() { return weir_channel_close(&channel_); }   /* 0, or -EALREADY */

    weir_channel *native_handle() noexcept { return &channel_; }

private:
    weir_channel channel_ = {};
    std::array<Item, Capacity> slots_;
};

} // namespace weir

#endif
