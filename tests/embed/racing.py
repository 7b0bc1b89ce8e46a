"""What ThreadSanitizer says of race.c, however it was built, for the tests that build it."""

import socket
import subprocess
import tempfile
import time

TIMEOUT = 60    # far beyond what is needed, so that a test cannot hang
CLIENTS = 16


class Racing:
    """The tests of a case that has `command`, which runs race, and whether it `finds_races`."""

    def serve(self, how):
        """Starts the server; returns its clients."""
        self.told = tempfile.TemporaryFile("w+")
        self.addCleanup(self.told.close)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = subprocess.Popen([*self.command, f"fd://{listener.fileno()}", how],
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
        if not self.finds_races:
            return
        clients = self.serve("racing")
        deadline = time.monotonic() + TIMEOUT
        while "data race" not in self.reports() and time.monotonic() < deadline:
            self.turn(clients)
        self.assertRegex(self.reports(), r"data race(?s:.*)race\.c")
