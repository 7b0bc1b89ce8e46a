"""The report as one page that needs nothing else: tables, plots beneath them, and how to repeat it."""

from xml.sax.saxutils import escape

from side_by_side import plots, text
from side_by_side.contention import CONTENTION, CONTENTION_TITLE
from side_by_side.figures import LATENCIES
from side_by_side.growth import GROWTHS
from side_by_side.neighbours import CROWDS, SLOW
from side_by_side.overload import OVERLOAD, OVERLOAD_TITLE
from side_by_side.servers import PEERS
from side_by_side.syscalls import TRAFFICS
from side_by_side.workloads import WORKLOADS

STYLE = """
:root { --page: #fcfcfb; --ink: #0b0b0b; --soft: #52514e; --rule: #e1e0d9; --mine: #eef4fc;
  --c0: #52514e; --c1: #2a78d6; --c2: #1baf7a; --c3: #c98500; --c4: #008300; --c5: #4a3aa7;
  --c6: #e34948; --c7: #d55181; --c8: #eb6834; }
@media (prefers-color-scheme: dark) {
  :root { --page: #1a1a19; --ink: #ffffff; --soft: #c3c2b7; --rule: #3a3a37; --mine: #1d2a3b;
    --c0: #c3c2b7; --c1: #3987e5; --c2: #199e70; --c3: #c98500; --c4: #3fa33f; --c5: #9085e9;
    --c6: #e66767; --c7: #d55181; --c8: #d95926; } }
:root { color-scheme: light dark; }
body { background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif;
  max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { margin-top: 3rem; } h3 { margin: 1.8rem 0 .3rem; font-size: 1rem; }
p, li { max-width: 46rem; } .note, figcaption { color: var(--soft); }
.warning { border-left: 4px solid var(--c6); padding-left: .8rem; }
code { font: 13px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .55rem; text-align: right; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child, .words td, .words th, td.failed { text-align: left; }
.words td, td.failed { white-space: normal; }
tr.mine { background: var(--mine); font-weight: 600; }
figure { margin: 1.2rem 0; } svg { width: 100%; max-width: 46rem; height: auto; display: block; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg text.axis, svg text.value { fill: var(--soft); }
.grid { stroke: var(--rule); } .spread { stroke: var(--ink); stroke-width: 1.5; }
.line { fill: none; stroke: var(--c); stroke-width: 2; } .line.c1 { stroke-width: 3.5; }
.line.c0 { stroke-dasharray: 5 4; } .leader { stroke: var(--c); opacity: .5; fill: none; }
.bar { fill: var(--c); } .reach { stroke: var(--c); stroke-width: 2; opacity: .45; }
.dot { fill: var(--c); stroke: var(--c); stroke-width: 2; }
.d0 { fill: var(--page); } .d1 { fill-opacity: .5; } svg text.name.c1 { font-weight: 700; }
"""
STYLE += "".join(f".c{i} {{ --c: var(--c{i}); }}\n" for i in range(9))

# the same colour in every plot; variants of one server share it, and stand beside it
KINDS = {"bare loop": "c0", "2 bare loops": "c0", "memcached": "c8", "nginx": "c2",
         "haproxy": "c3", "h2o": "c4", "apache2": "c5", "libmicrohttpd": "c6", "http.server": "c7",
         "libevent": "c2", "libuv": "c3", "socketserver": "c7"}


def kind_of(name):
    return KINDS.get(name.split(",")[0], "c1")


def cell(words, tag="td", **attributes):
    given = "".join(f' {key.rstrip("_")}="{value}"' for key, value in attributes.items())
    return f"<{tag}{given}>{escape(str(words))}</{tag}>"


def table(heads, lines, kind=""):
    """lines: (cells, class). The cell at the end of a line that is too short takes the rest."""
    body = []
    for cells, line_kind in lines:
        short = len(heads) - len(cells)
        rest = [cell(words) for words in cells]
        if short > 0:
            rest[-1] = cell(cells[-1], colspan=short + 1, class_="failed")
        body.append(f'<tr class="{line_kind}">{"".join(rest)}</tr>')
    head = "".join(cell(words, "th") for words in heads)
    return (f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(body)}</tbody></table></div>")


def figure(caption, drawing):
    return f"<figure><figcaption>{escape(caption)}</figcaption>{drawing}</figure>"


def line_kind(name):
    return "mine" if name.startswith("weir") else ""


# ---------------------------------------------------------------------- a workload

def workload_tables(workload, rows):
    parts = []
    for connections in sorted({row["connections"] for row in rows}):
        some = [row for row in rows if row["connections"] == connections]
        lines = [(text.cells_of(row) + ([f"no figure: {row['failed']}"] if "failed" in row else []),
                  line_kind(row["peer"])) for row in some]
        parts += [f"<h3>{escape(workload.counted(connections))}</h3>", table(text.COLUMNS, lines)]
    return parts


def throughput(workload, rows):
    names = list(dict.fromkeys(row["peer"] for row in rows))
    counts = {row["connections"] for row in rows}
    caption = f"Requests per second against {workload.asks}"
    if len(counts) > 1:
        series = [(name, kind_of(name),
                   sorted((row["connections"], row["rps"]["median"])
                          for row in rows if row["peer"] == name)) for name in names]
        return figure(caption, plots.lines(caption, workload.asks, series))
    caption = f"Requests per second, {workload.counted(counts.pop())}; least to greatest as a line"
    return figure(caption, plots.bars(caption, "requests/s", [
        (row["peer"], kind_of(row["peer"]), *(row["rps"][key] for key in
                                              ("median", "least", "greatest"))) for row in rows]))


def ratio(workload, rows, counted):
    yardstick = workload.yardstick or "the bare loop"
    caption = (f"CPU time per request as a multiple of {yardstick}'s, {counted}; least to "
               "greatest as a line")
    return figure(caption, plots.bars(caption, f"times {yardstick}", [
        (row["peer"], kind_of(row["peer"]), *(row["ratio"][key] for key in
                                              ("median", "least", "greatest"))) for row in rows]))


def latencies(rows, counted):
    caption = f"Latency, {counted}: p50 (ring), p99 (half filled), p99.9 (filled, in figures)"
    return figure(caption, plots.dots(caption, "microseconds", [
        (row["peer"], kind_of(row["peer"]), [row[key]["median"] for key in LATENCIES]) for row in rows]))


def middle(counts):
    counts = sorted(counts)
    return counts[len(counts) // 2]


def workload_section(report, workload):
    rows = [row for row in report["rows"] if row["workload"] == workload.name]
    if not rows:
        return []
    parts = [f"<h2>{escape(workload.title)}</h2>"]
    if workload.yardstick:
        parts.append(f"<p>The ratio is to <b>{escape(workload.yardstick)}</b>.</p>")
    parts += workload_tables(workload, rows)
    fine = [row for row in rows if "failed" not in row]
    if fine:
        chosen = middle({row["connections"] for row in fine})
        at = [row for row in fine if row["connections"] == chosen]
        with_ratio = [row for row in at if "ratio" in row]
        parts.append(throughput(workload, fine))
        if with_ratio:
            parts.append(ratio(workload, with_ratio, workload.counted(chosen)))
        timed = [row for row in at if all(figure in row for figure in LATENCIES)]
        if timed:
            parts.append(latencies(timed, workload.counted(chosen)))
    counts = " ".join(map(str, sorted({row["connections"] for row in rows})))
    parts += [repeat(report, f"--rows {workload.name} --connections {counts}"),
              commands(rows)]
    return parts


def repeat(report, what):
    return (f'<p class="note">Made by <code>tools/bench {escape(what)} --rounds '
            f'{report["rounds"]} --seconds {report["seconds"]:g}</code></p>')


def commands(rows):
    seen = {row["peer"]: row["server"] for row in rows if row["server"]}
    lines = [([name, command], "") for name, command in seen.items()]
    lines += [(["the load", row["generator"]], "") for row in rows[-1:]]
    return ("<details><summary>The servers' and the generator's commands</summary>"
            + table(["", "command"], lines, "words") + "</details>")


# ---------------------------------------------------------------------- memory

def memory_section(report):
    rows = report["memory"]
    if not rows:
        return []
    count = rows[0]["connections"]
    heads = ["server", "protocol", "bytes per connection", "KiB without any"]
    lines = [([row["peer"], row["job"], f"no figure: {row['failed']}"] if "failed" in row else
              [row["peer"], row["job"], f"{row['bytes_per_connection']:,.0f}",
               f"{row['before_bytes'] / 1024:,.0f}"], line_kind(row["peer"])) for row in rows]
    parts = [f"<h2>Memory of {count:,} idle connections</h2>",
             "<p>Each has had one request answered and stays open. Counted is what the server's "
             "processes have to themselves, anonymous and shared memory (Pss_Anon and Pss_Shmem in "
             "smaps_rollup), beyond what they had before; what a server has set aside at its start "
             "stands in the last column. The kernel's memory for sockets is in no figure.</p>",
             table(heads, lines)]
    drawn = [row for row in rows if row.get("bytes_per_connection", 0) > 0]
    if drawn:
        caption = "Bytes per idle connection, on a logarithmic scale"
        several = {row["peer"] for row in drawn
                   if sum(other["peer"] == row["peer"] for other in drawn) > 1}
        parts.append(figure(caption, plots.dots(caption, "bytes", [
            (f"{row['peer']}, {row['job']}" if row["peer"] in several else row["peer"],
             kind_of(row["peer"]), [row["bytes_per_connection"]]) for row in drawn])))
    parts.append(repeat(report, f"--rows memory --idle {count}"))
    return parts


# ---------------------------------------------------------------------- growth

AXES = {"": "", "x": ", on a logarithmic axis", "xy": ", both on logarithmic axes"}


def growth_plot(curve, what, logarithmic, points):
    """points: (server, number, value and maybe its least and greatest)."""
    series = []
    for name in dict.fromkeys(point[0] for point in points):
        some = [point[1:] for point in points if point[0] == name]
        if len(some) > 1:
            series.append((name, kind_of(name), some))
    if not series:
        return ""
    caption = f"{what}, against {curve.unit}{AXES[logarithmic]}"
    return figure(caption, plots.lines(caption, curve.unit, series, logarithmic))


def curve_section(curve, rows):
    fine = [row for row in rows if "failed" not in row]
    cost = [(row["peer"], row["at"], *(row["cpu_us"][key] for key in
                                       ("median", "least", "greatest"))) for row in fine]
    memory = [(row["peer"], row["at"], row["bytes_per_idle"]) for row in fine
              if "bytes_per_idle" in row]
    heads, lines = text.growth_table_of(curve, rows)
    return [
        f"<h3>{escape(curve.title)}</h3>", f"<p>{escape(curve.theory)}</p>",
        growth_plot(curve, "CPU microseconds per request, least to greatest as a line",
                    curve.logarithmic, cost),
        growth_plot(curve, "Bytes per idle connection", "x", memory),
        table(heads, [(cells, line_kind(row["peer"])) for cells, row in zip(lines, rows)]),
        commands(rows),
    ]


def growth_section(report, growth):
    rows = [row for row in report.get("growth", []) if row["growth"] == growth.name]
    if not rows:
        return []
    parts = [f"<h2>{escape(growth.title)}</h2>"]
    for curve in growth.curves:
        some = [row for row in rows if row["curve"] == curve.name]
        if some:
            parts += curve_section(curve, some)
    return parts + [repeat(report, f"--rows {growth.name}")]


# ---------------------------------------------------------------------- neighbours

SLOW_WORDS = (
    "1% of the requests take 10 ms of CPU time, as computing would; the latencies are those of the "
    "others, counted from when each was due. Requests arrive at constant intervals, from two "
    "processes and over connections of their own, at 30% of what two threads can do at most. Each "
    "server has two threads. Servers and load share all CPUs, and nothing is bound to one.")
CROWD_WORDS = (
    "{what} Two servers of each kind are up, one with them and one without, and 64 other clients "
    "ask both in turn, in a closed loop: <b>kept</b> is the throughput with them as a share of the "
    "one without, round by round. Memory is the server's own for each of them.")
CROWD_KINDS = {True: "Each has sent half a request and stays silent.",
               False: "Each has had an answer and stays silent; at the end each asks once more."}


def spread_bars(caption, unit, rows, key):
    drawn = [row for row in rows if "failed" not in row and row.get(key)]
    if not drawn:
        return ""
    return figure(caption, plots.bars(caption, unit, [
        (row["peer"], kind_of(row["peer"]),
         *(row[key][of] for of in ("median", "least", "greatest"))) for row in drawn]))


def neighbours_section(report, name):
    rows = [row for row in report.get("neighbours", []) if row["neighbours"] == name]
    if not rows:
        return []
    heads, lines = text.neighbours_cells(rows)
    parts = [f"<h2>{escape(text.neighbours_title(rows))}</h2>"]
    if name == SLOW:
        parts.append(f"<p>{SLOW_WORDS}</p>")
        drawing = spread_bars("p99 of the fast requests; least to greatest as a line",
                              "microseconds", rows, "p99_us")
        how = ""
    else:
        parts.append(f"<p>{CROWD_WORDS.format(what=CROWD_KINDS[CROWDS[name].stalled])}</p>")
        drawing = spread_bars("Throughput kept; least to greatest as a line",
                              "of the throughput without them", rows, "kept")
        how = f" --crowd {rows[0]['size']}"
    return parts + [
        table(heads, [(cells, line_kind(cells[0])) for cells in lines]), drawing,
        repeat(report, f"--rows {name}{how}"), commands(rows)]


# ---------------------------------------------------------------------- system calls

SYSCALL_WORDS = (
    "Of all threads and processes of a server, counted by strace while the load ran. Strace stops "
    "the server at each call: it is many times slower, more requests are waiting whenever it looks, "
    "and what it asks once for all of them (epoll_wait, say) is shared by more of them than without "
    "strace. What it asks for each request stays what it is.")


def syscalls_section(report):
    rows = report.get("syscalls", [])
    if not rows:
        return []
    parts = ["<h2>System calls per request</h2>", f"<p>{SYSCALL_WORDS}</p>"]
    for traffic in TRAFFICS.values():
        some = [row for row in rows if row["traffic"] == traffic.name]
        if some:
            parts += [f"<h3>{escape(traffic.title)}</h3>",
                      table(text.SYSCALL_COLUMNS, [
                          (text.syscalls_cells_of(row), line_kind(row["peer"])) for row in some],
                          "words"),
                      commands(some)]
    return parts + [repeat(report, "--rows syscalls")]


# ---------------------------------------------------------------------- too many, too busy

OVERLOAD_WORDS = (
    "Each request takes 10 ms of CPU time (nginx packs a file with gzip, which takes it about as "
    "long), on a connection of its own. So many clients come a second, whatever becomes of those before, and "
    "each leaves after a second. What a server can serve is measured before, by two clients in a "
    "closed loop; its peak is the best of the rows. weir turns clients away that have waited for "
    "200 ms, as <code>weir serve</code> does; <b>the next one</b> comes at the end of the storm.")
CONTENTION_WORDS = (
    "Programs compute on the servers' CPU without a pause, and requests come at a constant rate, "
    " over 64 connections, from the other CPU. Latencies count from when a request was due. "
    "The ratio is that of p99.9 to the bare loop's of the same round.")


def overload_plot(caption, rows, key, scale=1):
    names = dict.fromkeys(row["peer"] for row in rows)
    series = [(name, kind_of(name), [(row["times"], row[key]["median"] * scale)
                                     for row in rows if row["peer"] == name]) for name in names]
    return figure(caption, plots.lines(caption, "clients, of those that it can serve", series))


def overload_section(report):
    rows = report.get("overload", [])
    if not rows:
        return []
    fine = [row for row in rows if "failed" not in row]
    parts = [f"<h2>{escape(OVERLOAD_TITLE)}</h2>", f"<p>{OVERLOAD_WORDS}</p>",
             table(text.OVERLOAD_COLUMNS, [(text.overload_cells_of(row), line_kind(row["peer"]))
                                           for row in rows])]
    if fine:
        parts += [
            overload_plot("Served in time, of the server's own peak", fine, "of_peak"),
            overload_plot("Seconds until the next one is served, behind the storm", fine, "next_s"),
            overload_plot("p99 of what is served, in ms", fine, "p99_ms"),
            overload_plot("The server's memory at its greatest, MiB", fine, "greatest_bytes",
                          1 / (1 << 20)),
        ]
    return parts + [repeat(report, f"--rows {OVERLOAD}"), commands(rows)]


def contention_section(report):
    rows = report.get("contention", [])
    parts = []
    for busy, name in dict.fromkeys((row["busy"], row["traffic"]) for row in rows):
        some = [row for row in rows if (row["busy"], row["traffic"]) == (busy, name)]
        timed = [row for row in some if "failed" not in row]
        parts += [f"<h3>{escape(text.contention_title(some))}</h3>",
                  table(text.CONTENTION_COLUMNS, [
                      (text.contention_cells_of(row), line_kind(row["peer"])) for row in some]),
                  *([latencies(timed, "beside them")] if timed else []), commands(some)]
    if not parts:
        return []
    return [f"<h2>{escape(CONTENTION_TITLE)}</h2>", f"<p>{escape(CONTENTION_WORDS)}</p>", *parts,
            repeat(report, f"--rows {CONTENTION}")]


# ---------------------------------------------------------------------- the whole

def head(report):
    machine = report["machine"]
    versions = [f"{peer.name} {report['versions'][peer.name]}" for peer in PEERS
                if peer.name in report["versions"]]
    parts = [
        "<h1>weir beside its peers</h1>",
        "<p>Every server is loaded in turn, round after round, on one CPU, by the same generator "
        "on another. <b>Read the ratio first</b>: CPU time per request, kernel included, as a "
        "multiple of what a bare epoll loop took in the same round; the median over the rounds, "
        "and its least and greatest. Requests per second are often the generator's limit. "
        "Latencies are those of a closed loop at the server's limit. Memory is the server's own "
        "with all connections open and idle.</p>",
        f"<p>{escape(machine['model'])}, {machine['cpus']} CPUs, Linux {escape(machine['kernel'])}, "
        f"{escape(machine['system'])}. Servers on CPU {machine['server_cpu']}, load from CPU "
        f"{machine['client_cpu']}. {report['rounds']} rounds of {report['seconds']:g} s (with wrk "
        f"whole seconds). Begun {escape(report['began'])}, took {report['took_seconds']:.0f} s; "
        f"load average {machine['load_average']:.1f} at the start, others used "
        f"{machine['others']:.1%} of the CPU time meanwhile, {machine['stolen']:.1%} was stolen."
        "</p>",
        f"<p class=\"note\">{escape(', '.join(versions))}. Made by "
        f"<code>{escape(report['command'])}</code></p>",
    ]
    parts += [f'<p class="warning">{escape(warning)}</p>' for warning in report["warnings"]]
    if report["missing"]:
        parts.append("<p>Left out: " + escape("; ".join(
            f"{entry.get('peer') or entry['workload']}: {entry['reason']}"
            for entry in report["missing"])) + ".</p>")
    return parts


def page(report):
    parts = head(report)
    for workload in WORKLOADS.values():
        parts += workload_section(report, workload)
    parts += memory_section(report)
    for growth in GROWTHS.values():
        parts += growth_section(report, growth)
    for name in (SLOW, *CROWDS):
        parts += neighbours_section(report, name)
    parts += syscalls_section(report) + overload_section(report) + contention_section(report)
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
            '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
            f"<title>weir beside its peers</title><style>{STYLE}</style></head>\n<body>"
            + "\n".join(parts) + "</body></html>\n")
