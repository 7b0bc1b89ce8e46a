#!/usr/bin/env python3
"""tools/soak: what it takes for growth, its drawing, and a soak of some seconds."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

SOAK = pathlib.Path(os.environ.get("SOAK", "tools/soak")).resolve()
WEIR = pathlib.Path(os.environ.get("WEIR", "bazel-bin/tools/weir")).absolute()
sys.path.insert(0, str(SOAK.parent.parent / "bench"))

from soak import watch      # noqa: E402


def samples(**grows):
    """A hundred, in which some figures grow by so much from each to the next."""
    fields = {"rss_bytes": 8 << 20, "descriptors": 10, "threads": 5, "cpu_s": 0, "checked": 0}
    return [watch.Sample(at_s=i, **{name: value + i * grows.get(name, 0)
                                    for name, value in fields.items()}) for i in range(100)]


class Growth(unittest.TestCase):
    def test_what_stays_flat_has_not_grown(self):
        self.assertEqual(list(watch.growths(samples(checked=7, descriptors=1))), [])

    def test_memory_that_grows_steadily_is_found(self):
        found = list(watch.growths(samples(rss_bytes=20 << 10)))
        self.assertEqual(len(found), 1)
        self.assertRegex(found[0], r"memory grew from \d+ to \d+ KiB")

    def test_what_a_server_grows_into_at_once_is_no_growth(self):
        grown = samples()
        cold = [watch.Sample(i, 1 << 20, 10, 5, 0, 0) for i in range(10)]
        self.assertEqual(list(watch.growths(cold + grown[10:])), [])

    def test_a_short_time_tells_nothing(self):
        self.assertEqual(list(watch.growths(samples(rss_bytes=1 << 20)[:20])), [])

    def test_threads_that_become_more_are_found(self):
        self.assertEqual(len(list(watch.growths(samples(threads=1)))), 1)

    def test_thinning_keeps_the_peak(self):
        points = [(i, 1000 if i == 777 else 1) for i in range(5000)]
        thin = watch.thinned(points)
        self.assertLessEqual(len(thin), watch.POINTS)
        self.assertIn((777, 1000), thin)

    def test_the_drawing_stands_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "soak.svg")
            watch.draw(path, {"wide": samples(checked=5), "narrow": samples()})
            tree = xml.etree.ElementTree.parse(path)
        self.assertEqual(tree.getroot().tag, "{http://www.w3.org/2000/svg}svg")
        self.assertEqual(len(tree.findall(".//{*}polyline")), 3 * 2 + 1)


class Soak(unittest.TestCase):
    def soak(self, *arguments):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([SOAK, "--weir", WEIR, "--seconds", "3", "--rate", "200",
                                   "--out", folder, *arguments],
                                  text=True, capture_output=True, check=False)
            self.assertIn(done.returncode, (0, 1), done.stderr)
            return done, json.loads(pathlib.Path(folder, "soak.json").read_text())

    def test_each_kind_of_client_talks_and_nothing_is_wrong(self):
        done, report = self.soak()
        self.assertEqual((done.returncode, report["wrong"]), (0, []), done.stdout)
        self.assertEqual([row["kind"] for row in report["clients"] if not row["conversations"]], [])
        self.assertGreater(report["answers"], 600)

    def test_answers_that_do_not_come_are_told(self):
        done, report = self.soak("--serve", "--request-timeout 1ms")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("trickles", " ".join(report["wrong"]))
        self.assertIn("WRONG: ", done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
