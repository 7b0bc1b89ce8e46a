#!/usr/bin/env python3
"""`weir load`: its options and mistakes, what it prints, its exit status, and what signals do."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from weir_process import TIMEOUT, WEIR, Weir, main, run, serve

TCP = "tcp://127.0.0.1:1"
UDP = "udp://127.0.0.1:1"
NAME = f"@weir-load-test-{os.getpid()}"    # no other run of this test has it

# Arguments of `weir load` and the one line that they are refused with.
MISTAKES = [
    ([], "say where to, such as tcp://127.0.0.1:8080; see `weir load --help`"),
    ([TCP, UDP], f"one address, please: '{TCP}' or '{UDP}'"),
    ([TCP, "--", UDP], f"one address, please: '{TCP}' or '{UDP}'"),
    ([TCP, "--unknown"], "there is no option '--unknown'; see `weir load --help`"),
    ([TCP, "--rate"], "--rate needs a value, N"),
    ([TCP, "--close=yes"], "--close takes no value"),
    (["fd://3"], "fd://3: there is nothing to connect to"),
    ([TCP, "--connections", "0"], "--connections: '0' is not a number from 1 to 1000000"),
    ([TCP, "--connections", "x"], "--connections: 'x' is not a number from 1 to 1000000"),
    ([TCP, "--requests", "0"],
     "--requests: '0' is not a number from 1 to 9223372036854775807"),
    ([TCP, "--rate", "0"], "--rate: '0' is not a number from 1 to 100000000"),
    ([TCP, "--pipeline", "4097"], "--pipeline: '4097' is not a number from 1 to 4096"),
    ([TCP, "--threads", "257"], "--threads: '257' is not a number from 1 to 256"),
    ([TCP, "--threads", "3", "--connections", "2"], "--threads: more than there are connections"),
    ([TCP, "--duration", "0"],
     "--duration: '0' is not a time such as 500ms, 10s or 2m (from 1ms to 49 days)"),
    ([TCP, "--duration", "1h"],
     "--duration: '1h' is not a time such as 500ms, 10s or 2m (from 1ms to 49 days)"),
    ([TCP, "--ramp", "x"],
     "--ramp: 'x' is not a time such as 500ms, 10s or 2m (0: none, at most 49 days)"),
    ([TCP, "--timeout", "0"],
     "--timeout: '0' is not a time such as 500ms, 10s or 2m (from 1ms to 49 days)"),
    ([TCP, "--warmup", "4294967295ms"],
     "--warmup: '4294967295ms' is not a time such as 500ms, 10s or 2m (0: none, at most 49 days)"),
    ([TCP, "--duration", "1s", "-zq"], "there is no option '-z'; see `weir load --help`"),
    ([TCP, "--payload", "x"], "--payload: 'x' is none of http, line and upper"),
    ([TCP, "--size", "x"], "--size: 'x' is not a size such as 8192, 64K or 1M"),
    ([TCP, "--payload", "line", "--size", "15"], "--size: a line has 16 to 1048576 bytes"),
    ([TCP, "--path", "x"], "--path: 'x' is not a path such as /index.html"),
    ([TCP, "--path", "/a b"], "--path: '/a b' is not a path such as /index.html"),
    ([TCP, "--header", "x"], "--header: 'x' is not a field such as 'Accept: text/html'"),
    ([TCP, "--header", "a b: c"], "--header: 'a b: c' is not a field such as 'Accept: text/html'"),
    ([TCP, "--header", "X: " + "x" * 9000], "--header: more than 8192 bytes in total"),
    ([TCP, "--header", "content-length: 5"],
     "--header: a GET has no body, and so no Content-Length"),
    ([TCP, "--header", "Transfer-Encoding: chunked"],
     "--header: a GET has no body, and so no Transfer-Encoding"),
    ([TCP, "--close", "--header", "A: b", "--header", "connection: keep-alive"],
     "--header: with --close, Connection is close"),
    (["http://"], "'http://' is not a URL such as http://127.0.0.1:8080/index.html"),
    (["http://a@b/"], "'http://a@b/' is not a URL such as http://127.0.0.1:8080/index.html"),
    (["http://x/#y"], "'http://x/#y' is not a URL such as http://127.0.0.1:8080/index.html"),
    (["http://x?y"], "'http://x?y' is not a URL such as http://127.0.0.1:8080/index.html"),
    (["http://" + "x" * 400],
     f"'http://{'x' * 400}' is not a URL such as http://127.0.0.1:8080/index.html"),
    (["http://127.0.0.1/x", "--path", "/y"], "--path: 'http://127.0.0.1/x' has one"),
    (["http://127.0.0.1", "--payload", "line"], "--payload: a URL is asked by http"),
    ([TCP, "--payload", "line", "--path", "/"], "--path: only http has one"),
    ([TCP, "--payload", "upper", "--header", "A: b"], "--header: only http has one"),
    ([TCP, "--source", "localhost"], "--source: 'localhost' is not an IP address"),
    ([TCP, "--source", "127.0.0.1,,"], "--source: '' is not an IP address"),
    ([TCP, "--source", "::1"], f"--source: an address of another family than {TCP}"),
    (["unix:@x", "--source", "::1"], "--source: unix:@x is no IP address"),
    ([UDP, "--payload", "http"], "--payload: datagrams carry no http"),
    ([UDP, "--close"], "--close: datagrams have no connection"),
    ([UDP, "--stalled", "1"], "--stalled: there is no part of a datagram"),
    ([UDP, "--trickle", "1"], "--trickle: there is no part of a datagram"),
    ([UDP, "--size", "64K"], "--size: a datagram has at most 65507 bytes"),
]


def send_without_end(client):
    """An answer, until the other side has closed."""
    with contextlib.suppress(ConnectionError):
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\n")
        while True:
            client.sendall(b"x" * 65536)


def load(*args):
    """Runs `weir load` and wants its result as JSON. Returns the exit status and that."""
    status, out, err = run("load", *args, "--json", "-")
    return status, json.loads(out) if out else err


class Output(unittest.TestCase):
    def test_help_names_every_option_that_is_read(self):
        status, out, err = run("load", "--help")
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(run("load", "-h"), (0, out, ""))
        self.assertEqual(run("help", "load"), (0, out, ""))
        self.assertTrue(out.startswith("usage: weir load URI [OPTION...]\n"))
        for option in ("connections", "duration", "requests", "rate", "pipeline", "payload",
                       "size", "path", "header", "close", "ramp", "warmup", "timeout", "stalled",
                       "trickle", "threads", "cpu", "source", "json", "help"):
            self.assertRegex(out, rf"(?m)^  --{option}\b")

    def test_every_mistake_is_refused_in_one_line_that_names_it(self):
        for args, line in MISTAKES:
            with self.subTest(args=args):
                status, out, err = run("load", *args)
                self.assertEqual((status, out, err), (2, "", f"weir load: {line}\n"))

    def test_what_an_address_or_a_list_of_cpus_lacks_is_said_in_one_line(self):
        for args in (["nonsense"], ["tcp://127.0.0.1"], ["tcp://no.such.host.invalid:1"],
                     [TCP, "--cpu", "x"], [TCP, "--connections", "1000000", "--stalled", "1000000",
                                           "--trickle", "1000000"]):
            with self.subTest(args=args):
                status, out, err = run("load", *args)
                self.assertEqual((status, out), (2, ""))
                self.assertRegex(err, r"^weir load: [^\n]+\n$")

    def test_the_table_has_counts_and_percentiles(self):
        with serve() as weir:
            status, out, err = run("load", weir.listening()[0], "--requests", "500")
        self.assertEqual((status, err), (0, ""))
        self.assertRegex(out, r"^tcp://127\.0\.0\.1:\d+: http, 64 connections, "
                              r"1 under way on each, closed loop, \d+\.\d\d s\n\n")
        self.assertRegex(out, r"(?m)^requests +500 +\d+/s$")
        self.assertRegex(out, r"(?m)^errors +0$")
        self.assertRegex(out, r"(?m)^received +\d+ bytes +\d+/s$")
        self.assertRegex(out, r"(?m)^connections +\d+ opened$")
        self.assertRegex(out, r"(?m)^ +min +p50 +p90 +p99 +p99\.9 +p99\.99 +max +mean$")
        self.assertRegex(out, r"(?m)^latency( +[0-9.]+[num]?s){8}$")

    def test_json_is_utf8_whatever_the_address(self):
        # Well-formed, then: a byte of Latin-1, a continuation alone, one that is cut short, what is
        # longer than it has to be, half of a surrogate pair, beyond U+10FFFF, and no UTF-8 at all.
        names = {"\u00e9\u20ac\U0001f600".encode(): "\u00e9\u20ac\U0001f600", b"\xe9": "\ufffd",
                 b"\x80": "\ufffd", b"\xe2\x82": "\ufffd\ufffd", b"\xc0\xaf": "\ufffd\ufffd",
                 b"\xed\xa0\x80": "\ufffd" * 3, b"\xf4\x90\x80\x80": "\ufffd" * 4,
                 b"\xff": "\ufffd"}
        with tempfile.TemporaryDirectory() as folder:
            for name, text in names.items():
                with self.subTest(name=name):
                    path = os.path.join(os.fsencode(folder), b"s" + name)
                    with Weir("--listen", b"unix://" + path) as weir:
                        weir.line("weir: listening on ")
                        done = subprocess.run([WEIR, "load", b"unix://" + path, "--requests", "10",
                                               "--json", "-"], stdout=subprocess.PIPE,
                                              timeout=TIMEOUT, check=True)
                    address = json.loads(done.stdout.decode())["address"]
                    self.assertEqual(address, f"unix://{folder}/s{text}")

    def test_json_has_the_histogram_and_goes_to_a_file_beside_the_table(self):
        with serve() as weir, tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "result.json")
            status, out, _ = run("load", weir.listening()[0], "--requests", "500", "--json", path)
            with open(path) as file:
                result = json.load(file)
        self.assertEqual(status, 0)
        self.assertIn("requests", out)
        latency = result["latency_ns"]
        self.assertEqual((result["requests"], result["errors"], result["errors_by_kind"]),
                         (500, 0, {}))
        self.assertEqual(sum(count for _, _, count in latency["buckets"]), 500)
        figures = [latency[key] for key in ("min", "p50", "p90", "p99", "p99_9", "p99_99", "max")]
        self.assertEqual(figures, sorted(figures))
        for (_, high, _), (low, _, _) in zip(latency["buckets"], latency["buckets"][1:]):
            self.assertLess(high, low)
        self.assertEqual(result["connect_ns"]["count"], result["connect_ns"]["buckets"] and
                         sum(count for _, _, count in result["connect_ns"]["buckets"]))

    def test_a_file_that_cannot_be_written_is_a_mistake_that_is_told_before_the_load(self):
        with serve() as weir:
            status, out, err = run("load", weir.listening()[0], "--requests", "1",
                                   "--json", "/no/such/folder/x")
            self.assertEqual(weir.stats()["accepted"], 0)
        self.assertEqual((status, out, err),
                         (2, "", "weir load: /no/such/folder/x: No such file or directory\n"))

    def test_a_result_that_did_not_get_out_is_an_error_in_one_line(self):
        full = "No space left on device"
        with serve() as weir:
            args = [WEIR, "load", weir.listening()[0], "--requests", "1", "--connections", "1"]
            for more, line in (([], f"weir: standard output can't be written: {full}"),
                               (["--json", "-"], f"weir: standard output can't be written: {full}"),
                               (["--json", "/dev/full"], f"weir load: /dev/full: {full}")):
                with self.subTest(more=more), open("/dev/full", "wb") as out:
                    to = out if "/dev/full" not in more else subprocess.DEVNULL
                    done = subprocess.run([*args, *more], stdout=to, stderr=subprocess.PIPE,
                                          text=True, timeout=TIMEOUT, check=False)
                    self.assertEqual((done.returncode, done.stderr), (1, line + "\n"))
            done = subprocess.run(args, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT,
                                  check=False, preexec_fn=lambda: os.close(1))
        self.assertEqual((done.returncode, done.stderr),
                         (1, "weir: standard output can't be written: Bad file descriptor\n"))


def requested(*args, uri="tcp://127.0.0.1:{}"):
    """The lines of the one request that `weir load` sends, and the number of the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(TIMEOUT)
        port = server.getsockname()[1]
        with subprocess.Popen([WEIR, "load", uri.format(port), "--connections", "1", "--requests",
                               "1", *args], stdout=subprocess.PIPE) as process:
            text = b""
            while not text:     # a connection that only looks whether somebody listens says nothing
                client, _ = server.accept()
                with client:
                    client.settimeout(TIMEOUT)
                    while not text.endswith(b"\r\n\r\n") and (piece := client.recv(65536)):
                        text += piece
                    if text:
                        client.sendall(b"HTTP/1.1 200 OK\r\nConnection: x, close\r\n"
                                       b"Content-Length: 0\r\n\r\n")
            process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0
    return text.decode().splitlines()[:-1], port


class Requests(unittest.TestCase):
    def test_a_host_that_is_given_goes_instead_of_the_address(self):
        lines, port = requested()
        self.assertEqual(lines, ["GET / HTTP/1.1", f"Host: 127.0.0.1:{port}"])
        for args in ((), ("--close",)):
            lines, _ = requested("--header", "X-Host: y", "--header", "hOST: x", *args)
            self.assertEqual(lines[:3], ["GET / HTTP/1.1", "X-Host: y", "hOST: x"])
            self.assertEqual(lines[3:], ["Connection: close"] if args else [])

    def test_a_url_is_an_address_and_a_path_and_the_host(self):
        lines, port = requested(uri="http://127.0.0.1:{}/a/b?c")
        self.assertEqual(lines, ["GET /a/b?c HTTP/1.1", f"Host: 127.0.0.1:{port}"])
        lines, port = requested("--path", "/x", uri="http://localhost:{}")
        self.assertEqual(lines, ["GET /x HTTP/1.1", f"Host: localhost:{port}"])
        lines, _ = requested("--header", "Host: other", uri="http://localhost:{}/")
        self.assertEqual(lines, ["GET / HTTP/1.1", "Host: other"])

    def test_the_port_of_a_url_is_80_unless_it_says_so(self):
        for host in ("127.0.0.1", "[::1]"):
            with self.subTest(host=host):
                status, _, err = run("load", f"http://{host}/", "--source", "127.0.0.1,::1")
                self.assertEqual((status, err), (2, "weir load: --source: an address of another "
                                                    f"family than tcp://{host}:80\n"))


class Loads(unittest.TestCase):
    def check(self, requests, *args):
        status, result = load(*args, "--requests", str(requests))
        self.assertEqual((status, result["errors"], result["requests"]), (0, 0, requests), result)
        self.assertEqual(result["latency_ns"]["count"], requests)
        return result

    def test_http_over_tcp_and_unix(self):
        with Weir("--listen", "tcp://127.0.0.1:0", "--listen", f"unix:{NAME}") as weir:
            for address in weir.listening(2):
                for args in ((), ("--pipeline", "16"), ("--close",), ("--threads", "2"),
                             ("--rate", "5000"), ("--rate", "5000", "--close"),
                             ("--header", "Accept: */*", "--header", "X-A: b", "--path", "/?x"),
                             ("--size", "14"), ("--warmup", "50ms"), ("--cpu", "0")):
                    with self.subTest(address=address, args=args):
                        result = self.check(1000, address, *args)
                        if "--close" in args:
                            self.assertEqual(result["connect_ns"]["count"], 1000)

    def test_lines_over_tcp_and_unix(self):
        for handler, payload in (("echo", "line"), ("upper", "upper")):
            with Weir("--handler", handler, "--listen", "tcp://127.0.0.1:0", "--listen",
                      f"unix:{NAME}") as weir:
                for address in weir.listening(2):
                    for args in ((), ("--pipeline", "7"), ("--close",), ("--size", "4000"),
                                 ("--rate", "5000", "--pipeline", "2")):
                        with self.subTest(address=address, handler=handler, args=args):
                            self.check(1000, address, "--payload", payload, *args)

    def test_long_lines_come_back_while_they_are_sent(self):
        with serve("--handler", "echo") as weir:
            result = self.check(20, weir.listening()[0], "--payload", "line", "--size", "1M",
                                "--connections", "2", "--pipeline", "3")
        self.assertEqual(result["bytes_received"], 20 * 1024 * 1024)

    def test_a_name_is_asked_where_somebody_listens(self):
        for address in "tcp://127.0.0.1:0", "tcp://localhost:0":
            with Weir("--listen", address) as weir:
                port = weir.listening()[0].rpartition(":")[2]
                self.check(10, f"tcp://localhost:{port}")
                self.check(10, f"tcp://localhost:{port}", "--source", "127.0.0.2")

    def test_a_name_is_asked_by_datagrams_where_somebody_answers(self):
        for address in "udp://127.0.0.1:0", "udp://localhost:0":
            with self.subTest(address=address), \
                    Weir("--handler", "echo", "--listen", address) as weir:
                port = weir.listening()[0].rpartition(":")[2]
                self.check(10, f"udp://localhost:{port}", "--connections", "2")

    def test_datagrams_over_udp_and_unix(self):
        with Weir("--handler", "echo", "--listen", "udp://127.0.0.1:0", "--listen",
                  f"unixgram:{NAME}") as weir:
            for address in weir.listening(2):
                for args in ((), ("--pipeline", "4"), ("--size", "1400"), ("--rate", "5000")):
                    with self.subTest(address=address, args=args):
                        self.check(1000, address, "--connections", "8", *args)

    def test_a_rate_for_a_time_is_as_many_requests(self):
        with serve() as weir:
            status, result = load(weir.listening()[0], "--rate", "1000", "--duration", "200ms")
        self.assertEqual((status, result["requests"]), (0, 200))
        self.assertGreaterEqual(result["elapsed_s"], 0.199)

    def test_connections_are_opened_over_the_ramp(self):
        with serve() as weir:
            status, result = load(weir.listening()[0], "--connections", "10", "--ramp", "300ms",
                                  "--duration", "400ms")
        self.assertEqual((status, result["connect_ns"]["count"]), (0, 10))

    def test_source_addresses_are_taken_in_turn(self):
        with serve("--max-per-address", "2") as weir:
            address = weir.listening()[0]
            args = ("--connections", "6", "--duration", "100ms", "--timeout", "20s")
            status, result = load(address, *args, "--source", "127.0.0.2,127.0.0.3,127.0.0.4")
            self.assertEqual((status, result["errors"]), (0, 0))
            weir.stats_until(lambda stats: stats["active"] == 0)
            status, result = load(address, *args, "--source", "127.0.0.2")
            self.assertEqual(status, 1)

    def test_stalled_and_trickling_clients_are_there_besides(self):
        with serve("--request-timeout", "300ms") as weir:
            status, result = load(weir.listening()[0], "--connections", "2", "--stalled", "5",
                                  "--trickle", "3", "--duration", "1s")
        self.assertEqual((status, result["errors"]), (0, 0))
        self.assertGreaterEqual(result["hung_up"], 8)
        self.assertGreaterEqual(result["connect_ns"]["count"], 10)

    def test_trickled_requests_are_answered_in_the_end(self):
        with serve("--handler", "upper") as weir:
            status, result = load(weir.listening()[0], "--connections", "1", "--trickle", "3",
                                  "--payload", "upper", "--size", "16", "--duration", "2500ms")
        self.assertEqual((status, result["errors"], result["hung_up"]), (0, 0, 0))
        self.assertGreaterEqual(result["trickled"], 1)


class Failures(unittest.TestCase):
    def test_a_server_that_is_not_there_ends_it_at_once(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        self.assertEqual(run("load", address),
                         (1, "", f"weir load: {address}: Connection refused\n"))
        status, out, err = run("load", "unix:///no/such/socket")
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(err, "weir load: unix:///no/such/socket: No such file or directory\n")

    def test_errors_are_counted_by_kind_and_make_the_status_1(self):
        with serve() as weir:
            address = weir.listening()[0]
            status, result = load(address, "--path", "/none", "--requests", "10",
                                  "--connections", "2")
            self.assertEqual((status, result["requests"], result["errors_by_kind"]),
                             (1, 0, {"a status other than 200": 10}))
            status, out, _ = run("load", address, "--size", "13", "--requests", "2",
                                 "--connections", "2")
            self.assertEqual(status, 1)
            self.assertRegex(out, r"(?m)^errors +2\n +2 a body of another length$")

    def test_a_server_that_says_nothing_is_timed_out(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            status, result = load(f"tcp://127.0.0.1:{server.getsockname()[1]}", "--connections",
                                  "3", "--requests", "3", "--timeout", "50ms")
        self.assertEqual((status, result["errors_by_kind"]), (1, {"no answer in time": 3}))

    def test_an_answer_without_an_end_is_waited_for_no_longer_than_the_timeout(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            def answer():
                client, _ = server.accept()
                with client:
                    send_without_end(client)

            writer = threading.Thread(target=answer)
            writer.start()
            self.addCleanup(writer.join)
            status, result = load(f"tcp://127.0.0.1:{server.getsockname()[1]}", "--connections",
                                  "1", "--duration", "50ms", "--timeout", "100ms")
        self.assertEqual((status, result["errors_by_kind"]), (1, {"no answer in time": 1}))

    def test_a_server_slower_than_the_rate_is_seen_to_be(self):
        with Weir("--handler", "echo", "--listen", "tcp://127.0.0.1:0", "--listen",
                  "udp://127.0.0.1:0") as weir:
            for address in weir.listening(2):
                with self.subTest(address=address):
                    status, result = load(address, "--payload", "line", "--connections", "2",
                                          "--rate", "50000000", "--duration", "100ms",
                                          "--timeout", "1s")
                    self.assertEqual(status, 1)
                    self.assertGreater(
                        result["errors_by_kind"]["every connection was busy for too long"], 0)
                    # What was due was either answered or is an error, and nothing is both.
                    self.assertEqual(result["requests"] + result["errors"], 5000000)


class Signals(unittest.TestCase):
    def start(self, *args, **popen):
        process = subprocess.Popen([WEIR, "load", *args], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   **popen)
        self.addCleanup(process.communicate)
        return process

    def test_a_signal_ends_it_early_with_a_report(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number=number), serve() as weir:
                process = self.start(weir.listening()[0], "--duration", "49000s")
                weir.stats_until(lambda stats: stats["handled"] > 100)
                process.send_signal(number)
                out, err = process.communicate(timeout=TIMEOUT)
                self.assertEqual((process.returncode, err), (0, ""))
                self.assertRegex(out, r" s, interrupted\n")

    def test_a_warm_up_can_be_ended_and_nothing_counts(self):
        with serve() as weir:
            process = self.start(weir.listening()[0], "--warmup", "49000s", "--json", "-")
            weir.stats_until(lambda stats: stats["handled"] > 100)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=TIMEOUT)
        result = json.loads(out)
        self.assertEqual((process.returncode, result["interrupted"], result["requests"]),
                         (0, True, 0))

    def test_one_signal_ends_the_wait_for_answers_even_for_one_without_an_end(self):
        for endless in (False, True):
            with self.subTest(endless=endless), \
                    socket.create_server(("127.0.0.1", 0)) as server:
                process = self.start(f"tcp://127.0.0.1:{server.getsockname()[1]}", "--timeout",
                                     "49000s", "--connections", "1")
                client, _ = server.accept()
                with client:
                    self.assertTrue(client.recv(1))
                    if endless:
                        writer = threading.Thread(target=send_without_end, args=(client,))
                        writer.start()
                        self.addCleanup(writer.join)
                    process.send_signal(signal.SIGINT)
                    out, err = process.communicate(timeout=TIMEOUT)
                    self.assertEqual((process.returncode, err), (0, ""))
                    self.assertRegex(out, r" s, interrupted\n")


if __name__ == "__main__":
    main()
