#!/usr/bin/env python3
"""CONTRIBUTING.md: what it names is there.

Usage: contributing_test.py CONTRIBUTING.md. Its source tree is where the link leads.
"""

import pathlib
import re
import sys
import unittest


def quoted():
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))


def commands():
    """The words of each command, without its comment."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return [line.split("#")[0].split() for block in blocks for line in block.splitlines()]


class Contributing(unittest.TestCase):
    def expect_there(self, names):
        self.assertTrue(names)
        self.assertEqual([name for name in names if not (TOP / name).exists()], [])

    def test_the_files_that_it_names_are_there(self):
        folders = "bench|docs|engine|handlers|tests|tools"
        paths = [text for text in quoted() if re.fullmatch(rf"(?:{folders})/[\w./]*", text)]
        examples = {"engine/.../x.c", "tests/x_test.c"}
        self.assertGreater(len(paths), 20)
        self.expect_there([path for path in paths if path not in examples])

    def test_its_links_lead_somewhere(self):
        self.expect_there([link for link in re.findall(r"\]\(([^)#]+)", TEXT) if "://" not in link])

    def test_its_commands_are_there(self):
        words = [word for command in commands() for word in command]
        self.expect_there([word for word in words if word.startswith("tools/")])
        targets = [word[len("//"):].replace(":", "/") for word in words if word.startswith("//")]
        self.assertTrue(targets)
        for target in targets:
            self.assertTrue((TOP / f"{target}.c").exists() or target == "tools/weir", target)

    def test_the_configurations_that_it_names_are_there(self):
        known = (TOP / ".bazelrc").read_text()
        for name in re.findall(r"--config=(\w+)", TEXT) + ["tsan", "ubsan"]:
            self.assertRegex(known, rf"(?m)^(?:build|test):{name} ")

    def test_what_is_in_a_file_by_its_word_is_there(self):
        for word, name in [("_DEPS", "tests/BUILD"), ("registry", "handlers/BUILD"),
                           ("struct weir_options {", "engine/weir.h"),
                           ("struct weir_listen {", "engine/weir.h"),
                           ("struct weir_stats {", "engine/weir.h"),
                           ("limits[] = {", "engine/server/options.c"),
                           ("struct endpoint {", "engine/net/endpoint.h"),
                           ("TALLIED", "engine/base/statistics.h"),
                           ("## 16. The layers", "DESIGN.md"),
                           ("## 4. Who owns what", "DESIGN.md")]:
            self.assertIn(word, (TOP / name).read_text(), name)


if __name__ == "__main__":
    CONTRIBUTING = pathlib.Path(sys.argv[1])
    TOP = CONTRIBUTING.resolve().parent
    TEXT = CONTRIBUTING.read_text()
    unittest.main(argv=sys.argv[:1], verbosity=2)
