/*
 * load_report.c - see load_report.h.
 */
#include "tools/command/load_report.h"

#include <inttypes.h>
#include <string.h>

static const struct {
    const char *name;           /* in the table */
    const char *key;            /* in JSON */
    double share;
} percentiles[] = {
    { "p50", "p50", 0.50 }, { "p90", "p90", 0.90 }, { "p99", "p99", 0.99 },
    { "p99.9", "p99_9", 0.999 }, { "p99.99", "p99_99", 0.9999 },
};

enum { PERCENTILES = sizeof(percentiles) / sizeof(percentiles[0]) };

static double seconds(const struct load_result *result)
{
    return (double)result->elapsed_ns / 1e9;
}

static double per_second(const struct load_result *result, uint64_t number)
{
    return result->elapsed_ns > 0 ? (double)number / seconds(result) : 0;
}

/* ------------------------------------------------------------------ table ------------- */

/* Three digits that count, and a unit. */
static const char *time_text(uint64_t ns, char *buf, size_t size)
{
    static const char *const units[] = { "ns", "us", "ms", "s" };
    double value = (double)ns;
    size_t unit = 0;

    while (value >= 999.5 && unit < 3) {
        value /= 1000;
        unit++;
    }
    snprintf(buf, size, "%.*f%s", unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2, value,
             units[unit]);
    return buf;
}

static void print_time(FILE *to, uint64_t ns)
{
    char text[32];

    fprintf(to, " %8s", time_text(ns, text, sizeof(text)));
}

static void print_distribution(FILE *to, const char *name, const struct histogram *of)
{
    fprintf(to, "%-12s", name);
    print_time(to, of->min);
    for (size_t i = 0; i < PERCENTILES; i++)
        print_time(to, histogram_percentile(of, percentiles[i].share));
    print_time(to, of->max);
    print_time(to, (uint64_t)histogram_mean(of));
    fputc('\n', to);
}

static void print_distributions(FILE *to, const struct load_result *result)
{
    fprintf(to, "\n%-12s %8s", "", "min");
    for (size_t i = 0; i < PERCENTILES; i++)
        fprintf(to, " %8s", percentiles[i].name);
    fprintf(to, " %8s %8s\n", "max", "mean");
    print_distribution(to, "latency", &result->latency);
    if (result->connect.count > 0)
        print_distribution(to, "connecting", &result->connect);
}

static void print_count(FILE *to, const char *name, uint64_t count)
{
    fprintf(to, "%-12s %14" PRIu64, name, count);
}

static void print_bytes(FILE *to, const char *name, const struct load_result *result,
                        uint64_t bytes)
{
    print_count(to, name, bytes);
    fprintf(to, " bytes %15.0f/s\n", per_second(result, bytes));
}

static void print_errors(FILE *to, const struct load_result *result)
{
    print_count(to, "errors", result->errors);
    fputc('\n', to);
    for (size_t i = 0; i < LOAD_ERRORS; i++)
        if (result->errors_by[i] > 0)
            fprintf(to, "%-12s %14" PRIu64 " %s\n", "", result->errors_by[i],
                    load_error_name((enum load_error)i));
}

/* What only some loads have. */
static void print_others(FILE *to, const struct load_report *report)
{
    const struct load_options *options = &report->settings->options;
    const struct load_result *result = report->result;

    if (report->settings->datagrams) {
        print_count(to, "lost", result->lost);
        fputs(" sent again\n", to);
    }
    if (result->connect.count > 0) {
        print_count(to, "connections", result->connect.count);
        fputs(" opened", to);
        if (result->reopened > 0)
            fprintf(to, ", %" PRIu64 " closed by the server with notice", result->reopened);
        fputc('\n', to);
    }
    if (options->stalled > 0 || options->trickled > 0) {
        print_count(to, "hung up", result->hung_up);
        fprintf(to, " of %" PRIu32 " stalled and %" PRIu32 " trickling clients; %" PRIu64
                " of their requests answered\n", options->stalled, options->trickled,
                result->trickled);
    }
}

void load_report_table(const struct load_report *report, FILE *to)
{
    const struct load_settings *settings = report->settings;
    const struct load_options *options = &settings->options;
    const struct load_result *result = report->result;

    fprintf(to, "%s: %s, %" PRIu32 " %s, %" PRIu32 " under way on each, ", options->address,
            settings->payload, options->connections,
            settings->datagrams ? "sockets" : "connections", options->in_flight);
    if (options->rate > 0)
        fprintf(to, "%" PRIu32 "/s due", options->rate);
    else
        fputs("closed loop", to);
    fprintf(to, ", %.2f s%s\n\n", seconds(result), report->interrupted ? ", interrupted" : "");

    print_count(to, "requests", result->requests);
    fprintf(to, " %21.0f/s\n", per_second(result, result->requests));
    print_errors(to, result);
    print_bytes(to, "received", result, result->bytes_in);
    print_bytes(to, "sent", result, result->bytes_out);
    print_others(to, report);
    print_distributions(to, result);
}

/* ------------------------------------------------------------------ JSON -------------- */

/*
 * How many bytes the character at text has: 0 if they are no UTF-8. By RFC 3629: no longer than it
 * has to be, no half of a surrogate pair, and nothing beyond U+10FFFF.
 */
static int utf8_len(const char *text)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    unsigned char first = (unsigned char)*text;
    int len = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    uint32_t character = len == 1 ? first : first & (0x7fu >> len);

    if (first >= 0xf8 || (first >= 0x80 && first < 0xc0))
        return 0;
    for (int i = 1; i < len; i++) {
        if (((unsigned char)text[i] & 0xc0) != 0x80)
            return 0;
        character = character << 6 | ((unsigned char)text[i] & 0x3f);
    }
    return character < least[len] || character > 0x10ffff ||
           (character >= 0xd800 && character < 0xe000) ? 0 : len;
}

/* JSON is UTF-8 (RFC 8259): what an address has of other bytes becomes a replacement character. */
static void json_string(FILE *to, const char *text)
{
    fputc('"', to);
    while (*text) {
        int len = utf8_len(text);

        if (len == 0)
            fputs("\\ufffd", to);
        else if (*text == '"' || *text == '\\')
            fprintf(to, "\\%c", *text);
        else if ((unsigned char)*text < ' ')
            fprintf(to, "\\u%04x", (unsigned)*text);
        else
            fwrite(text, 1, (size_t)len, to);
        text += len > 0 ? len : 1;
    }
    fputc('"', to);
}

static void json_count(FILE *to, const char *key, uint64_t count)
{
    fprintf(to, "  \"%s\": %" PRIu64 ",\n", key, count);
}

static void json_distribution(FILE *to, const char *key, const struct histogram *of)
{
    const char *before = "";

    fprintf(to, "  \"%s\": {\"count\": %" PRIu64 ", \"min\": %" PRIu64 ", \"mean\": %.0f", key,
            of->count, of->min, histogram_mean(of));
    for (size_t i = 0; i < PERCENTILES; i++)
        fprintf(to, ", \"%s\": %" PRIu64, percentiles[i].key,
                histogram_percentile(of, percentiles[i].share));
    fprintf(to, ", \"max\": %" PRIu64 ",\n    \"buckets\": [", of->max);
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (of->buckets[i] == 0)
            continue;
        fprintf(to, "%s[%" PRIu64 ", %" PRIu64 ", %" PRIu64 "]", before, histogram_bucket_low(i),
                histogram_bucket_high(i), of->buckets[i]);
        before = ", ";
    }
    fputs("]}", to);
}

static void json_settings(FILE *to, const struct load_settings *settings)
{
    const struct load_options *options = &settings->options;

    fputs("  \"address\": ", to);
    json_string(to, options->address);
    fputs(",\n  \"payload\": ", to);
    json_string(to, settings->payload);
    fputs(",\n", to);
    json_count(to, "connections", options->connections);
    json_count(to, "pipeline", options->in_flight);
    json_count(to, "rate", options->rate);
    json_count(to, "threads", options->threads);
    json_count(to, "stalled", options->stalled);
    json_count(to, "trickle", options->trickled);
    fprintf(to, "  \"close\": %s,\n", options->per_connection > 0 ? "true" : "false");
}

static void json_errors(FILE *to, const struct load_result *result)
{
    const char *before = "";

    json_count(to, "errors", result->errors);
    fputs("  \"errors_by_kind\": {", to);
    for (size_t i = 0; i < LOAD_ERRORS; i++) {
        if (result->errors_by[i] == 0)
            continue;
        fprintf(to, "%s\"%s\": %" PRIu64, before, load_error_name((enum load_error)i),
                result->errors_by[i]);
        before = ", ";
    }
    fputs("},\n", to);
}

void load_report_json(const struct load_report *report, FILE *to)
{
    const struct load_result *result = report->result;

    fputs("{\n", to);
    json_settings(to, report->settings);
    fprintf(to, "  \"interrupted\": %s,\n", report->interrupted ? "true" : "false");
    fprintf(to, "  \"elapsed_s\": %.6f,\n", seconds(result));
    fprintf(to, "  \"generator_cpu_s\": %.6f,\n", (double)result->busy_ns / 1e9);
    json_count(to, "requests", result->requests);
    fprintf(to, "  \"requests_per_s\": %.1f,\n", per_second(result, result->requests));
    json_errors(to, result);
    json_count(to, "bytes_received", result->bytes_in);
    json_count(to, "bytes_sent", result->bytes_out);
    json_count(to, "lost", result->lost);
    json_count(to, "reopened", result->reopened);
    json_count(to, "hung_up", result->hung_up);
    json_count(to, "trickled", result->trickled);
    json_distribution(to, "latency_ns", &result->latency);
    fputs(",\n", to);
    json_distribution(to, "connect_ns", &result->connect);
    fputs("\n}\n", to);
}
