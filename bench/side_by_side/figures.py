"""Figures of slices of load: medians, spreads, ratios.

A slice is a dictionary of what one server cost and brought in one round. Only slices of the same
round are divided by each other: a machine's speed changes from second to second.
"""

import statistics

LATENCIES = ("p50_us", "p99_us", "p999_us")
COUNTS = ("lost", "closed")     # datagrams sent again; connections that the server closed early


def spread(values):
    """The median, and what it is worth."""
    values = list(values)
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def ratios(own, base, figure):
    """Round by round, as far as both have rounds; a round in which base used nothing has none."""
    return [mine[figure] / its[figure] for mine, its in zip(own, base) if its[figure] > 0]


def summary(slices, base):
    """Of one server's slices, and its yardstick's of the same rounds."""
    result = {figure: spread(piece[figure] for piece in slices)
              for figure in ("rps", "cpu_us", *LATENCIES)
              if all(piece[figure] is not None for piece in slices)}
    cpu_ratios = ratios(slices, base, "cpu_us")
    if cpu_ratios:
        result["ratio"] = spread(cpu_ratios)
    for count in COUNTS:
        result[count] = sum(piece[count] for piece in slices)
    result["slices"] = slices
    return result


def slice_of(load, cpu_seconds):
    """From what a generator says of a run, and what the server used. A latency may be None."""
    return {
        "requests": load["requests"],
        **{count: load[count] for count in COUNTS},
        "rps": load["requests"] / load["seconds"],
        "cpu_us": cpu_seconds / load["requests"] * 1e6,
        **{figure: load[figure] for figure in LATENCIES},
    }
