/*
 * notes.cc - notes over HTTP, in C++: posted, read, listed and removed by any number of clients at
 * once. The notes are under a lock that a handler parks for.
 *
 * Run:     notes [ADDRESS]
 * Try:     curl -d 'buy milk' localhost:8080/notes; curl localhost:8080/notes/1
 *          curl localhost:8080/notes; curl -X DELETE localhost:8080/notes/1
 * Python:  class Notes(BaseHTTPRequestHandler):
 *              def do_POST(self):
 *                  with lock: notes[next(ids)] = self.rfile.read(length)
 */
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iostream>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <system_error>

#include <weir/http.h>
#include <weir/weir.hpp>

namespace {

constexpr size_t MOST_NOTES = 10000;
constexpr std::string_view PATH = "/notes/";

/* ------------------------------------------------------------------ the notes --------- */

/* A text in quotation marks. What clients post is taken for UTF-8, as JSON has it. */
std::string quoted(std::string_view text)
{
    std::string json = "\"";

    for (char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        std::array<char, 8> escaped;

        if (byte < 0x20) {
            std::snprintf(escaped.data(), escaped.size(), "\\u%04x", byte);
            json += escaped.data();
            continue;
        }
        if (c == '"' || c == '\\')
            json += '\\';
        json += c;
    }
    return json + "\"";
}

std::string json_of(uint64_t id, std::string_view text)
{
    return "{\"id\":" + std::to_string(id) + ",\"text\":" + quoted(text) + "}";
}

class notebook {
public:
    /* The note as JSON; empty: there is no room for it. */
    std::string add(std::string text)
    {
        std::lock_guard<weir::shared_mutex> guard(lock_);

        if (notes_.size() == MOST_NOTES)
            return {};
        const auto note = notes_.emplace_hint(notes_.end(), next_++, std::move(text));

        return json_of(note->first, note->second);
    }

    /* Empty: there is none. */
    std::string find(uint64_t id) const
    {
        std::shared_lock<weir::shared_mutex> guard(lock_);
        const auto note = notes_.find(id);

        return note == notes_.end() ? std::string() : json_of(id, note->second);
    }

    bool remove(uint64_t id)
    {
        std::lock_guard<weir::shared_mutex> guard(lock_);

        return notes_.erase(id) > 0;
    }

    std::string all() const
    {
        std::shared_lock<weir::shared_mutex> guard(lock_);
        std::string json;

        for (const auto &[id, text] : notes_)
            json += (json.empty() ? "[" : ",\n ") + json_of(id, text);
        return json.empty() ? "[]\n" : json + "]\n";
    }

private:
    mutable weir::shared_mutex lock_;
    std::map<uint64_t, std::string> notes_;
    uint64_t next_ = 1;
};

notebook book;

/* ------------------------------------------------------------------ over HTTP --------- */

int reply(weir_http *ex, int status, const std::string &json)
{
    return weir_http_reply(ex, status, "application/json", json.data(), json.size());
}

/* The body; what is longer than body_limit ends here, and the client is told 413. */
std::string read_body(weir_http *ex)
{
    std::array<char, 4096> piece;
    std::string body;

    while (const ssize_t n = weir::check(weir_http_read_body(ex, piece.data(), piece.size())))
        body.append(piece.data(), static_cast<size_t>(n));
    return body;
}

/* Behind "/notes/"; 0, which no note has, if that is no number. */
uint64_t id_of(weir_http *ex)
{
    const std::string_view text = std::string_view(weir_http_path(ex)).substr(PATH.size());
    uint64_t id = 0;
    const auto [end, error] = std::from_chars(text.begin(), text.end(), id);

    return error == std::errc() && end == text.end() ? id : 0;
}

int list(weir_http *ex)
{
    return reply(ex, 200, book.all());
}

int post(weir_http *ex)
{
    const std::string json = book.add(read_body(ex));

    return json.empty() ? 507 : reply(ex, 201, json + "\n");
}

int get(weir_http *ex)
{
    const std::string json = book.find(id_of(ex));

    return json.empty() ? 404 : reply(ex, 200, json + "\n");
}

int remove(weir_http *ex)
{
    return book.remove(id_of(ex)) ? weir_http_reply(ex, 204, nullptr, nullptr, 0) : 404;
}

/* A callback is called by C, which no exception may reach. */
template <int (*Answer)(weir_http *)> int answer(weir_http *ex)
{
    try {
        return Answer(ex);
    } catch (const weir::error &e) {
        return e.status();
    } catch (const std::exception &e) {
        weir_report(weir_http_request(ex), -EIO, e.what());
        return 500;
    }
}

const weir_http_route routes[] = {
    { "GET", "/notes", answer<list>, nullptr },
    { "POST", "/notes", answer<post>, nullptr },
    { "GET", "/notes/*", answer<get>, nullptr },
    { "DELETE", "/notes/*", answer<remove>, nullptr },
};

weir_http_site make_site()
{
    weir_http_site site{};

    site.routes = routes;
    site.routes_len = std::size(routes);
    site.body_limit = 64 << 10;
    return site;
}

} // namespace

int main(int argc, char **argv)
{
    const weir_http_site site = make_site();
    const weir_handler handler = WEIR_HTTP_HANDLER("notes", &site);
    weir::options options;

    options.listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:8080";
    options.handler = &handler;
    options.reuse_address = true;
    options.idle_timeout_ms = 60 * 1000;
    options.request_timeout_ms = 60 * 1000;
    try {
        weir::server server(options);

        std::cerr << "notes: listening on " << server.address() << std::endl;
        server.serve_forever();
    } catch (const std::system_error &e) {
        std::cerr << "notes: " << e.what() << '\n';
        return 1;
    }
}
