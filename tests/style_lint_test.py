#!/usr/bin/env python3
"""tools/style_lint.py: it finds each violation, and nothing in the source tree.

Each case makes a small source tree with one violation in it. STYLE_LINT is the lint.
"""

import os
import pathlib
import subprocess
import tempfile
import unittest

LINT = pathlib.Path(os.environ["STYLE_LINT"]).resolve()

HEADER = "#ifndef X_H\n#define X_H\n\nint x(void);\n\n#endif\n"
SOURCE = """\
#include "engine/pool/x.h"

#include "engine/base/y.h"
#include "engine/net/z.h"

#include <errno.h>
#include <stdio.h>

/* { { { { { */
int x(void)
{
    return '{' + "{{{{{"[0];
}
"""
CLEAN = {
    "README.md": "# weir\n",
    "engine/weir.h": HEADER,
    "engine/pool/x.h": HEADER,
    "engine/pool/x.c": SOURCE,
    "engine/base/y.h": HEADER,
    "engine/net/z.h": HEADER,
    "handlers/echo.c": '#include "engine/weir.h"\n\n#include <weir/weir.h>\n',
    "tests/http_cases/fields.txt": "a blank at its end \n",
}


def function(lines):
    return "int f(void)\n{\n" + "    x();\n" * (lines - 2) + "}\n"


def deep(levels):
    return "int f(void)\n{\n" + "if (1) {\n" * (levels - 1) + "}\n" * (levels - 1) + "}\n"


class StyleLint(unittest.TestCase):
    def lint(self, files):
        """What the lint says of a clean tree with these files in it, and its exit status."""
        with tempfile.TemporaryDirectory() as folder:
            for name, text in {**CLEAN, **files}.items():
                path = pathlib.Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            done = subprocess.run([LINT, folder], stdout=subprocess.PIPE, text=True)
        return done.stdout.splitlines(), done.returncode

    def expect(self, name, text, line, *words):
        said, status = self.lint({name: text})
        self.assertEqual(len(said), 1, said)
        self.assertTrue(said[0].startswith(f"{name}:{line}: "), said)
        for word in words:
            self.assertIn(word, said[0])
        self.assertEqual(status, 1)

    def expect_nothing(self, name, text):
        self.assertEqual(self.lint({name: text}), ([], 0))

    def test_a_clean_tree(self):
        self.assertEqual(self.lint({}), ([], 0))

    def test_a_tab(self):
        self.expect("tools/run", "#!/bin/sh\n\tls\n", 2, "tab")

    def test_blanks_at_the_end_of_a_line(self):
        self.expect("docs/x.md", "one \ntwo\n", 1, "blanks")

    def test_a_file_without_a_line_feed_at_its_end(self):
        self.expect("tests/x.py", "one\ntwo", 2, "line feed")

    def test_empty_lines_at_the_end_of_a_file(self):
        self.expect("README.md", "one\n\n", 2, "empty lines")

    def test_columns_are_counted_in_characters(self):
        self.expect("bench/x.cc", "// " + "é" * 98 + "\n", 1, "101 columns")
        self.expect_nothing("bench/x.cc", "// " + "é" * 97 + "\n")

    def test_a_function_of_more_than_60_lines(self):
        self.expect("tools/x.c", function(61), 2, "61 lines")
        self.expect_nothing("tools/x.c", function(60))

    def test_braces_more_than_4_deep(self):
        self.expect("tools/x.c", deep(5), 6, "5 deep")
        self.expect_nothing("tools/x.c", deep(4))
        self.expect_nothing("tools/x.c", deep(4).replace("(1)", "(f(&(int[]){ 1 }, (int[]){ 2 }))"))

    def test_static_functions_of_the_same_name_in_two_files(self):
        one = "static int f(int x)\n{\n}\n"
        other = "/* Another. */\nstatic __attribute__((cold)) void\nf(void)\n{\n}\n"
        self.expect_nothing("tools/x.c", one)
        self.expect_nothing("tools/x.c", one + "#ifdef X\n" + one + "#endif\n")
        self.assertEqual(self.lint({"tests/x.c": one, "tools/y.c": one}), ([], 0))
        said, status = self.lint({"engine/net/a.c": one, "handlers/http/b.c": other})
        self.assertEqual(status, 1)
        self.assertEqual(
            said, ["handlers/http/b.c:2: f() is a static function of engine/net/a.c, too"])

    def test_its_own_header_is_not_first(self):
        self.expect("engine/pool/x.c", "#include <errno.h>\n", 1, "engine/pool/x.h")
        self.expect("engine/pool/x.c", "int x;\n", 1, "engine/pool/x.h")
        self.expect("engine/pool/x.c", '#include "engine/pool/x.h"\n#include "engine/pool/y.h"\n',
                    1, "alone")

    def test_a_header_beside_it_that_includes_its_own_is_first(self):
        parts = {"engine/pool/x_parts.h": '#include "engine/pool/x.h"\n',
                 "engine/pool/x.c": '#include "engine/pool/x_parts.h"\n'}
        self.assertEqual(self.lint(parts), ([], 0))
        parts["engine/pool/x_parts.h"] = HEADER
        said, _ = self.lint(parts)
        self.assertEqual(len(said), 1, said)

    def test_includes_that_are_not_sorted(self):
        self.expect("tools/x.c", "#include <stdio.h>\n#include <errno.h>\n", 2, "errno.h")
        self.expect("tools/x.c", "#include <errno.h>\n#include <errno.h>\n", 2, "errno.h")

    def test_project_and_system_headers_in_one_block(self):
        self.expect("tools/x.c", '#include "engine/weir.h"\n#include <errno.h>\n', 2, "blank line")

    def test_an_arrow_upward(self):
        self.expect("engine/pool/w.c", '#include "engine/stream/s.h"\n', 1, "floor above")
        self.expect_nothing("engine/stream/s.c", '#include "engine/pool/x.h"\n')

    def test_a_folder_without_a_floor(self):
        self.expect("engine/tower/t.c", "int t;\n", 1, "engine/tower")

    def test_a_circle(self):
        circle = {f"engine/base/{a}.h": f'#include "engine/base/{b}.h"\n'
                  for a, b in ("ab", "bc", "ca")}
        said, status = self.lint(circle)
        self.assertEqual((len(said), status), (1, 1), said)
        self.assertIn("circle", said[0])

    def test_a_handler_that_includes_the_engine(self):
        self.expect("handlers/http/x.c", '#include "engine/pool/x.h"\n', 1, "weir.h alone")

    def test_no_source_tree_is_an_error(self):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([LINT, folder], stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("no source tree", done.stderr)

    def test_the_source_tree(self):
        done = subprocess.run([LINT], stdout=subprocess.PIPE, text=True)
        self.assertEqual((done.stdout, done.returncode), ("", 0))


if __name__ == "__main__":
    unittest.main(verbosity=2)
