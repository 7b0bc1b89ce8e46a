#!/usr/bin/env python3
"""Peers that stall, reset or never read, and descriptors that run out: the others are served."""

import contextlib
import os
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from weir_process import TIMEOUT, WEIR, connect, main, receive, receive_all, serve

CONCURRENCIES = ("pool", "serial", "thread", "fork", "prefork")

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def reset(client):
    """Closes with a reset instead of an end of file."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def fill_standard_error(pid, number=2):
    """Of a process whose standard error is a pipe: there is no room for a byte any more."""
    pipe = os.open(f"/proc/{pid}/fd/{number}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        for length in (4096, 1):
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(pipe, b"." * length)
    finally:
        os.close(pipe)


def threads_run_out(binary, limit, *args):
    """What `weir serve` says where its user may have no more threads and processes."""
    # Leaks are looked for by one thread more.
    options = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"

    def become_another():
        # The limit is for all that a user runs, and root has none.
        if os.geteuid() == 0:
            os.setuid(54329)
        resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
        os.execve(binary, ["weir", "serve", *args], {**os.environ, "ASAN_OPTIONS": options})

    return subprocess.run(["weir"], executable=WEIR, stdin=subprocess.DEVNULL, text=True,
                          stderr=subprocess.PIPE, timeout=TIMEOUT, preexec_fn=become_another,
                          check=False)


def failures_told(text):
    """How many requests a log has that failed: by a line each, and by the sums of what was left out."""
    return (len(re.findall("weir: request from .* failed: .*\n", text)) +
            sum(int(n) for n in re.findall(r"weir: left out: (\d+) .*\n", text)))


class Faults(unittest.TestCase):
    def test_without_threads_it_says_so_and_not_that_it_listens(self):
        binary = os.open(WEIR, os.O_RDONLY | os.O_CLOEXEC)
        self.addCleanup(os.close, binary)
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            for limit in (1, 2):
                for listen in ("tcp://127.0.0.1:0", "udp://127.0.0.1:0", f"unix://{folder}/s",
                               f"unixgram://{folder}/d"):
                    with self.subTest(limit=limit, listen=listen):
                        ended = threads_run_out(binary, limit, "--handler", "echo",
                                                "--listen", listen)
                        self.assertEqual(ended.returncode, 1, ended.stderr)
                        self.assertIn("thread", ended.stderr)
                        self.assertEqual(ended.stderr.count("\n"), 1, ended.stderr)
                        self.assertEqual(os.listdir(folder), [])

    def check_served(self, weir, times=1):
        for _ in range(times):
            with weir.connect() as client:
                client.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                self.assertTrue(receive_all(client).endswith(b"Hello, world!\n"))

    def check_echoed(self, weir, text=b"served\n"):
        with weir.connect() as client:
            client.sendall(text)
            self.assertEqual(receive(client, len(text)), text)

    def test_two_hundred_stalled_clients_hold_up_nobody_on_one_worker(self):
        for dispatch in ("worker", "acceptor"):
            with self.subTest(dispatch=dispatch), \
                    serve("--workers", "1", "--dispatch", dispatch) as weir:
                stalled = [weir.connect() for _ in range(200)]
                for client in stalled:
                    self.addCleanup(client.close)
                    client.sendall(GET[:10])
                weir.stats_until(lambda stats: stats["parked"] == 200)
                self.check_served(weir, 50)
                for client in stalled:
                    client.sendall(GET[10:])
                for client in stalled:
                    self.assertIn(b"200 OK", receive(client, 20))
                for client in stalled:
                    client.close()

    def test_stalled_lines_hold_up_nobody_on_one_worker(self):
        with serve("--workers", "1", "--handler", "upper", "--drain-timeout", "10ms") as weir:
            stalled = [weir.connect() for _ in range(200)]
            for client in stalled:
                self.addCleanup(client.close)
                client.sendall(b"half a li")
            weir.stats_until(lambda stats: stats["parked"] == 200)
            self.check_echoed(weir, b"SERVED\n")

    def test_a_peer_that_never_reads_holds_up_nobody(self):
        with serve("--workers", "1", "--handler", "echo", "--drain-timeout", "10ms") as weir:
            with weir.connect() as deaf:
                deaf.setblocking(False)
                while select.select([], [deaf], [], 0.5)[1]:
                    deaf.send(b"x" * 65536)
                weir.stats_until(lambda stats: stats["parked"] == 1)
                self.check_echoed(weir)

    def test_a_peer_that_never_reads_is_given_up_by_the_write_timeout(self):
        with serve("--workers", "1", "--handler", "echo", "--write-timeout", "50ms") as weir:
            with weir.connect() as deaf:
                deaf.setblocking(False)
                try:
                    while True:
                        select.select([], [deaf], [])
                        deaf.send(b"x" * 65536)
                except (ConnectionResetError, BrokenPipeError):
                    pass
            weir.stats_until(lambda stats: stats["active"] == 0 and stats["timeouts"] == 1)

    def test_peers_that_reset_are_forgotten_without_a_word(self):
        # Who is root is told so unless it is asked for.
        with serve("--workers", "2", "--user", f"{os.geteuid()}:{os.getegid()}") as weir:
            for data in (b"", GET[:10], GET, GET * 100):
                for _ in range(20):
                    client = weir.connect()
                    if data:
                        client.sendall(data)
                    reset(client)
            weir.stats_until(lambda stats: stats["active"] == 0)
            self.check_served(weir)
            weir.signal(signal.SIGTERM)
            self.assertEqual(weir.wait(), 0)
            self.assertEqual([line for line in weir.log
                              if not line.startswith(("weir: stats ", "weir: dump "))],
                             [f"weir: listening on {weir.addresses[0]}"])

    def test_peers_that_reset_while_they_are_answered_hurt_nobody(self):
        with serve("--workers", "1", "--handler", "echo") as weir:
            for _ in range(20):
                client = weir.connect()
                client.setblocking(False)
                client.send(b"x" * 65536)
                reset(client)
            weir.stats_until(lambda stats: stats["active"] == 0)
            self.check_echoed(weir)

    def test_resets_are_counted_and_not_told(self):
        for concurrency in ("pool", "thread", "fork", "prefork"):
            with self.subTest(concurrency=concurrency), \
                    serve("--concurrency", concurrency, "--handler", "upper") as weir:
                for _ in range(20):
                    client = weir.connect()
                    client.sendall(b"half a li")
                    reset(client)
                weir.stats_until(lambda stats: stats["resets"] == 20 and stats["active"] == 0)
                weir.signal(signal.SIGTERM)
                self.assertEqual(weir.wait(), 0)
                self.assertEqual([line for line in weir.log if "request from" in line], [])

    def is_begun(self, client):
        """Whether it has a handler: it has none if its first line hasn't come in time."""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            client.sendall(b"x\n")
            return client.recv(2) == b"X\n"
        return False

    def let_fail(self, weir, clients):
        """Each waits in the middle of a line, so that its handler is told that it takes too long."""
        failed = 0
        while failed < clients:
            with weir.connect() as client:
                if self.is_begun(client):
                    client.sendall(b"half a li")
                    self.assertEqual(receive_all(client), b"")
                    failed += 1

    def serve_failing(self, concurrency):
        return serve("--concurrency", concurrency, "--handler", "upper", "--read-timeout", "10ms")

    def test_each_failure_is_told_with_its_handler_and_peer(self):
        for concurrency in CONCURRENCIES:
            with self.subTest(concurrency=concurrency), self.serve_failing(concurrency) as weir:
                self.let_fail(weir, 3)
                for _ in range(3):
                    self.assertRegex(weir.line("weir: request from "),
                                     r"^weir: request from 127\.0\.0\.1:\d+: handle of handler "
                                     r"'upper' failed: Connection timed out \(read_timeout_ms has "
                                     r"passed, which is 10 for tcp://127\.0\.0\.1:\d+\)$")
                stats = weir.stats_until(lambda stats: stats["handle_errors"] == 3)
                self.assertEqual(stats["errors"], 3)

    def test_standard_error_that_nobody_reads_holds_up_nobody(self):
        for concurrency in CONCURRENCIES:
            with self.subTest(concurrency=concurrency), self.serve_failing(concurrency) as weir:
                weir.listening()
                fill_standard_error(weir.process.pid)
                self.let_fail(weir, 30)
                weir.signal(signal.SIGTERM)
                self.assertEqual(weir.process.wait(TIMEOUT), 0)
                weir.stop_reading()

    def test_what_nobody_read_is_told_or_counted_when_somebody_reads_again(self):
        for concurrency in CONCURRENCIES:
            with self.subTest(concurrency=concurrency), self.serve_failing(concurrency) as weir:
                weir.listening()
                fill_standard_error(weir.process.pid)
                self.let_fail(weir, 30)
                while (told := failures_told(weir.unread)) < 30:
                    self.assertTrue(weir._read(), f"ended when {told} were told")
                self.assertEqual(told, 30)

    def test_nothing_that_signals_do_waits_for_who_reads_standard_error(self):
        with tempfile.TemporaryDirectory() as folder:
            rules = os.path.join(folder, "rules")

            def write(text):
                with open(rules, "w", encoding="ascii") as file:
                    file.write(text)

            for concurrency in ("pool", "prefork"):
                with self.subTest(concurrency=concurrency):
                    write("default allow\n")
                    with serve("--concurrency", concurrency, "--handler", "echo",
                               "--access", rules) as weir:
                        weir.listening()
                        fill_standard_error(weir.process.pid)
                        for _ in range(50):
                            weir.signal(signal.SIGUSR1)
                        self.check_echoed(weir)
                        write("default deny\n")
                        weir.signal(signal.SIGHUP)
                        end = time.monotonic() + TIMEOUT
                        while self.is_let_in(weir):
                            self.assertLess(time.monotonic(), end, "the rules stayed as they were")
                        weir.signal(signal.SIGTERM)
                        self.assertEqual(weir.process.wait(TIMEOUT), 0)
                        weir.stop_reading()

    def is_let_in(self, weir):
        with weir.connect() as client:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                client.sendall(b"x")
                return client.recv(1) == b"x"
        return False

    def test_it_starts_serves_and_ends_with_a_full_pipe_as_standard_error(self):
        ours, theirs = os.pipe()
        self.addCleanup(os.close, ours)
        fill_standard_error(os.getpid(), theirs)
        with tempfile.TemporaryDirectory() as folder:
            address = f"unix://{folder}/s"
            process = subprocess.Popen([WEIR, "serve", "--handler", "echo", "--listen", address],
                                       stdin=subprocess.DEVNULL, stderr=theirs)
            os.close(theirs)
            try:
                end = time.monotonic() + TIMEOUT
                while not self.is_answered(address):
                    self.assertLess(time.monotonic(), end, "it never began to serve")
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(TIMEOUT), 0)
            finally:
                process.kill()
                process.wait()

    def is_answered(self, address):
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError), \
                connect(address) as client:
            client.sendall(b"x")
            return client.recv(1) == b"x"
        return False

    def test_accepting_resumes_when_descriptors_are_free_again(self):
        def few_descriptors():
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

        for options in ([], ["--max-connections", "1000"]):
            with self.subTest(options=options), \
                    serve("--workers", "1", *options, preexec_fn=few_descriptors) as weir:
                clients = [weir.connect() for _ in range(100)]
                for client in clients:
                    self.addCleanup(client.close)
                    client.sendall(GET)
                # Those that were accepted are answered; closing them makes room for the others.
                for client in clients:
                    self.assertIn(b"200 OK", receive(client, 20))
                    client.close()
                stats = weir.stats_until(lambda stats: stats["closed"] == 100)
                self.assertLess(stats["accept_errors"], 1000)
                self.check_served(weir)

    def test_idle_clients_shut_nobody_out(self):
        def few_descriptors():
            resource.setrlimit(resource.RLIMIT_NOFILE, (320, 320))

        for options in ([], ["--dispatch", "acceptor"],
                        ["--concurrency", "prefork", "--processes", "1"]):
            with self.subTest(options=options), \
                    serve(*options, preexec_fn=few_descriptors) as weir:
                for _ in range(600):
                    client = weir.connect()
                    self.addCleanup(client.close)
                    client.sendall(GET)
                    self.assertIn(b"200 OK", receive(client, 20))
                self.check_served(weir)
                self.assertIn(" as the limit of open files (ulimit -n) allows, and others wait",
                              weir.line("weir: " + weir.addresses[0] + ": full: "))
                stats = weir.stats()
                self.assertGreaterEqual(stats["made_room"], 600 - 320)
                self.assertEqual(stats["accept_errors"], 0)

    def test_more_connections_than_allowed_wait_their_turn(self):
        with serve("--max-connections", "3", "--handler", "echo") as weir:
            clients = [weir.connect() for _ in range(10)]
            for client in clients:
                self.addCleanup(client.close)
                client.sendall(b"hello")
            for client in clients:
                self.assertEqual(receive(client, 5), b"hello")
                client.close()
            weir.stats_until(lambda stats: stats["closed"] == 10)

    def test_a_thousand_clients_that_come_and_go_leave_nothing_behind(self):
        with serve("--workers", "2") as weir:
            self.check_served(weir, 1000)
            stats = weir.stats_until(lambda stats: stats["closed"] == 1000)
            self.assertEqual((stats["accepted"], stats["active"]), (1000, 0))


if __name__ == "__main__":
    main()
