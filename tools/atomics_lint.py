#!/usr/bin/env python3
"""atomics_lint.py - keeps the atomics of the engine explained.

Two rules, for every C11 atomic operation and fence:
  1. It names its order: atomic_load_explicit, not atomic_load, nor an __atomic_ or __sync_ builtin.
  2. A comment in the same paragraph (no blank line in between), at or above it, says why the order
     suffices and which operation elsewhere it works with: "acquire: ... pairs: queue_push()", or
     "pairs: none, a hint".

Usage: atomics_lint.py [FILE...]      default: engine/*/*.c engine/*/*.h beside this tools/ folder
Prints file:line: what to add. Exits 1 if there was anything to say, 2 if a file cannot be read.
"""
import pathlib
import re
import sys

OPERATION = re.compile(
    r"\batomic_(?:load|store|exchange|compare_exchange_strong|compare_exchange_weak"
    r"|fetch_(?:add|sub|or|xor|and)|flag_test_and_set|flag_clear|thread_fence|signal_fence)"
    r"(?:_explicit)?(?=\s*\()|\b__(?:atomic|sync)_\w+(?=\s*\()")
# Comments, and literals, which may contain what looks like either.
NOT_CODE = re.compile(
    r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)
REASON = re.compile(r"\w+\W+\w+.*?\bpairs:\s*\w", re.DOTALL)


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def explained_lines(text):
    """The lines of which the paragraph has, at or above them, a comment with a reason."""
    begins = {line_of(text, m.start()) for m in NOT_CODE.finditer(text)
              if m.group().startswith("/") and REASON.search(m.group())}
    explained, inside = set(), False
    for number, line in enumerate(text.split("\n"), 1):
        inside = bool(line.strip()) and (inside or number in begins)
        if inside:
            explained.add(number)
    return explained


def complaints(text):
    explained = explained_lines(text)
    for match in OPERATION.finditer(NOT_CODE.sub(blank, text)):
        name, line = match.group(), line_of(text, match.start())
        if name.startswith("__"):
            yield line, f"{name}: use the atomic_..._explicit function of <stdatomic.h>"
        elif not name.endswith(("_explicit", "_fence")):
            yield line, f"{name}: write {name}_explicit and name the order"
        if line not in explained:
            yield line, (f"{name}: add a comment above it, in the same paragraph: "
                         "why this order suffices, and \"pairs: <the other side>\"")


def main(arguments):
    engine = pathlib.Path(__file__).resolve().parent.parent / "engine"
    paths = [pathlib.Path(a) for a in arguments] or sorted(engine.glob("*/*.[ch]"))
    found = 0
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            print(f"atomics_lint: {path}: {error}", file=sys.stderr)
            return 2
        for line, what in complaints(text):
            print(f"{path}:{line}: {what}")
            found += 1
    if not paths:
        print("atomics_lint: no files to look at", file=sys.stderr)
        return 2
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
