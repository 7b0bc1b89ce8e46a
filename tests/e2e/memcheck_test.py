#!/usr/bin/env python3
"""The command under valgrind's memcheck, which knows of each fiber's stack: it finds no error."""

import os
import socket
import tempfile
import unittest

import weir_process
from weir_process import TIMEOUT, Weir

STALLED = 30


class Memcheck(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.report = os.path.join(folder.name, "report")
        command = os.path.join(folder.name, "weir")
        with open(command, "w", encoding="utf-8") as script:
            script.write(f"""#!/bin/sh
exec valgrind --quiet --leak-check=full --log-file={self.report} {weir_process.WEIR} "$@"
""")
        os.chmod(command, 0o755)
        self.addCleanup(setattr, weir_process, "WEIR", weir_process.WEIR)
        weir_process.WEIR = command

    def serve(self, *arguments):
        return Weir("--workers", "2", *arguments)

    def client(self, port):
        client = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.addCleanup(client.close)
        return client

    def port(self, server):
        return int(server.line("weir: listening on tcp:").rsplit(":", 1)[1])

    def expect_no_error(self):
        with open(self.report, encoding="utf-8") as report:
            self.assertEqual(report.read(), "")

    def test_clients_that_stall_and_go_on(self):
        with self.serve("--handler", "upper", "--listen", "tcp://127.0.0.1:0") as server:
            port = self.port(server)
            clients = [self.client(port) for _ in range(STALLED)]
            for step in b"abc", b"def", b"\n":
                for client in clients:
                    client.sendall(step)
            for client in clients:
                with client.makefile("rb") as replies:
                    self.assertEqual(replies.readline(), b"ABCDEF\n")
        self.expect_no_error()

    def test_pages_and_input_that_nobody_reads(self):
        with self.serve("--handler", "hello", "--listen", "tcp://127.0.0.1:0") as server:
            port = self.port(server)
            for _ in range(STALLED):
                client = self.client(port)
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" +
                               b"more" * 2000)
                with client.makefile("rb") as reply:
                    self.assertTrue(reply.read().startswith(b"HTTP/1.1 200 "))
        self.expect_no_error()


if __name__ == "__main__":
    unittest.main()
