#!/usr/bin/env python3
"""Load and attack programs that weir's authors have not written: ab, siege and slowhttptest.

Each runs in small form; a client that behaves is answered meanwhile, and the server ends drained.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from weir_process import TIMEOUT, main, port_of, receive_all, serve

LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HELLO = b"\r\n\r\nHello, world!\n"
POST_SIZE = 3000
REQUESTS = 200
CLIENTS = 8
USERS = 5                   # of siege, ...
ROUNDS = 20                 # ... and how often each of them comes
SLOW = 200                  # connections of an attack, ...
ATTACK_SECONDS = 3          # ... and how long slowhttptest goes on with it
ATTACKS = {
    "slow heads": ("-H", "-i", "1"),
    "slow bodies": ("-B", "-i", "1", "-s", "8192"),
    "overlapping ranges": ("-R",),
    "slow reading": ("-X", "-n", "1", "-w", "1", "-y", "16", "-z", "4", "-k", "5"),
}
WAYS = ("pool", "thread", "fork", "prefork")


class Strangers(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.good = 0               # clients that behave

    def path(self, name, text):
        """Of a new file with this text."""
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        return path

    def expect_hello(self, weir):
        with weir.connect() as client:
            client.sendall(LAST)
            self.assertTrue(receive_all(client).endswith(HELLO))
        self.good += 1

    def run_beside_a_good_client(self, weir, *command):
        """Returns what the command reports. It ends well, and a client is answered all the time."""
        weir.listening()
        with open(self.path("report", ""), "r+", encoding="utf-8", errors="replace") as report:
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=report,
                                  stderr=subprocess.STDOUT,
                                  env=dict(os.environ, HOME=self.folder)) as program:
                try:
                    self.expect_hello(weir)
                    while program.poll() is None:
                        self.expect_hello(weir)
                finally:
                    program.kill()
            report.seek(0)
            said = report.read()
        self.assertEqual(program.returncode, 0, said)
        self.expect_hello(weir)
        return said

    def expect_all_gone(self, weir, count):
        """Beside those that behave at least so many have come, and each has gone."""
        least = self.good + count
        # A child of prefork that is busy tells its figures the next time.
        stats = weir.stats_until(lambda stats: stats["closed"] == stats["accepted"] >= least)
        self.good = 0
        for name in ("refused", "shed", "setup_errors", "finish_errors", "accept_errors"):
            self.assertEqual(stats[name], 0, name)


def url_of(weir):
    return f"http://127.0.0.1:{port_of(weir.listening()[0])}/"


@unittest.skipUnless(shutil.which("ab"), "no ab here: it is in Debian's package apache2-utils")
class ApacheBench(Strangers):
    def check(self, clients, *options, **figures):
        """Each way of serving gives these figures, beyond what is so in each report."""
        wanted = {"Complete requests": REQUESTS, "Failed requests": 0, "Write errors": 0,
                  "Non-2xx responses": 0, "Keep-Alive requests": 0, **figures}
        for way in WAYS:
            with self.subTest(way=way), serve("--concurrency", way) as weir:
                report = self.run_beside_a_good_client(
                    weir, "ab", "-q", "-s", str(TIMEOUT), "-n", str(REQUESTS), "-c", str(CLIENTS),
                    *options, url_of(weir))
                said = {name: int(number) for name, number in
                        re.findall(r"^([^:\n]+): +(\d+)$", report, re.MULTILINE)}
                self.assertEqual({name: said.get(name, 0) for name in wanted}, wanted, report)
                self.expect_all_gone(weir, clients)

    def test_a_connection_for_each_request(self):
        self.check(REQUESTS)

    def test_connections_that_are_kept(self):
        self.check(CLIENTS, "-k", **{"Keep-Alive requests": REQUESTS})

    def post(self):
        return "-p", self.path("body", "x" * POST_SIZE), "-T", "text/plain"

    def test_bodies_that_nobody_wants_are_refused_one_by_one(self):
        self.check(REQUESTS, *self.post(), **{"Non-2xx responses": REQUESTS})

    def test_and_on_connections_that_are_kept(self):
        self.check(CLIENTS, "-k", *self.post(),
                   **{"Keep-Alive requests": REQUESTS, "Non-2xx responses": REQUESTS})


@unittest.skipUnless(shutil.which("siege"), "no siege here: it is in Debian's package siege")
class Siege(Strangers):
    def check(self, connection):
        os.mkdir(os.path.join(self.folder, ".siege"))       # it writes cookies there
        settings = self.path("siegerc", f"""connection = {connection}
protocol = HTTP/1.1
parser = false
logging = false
json_output = true
benchmark = true
concurrent = {USERS}
reps = {ROUNDS}
""")
        with serve() as weir:
            report = self.run_beside_a_good_client(weir, "siege", "-R", settings, url_of(weir))
            figures = json.loads(report[report.index("{"):report.rindex("}") + 1])
            for name, wanted in (("transactions", USERS * ROUNDS), ("failed_transactions", 0),
                                 ("successful_transactions", USERS * ROUNDS),
                                 ("availability", 100)):
                self.assertEqual(figures[name], wanted, report)
            self.expect_all_gone(weir, USERS if connection == "keep-alive" else USERS * ROUNDS)

    def test_a_connection_for_each_request(self):
        self.check("close")

    def test_connections_that_are_kept(self):
        self.check("keep-alive")


@unittest.skipUnless(shutil.which("slowhttptest"),
                     "no slowhttptest here: it is in Debian's package slowhttptest")
class SlowHttpTest(Strangers):
    def check(self, attack):
        with serve("--max-per-address", "100000") as weir:
            self.run_beside_a_good_client(
                weir, "slowhttptest", *ATTACKS[attack], "-c", str(SLOW), "-r", str(SLOW),
                "-l", str(ATTACK_SECONDS), "-u", url_of(weir))
            # It gives up once nobody is left, so that a quick server meets fewer of them.
            self.expect_all_gone(weir, 1)

    def test_slow_heads(self):
        self.check("slow heads")

    def test_slow_bodies(self):
        self.check("slow bodies")

    def test_overlapping_ranges(self):
        self.check("overlapping ranges")

    def test_slow_reading(self):
        self.check("slow reading")


if __name__ == "__main__":
    main()
