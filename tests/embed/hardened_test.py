#!/usr/bin/env python3
"""What tools/install installs is hardened: the command as an ELF file, and every object of the library.

Usage: hardened_test.py PACKAGE
"""

import pathlib
import re
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import installed


def readelf(path, *options):
    return subprocess.run(["readelf", "--wide", *options, path], check=True, encoding="utf-8",
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


def undefined(path):
    """The names that a file leaves to others, without their versions."""
    text = readelf(path, "--symbols")
    return set(re.findall(r" UND (\w+)", text))


class Hardened(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        prefix = installed.unpack(cls, PACKAGE)
        cls.command = prefix / "bin/weir"
        cls.library = prefix / "lib/libweir.a"

    def test_the_command_is_loaded_at_any_address(self):
        self.assertRegex(readelf(self.command, "--file-header"), r"Type:\s+DYN ")
        self.assertRegex(readelf(self.command, "--dynamic"), r"\(FLAGS_1\).*\bPIE\b")

    def test_what_the_linker_resolves_is_resolved_at_the_start_and_then_read_only(self):
        self.assertRegex(readelf(self.command, "--dynamic"), r"\(FLAGS_1\).*\bNOW\b")
        self.assertRegex(readelf(self.command, "--program-headers"), r"(?m)^\s+GNU_RELRO\s")

    def test_no_memory_of_the_command_is_writable_and_executable(self):
        segments = re.findall(r"(?m)^\s+(LOAD|GNU_STACK)\s+(?:0x\w+\s+){5}([RWE ]{3})",
                              readelf(self.command, "--program-headers"))
        self.assertIn("GNU_STACK", [kind for kind, _ in segments])
        self.assertEqual([], [segment for segment in segments if set("WE") <= set(segment[1])])

    def test_no_object_of_the_library_asks_for_an_executable_stack(self):
        notes = re.findall(r"(?m)^.* \.note\.GNU-stack .*$", readelf(self.library, "--sections"))
        objects = re.findall(r"(?m)^File: ", readelf(self.library, "--sections"))
        self.assertGreater(len(objects), 0)
        self.assertEqual(len(notes), len(objects))
        self.assertEqual([], [note for note in notes if " X " in note])

    def test_overrun_arrays_are_noticed(self):
        for path in self.command, self.library:
            self.assertIn("__stack_chk_fail", undefined(path))

    def test_lengths_are_checked_by_the_c_library(self):
        for path in self.command, self.library:
            self.assertLess({"__memcpy_chk", "__snprintf_chk"}, undefined(path))

    def test_each_unit_of_the_library_is_protected(self):
        """gcc writes down what a unit was compiled with; clang doesn't."""
        units = re.findall(r"DW_AT_producer.*: (GNU C\d.*)", readelf(self.library, "--debug-dump=info"))
        if not units:
            self.skipTest("not compiled by gcc")
        for flag in "-fstack-protector-strong", "-fstack-clash-protection":
            self.assertEqual([], [unit for unit in units if flag not in unit.split()])


if __name__ == "__main__":
    PACKAGE = sys.argv[1]
    unittest.main(argv=sys.argv[:1], verbosity=2)
