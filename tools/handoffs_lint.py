#!/usr/bin/env python3
"""handoffs_lint.py - holds DESIGN.md's table of hand-overs against the engine's code.

Section 4 of DESIGN.md lists who owns what and how it is handed over (E1, E2, ...), and which functions
do it: "| E1 | `ready_queue_push` | `ready_queue_pop` |", the giving side and the taking one.
  1. Each hand-over of the first table is in the second one, with functions or with what does it
     instead of an atomic operation: a mutex, a queue, a thread's start.
  2. Each function there is the engine's, and makes an atomic operation whose order can do its side:
     release to give, acquire to take; seq_cst does either.
  3. Each function of the engine that makes an operation stronger than relaxed is there.
  4. Each partner that a comment names ("pairs: f()") is a function of the engine.

Usage: handoffs_lint.py DESIGN.md FILE...
Prints what disagrees. Exits 1 if anything does, 2 if a file cannot be read.
"""
import collections
import pathlib
import re
import sys

FIRST = re.compile(r"^\| (E\d+) \| .* \| .* \| .* \| .* \|$", re.MULTILINE)
SECOND = re.compile(r"^\| (E\d+) \| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)
FUNCTION = re.compile(r"^[A-Za-z_][^;={}]*?\b(\w+)\(")
ORDER = re.compile(r"\bmemory_order_(acquire|release|acq_rel|seq_cst)\b")
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
PARTNERS = re.compile(r"\bpairs:(.*?)\*/", re.DOTALL)

GIVES = {"release", "acq_rel", "seq_cst"}
TAKES = {"acquire", "acq_rel", "seq_cst"}


def functions_of(code):
    """Of each function its orders, and all functions' names."""
    orders, names, current = collections.defaultdict(set), set(), None
    for line in COMMENT.sub(lambda m: "\n" * m.group().count("\n"), code).split("\n"):
        found = FUNCTION.match(line)
        if found:
            names.add(found.group(1))
            current = found.group(1)
        for order in ORDER.findall(line):
            orders[current].add(order)
    return orders, names


def partners_of(code):
    for comment in PARTNERS.finditer(code):
        for name in re.findall(r"(\w+)\(\)", comment.group(1)):
            yield code.count("\n", 0, comment.start()) + 1, name


def check_table(design, orders):
    listed = set()
    rows = {row.group(1): row for row in SECOND.finditer(design)}
    for name in FIRST.findall(design):
        if name not in rows:
            yield f"{name}: which functions do it is not said"
    for name, row in rows.items():
        for side, cell, able in (("gives", row.group(2), GIVES), ("takes", row.group(3), TAKES)):
            functions = re.findall(r"`(\w+)`", cell)
            if not functions and not cell.strip():
                yield f"{name}: nothing is said of who {side}"
            for function in functions:
                listed.add(function)
                if not orders.get(function, set()) & able:
                    yield (f"{name}: {function} {side}, but makes no atomic operation that can: it "
                           f"has {', '.join(sorted(orders.get(function, ()))) or 'none'}")
    for function in sorted(orders.keys() - listed):
        yield f"{function}: is {', '.join(sorted(orders[function]))}, and in no row"


def main(arguments):
    if len(arguments) < 2:
        print("usage: handoffs_lint.py DESIGN.md FILE...", file=sys.stderr)
        return 2
    try:
        design, *sources = [pathlib.Path(a).read_text(encoding="utf-8") for a in arguments]
    except (OSError, UnicodeError) as error:
        print(f"handoffs_lint: {error}", file=sys.stderr)
        return 2
    orders, names = collections.defaultdict(set), set()
    for code in sources:
        more, more_names = functions_of(code)
        names |= more_names
        for function, found in more.items():
            orders[function] |= found
    found = [f"{arguments[0]}: {what}" for what in check_table(design, orders)]
    for path, code in zip(arguments[1:], sources):
        for line, name in partners_of(code):
            # "connection_table_lend(), _take_back()"
            if name not in names and not (name.startswith("_") and
                                          any(known.endswith(name) for known in names)):
                found.append(f"{path}:{line}: there is no {name}()")
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
