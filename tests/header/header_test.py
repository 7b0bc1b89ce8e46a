#!/usr/bin/env python3
"""The public headers as others compile them: in each standard of C and C++, by each compiler that
is installed, with the warnings that careful people ask for. What was compiled then serves.

And each call that takes a request is among those of which the test of misuse sees that they are
guarded.

Usage: header_test.py PACKAGE MISUSE_TEST PAGE, which is about C++
"""

import http.client
import itertools
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import installed

HERE = pathlib.Path(__file__).resolve().parent
TIMEOUT = 30    # far beyond what is needed, so that a test cannot hang

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wsign-conversion", "-Wshadow",
            "-Wundef", "-Wmissing-field-initializers", "-Werror"]
COMPILERS = ["gcc", "clang"]
CXX_COMPILERS = ["g++", "clang++"]
CXX_WARNINGS = ["-Wold-style-cast", "-Wzero-as-null-pointer-constant", "-Wextra-semi"]
LANGUAGES = {
    "c": (COMPILERS, ["c11", "c17", "c2x"], ["-Wstrict-prototypes"]),
    "cc": (CXX_COMPILERS, ["c++11", "c++14", "c++17", "c++20", "c++2b"], CXX_WARNINGS),
    "hpp.cc": (CXX_COMPILERS, ["c++17", "c++20", "c++2b"], CXX_WARNINGS),
}


def ways():
    """Each language, installed compiler and standard."""
    for language, (compilers, standards, _) in LANGUAGES.items():
        yield from itertools.product([language], filter(shutil.which, compilers), standards)


def first_example(header):
    """The code that its first comment shows."""
    code = re.search(r"(^ \*(     .*)?\n)+", header, re.MULTILINE).group(0)
    return re.sub("^ \\*", "", code, flags=re.MULTILINE)


class Header(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.prefix = installed.unpack(cls, PACKAGE)
        cls.libraries = installed.libraries(cls.prefix)

    def build(self, language, compiler, standard):
        program = self.prefix / f"{compiler}-{standard}-{language}"
        done = subprocess.run(
            [compiler, f"-std={standard}", *WARNINGS, *LANGUAGES[language][2],
             f"-I{self.prefix}/include", HERE / f"consumer.{language}", "-o", program,
             f"-L{self.prefix}/lib", *self.libraries], stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return program

    def converse(self, program):
        server = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True)
        self.addCleanup(server.kill)
        ports = [int(server.stdout.readline().rpartition(":")[2]) for _ in range(2)]
        with socket.create_connection(("127.0.0.1", ports[0]), TIMEOUT) as client:
            with client.makefile("rwb", buffering=0) as lines:
                for count in b"0", b"1":
                    lines.write(b"hello\n")
                    self.assertEqual(lines.readline(), count + b" hello\n")
        client = http.client.HTTPConnection("127.0.0.1", ports[1], TIMEOUT)
        client.request("GET", "/")
        self.assertEqual(client.getresponse().read(), b"hello\n")
        client.close()
        self.assertEqual(server.communicate(timeout=TIMEOUT), ("", ""))
        self.assertEqual(server.returncode, 0)

    def test_each_standard_of_each_compiler_makes_a_server(self):
        done = 0
        for language, compiler, standard in ways():
            with self.subTest(language=language, compiler=compiler, standard=standard):
                self.converse(self.build(language, compiler, standard))
                done += 1
        self.assertGreaterEqual(done, 11)   # those of one compiler

    def test_before_cxx20_weir_options_says_what_to_do(self):
        code = ('#include <weir/weir.h>\nint serve(weir_server **server)\n{\n    return '
                'weir_server_create(server, WEIR_OPTIONS(.listen = "tcp://:9999"));\n}\n')
        for compiler, standard in itertools.product(filter(shutil.which, LANGUAGES["cc"][0]),
                                                    ("c++11", "c++14", "c++17", "c++20")):
            with self.subTest(compiler=compiler, standard=standard):
                done = subprocess.run(
                    [compiler, "-fsyntax-only", f"-std={standard}", *WARNINGS,
                     f"-I{self.prefix}/include", "-xc++", "-"], input=code,
                    stderr=subprocess.PIPE, text=True)
                if standard == "c++20":
                    self.assertEqual((done.returncode, done.stderr), (0, ""))
                else:
                    self.assertEqual(done.returncode, 1)
                    self.assertIn("WEIR_OPTIONS needs C++20", done.stderr)
                    self.assertIn("weir_options options{};", done.stderr)
                    self.assertEqual(len(re.findall(r"\berror: ", done.stderr)), 1, done.stderr)

    def test_before_cxx17_weir_hpp_says_what_to_do(self):
        for compiler in filter(shutil.which, CXX_COMPILERS):
            done = subprocess.run(
                [compiler, "-fsyntax-only", "-std=c++14", f"-I{self.prefix}/include", "-xc++", "-"],
                input="#include <weir/weir.hpp>\n", stderr=subprocess.PIPE, text=True)
            self.assertEqual(done.returncode, 1)
            self.assertIn("weir/weir.hpp needs C++17", done.stderr)

    def test_the_example_that_weir_hpp_begins_with_compiles(self):
        code = first_example((self.prefix / "include/weir/weir.hpp").read_text())
        self.assertIn("int main()", code)
        self.compile_cxx(code)

    def test_what_the_page_shows_compiles(self):
        blocks = re.findall(r"^```cpp\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        self.assertEqual(len(blocks), 2)
        self.compile_cxx("\n".join(blocks))

    def compile_cxx(self, code):
        includes = "".join(f"#include <{name}>\n" for name in
                           ("atomic", "cctype", "iostream", "weir/weir.hpp"))
        for compiler in filter(shutil.which, CXX_COMPILERS):
            done = subprocess.run(
                [compiler, "-std=c++17", "-fsyntax-only", *WARNINGS, *CXX_WARNINGS,
                 f"-I{self.prefix}/include", "-xc++", "-"], stderr=subprocess.PIPE, text=True,
                input=f"{includes}{code}\n")
            self.assertEqual(done.returncode, 0, f"{done.stderr}\n{code}")

    def test_the_examples_that_the_headers_begin_with_compile(self):
        for name, compiler in itertools.product(("weir", "weir_sync", "http"), filter(shutil.which, COMPILERS)):
            header = (self.prefix / f"include/weir/{name}.h").read_text()
            code = first_example(header)
            self.assertIn("static int", code)
            with self.subTest(name=name, compiler=compiler):
                done = subprocess.run(
                    [compiler, "-fsyntax-only", *WARNINGS, "-Wno-unused",
                     f"-I{self.prefix}/include", "-xc", "-"], input=f"#include <ctype.h>\n#include <errno.h>\n#include <weir/weir.h>\n"
                    f"#include <weir/{name}.h>\n{code}\n", stderr=subprocess.PIPE, text=True)
                self.assertEqual(done.returncode, 0, f"{done.stderr}\n{code}")

    def test_each_call_that_takes_a_request_is_tested_for_misuse(self):
        header = (self.prefix / "include/weir/weir.h").read_text()
        calls = re.findall(r"^[a-z].*?\b(weir_\w+)\(struct weir_request \*", header, re.MULTILINE)
        self.assertGreater(len(calls), 25)
        self.assertEqual(sorted(calls), sorted(re.findall(r'^    { "(weir_\w+)", \w+, \w+ },$',
                                                          MISUSE_TEST.read_text(), re.MULTILINE)))


if __name__ == "__main__":
    PACKAGE, MISUSE_TEST, PAGE = (pathlib.Path(path).resolve() for path in sys.argv[1:4])
    unittest.main(argv=sys.argv[:1])
