#!/usr/bin/env python3
"""tools/compile_commands: it knows every source of the engine, and clang takes what it says.

Bazel is run with outputs of its own, since the one that runs this test holds the lock of the others.
"""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

TOOL = pathlib.Path(os.environ["COMPILE_COMMANDS"]).resolve()
TOP = TOOL.parent.parent


class CompileCommands(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        output = pathlib.Path(folder.name) / "compile_commands.json"
        # Without a home, Bazel's outputs go where TMPDIR says.
        environment = {**os.environ, "HOME": "/nonexistent", "TMPDIR": folder.name}
        # Nothing of Bazel is to run on.
        cls.addClassCleanup(subprocess.run, [TOP / "tools/bazel/run", "shutdown"], env=environment,
                            stderr=subprocess.DEVNULL)
        subprocess.run([TOOL, output], check=True, env=environment)
        cls.entries = {entry["file"]: entry for entry in json.loads(output.read_text())}

    def test_every_source_is_in_it_once(self):
        for folder in "engine", "handlers", "tools":
            sources = {str(path.relative_to(TOP)) for path in (TOP / folder).rglob("*.c")}
            self.assertTrue(sources)
            self.assertEqual(sources - self.entries.keys(), set())

    def test_its_folder_is_the_source_tree(self):
        self.assertEqual({entry["directory"] for entry in self.entries.values()}, {str(TOP)})

    def test_nothing_would_be_written(self):
        for entry in self.entries.values():
            self.assertEqual({"-o", "-MF", "-MD"} & set(entry["arguments"]), set())

    @unittest.skipUnless(shutil.which("clang"), "CLANG IS MISSING: nothing is compiled by it")
    def test_clang_takes_an_entry(self):
        for source in "engine/pool/worker.c", "engine/fiber/fiber.c", "engine/base/log.c":
            entry = self.entries[source]
            done = subprocess.run(["clang", "-fsyntax-only", *entry["arguments"][1:]],
                                  cwd=entry["directory"], stderr=subprocess.PIPE, text=True)
            self.assertEqual((done.stderr, done.returncode), ("", 0))


if __name__ == "__main__":
    unittest.main(verbosity=2)
