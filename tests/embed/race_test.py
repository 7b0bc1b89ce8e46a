#!/usr/bin/env python3
"""A program that embeds weir, compiled with the sanitizer that the library is for.

Usage: race_test.py PACKAGE
"""

import pathlib
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import installed
import racing

SANITIZERS = {
    b"__asan_init": "-fsanitize=address",
    b"__tsan_init": "-fsanitize=thread",
    b"__ubsan_handle": "-fsanitize=undefined",
}


class Race(racing.Racing, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        prefix = installed.unpack(cls, PACKAGE)
        archive = (prefix / "lib/libweir.a").read_bytes()
        sanitizers = [flag for name, flag in SANITIZERS.items() if name in archive]
        subprocess.run(["cc", "-g", "-Wall", "-Wextra", "-Werror", *sanitizers, HERE / "race.c", "-o",
                        prefix / "race", f"-I{prefix}/include", f"-L{prefix}/lib",
                        *installed.libraries(prefix)], check=True)
        cls.command = [prefix / "race"]
        cls.finds_races = "-fsanitize=thread" in sanitizers


if __name__ == "__main__":
    PACKAGE = pathlib.Path(sys.argv[1])
    unittest.main(argv=sys.argv[:1])
