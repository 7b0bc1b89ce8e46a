#!/usr/bin/env python3
"""The echo and upper handlers, over every kind of address."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from weir_process import TIMEOUT, Weir, main, port_of, receive, receive_all, serve


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


class Lines(unittest.TestCase):
    def check_echo(self, weir, i=0):
        with weir.connect(i) as client:
            for text in (b"hello\n", b"\0\xff", b"x" * 3000):
                client.sendall(text)
                self.assertEqual(receive(client, len(text)), text)

    def test_echo_sends_back_bytes_over_ipv4(self):
        with serve("--handler", "echo") as weir:
            self.assertRegex(weir.listening()[0], r"^tcp://127\.0\.0\.1:[1-9][0-9]*$")
            self.check_echo(weir)

    @unittest.skipUnless(has_ipv6(), "no IPv6 here")
    def test_echo_sends_back_bytes_over_ipv6(self):
        with Weir("--listen", "tcp://[::1]:0", "--handler", "echo") as weir:
            self.assertRegex(weir.listening()[0], r"^tcp://\[::1\]:[1-9][0-9]*$")
            self.check_echo(weir)

    def test_echo_sends_back_bytes_over_a_unix_socket_with_a_path(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "weir.sock")
            with Weir("--listen", f"unix://{path}", "--handler", "echo") as weir:
                self.assertEqual(weir.listening(), [f"unix://{path}"])
                self.check_echo(weir)
            self.assertFalse(os.path.exists(path))

    def test_echo_sends_back_bytes_over_an_abstract_unix_socket(self):
        name = f"weir-test-{os.getpid()}"
        with Weir("--listen", f"unix:@{name}", "--handler", "echo") as weir:
            self.assertEqual(weir.listening(), [f"unix:@{name}"])
            self.check_echo(weir)

    def test_echo_sends_back_bytes_over_an_inherited_descriptor(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            fd = listener.fileno()
            with Weir("--listen", f"fd://{fd}", "--handler", "echo", pass_fds=(fd,)) as weir:
                weir.listening()
                with socket.create_connection(listener.getsockname(), TIMEOUT) as client:
                    client.sendall(b"inherited\n")
                    self.assertEqual(receive(client, 10), b"inherited\n")

    def test_every_listener_has_the_handler_named_before_it(self):
        with Weir("--listen", "tcp://127.0.0.1:0", "--handler", "upper",
                  "--listen", "tcp://127.0.0.1:0", "--handler", "echo",
                  "--listen", "tcp://127.0.0.1:0") as weir:
            weir.listening(3)
            for i, reply in enumerate((b"ABC\n", b"ABC\n", b"abc\n")):
                with weir.connect(i) as client:
                    client.sendall(b"abc\n")
                    self.assertEqual(receive(client, 4), reply)

    def test_both_ways_to_dispatch_and_any_number_of_workers_echo_alike(self):
        for dispatch in ("worker", "acceptor"):
            for workers in ("1", "3"):
                with self.subTest(dispatch=dispatch, workers=workers), \
                        serve("--handler", "echo", "--dispatch", dispatch,
                              "--workers", workers) as weir:
                    for _ in range(5):
                        self.check_echo(weir)

    def test_an_unbuffered_server_echoes_too(self):
        with serve("--handler", "upper", "--wbufsize", "unbuffered", "--no-delay") as weir:
            with weir.connect() as client:
                client.sendall(b"a\nb\nc\n")
                self.assertEqual(receive(client, 6), b"A\nB\nC\n")

    def test_upper_answers_every_line_of_a_batch(self):
        with serve("--handler", "upper") as weir, weir.connect() as client:
            client.sendall(b"one\ntwo\nthree\nfo")
            self.assertEqual(receive(client, 14), b"ONE\nTWO\nTHREE\n")
            client.sendall(b"ur\n")
            self.assertEqual(receive(client, 5), b"FOUR\n")

    def test_upper_answers_what_is_left_when_the_client_half_closes(self):
        with serve("--handler", "upper") as weir, weir.connect() as client:
            client.sendall(b"one\ntw")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_all(client), b"ONE\nTW")

    def test_a_line_that_comes_byte_by_byte_is_answered_whole(self):
        with serve("--handler", "upper", "--no-delay") as weir, weir.connect() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in b"byte by byte\n":
                client.send(bytes([byte]))
            self.assertEqual(receive(client, 13), b"BYTE BY BYTE\n")

    def test_a_line_longer_than_the_limit_comes_back_in_capitals_all_the_same(self):
        line = b"a" * 200_000 + b"\n"
        with serve("--handler", "upper") as weir, weir.connect() as client:
            sender = threading.Thread(target=client.sendall, args=(line,))
            sender.start()
            self.assertEqual(receive(client, len(line)), line.upper())
            sender.join()

    def test_megabytes_pass_through_echo_unchanged(self):
        data = os.urandom(4 << 20)
        with serve("--handler", "echo") as weir, weir.connect() as client:
            sender = threading.Thread(target=client.sendall, args=(data,))
            sender.start()
            self.assertEqual(receive(client, len(data)), data)
            sender.join()

    @unittest.skipUnless(shutil.which("nc"), "no nc here")
    def test_nc_is_answered_line_by_line(self):
        with serve("--handler", "upper") as weir:
            port = str(port_of(weir.listening()[0]))
            done = subprocess.run(["nc", "-N", "127.0.0.1", port], input=b"hello\nworld\n",
                                  stdout=subprocess.PIPE, timeout=TIMEOUT)
            self.assertEqual(done.stdout, b"HELLO\nWORLD\n")


if __name__ == "__main__":
    main()
