#!/usr/bin/env python3
"""A program that embeds weir, compiled with the sanitizer that the library is for.

Usage: race_test.py PACKAGE
"""

import pathlib
import socket
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import installed

HERE = pathlib.Path(__file__).resolve().parent
TIMEOUT = 60    # far beyond what is needed, so that a test cannot hang
CLIENTS = 16
SANITIZERS = {
    b"__asan_init": "-fsanitize=address",
    b"__tsan_init": "-fsanitize=thread",
    b"__ubsan_handle": "-fsanitize=undefined",
}


class Race(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.prefix = installed.unpack(cls, PACKAGE)
        archive = (cls.prefix / "lib/libweir.a").read_bytes()
        cls.sanitizers = [flag for name, flag in SANITIZERS.items() if name in archive]
        subprocess.run(["cc", "-g", "-Wall", "-Wextra", "-Werror", *cls.sanitizers, HERE / "race.c", "-o",
                        cls.prefix / "race", f"-I{cls.prefix}/include", f"-L{cls.prefix}/lib",
                        *installed.libraries(cls.prefix)], check=True)

    def serve(self, how):
        """Starts the server; returns its clients."""
        self.told = (self.prefix / how).open("w+")
        self.addCleanup(self.told.close)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = subprocess.Popen([self.prefix / "race", f"fd://{listener.fileno()}", how],
                                      pass_fds=[listener.fileno()], stderr=self.told)
            self.addCleanup(self.stop, server)
            clients = [socket.create_connection(listener.getsockname(), TIMEOUT)
                       for _ in range(CLIENTS)]
        for client in clients:
            self.addCleanup(client.close)
        return clients

    def stop(self, server):
        server.kill()
        server.wait(TIMEOUT)

    def turn(self, clients):
        """All clients at once get a line counted."""
        for client in clients:
            client.sendall(b"line\n")
        for client in clients:
            self.assertEqual(client.recv(5, socket.MSG_WAITALL), b"line\n")

    def reports(self):
        self.told.seek(0)
        return self.told.read()

    def test_a_program_without_races_is_told_of_none(self):
        clients = self.serve("locked")
        for _ in range(200):
            self.turn(clients)
        self.assertEqual(self.reports(), "")

    def test_thread_sanitizer_reports_a_race_between_handlers(self):
        if "-fsanitize=thread" not in self.sanitizers:
            return
        clients = self.serve("racing")
        deadline = time.monotonic() + TIMEOUT
        while "data race" not in self.reports() and time.monotonic() < deadline:
            self.turn(clients)
        self.assertRegex(self.reports(), r"data race(?s:.*)race\.c")


if __name__ == "__main__":
    PACKAGE = pathlib.Path(sys.argv[1])
    unittest.main(argv=sys.argv[:1])
