#!/usr/bin/env python3
"""The benches and the bare servers beside them: that what goes wrong is not taken for a figure."""

import contextlib
import json
import os
import resource
import socket
import subprocess
import tempfile
import unittest

BARE_LOOP = os.path.abspath(os.environ["BARE_LOOP"])
SHUTDOWN = os.path.abspath(os.environ["SHUTDOWN"])
TIMEOUT = 60
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def few_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (6, 6))


class Rows(unittest.TestCase):
    def test_a_row_that_failed_is_the_exit_status(self):
        row = ["--benchmark_filter=poll_interval_ms:100/", "--benchmark_format=json"]
        for limit, status in ((few_descriptors, 1), (None, 0)):
            with self.subTest(status=status):
                done = subprocess.run([SHUTDOWN, *row], preexec_fn=limit, stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL, timeout=TIMEOUT, check=False)
                rows = json.loads(done.stdout)["benchmarks"]
                self.assertTrue(rows)
                self.assertEqual(done.returncode, status)
                for figures in rows:
                    self.assertEqual("p50_ms" in figures, status == 0, figures)


@contextlib.contextmanager
def bare_loop(*args):
    """Where it listens."""
    with subprocess.Popen([BARE_LOOP, *args], stderr=subprocess.PIPE, text=True) as server:
        try:
            line = server.stderr.readline().strip()
            yield ("127.0.0.1", int(line.rpartition(":")[2]))
        finally:
            server.kill()


class BareBodies(unittest.TestCase):
    def test_a_file_that_has_become_shorter_ends_a_connection_and_holds_up_no_other(self):
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"x" * 1000)
            file.flush()
            with bare_loop("--body", file.name, "file") as address:
                for length in (1000, 10, 10):
                    file.truncate(length)
                    with socket.create_connection(address, TIMEOUT) as client:
                        client.sendall(GET)
                        text = b""
                        while text.count(b"x") < length:
                            piece = client.recv(65536)
                            self.assertTrue(piece, text)
                            text += piece
                        if length < 1000:
                            self.assertEqual(client.recv(1), b"")


if __name__ == "__main__":
    unittest.main(verbosity=2)
