#!/usr/bin/env python3
"""docs/from_socketserver.md: all that is C in it compiles, all that socketserver has is in it. And
the examples that it sends people to compile as people compile them, without our options.

Usage: guide_test.py GUIDE FILE..., which are the public headers and the examples

In its tables what is quoted on the left is Python and what is quoted on the right is C: options of
a server (`.backlog = 5`), statements, or expressions, about the names that PREFACE declares.
"""

import itertools
import pathlib
import re
import socketserver
import subprocess
import sys
import tempfile
import unittest

PREFACE = """\
#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <weir/http.h>
#include <weir/weir.h>
#include <weir/weir_sync.h>

struct state {
    int calls;
};

struct job {
    int number;
};

extern struct weir_server *server;
extern struct weir_request *req;
extern struct weir_request *backend;
extern struct weir_http *ex;
extern const struct weir_failure *failure;
extern struct weir_stats stats;
extern const struct weir_handler handler;
extern const struct weir_http_site site;
extern const struct weir_listen listeners[2];
extern struct pollfd fds[2];
extern struct weir_mutex lock;
extern struct weir_semaphore places;
extern struct weir_condition filled;
extern void *arg;
extern struct weir_wait_group group;
extern struct weir_channel jobs;
extern struct weir_channel stop;
extern struct weir_case cases[2];
extern struct job job;
extern struct iovec iov[2];
extern struct sockaddr_storage peer;
extern socklen_t peer_len;
extern struct state db;
extern char text[WEIR_ADDRESS_SIZE];
extern char buf[1000];
extern char *data;
extern char *line;
extern size_t len;
extern ssize_t n;
extern int number;
extern int fd;

int setup(struct weir_request *request);
int handle(struct weir_request *request);
int finish(struct weir_request *request, int status);
int get(struct weir_http *exchange);
int work(void *argument);
void tick(struct weir_request *request, void *argument);
int relay(struct weir_request *request, void *argument);
int verify_request(struct weir_server *of, const struct weir_peer *who);
void handle_error(struct weir_server *of, const struct weir_failure *what);
void handle_timeout(struct weir_server *of);
void service_actions(struct weir_server *of);
"""

# A snippet is no program: it ignores results and leaves variables alone.
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unused", "-Wno-return-type",
            "-Wno-missing-field-initializers"]


def rows(text):
    """The rows of its tables, without heads: number of the line, and cells."""
    head = True
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("|"):
            head = True
        elif re.fullmatch(r"[|-]+", line):
            head = False
        elif not head:
            yield number, [cell.strip() for cell in line.strip("|").split(" | ")]


def quoted(cell):
    return re.findall(r"`([^`]+)`", cell)


def blocks(text, language):
    """What stands in fences of that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def snippet(code, name):
    """A function with the code in it."""
    if code.startswith("."):
        body = f"return WEIR_OPTIONS({code})->size != 0;"
    elif code.endswith(";"):
        body = f"{code} return 0;"
    elif code.startswith("<"):
        return f"#include {code}"
    elif code.startswith("struct "):
        body = f"return sizeof({code}) != 0;"
    else:
        body = f"(void)({code}); return 0;"
    return f"int {name}(void);\nint {name}(void) {{ {body} }}"


class Guide(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        (cls.folder / "weir").mkdir()
        for header in FILES["h"]:
            (cls.folder / "weir" / header.name).symlink_to(header.resolve())

    def compile(self, code):
        done = subprocess.run(["cc", "-fsyntax-only", *WARNINGS, f"-I{self.folder}", "-xc", "-"],
                              input=code, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_what_is_on_the_right_compiles(self):
        names = (f"snippet_{i}" for i in itertools.count())
        code = [f'#line {number} "{GUIDE.name}"\n{snippet(text, next(names))}\n'
                for number, cells in rows(TEXT) for cell in cells[1:] for text in quoted(cell)]
        self.assertGreater(len(code), 100)
        self.compile(PREFACE + "".join(code))

    def test_whole_programs_compile(self):
        programs = blocks(TEXT, "c")
        self.assertTrue(programs)
        for program in programs:
            self.compile(program)
        for program in blocks(TEXT, "python"):
            compile(program, GUIDE.name, "exec")

    def test_the_ported_program_is_the_example(self):
        (visits,) = (source for source in FILES["c"] if source.name == "visits.c")
        program = visits.read_text()
        self.assertIn(program[program.index("#include"):], blocks(TEXT, "c"))

    def test_examples_compile_without_our_options(self):
        for source in FILES["c"]:
            self.compile(f'#line 1 "{source.name}"\n{source.read_text()}')

    def test_every_name_of_weirs_is_one(self):
        headers = "".join(header.read_text() for header in FILES["h"])
        for name in set(re.findall(r"\b(?:weir|WEIR)_\w+", TEXT)):
            self.assertRegex(headers, rf"\b{name}\b")

    def test_every_public_name_of_socketserver_is_on_the_left(self):
        left = " ".join(text for _, cells in rows(TEXT) for text in quoted(cells[0]))
        names = set(re.findall(r"\w+", left)) | set(re.findall(r"`(\w+)` has no counterpart", TEXT))
        classes = [getattr(socketserver, name) for name in socketserver.__all__]
        public = {name for cls in classes for name in (cls.__name__, *vars(cls))
                  if not name.startswith("_")}
        self.assertGreater(len(public), 40)
        self.assertEqual(public - names, set())

    def test_its_links_lead_somewhere(self):
        links = [link for link in re.findall(r"\]\(([^)#]+)", TEXT) if "://" not in link]
        self.assertTrue(links)
        folder = GUIDE.resolve().parent     # in the source tree: not all of it is data of the test
        self.assertEqual([link for link in links if not (folder / link).exists()], [])


if __name__ == "__main__":
    GUIDE, *others = map(pathlib.Path, sys.argv[1:])
    FILES = {suffix: [path for path in others if path.suffix == f".{suffix}"] for suffix in "ch"}
    TEXT = GUIDE.read_text()
    unittest.main(argv=sys.argv[:1], verbosity=2)
