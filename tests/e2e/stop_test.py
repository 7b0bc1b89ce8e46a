#!/usr/bin/env python3
"""A drain that has no time limit ends, whatever clients do: under each concurrency and dispatch."""

import os
import signal
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from weir_process import main, receive, serve

REQUEST = b"GET / HTTP/1.1\r\nHost: weir\r\n\r\n"
ANSWERED = b"HTTP/1.1 200"

# What each handler is sent without a pause, and how its answer begins.
ASKED = {"hello": (REQUEST, ANSWERED), "upper": (b"x" * 31 + b"\n", b"X" * 31)}

# At a time: so much that a server never finds its client's input at an end.
BLOCK = 1 << 18

WAYS = [
    ("--workers", "2"),
    ("--workers", "2", "--dispatch", "acceptor"),
    ("--concurrency", "thread"),
    ("--concurrency", "fork"),
    ("--concurrency", "prefork", "--processes", "2"),
    ("--concurrency", "serial"),
]


class Pipeliner:
    """A client that sends requests until the connection ends, and reads what comes."""

    def __init__(self, client, handler):
        self.client = client
        self.request, self.answer = ASKED[handler]
        self.threads = [threading.Thread(target=run) for run in (self.send, self.read)]
        client.sendall(self.request)
        self.first = receive(client, len(self.answer))
        for thread in self.threads:
            thread.start()

    def send(self):
        block = self.request * (BLOCK // len(self.request))
        try:
            while True:
                self.client.sendall(block)
        except OSError:
            pass

    def read(self):
        try:
            while self.client.recv(1 << 20):
                pass
        except OSError:
            pass

    def join(self):
        for thread in self.threads:
            thread.join()
        self.client.close()


def serve_for_ever(handler, *way):
    """A drain that doesn't end by itself doesn't end."""
    return serve("--handler", handler, "--drain-timeout", "0", *way)


class Stop(unittest.TestCase):
    def check_pipelining(self, handler):
        for way in WAYS:
            with self.subTest(way=way), serve_for_ever(handler, *way) as weir:
                # Who serves one by one has no turn for a second.
                count = 1 if "serial" in way else 4
                clients = [Pipeliner(weir.connect(), handler) for _ in range(count)]
                weir.signal(signal.SIGTERM)
                status = weir.wait()
                for client in clients:
                    client.join()
                    self.assertEqual(client.first, client.answer)
                self.assertEqual(status, 0)

    def test_clients_that_pipeline_requests_of_http_end_with_the_drain(self):
        self.check_pipelining("hello")

    def test_clients_that_pipeline_lines_end_with_the_drain(self):
        self.check_pipelining("upper")

    def test_clients_that_say_nothing_end_with_the_drain(self):
        for way in WAYS:
            with self.subTest(way=way), serve_for_ever("hello", *way) as weir:
                clients = [weir.connect() for _ in range(20)]
                if "serial" not in way:
                    # Those before it are let in before it is.
                    clients.append(weir.connect())
                    clients[-1].sendall(REQUEST)
                    self.assertEqual(receive(clients[-1], len(ANSWERED)), ANSWERED)
                weir.signal(signal.SIGTERM)
                self.assertEqual(weir.wait(), 0)
                for client in clients:
                    client.close()


if __name__ == "__main__":
    main()
