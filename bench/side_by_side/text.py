"""The report as tables for a terminal, which are Markdown, too."""

from side_by_side.contention import CONTENTION_TITLE, TRAFFICS as CONTENDED
from side_by_side.figures import LATENCIES
from side_by_side.neighbours import CROWDS, SLOW, SLOW_TITLE
from side_by_side.overload import OVERLOAD_TITLE
from side_by_side.syscalls import TRAFFICS

COLUMNS = ("server", "requests/s", "CPU us/request", "ratio", "least - greatest", "p50 us",
           "p99 us", "p99.9 us", "memory KiB", "errors")


def cells_of(row):
    """The cells of one server's row, as they stand in the terminal and on the page."""
    if "failed" in row:
        return [row["peer"]]
    ratio = row.get("ratio")
    return [
        row["peer"],
        f"{row['rps']['median']:,.0f}",
        f"{row['cpu_us']['median']:.2f}",
        f"{ratio['median']:.2f}" if ratio else "",
        f"{ratio['least']:.2f} - {ratio['greatest']:.2f}" if ratio else "",
        *(f"{row[figure]['median']:,.0f}" if figure in row else "" for figure in LATENCIES),
        f"{row['memory_bytes'] / 1024:,.0f}",
        f"{row['lost'] + row['closed']:,}",
    ]


def growth_table_of(curve, rows):
    """Heads and lines. A line that has no figures is short, its last cell the reason."""
    heads = ["server", curve.unit.split()[0], "requests/s", "CPU us/request",
             f"of that at {curve.reference}", "ratio", "least - greatest", "p99 us", "memory KiB"]
    idle = any("bytes_per_idle" in row for row in rows)
    return heads + ["bytes/idle"] * idle, [growth_cells_of(row, idle) for row in rows]


def growth_cells_of(row, idle):
    if "failed" in row:
        return [row["peer"], f"{row['at']:,}", f"no figure: {row['failed']}"]
    ratio, grown = row.get("ratio"), row.get("grown")
    cells = [
        row["peer"],
        f"{row['at']:,}",
        f"{row['rps']['median']:,.0f}",
        f"{row['cpu_us']['median']:.{2 if row['cpu_us']['median'] >= 1 else 3}f}",
        f"{grown['median']:.2f}" if grown else "",
        f"{ratio['median']:.2f}" if ratio else "",
        f"{ratio['least']:.2f} - {ratio['greatest']:.2f}" if ratio else "",
        f"{row['p99_us']['median']:,.0f}",
        f"{row['memory_bytes'] / 1024:,.0f}",
    ]
    if idle:
        cells.append(f"{row['bytes_per_idle']:,.0f}" if "bytes_per_idle" in row else "")
    return cells


SLOW_COLUMNS = ("server", "requests/s", "CPUs used", "p50 us", "p90 us", "p99 us", "p99.9 us",
                "p99 ratio", "least - greatest", "slow p50 us")
CROWD_COLUMNS = ("server", "requests/s without", "with", "kept", "least - greatest",
                 "CPU us without", "with", "bytes each")


def spread_cells(spread):
    return [f"{spread['median']:.2f}", f"{spread['least']:.2f} - {spread['greatest']:.2f}"] \
        if spread else ["", ""]


def slow_cells_of(row):
    if "failed" in row:
        return [row["peer"], f"no figure: {row['failed']}"]
    return [
        row["peer"],
        f"{row['rps']['median']:,.0f}",
        f"{row['cpu_share']['median']:.2f}",
        *(f"{row[key]['median']:,.0f}" for key in ("p50_us", "p90_us", "p99_us", "p999_us")),
        *spread_cells(row.get("ratio")),
        f"{row['slow_p50_us']['median']:,.0f}",
    ]


def crowd_cells_of(row, shared):
    if "failed" in row:
        return [row["peer"], f"no figure: {row['failed']}"]
    cells = [
        row["peer"],
        *(f"{row[side]['rps']['median']:,.0f}" for side in ("without", "with")),
        *spread_cells(row["kept"]),
        *(f"{row[side]['cpu_us']['median']:.2f}" for side in ("without", "with")),
        f"{row['bytes_each']:,.0f}",
    ]
    if shared:
        cells.append(f"{min(row['held']):,} - {max(row['held']):,}")
    return cells


def neighbours_title(rows):
    row = rows[0]
    if row["neighbours"] == SLOW:
        return f"{SLOW_TITLE}, {row['rate']:,.0f} requests/s"
    return f"{CROWDS[row['neighbours']].title}, {row['size']:,}"


def neighbours_cells(rows):
    """The heads, and the lines."""
    if rows[0]["neighbours"] == SLOW:
        return SLOW_COLUMNS, [slow_cells_of(row) for row in rows]
    shared = any(len(row.get("held", [])) > 1 for row in rows)
    heads = [*CROWD_COLUMNS, *(["descriptors of each process"] if shared else [])]
    return heads, [crowd_cells_of(row, shared) for row in rows]


def neighbours_table(rows):
    heads, lines = neighbours_cells(rows)
    return f"\n## {neighbours_title(rows)}\n\n{aligned(list(heads), lines)}"


def aligned(heads, lines, words=False):
    """A line that is shorter than the heads ends in a remark, which needs no column.

    words: the last column has some, which needn't be padded.
    """
    full = [line for line in lines if len(line) == len(heads)]
    widths = [max(len(line[i]) for line in [heads, *full]) for i in range(len(heads))]
    widths[0] = max(len(line[0]) for line in [heads, *lines])
    if words:
        widths[-1] = len(heads[-1])

    def one(line):
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(widths[i]) if len(line) == len(heads) else cell
                  for i, cell in enumerate(line[1:], 1)]
        return f"| {' | '.join(cells)} |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([one(heads), rule, *map(one, lines)])


def rows_table(workload, rows):
    lines = [cells_of(row) + ([f"no figure: {row['failed']}"] if "failed" in row else [])
             for row in rows]
    ratio = f"Ratio to: {workload.yardstick}\n\n" if workload.yardstick else ""
    return (f"\n## {workload.title}, {workload.counted(rows[0]['connections'])}\n\n{ratio}"
            + aligned(list(COLUMNS), lines))


def growth_table(growth, curve, rows):
    heads, lines = growth_table_of(curve, rows)
    return f"\n## {growth.title}: {curve.title}\n\n" + aligned(heads, lines)


def memory_table(rows):
    lines = [[row["peer"], row["job"], f"no figure: {row['failed']}"] if "failed" in row else
             [row["peer"], row["job"], f"{row['bytes_per_connection']:,.0f}",
              f"{row['before_bytes'] / 1024:,.0f}"] for row in rows]
    return (f"\n## Memory, {rows[0]['connections']:,} idle connections\n\n"
            + aligned(["server", "protocol", "bytes/connection", "KiB without any"], lines))


SYSCALL_COLUMNS = ("server", "calls/request", "which")
FEW = 0.005     # of a call per request: named together


def syscalls_cells_of(row):
    if "failed" in row:
        return [row["peer"], f"no figure: {row['failed']}"]
    each = {name: count / row["requests"] for name, count in row["calls"].items()}
    named = sorted(((share, name) for name, share in each.items() if share >= FEW), reverse=True)
    words = [f"{name} {share:.2f}" for share, name in named]
    others = sum(share for share in each.values() if share < FEW)
    if others >= FEW:
        words.append(f"others {others:.2f}")
    return [row["peer"], f"{sum(each.values()):.2f}", ", ".join(words)]


def syscalls_table(rows):
    title = TRAFFICS[rows[0]["traffic"]].title
    return (f"\n## System calls: {title}\n\n"
            + aligned(list(SYSCALL_COLUMNS), [syscalls_cells_of(row) for row in rows], words=True))


OVERLOAD_COLUMNS = ("server", "offered, of what it can serve", "offered/s", "served/s",
                    "of its peak", "least - greatest", "refused/s", "p50 ms", "p99 ms",
                    "the next one s", "memory KiB before", "greatest")


def overload_cells_of(row):
    if "failed" in row:
        return [row["peer"], f"no figure: {row['failed']}"]
    return [
        row["peer"],
        f"{row['times']:g}",
        *(f"{row[key]['median']:,.0f}" for key in ("offered", "served")),
        *spread_cells(row["of_peak"]),
        *(f"{row[key]['median']:,.0f}" for key in ("refused", "p50_ms", "p99_ms")),
        f"{row['next_s']['median']:.2f}",
        *(f"{row[key]['median'] / 1024:,.0f}" for key in ("before_bytes", "greatest_bytes")),
    ]


def overload_table(rows):
    return f"\n## {OVERLOAD_TITLE}\n\n" + aligned(list(OVERLOAD_COLUMNS),
                                                  [overload_cells_of(row) for row in rows])


CONTENTION_COLUMNS = ("server", "p50 us", "p99 us", "p99.9 us", "least - greatest",
                      "p99.9 ratio", "least - greatest")


def contention_cells_of(row):
    if "failed" in row:
        return [row["peer"], f"no figure: {row['failed']}"]
    worst = row["p999_us"]
    return [
        row["peer"],
        *(f"{row[key]['median']:,.0f}" for key in LATENCIES),
        f"{worst['least']:,.0f} - {worst['greatest']:,.0f}",
        *spread_cells(row.get("ratio")),
    ]


def contention_title(rows):
    traffic = next(one for one in CONTENDED if one.name == rows[0]["traffic"])
    return (f"{CONTENTION_TITLE}, {rows[0]['busy']} of them: {traffic.title}, "
            f"{traffic.rate:,} requests/s")


def contention_table(rows):
    return f"\n## {contention_title(rows)}\n\n" + aligned(
        list(CONTENTION_COLUMNS), [contention_cells_of(row) for row in rows])
