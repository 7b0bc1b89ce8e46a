#!/usr/bin/env python3
"""HTTP as curl, Python's http.client and hand-made requests speak it to the hello handler."""

import email.utils
import http.client
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

TEXT = b"Hello, world!\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

# What the request line and fields of a refused request are, and its status.
REFUSED = [
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
    (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n", 400),
    (b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET /\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
     b"Transfer-Encoding: chunked\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 501),
    (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n", 413),
    (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: more\r\n\r\n", 417),
    (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100 + b"\r\n", 431),
    (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 33000 + b"\r\n\r\n", 431),
    (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
]


def parse(data):
    """Splits bytes of replies with Content-Length into (status, headers, body)."""
    replies = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        length = int(headers.get("Content-Length", "0"))
        replies.append((int(lines[0].split()[1]), headers, data[:length]))
        data = data[length:]
    return replies


class Http(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.weir = serve("--workers", "2")
        cls.port = port_of(cls.weir.listening()[0])

    @classmethod
    def tearDownClass(cls):
        cls.weir.__exit__(None, None, None)

    def client(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        self.addCleanup(connection.close)
        return connection

    def ask(self, data):
        """The replies to some bytes, up to the end of the connection."""
        with self.weir.connect() as client:
            client.sendall(data)
            return parse(receive_all(client))

    def test_a_request_is_answered_with_hello(self):
        client = self.client()
        client.request("GET", "/")
        reply = client.getresponse()
        self.assertEqual((reply.status, reply.reason, reply.read()), (200, "OK", TEXT))
        self.assertEqual(reply.headers["Content-Length"], "14")
        self.assertEqual(reply.headers["Content-Type"], "text/plain")
        self.assertIsNotNone(email.utils.parsedate(reply.headers["Date"]))

    def test_a_connection_is_kept_for_further_requests(self):
        client = self.client()
        client.connect()
        kept = client.sock
        for _ in range(100):
            client.request("GET", "/")
            self.assertEqual(client.getresponse().read(), TEXT)
            self.assertIs(client.sock, kept)

    def test_pipelined_requests_are_answered_in_order(self):
        replies = self.ask(GET * 50 + b"GET /no HTTP/1.1\r\nHost: x\r\n\r\n" + LAST)
        self.assertEqual([reply[0] for reply in replies], [200] * 50 + [404, 200])
        self.assertEqual(replies[-1][1]["Connection"], "close")

    def test_more_pipelined_requests_than_any_buffer_holds_are_answered(self):
        with self.weir.connect() as client:
            sender = threading.Thread(target=client.sendall, args=(GET * 20_000 + LAST,))
            sender.start()
            replies = parse(receive_all(client))
            sender.join()
        self.assertEqual(len(replies), 20_001)
        self.assertEqual({reply[2] for reply in replies}, {TEXT})

    def test_head_has_the_headers_of_get_and_no_body(self):
        data = b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        with self.weir.connect() as client:
            client.sendall(data)
            reply = receive_all(client)
        self.assertIn(b"\r\nContent-Length: 14\r\n", reply)
        self.assertTrue(reply.endswith(b"\r\n\r\n"))

    def test_http_1_0_closes_unless_it_asks_to_be_kept(self):
        (reply,) = self.ask(b"GET / HTTP/1.0\r\n\r\n")
        self.assertEqual((reply[0], reply[1]["Connection"]), (200, "close"))
        replies = self.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + LAST)
        self.assertEqual([reply[0] for reply in replies], [200, 200])
        self.assertEqual(replies[0][1]["Connection"], "keep-alive")

    def test_paths_and_methods_that_are_not_served_leave_the_connection_open(self):
        replies = self.ask(b"GET /no HTTP/1.1\r\nHost: x\r\n\r\n"
                           b"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n" + LAST)
        self.assertEqual([reply[0] for reply in replies], [404, 405, 200])
        self.assertEqual(replies[1][1]["Allow"], "GET, HEAD")

    def test_bodies_that_nobody_wants_are_skipped(self):
        replies = self.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
                           b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                           b"5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n" + LAST)
        self.assertEqual([reply[0] for reply in replies], [405, 200, 200])

    def test_a_chunk_that_is_malformed_ends_the_connection_after_the_reply(self):
        replies = self.ask(b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                           b"5\r\nhelloXX" + GET)
        self.assertEqual([reply[0] for reply in replies], [200])

    def test_a_long_body_that_nobody_wants_does_not_hide_the_reply(self):
        size = 900_000
        replies = self.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        self.assertEqual([reply[0] for reply in replies], [405])
        self.assertEqual(replies[0][1]["Connection"], "close")
        with self.weir.connect() as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
                           + b"x" * 200_000)
            self.assertEqual(parse(receive_all(client))[0][0], 405)

    def test_a_body_that_waits_for_continue_and_is_not_wanted_is_never_invited(self):
        (reply,) = self.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
                            b"Expect: 100-continue\r\n\r\n")
        self.assertEqual((reply[0], reply[1]["Connection"]), (405, "close"))

    def test_bad_requests_get_their_status_and_the_connection_ends(self):
        for data, status in REFUSED:
            with self.subTest(data=data[:60]):
                replies = self.ask(data + GET)
                self.assertEqual([reply[0] for reply in replies], [status])
                self.assertEqual(replies[0][1]["Connection"], "close")

    def test_bad_requests_that_come_byte_by_byte_get_the_same(self):
        for data, status in REFUSED:
            with self.subTest(data=data[:60]), self.weir.connect() as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for byte in data[:200]:
                    client.send(bytes([byte]))
                client.sendall(data[200:])
                self.assertEqual(parse(receive_all(client))[0][0], status)

    def test_a_request_that_comes_byte_by_byte_is_answered(self):
        with self.weir.connect() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in GET + LAST:
                client.send(bytes([byte]))
            self.assertEqual([reply[0] for reply in parse(receive_all(client))], [200, 200])

    def test_a_client_that_half_closes_is_answered(self):
        with self.weir.connect() as client:
            client.sendall(GET)
            client.shutdown(socket.SHUT_WR)
            self.assertEqual([reply[0] for reply in parse(receive_all(client))], [200])

    def test_a_client_that_half_closes_within_a_request_is_told(self):
        with self.weir.connect() as client:
            client.sendall(GET[:-2])
            client.shutdown(socket.SHUT_WR)
            self.assertEqual([reply[0] for reply in parse(receive_all(client))], [400])

    def test_head_larger_than_the_read_buffer_is_answered(self):
        head = b"GET /?" + b"q" * 8000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        head += b"A: " + b"a" * 30_000 + b"\r\n\r\n"
        self.assertEqual([reply[0] for reply in self.ask(head)], [200])

    @unittest.skipUnless(shutil.which("curl"), "no curl here")
    def test_curl_is_answered(self):
        url = f"http://127.0.0.1:{self.port}/"
        for options in ([], ["-0"], ["-H", "Expect: 100-continue"], ["-d", "x" * 2000, "-G"]):
            with self.subTest(options=options):
                done = subprocess.run(["curl", "-sS", "--noproxy", "*", *options, url],
                                      capture_output=True, timeout=TIMEOUT)
                self.assertEqual((done.returncode, done.stdout, done.stderr), (0, TEXT, b""))

    @unittest.skipUnless(shutil.which("curl"), "no curl here")
    def test_curl_keeps_one_connection_for_several_requests(self):
        url = f"http://127.0.0.1:{self.port}/"
        done = subprocess.run(["curl", "-sS", "--noproxy", "*", "-w", "%{num_connects}\n"]
                              + [url] * 5, capture_output=True, text=True, timeout=TIMEOUT)
        self.assertEqual(done.stdout.split("\n")[1::2], ["1", "0", "0", "0", "0"])


class HttpElsewhere(unittest.TestCase):
    @unittest.skipUnless(shutil.which("curl"), "no curl here")
    def test_curl_is_answered_over_a_unix_socket(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "weir.sock")
            with Weir("--listen", f"unix://{path}") as weir:
                weir.listening()
                done = subprocess.run(["curl", "-sS", "--unix-socket", path, "http://localhost/"],
                                      capture_output=True, timeout=TIMEOUT)
                self.assertEqual(done.stdout, TEXT)

    def test_a_request_that_stalls_is_told_408_and_a_silent_client_nothing(self):
        with serve("--read-timeout", "50ms") as weir:
            with weir.connect() as client, weir.connect() as silent:
                client.sendall(GET[:10])
                self.assertEqual([reply[0] for reply in parse(receive_all(client))], [408])
                self.assertEqual(receive_all(silent), b"")

    def test_an_empty_line_is_no_request_that_could_stall(self):
        with serve("--request-timeout", "50ms", "--idle-timeout", "300ms") as weir:
            with weir.connect() as client, weir.connect() as silent:
                client.sendall(GET + b"\r\n")
                silent.sendall(b"\r\n")
                self.assertEqual([reply[0] for reply in parse(receive_all(client))], [200])
                self.assertEqual(receive_all(silent), b"")

    def test_a_request_that_trickles_is_ended_by_the_request_timeout(self):
        with serve("--request-timeout", "50ms", "--read-timeout", "30s") as weir:
            with weir.connect() as client:
                client.sendall(GET[:10])
                self.assertEqual([reply[0] for reply in parse(receive_all(client))], [408])

    def test_a_head_has_its_time_however_it_comes_and_so_has_silence(self):
        with serve("--head-timeout", "50ms") as weir:
            with weir.connect() as client, weir.connect() as silent:
                client.sendall(GET[:10])
                self.assertEqual([reply[0] for reply in parse(receive_all(client))], [408])
                self.assertEqual(receive_all(silent), b"")

    def test_a_body_that_does_not_move_ends_its_connection(self):
        with serve("--progress-timeout", "50ms") as weir, weir.connect() as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
            self.assertEqual([reply[0] for reply in parse(receive_all(client))], [200])

    def test_an_idle_connection_is_closed_by_the_idle_timeout(self):
        with serve("--idle-timeout", "50ms") as weir, weir.connect() as client:
            client.sendall(GET)
            self.assertEqual([reply[0] for reply in parse(receive_all(client))], [200])

    def test_an_unbuffered_server_speaks_http_too(self):
        with serve("--wbufsize", "unbuffered", "--dispatch", "acceptor") as weir:
            with weir.connect() as client:
                client.sendall(GET + LAST)
                self.assertEqual([reply[0] for reply in parse(receive_all(client))], [200, 200])

    def test_small_buffers_serve_large_requests(self):
        with serve("--rbufsize", "16", "--wbufsize", "16") as weir, weir.connect() as client:
            client.sendall(GET + LAST)
            self.assertEqual([reply[0] for reply in parse(receive_all(client))], [200, 200])


if __name__ == "__main__":
    main()
