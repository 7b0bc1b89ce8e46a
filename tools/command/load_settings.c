/*
 * load_settings.c - the table of options, and what of them goes together.
 */
#include "tools/command/load_settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cpulist.h"
#include "tools/command/arguments.h"
#include "tools/command/values.h"
#include "tools/load/descriptors.h"

#define refuse(...) arguments_refuse("load", __VA_ARGS__)

#define HTTP "http://"

enum {
    CONNECTIONS = 64,
    DURATION_MS = 10 * 1000,
    DESCRIPTORS_SPARE = 32,     /* beside the connections: the standard ones, epoll sets ... */
};

/* ------------------------------------------------------------------ values ------------ */

static int read_size(void *into, const struct argument *argument, const char *text)
{
    struct load_settings *settings = into;
    uint64_t size;

    (void)argument;
    if (value_size(text, UINT32_MAX, &size) < 0 || size == 0)
        return refuse("--size: '%s' is not a size such as 8192, 64K or 1M", text);
    settings->options.size = (uint32_t)size;
    return 0;
}

static bool is_printable(const char *text, unsigned char least)
{
    for (; *text; text++)
        if ((unsigned char)*text < least || *text == 0x7f)
            return false;
    return true;
}

static int read_path(void *into, const struct argument *argument, const char *text)
{
    struct load_settings *settings = into;

    (void)argument;
    if (text[0] != '/' || !is_printable(text, '!'))
        return refuse("--path: '%s' is not a path such as /index.html", text);
    settings->options.path = text;
    return 0;
}

static int add_header(struct load_settings *settings, const char *text, int text_len)
{
    size_t size = sizeof(settings->headers) - settings->headers_len;
    int len = snprintf(settings->headers + settings->headers_len, size, "%.*s\r\n", text_len, text);

    if ((size_t)len >= size)
        return refuse("--header: more than %d bytes in total", LOAD_HEADERS_SIZE);
    settings->headers_len += (size_t)len;
    settings->options.headers = settings->headers;
    return 0;
}

static int read_header(void *into, const struct argument *argument, const char *text)
{
    const char *colon = strchr(text, ':');

    (void)argument;
    if (!colon || colon == text || !is_printable(text, ' ') ||
        memchr(text, ' ', (size_t)(colon - text)))
        return refuse("--header: '%s' is not a field such as 'Accept: text/html'", text);
    return add_header(into, text, (int)strlen(text));
}

/* "localhost" is literal, but it is two addresses. */
static bool is_uri_number(const char *text, size_t len)
{
    return len > 0 && (memchr(text, ':', len) || (*text >= '0' && *text <= '9'));
}

/* One of the list, which ends at a comma. */
static int read_source(struct load_settings *settings, const char *text, size_t len)
{
    struct address *source = &settings->sources[settings->options.sources_len];
    const char *open = memchr(text, ':', len) ? "[" : "";
    char uri[128], why[256];

    if (settings->options.sources_len == LOAD_SOURCES_MAX)
        return refuse("--source: more than %d addresses", LOAD_SOURCES_MAX);
    snprintf(uri, sizeof(uri), "tcp://%s%.*s%s:0", open, (int)len, text, *open ? "]" : "");
    if (len > 64 || !is_uri_number(text, len) || !address_is_literal(uri) ||
        address_parse(uri, source, why, sizeof(why)) < 0)
        return refuse("--source: '%.*s' is not an IP address", (int)len, text);
    settings->options.sources_len++;
    return 0;
}

static int read_sources(void *into, const struct argument *argument, const char *text)
{
    struct load_settings *settings = into;
    int r;

    (void)argument;
    settings->options.sources = settings->sources;
    do {
        size_t len = strcspn(text, ",");

        r = read_source(settings, text, len);
        text += len + (text[len] == ',');
    } while (r == 0 && *text);
    return r;
}

static int read_cpus(void *into, const struct argument *argument, const char *text)
{
    struct load_settings *settings = into;
    char why[256];
    int n = cpulist_parse(text, settings->cpus, LOAD_CPUS_MAX, why, sizeof(why));

    (void)argument;
    if (n < 0)
        return refuse("--cpu: %s", why);
    settings->options.cpus = settings->cpus;
    settings->options.cpus_len = (uint32_t)n;
    return 0;
}

static int set_payload(struct load_settings *settings, const char *text)
{
    static const struct {
        const char *name;
        enum load_mode mode;
    } payloads[] = { { "http", LOAD_HTTP }, { "line", LOAD_LINE }, { "upper", LOAD_UPPER } };

    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++)
        if (strcmp(text, payloads[i].name) == 0) {
            settings->payload = payloads[i].name;
            settings->options.mode = payloads[i].mode;
            return 0;
        }
    return refuse("--payload: '%s' is none of http, line and upper", text);
}

static int read_payload(void *into, const struct argument *argument, const char *text)
{
    (void)argument;
    return set_payload(into, text);
}

static int read_close(void *into, const struct argument *argument, const char *text)
{
    struct load_settings *settings = into;

    (void)argument;
    (void)text;
    settings->options.per_connection = 1;
    return 0;
}

/* Of "HOST:PORT" or "HOST", len bytes. In an IPv6 address, colons stand in brackets. */
static bool has_port(const char *host, size_t len)
{
    const char *bracket = memrchr(host, ']', len);

    return memchr(bracket ? bracket : host, ':', bracket ? len - (size_t)(bracket - host) : len);
}

/* "http://HOST:PORT/PATH" is the address tcp://HOST:PORT, the path, and the field Host. */
static int read_url(struct load_settings *settings, const char *text)
{
    const char *host = text + sizeof(HTTP) - 1;
    size_t len = strcspn(host, "/?#@");
    const char *path = host + len;

    if (len == 0 || len > LOAD_ADDRESS_SIZE - sizeof("tcp://:80") ||
        (*path && (*path != '/' || strchr(path, '#') || !is_printable(path, '!'))))
        return refuse("'%s' is not a URL such as http://127.0.0.1:8080/index.html", text);
    if (*path && settings->options.path)
        return refuse("--path: '%s' has one", text);
    if (*path)
        settings->options.path = path;
    snprintf(settings->address, sizeof(settings->address), "tcp://%.*s%s", (int)len, host,
             has_port(host, len) ? "" : ":80");
    settings->options.address = settings->address;
    settings->url_host = host;
    settings->url_host_len = (int)len;
    return 0;
}

static int read_address(void *into, const char *text)
{
    struct load_settings *settings = into;

    if (settings->options.address)
        return refuse("one address, please: '%s' or '%s'", settings->options.address, text);
    settings->options.address = text;
    return 0;
}

/* ------------------------------------------------------------------ the table --------- */

#define NUMBER(field, least, most) \
    ARGUMENT_RANGE(ARGUMENT_NUMBER, struct load_settings, field, least, most)
#define TIME(field, least) \
    ARGUMENT_RANGE(ARGUMENT_TIME, struct load_settings, field, least, LOAD_NO_END - 1)

static const struct argument table[] = {
    { "connections", "N", NUMBER(options.connections, 1, 1000000),
      "clients: connections, or datagram sockets; default 64" },
    { "duration", "TIME", TIME(duration_ms, 1),
      "how long to ask; default 10s, or no end with --requests" },
    { "requests", "N",
      ARGUMENT_RANGE(ARGUMENT_LONG_NUMBER, struct load_settings, options.requests, 1,
                     UINT64_MAX / 2),
      "how often to ask, in total; default as often as time allows" },
    { "rate", "N", NUMBER(options.rate, 1, 100000000),
      "open loop: N requests are due each second, on all connections together, and the latency "
      "of each counts from the time it is due, though it may have to wait; default a closed "
      "loop: each connection asks as soon as it is answered" },
    { "pipeline", "N", NUMBER(options.in_flight, 1, LOAD_IN_FLIGHT_MAX),
      "requests or datagrams that each connection has under way at once; default 1" },
    { "payload", "WHAT", ARGUMENT_BY(read_payload),
      "http (GET; the answer's status and length are checked), line (has to come back unchanged) "
      "or upper (in capitals); default http, for datagrams line" },
    { "size", "SIZE", ARGUMENT_BY(read_size),
      "length of a line or a datagram, at least 16, default 32; or of the body of each HTTP "
      "answer, default that of the first" },
    { "path", "PATH", ARGUMENT_BY(read_path), "what HTTP requests ask for; default /" },
    { "header", "NAME: VALUE", ARGUMENT_BY(read_header),
      "a header field of HTTP requests; may be given several times; a Host replaces the address, "
      "which is the default" },
    { "close", NULL, ARGUMENT_BY(read_close),
      "a new connection for each request; by default connections are kept" },
    { "ramp", "TIME", TIME(options.ramp_ms, 0),
      "open the connections evenly over this time; default as fast as possible" },
    { "warmup", "TIME", TIME(warmup_ms, 0),
      "how long to ask before anything but errors counts; default 0" },
    { "timeout", "TIME", TIME(options.timeout_ms, 1),
      "how long a connection that owes an answer may be silent before that counts as an error; so "
      "does a request that is still under way this long after the end; default 5s" },
    { "stalled", "N", NUMBER(options.stalled, 0, 1000000),
      "further clients that send half a request and stop; default none" },
    { "trickle", "N", NUMBER(options.trickled, 0, 1000000),
      "further clients that send a byte each 100 ms; default none" },
    { "threads", "N", NUMBER(options.threads, 1, 256), "threads that generate load; default 1" },
    { "cpu", "LIST", ARGUMENT_BY(read_cpus),
      "CPUs to bind the threads to in turn, such as 0,2-3; default none" },
    { "source", "ADDRESS,...", ARGUMENT_BY(read_sources),
      "IP addresses to connect from in turn, for more than 28,000 connections; default the "
      "kernel's choice" },
    { "json", "FILE", ARGUMENT_AT(ARGUMENT_TEXT, struct load_settings, json),
      "also write the result there, as JSON, instead of what the file holds; - is standard output, "
      "without the table" },
    { "help", NULL, ARGUMENT_AT(ARGUMENT_YES, struct load_settings, help), "print this" },
};

_Static_assert(sizeof(table) / sizeof(table[0]) <= ARGUMENTS_MAX, "the table");

static const struct arguments arguments = {
    .command = "load", .table = table, .len = sizeof(table) / sizeof(table[0]),
    .operand = read_address,
};

/* ------------------------------------------------------------------ what goes together  */

static bool has_family(const struct address *addresses, int len, sa_family_t family)
{
    for (int i = 0; i < len; i++)
        if (addresses[i].sa.sa_family == family)
            return true;
    return false;
}

static int look_at_addresses(struct load_settings *settings, const struct address *addresses,
                             int len)
{
    const struct address *sources = settings->sources;

    if (addresses[0].kind == ADDRESS_FD)
        return refuse("%s: there is nothing to connect to", settings->options.address);
    if (addresses[0].kind != ADDRESS_IP && settings->options.sources_len > 0)
        return refuse("--source: %s is no IP address", settings->options.address);
    for (uint32_t i = 0; i < settings->options.sources_len; i++)
        if (sources[i].sa.sa_family != sources[0].sa.sa_family ||
            !has_family(addresses, len, sources[i].sa.sa_family))
            return refuse("--source: an address of another family than %s",
                          settings->options.address);
    settings->datagrams = addresses[0].type == SOCK_DGRAM;
    return 0;
}

static int look_at_address(struct load_settings *settings)
{
    struct address *addresses;
    char why[256];
    int len, r;

    if (!settings->options.address)
        return refuse("say where to, such as tcp://127.0.0.1:8080; see `weir load --help`");
    len = address_parse_all(settings->options.address, &addresses, why, sizeof(why));
    if (len < 0)
        return refuse("%s", why);
    r = look_at_addresses(settings, addresses, len);
    free(addresses);
    return r;
}

static int look_at_datagrams(const struct load_settings *settings)
{
    const struct load_options *options = &settings->options;

    if (!settings->datagrams)
        return 0;
    if (options->mode == LOAD_HTTP)
        return refuse("--payload: datagrams carry no http");
    if (options->per_connection > 0)
        return refuse("--close: datagrams have no connection");
    if (options->stalled > 0 || options->trickled > 0)
        return refuse("--%s: there is no part of a datagram",
                      options->stalled > 0 ? "stalled" : "trickle");
    if (options->size > LOAD_DATAGRAM_MAX)
        return refuse("--size: a datagram has at most %d bytes", LOAD_DATAGRAM_MAX);
    return 0;
}

/* What a URL calls the server is its Host, unless a header says otherwise. */
static int complete_host(struct load_settings *settings)
{
    char host[LOAD_ADDRESS_SIZE];

    if (!settings->url_host || load_headers_have(settings->headers, "Host"))
        return 0;
    return add_header(settings, host,
                      snprintf(host, sizeof(host), "Host: %.*s", settings->url_host_len,
                               settings->url_host));
}

/* What would be a body to the server is the next request to us. */
static int look_at_headers(const struct load_settings *settings)
{
    static const char *const of_bodies[] = { "Content-Length", "Transfer-Encoding" };
    const char *headers = settings->headers;

    for (size_t i = 0; i < sizeof(of_bodies) / sizeof(of_bodies[0]); i++)
        if (load_headers_have(headers, of_bodies[i]))
            return refuse("--header: a GET has no body, and so no %s", of_bodies[i]);
    if (settings->options.per_connection > 0 && load_headers_have(headers, "Connection"))
        return refuse("--header: with --close, Connection is close");
    return 0;
}

static int look_at_payload(const struct load_settings *settings)
{
    const struct load_options *options = &settings->options;

    if (options->mode == LOAD_HTTP)
        return 0;
    if (settings->url_host)
        return refuse("--payload: a URL is asked by http");
    if (options->path || options->headers)
        return refuse("--%s: only http has one", options->path ? "path" : "header");
    if (options->size > 0 && (options->size < LOAD_LINE_MIN || options->size > LOAD_LINE_MAX))
        return refuse("--size: a line has %d to %d bytes", LOAD_LINE_MIN, LOAD_LINE_MAX);
    return 0;
}

static int look_at_descriptors(const struct load_options *options)
{
    uint64_t needed = (uint64_t)options->connections + options->stalled + options->trickled +
                      options->threads + DESCRIPTORS_SPARE;
    uint64_t limit = descriptors_raise();

    if (needed > limit)
        return refuse("--connections: with all its clients it needs %llu descriptors, and may have "
                      "%llu", (unsigned long long)needed, (unsigned long long)limit);
    return 0;
}

static int complete_load_settings(struct load_settings *settings)
{
    struct load_options *options = &settings->options;
    int r = 0;

    if (options->address && strncmp(options->address, HTTP, sizeof(HTTP) - 1) == 0)
        r = read_url(settings, options->address);
    if (r == 0)
        r = look_at_address(settings);
    if (r < 0)
        return r;
    if (!settings->payload)
        set_payload(settings, settings->datagrams ? "line" : "http");
    r = look_at_datagrams(settings);
    if (r == 0)
        r = look_at_payload(settings);
    if (r == 0)
        r = look_at_headers(settings);
    if (r == 0)
        r = complete_host(settings);
    if (r == 0)
        r = look_at_descriptors(options);
    if (r == 0 && options->threads > options->connections)
        return refuse("--threads: more than there are connections");
    if (settings->duration_ms == 0)
        settings->duration_ms = options->requests > 0 ? LOAD_NO_END : DURATION_MS;
    options->client_closes = options->mode != LOAD_HTTP;
    return r;
}

int load_settings_read(struct load_settings *ret_settings, int argc, char **argv)
{
    int r;

    *ret_settings = (struct load_settings){
        .options = { .connections = CONNECTIONS, .threads = 1, .in_flight = 1 },
    };
    r = arguments_read(&arguments, ret_settings, argc, argv);
    if (r < 0 || ret_settings->help)
        return r;
    return complete_load_settings(ret_settings);
}

void load_settings_help(FILE *to)
{
    fputs("usage: weir load URI [OPTION...]\n"
          "\n"
          "Asks the server at tcp://HOST:PORT, unix:///PATH or unix:@NAME, or sends datagrams\n"
          "to udp://HOST:PORT, unixgram:///PATH or unixgram:@NAME; checks every answer, and\n"
          "prints how many there were and how long they took. http://HOST/PATH means\n"
          "tcp://HOST:80 --path /PATH --header 'Host: HOST'. SIGINT and SIGTERM end it at once:\n"
          "what is under way then does not count.\n"
          "The exit status is 0 if every answer was right, 1 if not, 2 for a mistake here.\n"
          "\n", to);
    arguments_help(&arguments, to);
    fputs("\n"
          "TIME is 500ms, 10s, 2m or a number of seconds; SIZE is 8192, 64K or 1M.\n", to);
}
