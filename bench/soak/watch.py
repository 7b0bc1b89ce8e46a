"""What a server holds while it runs, from /proc, and whether that grows."""

import dataclasses
import os
import pathlib
import re

from side_by_side import machine, plots

POINTS = 240            # of a line in the plot
SETTLED = 0.1           # of the time: what a server is allowed to grow into
JUDGED_S = 60           # a shorter time tells nothing about growth
GROWTH = 1.05           # of the last quarter's median over the first's, beyond
GRACE_BYTES = 256 << 10
LOG_WRITER = 1          # a thread that starts when there is something to tell


@dataclasses.dataclass(frozen=True)
class Sample:
    at_s: float
    rss_bytes: int
    descriptors: int
    threads: int
    cpu_s: float
    checked: int            # answers so far, of all clients


def _of_process(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    rss, threads = (int(re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE).group(1))
                    for name in ("VmRSS", "Threads"))
    return rss * 1024, len(os.listdir(f"/proc/{pid}/fd")), threads


def sample(pid, at_s, checked):
    """Of a process and its children together."""
    sums = [sum(numbers) for numbers in zip(*map(_of_process, machine.tree(pid)))]
    return Sample(at_s, *sums, machine.cpu_seconds(pid), checked)


def median(numbers):
    numbers = sorted(numbers)
    return numbers[len(numbers) // 2]


def quarters(samples, what):
    """The medians of the first and the last quarter, once it has settled."""
    values = [getattr(one, what) for one in samples[int(len(samples) * SETTLED):]]
    quarter = max(1, len(values) // 4)
    return median(values[:quarter]), median(values[-quarter:])


def growths(samples):
    """What has grown, as sentences."""
    if samples[-1].at_s < JUDGED_S:
        return
    first, last = quarters(samples, "rss_bytes")
    if last > first * GROWTH + GRACE_BYTES:
        yield f"memory grew from {first >> 10} to {last >> 10} KiB"
    first, last = quarters(samples, "threads")
    if last > first + LOG_WRITER:
        yield f"{first} threads became {last}"


# ---------------------------------------------------------------------- the plot

STYLE = """
svg { background: #fcfcfb; font: 12px system-ui, sans-serif; } text { fill: #0b0b0b; }
text.axis { fill: #52514e; } .grid { stroke: #e1e0d9; } .trace { fill: none; stroke-width: 1.5; }
.c1 { stroke: #2a78d6; } .c3 { stroke: #c98500; } text.c1, text.c3 { stroke: none; }
"""


def thinned(points):
    """At most POINTS of them: of each stretch the greatest, so that no peak gets lost."""
    stretch = -(-len(points) // POINTS)
    return [max(points[i:i + stretch], key=lambda point: point[1])
            for i in range(0, len(points), stretch)]


def rates(samples):
    """Answers per second between two samples each."""
    return [(two.at_s, (two.checked - one.checked) / max(1e-3, two.at_s - one.at_s))
            for one, two in zip(samples, samples[1:])]


def draw(path, traces):
    """traces: {server's name: [Sample, ...]}. One file that needs no other."""
    kinds = dict(zip(traces, ("c1", "c3")))
    panels = []
    for title, points in (
            ("memory, MiB", lambda one: (one.at_s, one.rss_bytes / 2**20)),
            ("descriptors", lambda one: (one.at_s, one.descriptors)),
            ("threads", lambda one: (one.at_s, one.threads))):
        panels.append((title, [(name, kinds[name], thinned(list(map(points, samples))))
                               for name, samples in traces.items()]))
    name, samples = next(iter(traces.items()))
    panels.append(("answers checked per second, of all clients",
                   [("all clients", kinds[name], thinned(rates(samples)))]))
    path.write_text(plots.traces("A soak of weir serve", "seconds", panels, STYLE))
