#!/usr/bin/env python3
"""style_lint.py - keeps what CONTRIBUTING.md promises about how weir's files look.

Every text file:  no tab, no blank at the end of a line, one line feed at the end of the file.
C and C++:        at most 100 columns, functions of at most 60 lines. x.c includes its x.h first, or one
                  header beside it that does. A block of #include lines is sorted, and is all "project"
                  or all <system>.
C:                blocks at most 4 deep. An initialiser on one line is none.
engine/:          a folder includes itself and the floors below it. No circle of #include lines.
engine/, handlers/http/, tools/: no two files have a static function of the same name, so that a
                  breakpoint on it is on one line.
handlers/:        of engine/ nothing but weir.h and weir_sync.h.

Usage: style_lint.py [FOLDER]       default: the source tree that this tools/ folder is in
Prints file:line: what to mend. Exits 1 if there was anything to say, 2 if a file cannot be read.
"""
import pathlib
import re
import sys

COLUMNS = 100
FUNCTION_LINES = 60
DEPTH = 4
PUBLIC = ["engine/weir.h", "engine/weir.hpp", "engine/weir_sync.h"]
FLOORS = ["base", "fiber", "sync", "net", "pool", "stream", "share", "modes", "accept", "server"]

FOLDERS = ["bench", "docs", "engine", "handlers", "tests", "tools"]
CXX = {".cc", ".hpp"}
C = {".c", ".h"} | CXX
TEXT = C | {"", ".bzl", ".md", ".pc", ".pml", ".py", ".txt"}    # "": BUILD files and scripts
# What is data: requests as bytes, of which a blank at the end of a line may be the point.
DATA = "tests/http_cases/"

INCLUDE = re.compile(r'#include ([<"])([^>"]+)[>"]')
ATTRIBUTE = re.compile(r"__attribute__\(\(.*?\)\)\s", re.DOTALL)
STATIC = re.compile(r"^static [^;={}]*?\b(\w+)\([^;={}]*\)\n\{", re.MULTILINE)
ONE_PROGRAM = ("engine/", "handlers/http/", "tools/")
INITIALISER = re.compile(r"\{[^{};]*\}")
# Comments and literals, which may contain braces.
NOT_CODE = re.compile(
    r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def about_text(lines):
    for number, line in enumerate(lines, 1):
        if "\t" in line:
            yield number, "a tab: use blanks"
        if line != line.rstrip():
            yield number, "blanks at the end of the line"
    if lines and lines[-1] == "":
        yield len(lines), "empty lines at the end of the file"


def about_columns(lines):
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS:
            yield number, f"{len(line)} columns: at most {COLUMNS}"


def about_functions(lines):
    """lines have no comments and literals. A function's own braces stand at the left edge."""
    begin = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            begin = number
        elif line.startswith("}") and begin:
            if number - begin + 1 > FUNCTION_LINES:
                yield begin, f"a function of {number - begin + 1} lines: at most {FUNCTION_LINES}"
            begin = None


def about_depth(lines):
    depth = 0
    for number, line in enumerate(lines, 1):
        deepest = 0
        while INITIALISER.search(line):
            line = INITIALISER.sub("", line)
        for brace in re.findall(r"[{}]", line):
            depth += 1 if brace == "{" else -1
            deepest = max(deepest, depth)
        if deepest > DEPTH:
            yield number, f"braces {deepest} deep: at most {DEPTH}"


def include_blocks(lines):
    """The runs of #include lines: each a list of number, kind and name."""
    block = []
    for number, line in enumerate([*lines, ""], 1):
        match = INCLUDE.match(line)
        if match:
            block.append((number, *match.groups()))
        elif block:
            yield block
            block = []


def begins_with(first, own, top):
    """Do these names, of the first block, stand for the file's own header alone?"""
    if first == [own]:
        return True
    if len(first) != 1 or pathlib.PurePath(first[0]).parent != pathlib.PurePath(own).parent:
        return False
    return f'#include "{own}"' in (top / first[0]).read_text(encoding="utf-8")


def about_include_order(name, lines, top):
    blocks = list(include_blocks(lines))
    own = str(pathlib.PurePath(name).with_suffix(".h"))
    if name.endswith((".c", ".cc")) and (top / own).exists():
        first = [found for _, _, found in blocks[0]] if blocks else []
        if not begins_with(first, own, top):
            yield blocks[0][0][0] if blocks else 1, f'the first block is #include "{own}" alone'
    for block in blocks:
        if "cmocka.h" in [found for _, _, found in block]:
            continue        # it needs four others before it
        for (_, kind, before), (number, kind_here, here) in zip(block, block[1:]):
            if kind != kind_here:
                yield number, "a blank line between project's and system's headers"
            elif here <= before:
                yield number, f"sorted: {here} comes before {before}"


def floor(name):
    parts = pathlib.PurePath(name).parts
    return FLOORS.index(parts[1]) if len(parts) == 3 and parts[1] in FLOORS else -1


def about_layers(name, lines):
    for number, _, included in (include for block in include_blocks(lines) for include in block):
        if not included.startswith("engine/") or included in PUBLIC:
            continue
        if name.startswith("handlers/"):
            yield number, f"{included}: a handler includes of engine/ weir.h alone"
        elif name.startswith("engine/") and floor(included) > floor(name):
            yield number, f"{included} is on a floor above"


def about_a_folder(name):
    parts = pathlib.PurePath(name).parts
    if parts[0] == "engine" and len(parts) == 3 and parts[1] not in FLOORS:
        yield 1, f"engine/{parts[1]} has no floor: see FLOORS in tools/style_lint.py"


def complaints(name, text, top):
    """What there is to say about one file of the tree at top."""
    suffix = pathlib.PurePath(name).suffix
    lines = text.split("\n")
    if lines.pop():
        yield len(lines) + 1, "no line feed at the end of the file"
        lines = text.split("\n")
    if not name.startswith(DATA):
        yield from about_text(lines)
    if suffix in C:
        yield from about_columns(lines)
        bare = NOT_CODE.sub(blank, text).split("\n")
        yield from about_functions([line.rstrip() for line in bare])
        if suffix not in CXX:
            yield from about_depth(bare)
        yield from about_include_order(name, lines, top)
        yield from about_layers(name, lines)
        yield from about_a_folder(name)


def same_names(statics):
    """statics: the name of a static function to the files and lines that define it."""
    for function, places in statics.items():
        first = places[0][0]
        for name, line in places[1:]:
            if name != first:       # else two of which the preprocessor takes one
                yield name, line, f"{function}() is a static function of {first}, too"


def circles(includes):
    """includes: file to the files it includes. Yields each include that closes a circle."""
    done = set()

    def walk(name, way):
        for included in includes.get(name, []):
            if included in way:
                yield name, [*way[way.index(included):], included]
            elif included not in done:
                yield from walk(included, [*way, included])
        done.add(name)

    for name in includes:
        if name not in done:
            yield from walk(name, [name])


def files(top):
    """The text files of a source tree, sorted: name, and path."""
    found = [path for path in top.iterdir() if path.is_file()]
    for folder in FOLDERS:
        found += (top / folder).rglob("*")
    for path in sorted(found):
        name = path.relative_to(top)
        hidden = any(part.startswith((".", "bazel-", "__pycache__")) for part in name.parts)
        if path.is_file() and not path.is_symlink() and not hidden and path.suffix in TEXT:
            yield str(name), path


def lint(top):
    """Yields name, line and what is to be mended."""
    includes = {}
    statics = {}
    for name, path in files(top):
        text = path.read_text(encoding="utf-8")
        for line, what in complaints(name, text, top):
            yield name, line, what
        if name.startswith("engine/"):
            blocks = include_blocks(text.split("\n"))
            includes[name] = [included for block in blocks for _, _, included in block]
        if name.startswith(ONE_PROGRAM) and path.suffix == ".c":
            bare = ATTRIBUTE.sub(blank, NOT_CODE.sub(blank, text))
            for match in STATIC.finditer(bare):
                line = text.count("\n", 0, match.start()) + 1
                statics.setdefault(match.group(1), []).append((name, line))
    yield from same_names(statics)
    for name, way in circles(includes):
        yield name, 1, "a circle of #include: " + " ".join(way)


def main(arguments):
    here = pathlib.Path(__file__).resolve().parent
    top = pathlib.Path(arguments[0]) if arguments else here.parent
    found = 0
    try:
        if not (top / "engine").is_dir():
            raise OSError(f"{top}: no source tree of weir's")
        for name, line, what in lint(top):
            print(f"{name}:{line}: {what}")
            found += 1
    except (OSError, UnicodeError) as error:
        print(f"style_lint: {error}", file=sys.stderr)
        return 2
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
