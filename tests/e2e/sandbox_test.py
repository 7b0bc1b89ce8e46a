#!/usr/bin/env python3
"""`weir serve --sandbox`: it serves as without, and what it keeps is what a sandbox leaves."""

import contextlib
import os
import signal
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from weir_process import Weir, main, receive

CONCURRENCIES = ("pool", "serial", "thread", "fork", "prefork")


def status_of(thread):
    """What the kernel tells of a thread, as a dictionary."""
    with open(f"/proc/{thread}/status", encoding="ascii", errors="replace") as file:
        return {name: rest.strip() for name, _, rest in (line.partition(":") for line in file)}


def processes_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [pid] + [int(child) for child in file.read().split()]


def filters_of(pid):
    """The seccomp mode of each thread of a server's processes. One may end meanwhile, with its client."""
    for process in processes_of(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for thread in os.listdir(f"/proc/{process}/task"):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    yield status_of(thread)["Seccomp"]


class Sandbox(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        os.chmod(self.folder.name, 0o1777)
        self.path = os.path.join(self.folder.name, "socket")
        self.rules = os.path.join(self.folder.name, "rules")
        self.write_rules("default allow\n")

    def write_rules(self, text):
        """As a tool does that replaces a file whole: it is another one then."""
        with open(self.rules + ".new", "w", encoding="ascii") as file:
            file.write(text)
        os.rename(self.rules + ".new", self.rules)

    def start(self, *args):
        # Leaks are looked for by one thread more, which traces the others.
        options = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        return Weir("--sandbox", "--listen", "tcp://127.0.0.1:0", "--listen", f"unix://{self.path}",
                    "--handler", "echo", "--access", self.rules, *args,
                    env={**os.environ, "ASAN_OPTIONS": options})

    def check_echoed(self, weir):
        for i in range(2):
            with weir.connect(i) as client:
                # Piece by piece: whoever only sends may wait for the server, which waits for room.
                for _ in range(10):
                    client.sendall(b"x" * 30000)
                    self.assertEqual(receive(client, 30000), b"x" * 30000)

    def check_life(self, *args):
        with self.start(*args) as weir:
            self.check_echoed(weir)
            self.assertEqual(set(filters_of(weir.process.pid)), {"2"})
            self.write_rules("default allow\ndeny 192.0.2.0/24\n")
            weir.signal(signal.SIGHUP)
            self.assertEqual(weir.line("weir: access: "), f"weir: access: read {self.rules}")
            self.check_echoed(weir)
            self.assertGreater(weir.stats()["bytes_out"], 0)
        self.assertFalse(os.path.exists(self.path))

    def test_it_serves_in_every_concurrency(self):
        for how in CONCURRENCIES:
            with self.subTest(concurrency=how):
                self.check_life("--concurrency", how)

    def test_it_serves_as_another_user(self):
        if os.geteuid() != 0:
            self.skipTest("it takes root to become somebody else")
        for how in CONCURRENCIES:
            with self.subTest(concurrency=how):
                self.check_life("--concurrency", how, "--user", "54331:54332")

    def test_with_all_that_threads_can_be_told(self):
        self.check_life("--acceptors", "2", "--workers", "2", "--worker-cpus", "0", "--dispatch",
                        "acceptor", "--idle-timeout", "1s", "--no-delay")


if __name__ == "__main__":
    main()
