#!/usr/bin/env python3
"""Who may connect to `weir serve`: --access, read again at SIGHUP, and --max-per-address."""

import os
import signal
import socket
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from weir_process import TIMEOUT, Weir, main, port_of, receive, receive_all, run, serve


class Access(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = os.path.join(self.folder.name, "rules")

    def write(self, text):
        with open(self.path, "w", encoding="ascii") as file:
            file.write(text)

    def client(self, weir, source):
        client = socket.create_connection(("127.0.0.1", port_of(weir.listening()[0])), TIMEOUT,
                                          (source, 0))
        self.addCleanup(client.close)
        return client

    def is_let_in(self, client):
        try:
            client.sendall(b"x\n")
            data = client.recv(2)
        except (BrokenPipeError, ConnectionResetError):
            return False
        if data:
            client.shutdown(socket.SHUT_WR)
            receive_all(client)
        return data != b""

    def answers(self, weir):
        """Is each of three clients let in?"""
        return [self.is_let_in(self.client(weir, source))
                for source in ("127.0.0.1", "127.0.1.1", "127.0.1.2")]

    def test_the_rules_of_the_file_decide(self):
        self.write("# ours\ndefault deny\nallow 127.0.1.0/24\ndeny 127.0.1.2\n")
        with serve("--handler", "echo", "--access", self.path) as weir:
            self.assertEqual(self.answers(weir), [False, True, False])
            stats = weir.stats()
            self.assertEqual((stats["accepted"], stats["refused"]), (3, 2))

    def test_sighup_reads_the_file_again(self):
        self.write("allow 127.0.0.1\n")
        with serve("--handler", "echo", "--access", self.path) as weir:
            self.assertEqual(self.answers(weir), [True, False, False])
            self.write("default allow\ndeny 127.0.0.1\n")
            weir.signal(signal.SIGHUP)
            self.assertEqual(weir.line("weir: access: "), f"weir: access: read {self.path}")
            self.assertEqual(self.answers(weir), [False, True, True])

    def test_a_bad_file_leaves_the_rules_as_they_are_and_is_one_line_with_the_lines_number(self):
        self.write("allow 127.0.0.1\n")
        with serve("--handler", "echo", "--access", self.path) as weir:
            weir.listening()
            self.write("default allow\nallow 10.0.0.1/8\n")
            weir.signal(signal.SIGHUP)
            self.assertRegex(weir.line("weir: access: "),
                             f"the rules stay as they are: {self.path}: line 2: 10.0.0.1/8: ")
            os.unlink(self.path)
            weir.signal(signal.SIGHUP)
            self.assertRegex(weir.line("weir: access: "), f"{self.path}: No such file")
            self.assertEqual(self.answers(weir), [True, False, False])

    def test_a_bad_file_at_the_start_is_refused_in_one_line(self):
        self.write("allow 127.0.0.1\npermit 127.0.0.2\n")
        self.assertEqual(run("serve", "--listen", "tcp://127.0.0.1:0", "--access", self.path),
                         (2, "", f"weir serve: --access: {self.path}: line 2: 'permit' is neither "
                                 "allow nor deny\n"))
        status, out, err = run("serve", "--listen", "tcp://127.0.0.1:0", "--access", "/no/such")
        self.assertEqual((status, out), (2, ""))
        self.assertRegex(err, "^weir serve: --access: /no/such: No such file[^\n]*\n$")

    def test_users_of_a_unix_socket_are_told_apart(self):
        me = os.geteuid()
        address = f"unix:@weir-access-{os.getpid()}"
        self.write(f"allow uid {me}\n")
        with Weir("--listen", address, "--handler", "echo", "--access", self.path) as weir:
            with weir.connect() as client:
                self.assertTrue(self.is_let_in(client))
            self.write(f"default allow\ndeny uid {me}\n")
            weir.signal(signal.SIGHUP)
            weir.line("weir: access: read")
            with weir.connect() as client:
                self.assertFalse(self.is_let_in(client))

    def test_one_address_has_no_more_than_its_share(self):
        with serve("--handler", "echo", "--max-per-address", "2") as weir:
            clients = [self.client(weir, "127.0.0.1") for _ in range(2)]
            for client in clients:
                client.sendall(b"x")
                self.assertEqual(receive(client, 1), b"x")
            self.assertFalse(self.is_let_in(self.client(weir, "127.0.0.1")))
            self.assertTrue(self.is_let_in(self.client(weir, "127.0.0.2")))
            self.assertTrue(self.is_let_in(clients[0]))
            self.assertTrue(self.is_let_in(self.client(weir, "127.0.0.1")))
            self.assertEqual(weir.stats()["refused"], 1)


if __name__ == "__main__":
    main()
