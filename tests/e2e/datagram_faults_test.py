#!/usr/bin/env python3
"""Datagrams that are too long, empty, malformed or too many, and senders that can't be answered:
the next one is served, under each concurrency model."""

import functools
import os
import random
import signal
import socket
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from weir_process import TIMEOUT, Weir, connect, main, port_of, receive, unix_name

UDP = ("--listen", "udp://127.0.0.1:0")
UNIX = ("--listen", f"unixgram:@weir-datagram-faults-{os.getpid()}")
MODELS = ("pool", "serial", "thread", "fork")
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LONGEST = 65507                 # more does not fit into a datagram of IPv4

# What the kernel keeps of Unix datagrams that are not read, but for one.
with open("/proc/sys/net/unix/max_dgram_qlen", encoding="ascii") as file:
    UNIX_QUEUE = int(file.read())


def under_each_model(*args):
    """The test gets a server with these arguments, once for each model."""
    def wrap(test):
        @functools.wraps(test)
        def run(self):
            for model in MODELS:
                with self.subTest(model=model), Weir("--concurrency", model, *args) as weir:
                    test(self, weir)
        return run
    return wrap


def ask(client, data):
    client.send(data)
    return client.recv(LONGEST)


def ask_again(client, data):
    """Asks until there is an answer, since what a full queue has no room for is gone."""
    client.settimeout(0.2)
    for _ in range(5 * TIMEOUT):
        client.send(data)
        try:
            return client.recv(LONGEST)
        except TimeoutError:
            pass
    raise AssertionError("no answer")


class DatagramFaults(unittest.TestCase):
    def new_socket(self, family):
        client = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(client.close)
        client.settimeout(TIMEOUT)
        return client

    def udp(self, weir):
        client = self.new_socket(socket.AF_INET)
        client.connect(("127.0.0.1", port_of(weir.listening()[0])))
        return client

    def unix(self, weir, name=""):
        """Without a name the kernel gives it one."""
        client = self.new_socket(socket.AF_UNIX)
        client.bind(name)
        client.connect(unix_name(weir.listening()[0]))
        return client

    def deaf(self):
        """A Unix socket that is not connected: only so its queue has a limit."""
        client = self.new_socket(socket.AF_UNIX)
        client.bind("")
        if UNIX_QUEUE > 50:
            self.skipTest(f"net.unix.max_dgram_qlen is {UNIX_QUEUE}: too many to fill it")
        return client

    def check_all_done(self, weir, count):
        stats = weir.stats_until(lambda stats: (stats["closed"], stats["active"]) == (count, 0))
        self.assertEqual(stats["accepted"], count)

    @under_each_model(*UDP, "--handler", "echo")
    def test_one_that_is_too_long_is_cut_and_the_next_one_is_whole(self, weir):
        client = self.udp(weir)
        text = random.randbytes(LONGEST)
        self.assertEqual(ask(client, text), text[:8192])
        self.assertEqual(ask(client, text[:8193]), text[:8192])
        self.assertEqual(ask(client, text[:8192]), text[:8192])
        self.assertEqual(ask(client, b"next"), b"next")
        self.check_all_done(weir, 4)

    @under_each_model(*UDP, "--handler", "echo", "--max-packet-size", "64K")
    def test_the_longest_comes_back_if_there_is_room(self, weir):
        text = random.randbytes(LONGEST)
        self.assertEqual(ask(self.udp(weir), text), text)

    @under_each_model(*UDP, "--handler", "echo")
    def test_an_empty_one_is_served_and_not_answered(self, weir):
        client = self.udp(weir)
        client.send(b"")
        self.assertEqual(ask(client, b"next"), b"next")
        self.check_all_done(weir, 2)
        self.assertEqual(weir.stats()["handled"], 2)

    @under_each_model(*UDP, "--handler", "echo", "--reply-always")
    def test_an_empty_one_is_answered_by_an_empty_one_on_request(self, weir):
        client = self.udp(weir)
        self.assertEqual(ask(client, b""), b"")
        self.assertEqual(ask(client, b"next"), b"next")

    @under_each_model(*UDP, "--handler", "upper")
    def test_lines_are_answered_however_they_end(self, weir):
        client = self.udp(weir)
        for text, answer in ((b"half a line", b"HALF A LINE"), (b"\n", b"\n"),
                             (b"a\0\xff\n", b"A\0\xff\n"), (b"one\ntwo\n", b"ONE\n"),
                             (b"\r", b"\r")):
            self.assertEqual(ask(client, text), answer)

    @under_each_model(*UDP, "--handler", "echo")
    def test_bytes_of_any_kind_come_back_as_they_are(self, weir):
        client = self.udp(weir)
        for _ in range(100):
            text = random.randbytes(random.randrange(1, 2000))
            self.assertEqual(ask(client, text), text)
        self.check_all_done(weir, 100)

    @under_each_model(*UDP, "--handler", "hello")
    def test_what_is_no_request_does_not_close_the_socket_for_others(self, weir):
        for text in (b"hello\n", b"\0" * 50, b"GET / HTTP/9.9\r\n\r\n", GET[:10], b"\r\n\r\n"):
            self.udp(weir).send(text)
        self.assertIn(b" 200 OK\r\n", ask(self.udp(weir), GET))
        self.check_all_done(weir, 6)

    @under_each_model(*UDP, "--handler", "echo")
    def test_senders_that_are_gone_hurt_nobody(self, weir):
        for _ in range(20):
            client = self.udp(weir)
            client.send(b"and gone")
            client.close()
        self.assertEqual(ask(self.udp(weir), b"next"), b"next")
        self.check_all_done(weir, 21)

    @under_each_model(*UNIX, "--handler", "echo")
    def test_a_sender_without_a_name_is_told_of_and_the_next_one_is_answered(self, weir):
        nobody = self.new_socket(socket.AF_UNIX)
        nobody.connect(unix_name(weir.listening()[0]))
        nobody.send(b"to whom?")
        self.assertRegex(weir.line("weir: request from unix:"), "Destination address required")
        nobody.send(b"")
        self.assertEqual(ask(self.unix(weir), b"next"), b"next")
        self.check_all_done(weir, 3)

    @under_each_model(*UNIX, "--handler", "echo")
    def test_a_sender_whose_name_is_gone_is_told_of_and_the_next_one_is_answered(self, weir):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "sender")
            client = self.unix(weir, path)
            os.unlink(path)
            client.send(b"to whom?")
            self.assertRegex(weir.line(f"weir: request from unix:{path}: "), "No such file")
        self.assertEqual(ask(self.unix(weir), b"next"), b"next")

    @under_each_model(*UNIX, "--handler", "echo", "--write-timeout", "20ms")
    def test_a_peer_that_never_reads_holds_up_nobody(self, weir):
        deaf, name = self.deaf(), unix_name(weir.listening()[0])
        client = self.unix(weir)
        for i in range(3 * UNIX_QUEUE):
            deaf.sendto(b"unread", name)
            if i % 10 == 0:
                self.assertEqual(ask(client, b"beside"), b"beside")
        self.assertRegex(weir.line("weir: request from unix:@"), "Connection timed out")
        self.assertEqual(ask(client, b"next"), b"next")
        weir.stats_until(lambda stats: (stats["errors"], stats["active"]) == (2 * UNIX_QUEUE - 1, 0))

    @under_each_model(*UNIX, "--handler", "echo", "--write-timeout", f"{TIMEOUT}s")
    def test_a_peer_that_reads_late_gets_every_answer(self, weir):
        deaf, name = self.deaf(), unix_name(weir.listening()[0])
        texts = [str(i).encode() for i in range(UNIX_QUEUE + 5)]
        for text in texts:
            deaf.sendto(text, name)
        self.assertEqual(sorted(deaf.recv(100) for _ in texts), sorted(texts))
        self.check_all_done(weir, len(texts))

    @under_each_model(*UDP, "--listen", "tcp://127.0.0.1:0", "--handler", "echo")
    def test_a_flood_passes_and_the_next_ones_are_served(self, weir):
        flood = [self.udp(weir) for _ in range(4)]
        for _ in range(50):
            for client in flood:
                client.send(b"flood")
        with connect(weir.listening(2)[1]) as stream:
            stream.sendall(b"beside")
            self.assertEqual(receive(stream, 6), b"beside")
        self.assertEqual(ask_again(self.udp(weir), b"next"), b"next")
        weir.stats_until(lambda stats: stats["active"] == 0 and
                         stats["closed"] == stats["accepted"])

    @under_each_model(*UDP, "--handler", "echo")
    def test_a_flooded_server_ends_when_it_is_told_to(self, weir):
        client = self.udp(weir)
        for _ in range(100):
            client.send(b"flood")
        weir.signal(signal.SIGTERM)
        self.assertEqual(weir.wait(), 0)


if __name__ == "__main__":
    main()
