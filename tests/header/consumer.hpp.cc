/* consumer.hpp.cc - consumer.c in C++17 and later, by weir.hpp. */
#include <chrono>
#include <cstdio>
#include <iostream>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>

#include <weir/http.h>
#include <weir/weir.hpp>

namespace {

weir::mutex lock;
weir::shared_mutex rwlock;
weir::semaphore places;
weir::condition changed;
weir::wait_group group;
weir::once_flag flag;

// Returns true if each of them does what it says.
bool share()
{
    int calls = 0;
    std::lock_guard<weir::mutex> guard(lock);
    std::shared_lock<weir::shared_mutex> reading(rwlock);
    std::unique_lock<weir::shared_mutex> writing(rwlock, std::chrono::milliseconds(1));

    places.release();
    places.acquire();
    group.add();
    group.done();
    group.wait();
    weir::call_once(flag, [&calls] { calls++; });
    weir::call_once(flag, [&calls] { calls++; });
    changed.notify_all();
    return !lock.try_lock() && !writing && !places.try_acquire_for(std::chrono::seconds(0)) &&
           calls == 1;
}

class echo : public weir::session {
public:
    explicit echo(const bool &shared) : shared_(shared) {}
    ~echo() { std::lock_guard<weir::mutex> guard(lock); }

    int handle(weir::request req)
    {
        const weir::input line = req.read_line(100);

        if (!line)
            return line.status();
        if (!shared_)
            throw std::logic_error("a lock did not do what it says");
        req.write(twice_ ? "1 " : "0 ", line);
        twice_ = true;
        return weir_draining(req) ? WEIR_STOP_SERVER : WEIR_KEEP;
    }

private:
    const bool &shared_;
    bool twice_ = false;
};

int hello(weir_http *ex)
{
    return weir_http_reply(ex, 200, "text/plain", weir_http_data(ex), 6);
}

weir_http_site make_site()
{
    static const weir_http_route routes[] = { { nullptr, "/", hello, "hello\n" } };
    weir_http_site site{};

    site.routes = routes;
    site.routes_len = 1;
    return site;
}

const weir_http_site site = make_site();
const weir_handler http = WEIR_HTTP_HANDLER("http", &site);

} // namespace

static_assert(sizeof(weir::mutex) == sizeof(weir_mutex), "it costs nothing");
static_assert(sizeof(weir::shared_mutex) == sizeof(weir_rwlock), "it costs nothing");
static_assert(sizeof(weir::request) == sizeof(weir_request *), "it costs nothing");

int main()
{
    const bool shared = share();
    const weir::session_handler<echo, const bool> lines("lines", shared);
    weir_listen listeners[2]{};
    weir::options options;

    listeners[0].address = "tcp://127.0.0.1:0";
    listeners[0].handler = &lines;
    listeners[1].address = "tcp://127.0.0.1:0";
    listeners[1].handler = &http;
    options.listeners = listeners;
    options.listeners_len = 2;
    options.workers = 2;
    options.reuse_address = true;
    try {
        weir::server server(options);

        server.start();
        std::cout << server.address(0) << '\n' << server.address(1) << std::endl;
        while (std::getchar() != EOF)
            ;
        server.shutdown();
        return server.stats().accepted == 0;
    } catch (const std::system_error &e) {
        std::cerr << "consumer: " << e.what() << '\n';
        return 1;
    }
}
