"""Plots as SVG that stands in a page: no script, colours from the page's style sheet.

A series is drawn in its class's colour: `c0`, `c1`, ... as the page assigns them to names.
"""

import math
from xml.sax.saxutils import escape

WIDTH = 720
LEFT, RIGHT = 150, 160
ROW = 26
LETTER = 6.5            # the width of one, about
TEXT_DROP = 4           # from the middle of a line of text to its base


def _text(x, y, words, anchor="start", kind=""):
    return (f'<text x="{x:.1f}" y="{y + TEXT_DROP:.1f}" text-anchor="{anchor}" class="{kind}">'
            f"{escape(words)}</text>")


def _line(x1, y1, x2, y2, kind):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _svg(height, title, parts):
    return (f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
            f"{''.join(parts)}</svg>")


def short(number):
    """As much of a number as a label needs."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def exact(number):
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def round_ticks(greatest):
    """About five steps from 0 that are easy to read, the last one not below greatest."""
    if greatest <= 0:
        return [0, 1]
    rough = greatest / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    return [i * step for i in range(math.ceil(greatest / step - 1e-9) + 1)]


def decades(least, greatest):
    """Powers of ten around some values."""
    first = math.floor(math.log10(max(least, 1e-3)))
    last = max(first + 1, math.ceil(math.log10(max(greatest, 1e-3))))
    return [10.0 ** power for power in range(first, last + 1)]


def steps(least, greatest):
    """1, 2, 5, 10, ... around some values."""
    powers = decades(least, greatest)
    found = [factor * power for power in powers for factor in (1, 2, 5)]
    first = max(i for i, step in enumerate(found) if i == 0 or step <= least)
    last = next(i for i, step in enumerate(found) if step >= greatest)
    return found[first:max(last, first + 1) + 1]


def apart(wanted, gap):
    """Moves labels' places, which are in order, so that none is nearer to the next than gap."""
    places = []
    for place in wanted:
        places.append(max(place, places[-1] + gap) if places else place)
    # what was pushed too far down goes back up, as far as there is room
    excess = (places[-1] - wanted[-1]) / 2 if places else 0
    return [place - excess for place in places]


def _axis(logarithmic, first, last, start, end):
    """Puts values from first to last between two places."""
    scale = math.log if logarithmic else float
    length = scale(last) - scale(first)
    return lambda value: start + (end - start) * (
        (scale(max(value, first)) - scale(first)) / length if length else 0)


def lines(title, unit, series, logarithmic="x"):
    """series: (name, class, [(x, y), ...]); a point may have its least and greatest y behind it."""
    height, top, bottom = 300, 14, 44
    xs = sorted({point[0] for _, _, points in series for point in points})
    ys = [y for _, _, points in series for point in points for y in point[1:]]
    ticks = steps(min(ys), max(ys)) if "y" in logarithmic else round_ticks(max(ys))
    left, right, margin = 56, WIDTH - RIGHT, 25
    at_x = _axis("x" in logarithmic, xs[0], xs[-1], left + margin, right - margin)
    at_y = _axis("y" in logarithmic, ticks[0], ticks[-1], height - bottom, top)

    parts = []
    for tick in ticks:
        parts += [_line(left, at_y(tick), right, at_y(tick), "grid"),
                  _text(left - 8, at_y(tick), short(tick), "end", "axis")]
    parts += [_text(at_x(x), height - bottom + 16, f"{x:,}", "middle", "axis") for x in xs]
    parts.append(_text((left + right) / 2, height - bottom + 34, unit, "middle", "axis"))
    for name, kind, points in series:
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y, *_ in points)
        parts += [_line(at_x(x), at_y(spread[0]), at_x(x), at_y(spread[1]), f"reach {kind}")
                  for x, _, *spread in points if spread]
        parts.append(f'<polyline points="{path}" class="line {kind}"/>')
        parts += [f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="4" class="dot {kind}">'
                  f"<title>{escape(name)}, {x:,}: {exact(y)}</title></circle>"
                  for x, y, *_ in points]
    ends = sorted((at_y(points[-1][1]), name, kind, points[-1][0]) for name, kind, points in series)
    for place, (y, name, kind, x) in zip(apart([end[0] for end in ends], 15), ends):
        parts += [f'<path d="M{at_x(x) + 6:.1f} {y:.1f} L{right + 8} {place:.1f}" '
                  f'class="leader {kind}"/>', _text(right + 12, place, name, kind=f"name {kind}")]
    return _svg(height, title, parts)


def _left_of(rows):
    """Where a plot begins whose rows have their names beside it."""
    return max(LEFT, LETTER * max(len(row[0]) for row in rows) + 12)


def bars(title, unit, rows):
    """rows: (name, class, value, least, greatest), from 0, with the spread as a thin line."""
    height, top = len(rows) * ROW + 54, 8
    ticks = round_ticks(max(row[4] for row in rows))
    left, right = _left_of(rows), WIDTH - 80

    def at_x(value):
        return left + (right - left) * value / ticks[-1]

    parts = _vertical_grid(ticks, at_x, top, top + len(rows) * ROW, unit)
    for i, (name, kind, value, least, greatest) in enumerate(rows):
        y = top + i * ROW + ROW / 2
        parts += [_text(left - 8, y, name, "end"),
                  f'<rect x="{left}" y="{y - 8:.1f}" width="{at_x(value) - left:.1f}" height="16" '
                  f'rx="2" class="bar {kind}"><title>{escape(name)}: {value:,.1f} '
                  f"({least:,.1f} - {greatest:,.1f})</title></rect>",
                  _line(at_x(least), y, at_x(greatest), y, "spread"),
                  _text(at_x(greatest) + 6, y, short(value), kind="value")]
    return _svg(height, title, parts)


def _vertical_grid(ticks, at_x, top, bottom, unit):
    parts = []
    for tick in ticks:
        parts += [_line(at_x(tick), top, at_x(tick), bottom, "grid"),
                  _text(at_x(tick), bottom + 14, short(tick), "middle", "axis")]
    parts.append(_text((at_x(ticks[0]) + at_x(ticks[-1])) / 2, bottom + 32, unit, "middle", "axis"))
    return parts


def dots(title, unit, rows):
    """rows: (name, class, [value, ...]), on a logarithmic scale; the last value is written out."""
    height, top = len(rows) * ROW + 54, 8
    values = [value for _, _, some in rows for value in some]
    ticks = decades(min(values), max(values))
    left, right = _left_of(rows), WIDTH - 80
    span = math.log10(ticks[-1] / ticks[0])

    def at_x(value):
        return left + (right - left) * math.log10(max(value, ticks[0]) / ticks[0]) / span

    parts = _vertical_grid(ticks, at_x, top, top + len(rows) * ROW, unit)
    for i, (name, kind, some) in enumerate(rows):
        y = top + i * ROW + ROW / 2
        parts += [_text(left - 8, y, name, "end"),
                  _line(at_x(some[0]), y, at_x(some[-1]), y, f"reach {kind}")]
        parts += [f'<circle cx="{at_x(value):.1f}" cy="{y:.1f}" r="5" class="dot {kind} d{place}">'
                  f"<title>{escape(name)}: {value:,.1f}</title></circle>"
                  for place, value in enumerate(some, 3 - len(some))]
        parts.append(_text(at_x(some[-1]) + 9, y, short(some[-1]), kind="value"))
    return _svg(height, title, parts)


def traces(title, unit, panels, style):
    """A drawing that stands alone. panels: (title, [(name, class, [(x, y), ...]), ...]), above
    each other with one x.
    """
    panel, top, bottom = 160, 32, 40
    longest = max(points[-1][0] for _, series in panels for _, _, points in series)
    x_ticks = [tick for tick in round_ticks(longest) if tick <= longest]
    left, right = 56, WIDTH - RIGHT
    at_x = _axis(False, 0, longest, left, right)

    parts = []
    for place, (name, series) in enumerate(panels):
        reach = place * panel + top, (place + 1) * panel - 8
        parts += _trace_panel(name, series, x_ticks, at_x, reach)
    height = len(panels) * panel + bottom
    parts.append(_text((left + right) / 2, height - 8, unit, "middle", "axis"))
    drawing = _svg(height, title, [f"<style>{style}</style>", *parts])
    return drawing.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def _trace_panel(title, series, x_ticks, at_x, reach):
    top, bottom = reach
    left, right = at_x(0), WIDTH - RIGHT
    y_ticks = round_ticks(max(y for _, _, points in series for _, y in points))
    at_y = _axis(False, 0, y_ticks[-1], bottom, top)
    parts = [_text(left, top - 12, title, kind="axis")]
    for tick in y_ticks:
        parts += [_line(left, at_y(tick), right, at_y(tick), "grid"),
                  _text(left - 8, at_y(tick), short(tick), "end", "axis")]
    parts += [_text(at_x(tick), bottom + 12, f"{tick:,.0f}", "middle", "axis") for tick in x_ticks]
    for name, kind, points in series:
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" class="trace {kind}"/>')
    wanted = sorted((at_y(points[-1][1]), name, kind) for name, kind, points in series)
    for place, (_, name, kind) in zip(apart([end[0] for end in wanted], 15), wanted):
        parts.append(_text(right + 12, place, name, kind=f"name {kind}"))
    return parts
