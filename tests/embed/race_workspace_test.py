#!/usr/bin/env python3
"""A program of another Bazel workspace under ThreadSanitizer, with the options that the README names.

Usage: race_workspace_test.py README WITHOUT_ASLR
"""

import pathlib
import re
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import another
import racing


class RaceInWorkspace(racing.Racing, unittest.TestCase):
    finds_races = True

    @classmethod
    def setUpClass(cls):
        output = tempfile.TemporaryDirectory()
        cls.addClassCleanup(output.cleanup)
        options = re.search("`(--copt=-fsanitize=thread .*)`", README.read_text()).group(1).split()
        another.build(output.name, "//:race", *options)
        program, = pathlib.Path(output.name).glob("*/execroot/*/bazel-out/*/bin/race")
        cls.command = [WITHOUT_ASLR.resolve(), program]


if __name__ == "__main__":
    README, WITHOUT_ASLR = map(pathlib.Path, sys.argv[1:3])
    unittest.main(argv=sys.argv[:1])
