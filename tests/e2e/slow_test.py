#!/usr/bin/env python3
"""Clients that are slow on purpose, many at once, or say what no client says."""

import array
import contextlib
import os
import resource
import select
import socket
import struct
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from weir_process import TIMEOUT, Weir, connect, main, receive, receive_all, serve

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HELLO = b"\r\n\r\nHello, world!\n"
FEW = 64        # descriptors
SLOW = 100      # clients

# What a client says before it falls silent.
SILENCES = {
    "nothing": b"",
    "half a head": GET[:-2],
    "half a body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\nhalf",
    "an answer before": GET,
}

# What others say before they go on with a byte now and then.
TRICKLES = {
    "a head": GET[:-4] + b"\r\nA: ",
    "a body": SILENCES["half a body"],
}
TRICKLE = 0.2   # seconds
SAYS = [(text, False) for text in SILENCES.values()] + [(text, True) for text in TRICKLES.values()]


def few_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, FEW))


def descriptors_of(weir):
    return len(os.listdir(f"/proc/{weir.process.pid}/fd"))


def wait_until(condition, what):
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, f"not {what()}"
        time.sleep(0.01)


def expect_descriptors(weir, count):
    """A connection counts as closed a moment before it is."""
    wait_until(lambda: descriptors_of(weir) == count,
               lambda: f"{count} descriptors but {descriptors_of(weir)}")


def rss_of(weir):
    with open(f"/proc/{weir.process.pid}/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def with_shadow(weir, size):
    """What memory of this size may take: a sanitizer, which maps terabytes, keeps notes of each byte."""
    with open(f"/proc/{weir.process.pid}/statm", encoding="ascii") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    return size * 16 if mapped > 1 << 40 else size


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


class Slow(threading.Thread):
    """Clients that say something and fall silent, or trickle. Whom the server ends comes again."""

    def __init__(self, address, text, trickles):
        super().__init__()
        host, port = address.split("://")[1].rsplit(":", 1)
        self.to = host, int(port)
        self.text = text
        self.trickles = trickles
        self.spoken = {}
        self.poll = select.poll()
        self.clients = {}
        self.ended = 0
        self.over = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()

    def come(self):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(self.to)
        self.clients[client.fileno()] = client
        self.poll.register(client, select.POLLIN | select.POLLOUT)

    def go(self, number):
        self.poll.unregister(number)
        self.clients.pop(number).close()
        self.spoken.pop(number, None)
        self.ended += 1

    def step(self, number, events):
        client = self.clients[number]
        try:
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR) and not client.recv(4096):
                self.go(number)
            elif events & select.POLLOUT:
                self.poll.modify(client, select.POLLIN)
                client.send(self.text)
                self.spoken[number] = time.monotonic()
        except OSError:
            self.go(number)

    def trickle(self):
        now = time.monotonic()
        for number, last in self.spoken.items():
            if now - last >= TRICKLE:
                self.spoken[number] = now
                with contextlib.suppress(OSError):
                    self.clients[number].send(b"x")

    def run(self):
        while not self.over.is_set():
            while len(self.clients) < SLOW:
                self.come()
            for number, events in self.poll.poll(50):
                self.step(number, events)
            if self.trickles:
                self.trickle()
        for client in self.clients.values():
            client.close()


class SlowClients(unittest.TestCase):
    def check_served(self, weir):
        with weir.connect() as client:
            client.sendall(LAST)
            self.assertTrue(receive_all(client).endswith(HELLO))

    def test_a_good_client_is_answered_beside_more_slow_ones_than_descriptors(self):
        # Their own deadlines would end after an hour.
        patient = ("--request-timeout", "60m", "--idle-timeout", "60m", "--head-timeout", "60m",
                   "--progress-timeout", "60m")
        for how in ((), ("--concurrency", "prefork", "--processes", "1")):
            for text, trickles in SAYS:
                with self.subTest(how=how, says=text, trickles=trickles), \
                        serve(*patient, "--max-per-address", "1000000", *how,
                              preexec_fn=few_descriptors) as weir:
                    weir.listening()
                    with Slow(weir.addresses[0], text, trickles) as slow:
                        wait_until(lambda: slow.ended > 0, lambda: "one that makes room")
                        for _ in range(2):
                            self.check_served(weir)

    def test_a_good_client_is_answered_beside_ones_that_read_nothing(self):
        with serve("--handler", "echo", "--request-timeout", "60m", "--max-per-address", "100",
                   "--max-connections", "10", "--drain-timeout", "10ms") as weir:
            deaf = [weir.connect() for _ in range(10)]
            for client in deaf:
                self.addCleanup(client.close)
                client.setblocking(False)

            def all_are_stuck(stats):
                for client in deaf:
                    with contextlib.suppress(BlockingIOError):
                        client.send(b"x" * 65536)
                return stats["parked"] == 10

            weir.stats_until(all_are_stuck)
            with weir.connect() as client:
                client.sendall(b"served\n")
                self.assertEqual(receive(client, 7), b"served\n")
            self.assertGreaterEqual(weir.stats()["made_room"], 1)

    def test_who_is_in_the_middle_of_a_request_stays_where_requests_have_no_deadline(self):
        with serve("--handler", "upper", "--request-timeout", "0", "--read-timeout", "0",
                   "--max-connections", "1") as weir:
            with weir.connect() as client, weir.connect() as other:
                client.sendall(b"half a li")
                weir.stats_until(lambda stats: stats["parked"] == 1)
                other.sendall(b"other\n")
                # Looked at twenty times a second: for longer than others are given.
                weir.stats_until(lambda stats: stats["full"] >= 40)
                client.sendall(b"ne\n")
                self.assertEqual(receive(client, 12), b"HALF A LINE\n")
                client.close()
                self.assertEqual(receive(other, 6), b"OTHER\n")


class Interrupted(unittest.TestCase):
    """Ends of all kinds, at every byte."""

    TEXTS = {"hello": GET * 2, "upper": b"a line\nand another\nthe last", "echo": b"any bytes"}

    def ends(self, handler, end):
        """Ends by end() behind each number of bytes; nothing may be left of them."""
        text = self.TEXTS[handler]
        for listen in ("tcp://127.0.0.1:0", f"unix:@weir-slow-{os.getpid()}"):
            with self.subTest(listen=listen), \
                    Weir("--listen", listen, "--handler", handler) as weir:
                weir.listening()
                weir.stats()
                before = descriptors_of(weir)
                for at in range(len(text) + 1):
                    client = weir.connect()
                    client.sendall(text[:at])
                    end(client, text[:at])
                weir.stats_until(lambda stats: stats["closed"] == len(text) + 1)
                expect_descriptors(weir, before)

    def test_resets_leave_nothing_behind(self):
        for handler in self.TEXTS:
            with self.subTest(handler=handler):
                self.ends(handler, lambda client, said: reset(client))

    def test_closes_leave_nothing_behind(self):
        for handler in self.TEXTS:
            with self.subTest(handler=handler):
                self.ends(handler, lambda client, said: client.close())

    def test_half_closes_get_every_answer(self):
        def half_close(answer):
            def end(client, said):
                client.shutdown(socket.SHUT_WR)
                got = receive_all(client)
                client.close()
                self.assertTrue(answer(said, got), (said, got))
            return end

        def http(said, got):
            # whole requests, and a refusal of what is left
            left = said.rpartition(b"\r\n\r\n")[2]
            return got.count(b"HTTP/1.1 200 OK") == said.count(b"\r\n\r\n") and \
                got.count(b"HTTP/1.1 400 ") == bool(left)

        self.ends("hello", half_close(http))
        self.ends("upper", half_close(lambda said, got: got == said.upper()))
        self.ends("echo", half_close(lambda said, got: got == said))


class Passed(unittest.TestCase):
    """Descriptors that are sent along, to a server that expects none."""

    PASSED = array.array("i", [0, 1, 2] * 50)
    RIGHTS = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, PASSED)]

    def test_descriptors_that_nobody_expects_are_none_of_the_server_s(self):
        for concurrency in ("pool", "serial", "thread", "fork", "prefork"):
            for handler, said, answer in (("hello", GET, HELLO), ("upper", b"abc\n", b"ABC\n"),
                                          ("echo", b"abc", b"abc")):
                with self.subTest(concurrency=concurrency, handler=handler), \
                        Weir("--listen", f"unix:@weir-passed-{os.getpid()}", "--handler", handler,
                             "--concurrency", concurrency) as weir:
                    weir.listening()
                    weir.stats()
                    before = descriptors_of(weir)
                    for _ in range(20):
                        with weir.connect() as client:
                            # before, in the middle, and between two requests
                            client.sendmsg([said[:2]], self.RIGHTS)
                            client.sendmsg([said[2:]], self.RIGHTS)
                            self.expect(client, answer)
                            client.sendmsg([said], self.RIGHTS)
                            self.expect(client, answer)
                    weir.stats_until(lambda stats: stats["closed"] == 20)
                    expect_descriptors(weir, before)

    def expect(self, client, end):
        got = b""
        while not got.endswith(end):
            piece = client.recv(4096)
            self.assertTrue(piece, got)
            got += piece

    def test_nor_are_those_that_come_with_datagrams(self):
        with tempfile.TemporaryDirectory() as folder:
            with Weir("--listen", f"unixgram://{folder}/d", "--handler", "echo") as weir, \
                    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
                weir.listening()
                weir.stats()
                before = descriptors_of(weir)
                client.settimeout(TIMEOUT)
                client.bind(f"{folder}/client")
                client.connect(f"{folder}/d")
                for i in range(100):
                    client.sendmsg([b"%d" % i], self.RIGHTS)
                    self.assertEqual(client.recv(100), b"%d" % i)
                expect_descriptors(weir, before)


class Floods(unittest.TestCase):
    def test_pipelined_requests_that_nobody_reads_the_answers_of_take_no_memory(self):
        with serve("--drain-timeout", "10ms") as weir:
            with weir.connect() as client:
                client.sendall(GET)
                self.assertIn(b"200 OK", client.recv(4096))
            before = rss_of(weir)
            flooding = [weir.connect() for _ in range(20)]
            for client in flooding:
                self.addCleanup(client.close)
                client.setblocking(False)
                end = time.monotonic() + TIMEOUT
                # until nobody takes anything any more
                while select.select([], [client], [], 0.1)[1] and time.monotonic() < end:
                    with contextlib.suppress(BlockingIOError):
                        client.send(GET * 1000)
            weir.stats_until(lambda stats: stats["parked"] == 20)
            self.assertLess(rss_of(weir) - before, with_shadow(weir, 20 * (256 << 10)))
            with weir.connect() as client:
                client.sendall(LAST)
                self.assertTrue(receive_all(client).endswith(HELLO))

    def test_a_head_or_a_line_without_an_end_takes_no_more_than_its_limit(self):
        for handler in ("hello", "upper"):
            with self.subTest(handler=handler), \
                    serve("--handler", handler, "--drain-timeout", "10ms") as weir:
                with connect(weir.listening()[0]) as client:
                    client.sendall(GET)
                    client.recv(4096)
                before = rss_of(weir)
                with connect(weir.addresses[0]) as client:
                    client.settimeout(TIMEOUT)
                    reader = threading.Thread(target=self.read_all, args=(client,))
                    reader.start()
                    with contextlib.suppress(OSError):
                        client.sendall(b"GET / HTTP/1.1\r\nA: ")
                        for _ in range(64):
                            client.sendall(b"x" * (1 << 20))
                        client.shutdown(socket.SHUT_WR)
                    reader.join()
                    self.assertLess(rss_of(weir) - before, with_shadow(weir, 4 << 20))

    @staticmethod
    def read_all(client):
        with contextlib.suppress(OSError):
            while client.recv(1 << 20):
                pass


if __name__ == "__main__":
    main()
