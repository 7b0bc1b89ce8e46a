#!/usr/bin/env python3
"""tools/handoffs_lint.py: the tables of DESIGN.md agree with the engine, and it finds what doesn't."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

LINT = pathlib.Path(os.environ["HANDOFFS_LINT"]).resolve()
SOURCES = sys.argv[1:]

DESIGN = """\
| # | from | through | to | what makes it safe |
|---|---|---|---|---|
| E1 | a putter | a word | a taker | release and acquire |
| E2 | a locker | a field | a locker | a mutex |

| # | gives | takes |
|---|---|---|
| E1 | `put` | `take` |
| E2 | a mutex | a mutex |
"""
CODE = """\
static void put(int x)
{
    /* release: x. pairs: take() */
    atomic_store_explicit(&word, x, memory_order_release);
}

int take(void)
{
    /* acquire: what was put. pairs: put() */
    return atomic_load_explicit(&word, memory_order_acquire);
}
"""


class HandoffsLint(unittest.TestCase):
    def run_lint(self, design, code):
        with tempfile.TemporaryDirectory() as folder:
            paths = [pathlib.Path(folder) / name for name in ("DESIGN.md", "x.c")]
            for path, text in zip(paths, (design, code)):
                path.write_text(text, encoding="utf-8")
            return subprocess.run([LINT, *paths], stdout=subprocess.PIPE, text=True, check=False)

    def expect(self, said, design=DESIGN, code=CODE):
        ended = self.run_lint(design, code)
        self.assertIn(said, ended.stdout)
        self.assertEqual(ended.returncode, 1)

    def test_what_agrees_is_passed(self):
        self.assertEqual(self.run_lint(DESIGN, CODE).returncode, 0)

    def test_a_hand_over_without_functions(self):
        self.expect("E1: which functions do it is not said", DESIGN.replace("| E1 | `put` | `take` |\n", ""))

    def test_an_order_that_does_not_hand_over(self):
        self.expect("put gives, but makes no atomic operation that can: it has none",
                    code=CODE.replace("memory_order_release", "memory_order_relaxed"))

    def test_a_function_that_there_is_not(self):
        self.expect("take_all takes, but makes no atomic operation", DESIGN.replace("`take`", "`take_all`"))

    def test_a_function_in_no_row(self):
        self.expect("more: is seq_cst, and in no row", code=CODE + "\n".join((
            "void more(void)", "{", "    atomic_thread_fence(memory_order_seq_cst);", "}", "")))

    def test_a_partner_that_there_is_not(self):
        self.expect("x.c:3: there is no take_it()", code=CODE.replace("pairs: take()", "pairs: take_it()"))

    def test_the_engine(self):
        ended = subprocess.run([LINT, *SOURCES], stdout=subprocess.PIPE, text=True, check=False)
        self.assertEqual(ended.stdout, "")
        self.assertEqual(ended.returncode, 0)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
