#!/usr/bin/env python3
"""Every program of handlers/examples, against a real client. $EXAMPLES are their paths.

Servers get addresses whose port the kernel chooses, and say which; clients get it as an argument.
"""

import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import re
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from weir_process import TIMEOUT, connect, main, port_of, receive, receive_all

PATHS = {os.path.basename(path): os.path.abspath(path) for path in os.environ["EXAMPLES"].split()}
README = pathlib.Path(os.environ["EXAMPLES_README"])
GUIDE = pathlib.Path(os.environ["GUIDE"])
ANY_PORT = "tcp://127.0.0.1:0"
HTTP_GET = b"GET / HTTP/1.0\r\n\r\n"
HELLO = b"Hello, world!\n"
GROUP = "224.3.29.71"


class Program:
    """A running example, or another program; a context that ends it. Its outputs are one."""

    def __init__(self, name, *args):
        self.process = subprocess.Popen([PATHS.get(name, name), *map(str, args)],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        self.output = self.process.stdout.fileno()
        self.log = ""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.terminate()
        status = self.wait()
        self.process.stdout.close()
        if exception == (None, None, None):
            assert status in (0, -signal.SIGTERM), f"exit status {status}, said {self.log}"

    def wait(self):
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def says(self, pattern):
        """Waits for a whole line that matches, among all that it has said; returns the match."""
        while not (match := re.search(f"^{pattern}\n", self.log, re.MULTILINE)):
            if not select.select([self.output], [], [], TIMEOUT)[0]:
                raise AssertionError(f"fell silent, said {self.log}")
            data = os.read(self.output, 65536)
            if not data:
                raise AssertionError(f"ended without {pattern!r}, said {self.log}")
            self.log += data.decode()
        return match

    def address(self, i=0):
        """The i-th address that it listens on, once it does."""
        self.says(r"(?:\w+: listening on .*\n){%d}\w+: listening on .*" % i)
        return re.findall(r"^\w+: listening on (.*)$", self.log, re.MULTILINE)[i]

    def connect(self, i=0):
        return connect(self.address(i))

    def host_and_port(self):
        return "127.0.0.1", port_of(self.address())


def run(name, *args):
    """An example that ends by itself, and well; what it said on its standard output."""
    done = subprocess.run([PATHS[name], *map(str, args)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, f"{name}: exit status {done.returncode}, said {done.stderr}"
    return done.stdout


def until(condition):
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.001)


def receive_all_of_line(client):
    line = b""
    while not line.endswith(b"\n"):
        piece = client.recv(4096)
        assert piece, f"the end, after {line}"
        line += piece
    return line


def is_silent(client):
    """Whether nothing has come, not even the end."""
    return not select.select([client], [], [], 0)[0]


def data_segments(client):
    """How many segments with data a TCP socket has received, tcpi_data_segs_in."""
    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return struct.unpack_from("I", info, 152)[0]


class Folder(unittest.TestCase):
    def test_every_program_has_a_test(self):
        source = pathlib.Path(__file__).read_text()
        called = set(re.findall(r'(?:Program|run)\(\s*"(\w+)"', source))
        self.assertEqual(called, set(PATHS))

    def test_every_program_is_in_the_readmes_table(self):
        rows = re.findall(r"^\| \[(\w+)\]\((\w+)\.cc?\) \|", README.read_text(), re.MULTILINE)
        self.assertEqual(sorted(rows), sorted((name, name) for name in PATHS))


class Lines(unittest.TestCase):
    def test_upper_answers_its_client_in_capitals(self):
        with Program("upper", ANY_PORT) as upper:
            self.assertEqual(run("upper_client", *upper.host_and_port(), "hello", "world"),
                             "Received: HELLO WORLD\n")

    def test_thank_you_thanks_and_hangs_up(self):
        with Program("thank_you", ANY_PORT) as server:
            with server.connect() as client:
                port = client.getsockname()[1]
                self.assertEqual(receive_all(client), b"Thank you for connecting\n")
            server.says(f"Got connection from 127.0.0.1:{port}")

    def test_recv16_sends_a_message_back_in_pieces_whatever_its_address(self):
        message = "This message comes back in pieces."
        for address in (ANY_PORT, "tcp://localhost:0", "tcp://:0"):
            with self.subTest(address=address), Program("recv16", address) as server:
                said = run("recv16_client", "127.0.0.1", port_of(server.address()), message)
                pieces = re.findall(r"^received '(.*)'$", said, re.MULTILINE)
                self.assertEqual("".join(pieces), message)
                self.assertLessEqual(max(map(len, pieces)), 16)
                server.says("received 'This message com'")

    def test_echo_keep_counts_the_calls_of_each_connection(self):
        with Program("echo_keep", ANY_PORT) as server, \
                server.connect() as one, server.connect() as other:
            for client, text, reply in ((one, b"a\n", b"1: a\n"), (one, b"b\n", b"2: b\n"),
                                        (other, b"c\n", b"1: c\n"), (one, b"d\n", b"3: d\n")):
                client.sendall(text)
                self.assertEqual(receive(client, len(reply)), reply)

    def test_unix_echo_guards_its_path_and_removes_it(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "socket")
            with Program("unix_echo", f"unix://{path}") as server:
                with server.connect() as client:
                    client.sendall(b"hello\n")
                    self.assertEqual(receive(client, 6), b"hello\n")
                self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o660)
                server.process.send_signal(signal.SIGINT)
                self.assertEqual(server.wait(), 0)
            self.assertFalse(os.path.exists(path))

    def test_pingpong_talks_between_two_processes(self):
        self.assertEqual(run("pingpong", 3), "".join(f"pong to ping {i}\n" for i in (1, 2, 3)))


def can_multicast():
    """Whether loopback carries multicasts here."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                             struct.pack("4s4si", socket.inet_aton(GROUP), bytes(4),
                                         socket.if_nametoindex("lo")))
        return True
    except OSError:
        return False


class Datagrams(unittest.TestCase):
    def test_udp_echo_answers_its_client(self):
        with Program("udp_echo", "udp://127.0.0.1:0") as server:
            self.assertEqual(run("udp_client", *server.host_and_port(), "hello"),
                             "received 'hello'\n")
            server.says(r"received 5 bytes from 127\.0\.0\.1:\d+")

    def test_udp_echo_cuts_what_is_too_long_and_answers_nothing_with_nothing(self):
        with Program("udp_echo", "udp://127.0.0.1:0") as server, \
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(TIMEOUT)
            client.connect(server.host_and_port())
            client.send(b"")
            server.says(r"received 0 bytes from .*")
            client.send(b"x" * 4096)
            self.assertEqual(client.recv(65536), b"x" * 4096)
            client.send(b"y" * 4097)
            self.assertEqual(client.recv(65536), b"y" * 4096)
            server.says(r"received 4096 bytes from .*, and lost the rest")

    @unittest.skipUnless(can_multicast(), "loopback carries no multicasts here")
    def test_each_receiver_of_a_group_hears_and_acknowledges(self):
        with Program("multicast_receiver", f"{GROUP}%lo", "udp://0.0.0.0:0") as one:
            port = port_of(one.address())
            with Program("multicast_receiver", f"{GROUP}%lo", f"udp://0.0.0.0:{port}") as other:
                other.address()
                # The sender waits for a fifth of a second only, as it did in Python.
                until(lambda: run("multicast_sender", GROUP, port, "lo").count("ack") == 2)
                for receiver in (one, other):
                    receiver.says("received 'very important data' from .*")


class Records(unittest.TestCase):
    def test_binary_unpacks_what_its_sender_packed(self):
        with Program("binary", ANY_PORT) as server:
            self.assertEqual(run("binary_sender", *server.host_and_port(), 1, "ab", 2.7),
                             "(1, 'ab', 2.7)\n")

    def test_binary_and_struct_agree(self):
        with Program("binary", ANY_PORT) as server, server.connect() as client:
            client.sendall(struct.pack("!I2sf", 4294967295, b"xy", -0.5) +
                           struct.pack("!I2sf", 0, b"--", 1e6))
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_all(client), b"(4294967295, 'xy', -0.5)\n(0, '--', 1e+06)\n")

    def test_a_record_cut_short_is_an_error_and_the_next_client_is_served(self):
        with Program("binary", ANY_PORT) as server:
            with server.connect() as client:
                client.sendall(b"short")
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(receive_all(client), b"")
            server.says(".*Protocol error.*")
            run("binary_sender", *server.host_and_port(), 1, "ab", 2.7)


class Ported(unittest.TestCase):
    def converse(self, server):
        one, other = server.connect(), server.connect()
        with one, other:
            for client, text in ((one, b"What do you say?\n"), (other, b"What do you say?\n")):
                self.assertEqual(receive(client, len(text)), text)
            for client, say, reply in ((one, b"a\n", b"1 of yours, 1 of all: a\n"),
                                       (other, b"b\n", b"1 of yours, 2 of all: b\n"),
                                       (one, b"c\n", b"2 of yours, 3 of all: c\n")):
                client.sendall(say)
                self.assertEqual(receive(client, len(reply)), reply)
            # One after the other: Python's print writes word by word, on whichever thread.
            for client, lines in ((one, 2), (other, 1)):
                port = client.getsockname()[1]
                client.close()
                server.says(f"127.0.0.1:{port} said {lines} lines")

    def test_visits_is_what_it_was_in_python(self):
        python = re.search(r"```python\n(import socketserver.*?)```", GUIDE.read_text(), re.DOTALL)
        with Program("visits", ANY_PORT) as server:
            self.converse(server)
        with Program(sys.executable, "-uc", python[1], "0") as server:
            self.converse(server)


class Http(unittest.TestCase):
    def get(self, client):
        client.sendall(HTTP_GET)
        head, _, body = receive_all(client).partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.0 200 OK\r\n"), head)
        return body

    def test_http_once_answers_one_request_and_ends(self):
        with Program("http_once", 0) as server:
            with server.connect() as client:
                self.assertEqual(self.get(client), HELLO)
            self.assertEqual(server.wait(), 0)

    def test_http_blocking_lets_everybody_wait_for_one(self):
        with Program("http_blocking", 0) as server, server.connect() as slow:
            with server.connect() as fast:
                fast.sendall(HTTP_GET)
                slow.sendall(b"GET / HTTP/1.0\r\n")
                self.assertTrue(is_silent(fast))
                slow.sendall(b"\r\n")
                self.assertTrue(receive_all(slow).endswith(HELLO))
                self.assertTrue(receive_all(fast).endswith(HELLO))

    def test_http_level_lets_nobody_wait_and_ends_who_goes(self):
        with Program("http_level", 0) as server, server.connect() as slow:
            for _ in range(3):
                with server.connect() as fast:
                    self.assertEqual(self.get(fast), HELLO)
            slow.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_all(slow), b"")

    def test_http_edge_lets_nobody_wait_whatever_its_backlog(self):
        for backlog in (0, 1, 50):
            with self.subTest(backlog=backlog), Program("http_edge", ANY_PORT, backlog) as server, \
                    server.connect() as slow:
                for _ in range(3):
                    with server.connect() as fast:
                        self.assertEqual(self.get(fast), HELLO)
                self.assertEqual(self.get(slow), HELLO)

    def test_http_cork_sends_a_dozen_pieces_in_one_segment(self):
        with Program("http_cork", ANY_PORT) as server, server.connect() as client:
            body = self.get(client)
            self.assertEqual(body, b"".join(b"This is line %d.\n" % i for i in range(10)))
            self.assertEqual(data_segments(client), 1)

    def test_http_nodelay_sends_each_piece_at_once(self):
        with Program("http_nodelay", ANY_PORT) as server, server.connect() as client:
            self.assertEqual(self.get(client), b"TCP_NODELAY is on\n3\n2\n1\n")
            self.assertGreaterEqual(data_segments(client), 4)


class Notes(unittest.TestCase):
    CLIENTS = 40
    EACH = 10

    def ask(self, client, method, path, body=None):
        """The status, and what the reply says as JSON; None: nothing."""
        client.request(method, path, body)
        response = client.getresponse()
        text = response.read()
        if response.getheader("Content-Type") != "application/json":
            return response.status, None
        return response.status, json.loads(text)

    def write_and_remove(self, server, number):
        """One client posts its notes, finds each, and removes every other one; those that stay."""
        client = http.client.HTTPConnection(*server.host_and_port(), TIMEOUT)
        stay = []
        try:
            for i in range(self.EACH):
                text = f'"client" {number}, note \\{i}\n'
                status, note = self.ask(client, "POST", "/notes", text)
                self.assertEqual((status, note["text"]), (201, text))
                path = f"/notes/{note['id']}"
                self.assertEqual(self.ask(client, "GET", path), (200, note))
                if i % 2 == 0:
                    stay.append(note)
                    continue
                self.assertEqual(self.ask(client, "DELETE", path), (204, None))
                self.assertEqual(self.ask(client, "DELETE", path)[0], 404)
            listed = self.ask(client, "GET", "/notes")[1]
            self.assertTrue(all(note in listed for note in stay))
        finally:
            client.close()
        return stay

    def test_notes_of_many_clients_at_once_are_all_there(self):
        with Program("notes", ANY_PORT) as server:
            server.address()
            with concurrent.futures.ThreadPoolExecutor(self.CLIENTS) as clients:
                done = [clients.submit(self.write_and_remove, server, number)
                        for number in range(self.CLIENTS)]
                stay = [note for client in done for note in client.result()]
            client = http.client.HTTPConnection(*server.host_and_port(), TIMEOUT)
            self.addCleanup(client.close)
            status, listed = self.ask(client, "GET", "/notes")
            self.assertEqual(status, 200)
            self.assertEqual(listed, sorted(stay, key=lambda note: note["id"]))
            self.assertEqual(len(stay), self.CLIENTS * self.EACH // 2)

    def test_what_is_no_note_is_refused(self):
        with Program("notes", ANY_PORT) as server:
            client = http.client.HTTPConnection(*server.host_and_port(), TIMEOUT)
            self.addCleanup(client.close)
            self.assertEqual(self.ask(client, "GET", "/notes"), (200, []))
            for path in "/notes/1", "/notes/", "/notes/x", "/notes/1x", "/notes/-1", "/other":
                self.assertEqual(self.ask(client, "GET", path)[0], 404)
            self.assertEqual(self.ask(client, "PUT", "/notes/1")[0], 405)
            self.assertEqual(self.ask(client, "POST", "/notes", b"x" * (64 << 10))[0], 201)
            self.assertEqual(self.ask(client, "POST", "/notes", b"x" * ((64 << 10) + 1))[0], 413)


class Several(unittest.TestCase):
    def test_a_slow_client_holds_up_no_fast_one(self):
        with Program("upper", ANY_PORT) as server, \
                Program("slow_client", *server.host_and_port(), 3_600_000) as slow:
            slow.says("sent 'This is the message. '")
            for _ in range(5):
                self.assertEqual(run("upper_client", *server.host_and_port(), "fast"),
                                 "Received: FAST\n")
            self.assertIsNone(slow.process.poll())

    def test_a_slow_client_is_answered_in_the_end(self):
        with Program("upper", ANY_PORT) as server:
            said = run("slow_client", *server.host_and_port(), 1)
            self.assertEqual(len(re.findall("^sent ", said, re.MULTILINE)), 3)
            self.assertIn("THIS IS THE MESSAGE. IT WILL BE SENT IN PARTS.", said)

    def test_multiclient_asks_on_several_connections_at_once(self):
        with Program("upper", ANY_PORT) as server:
            said = run("multiclient", server.address(), 20)
        self.assertEqual(sorted(said.splitlines()),
                         sorted(f"connection {i} received 'MESSAGE {i}'" for i in range(20)))

    def test_timeouts_leave_time_for_other_work(self):
        with Program("timeouts", ANY_PORT, 20) as server, server.connect() as client:
            with client.makefile("rb") as replies:
                for i in (1, 2):
                    self.assertEqual(replies.readline(),
                                     b"nothing came (%d), time for other work\n" % i)
                client.sendall(b"something\n")
                while (line := replies.readline()) != b"something\n":
                    self.assertTrue(line.startswith(b"nothing came"), line)
            server.says("clients: 1")

    def test_follow_passes_on_what_a_program_prints(self):
        with Program("follow", ANY_PORT, "printf", "one\ntwo\n") as server:
            for _ in range(2):
                with server.connect() as client:
                    self.assertEqual(receive_all(client), b"one\ntwo\n")

    def test_follow_ends_the_program_when_its_client_goes(self):
        with Program("follow", ANY_PORT, "sh", "-c", "echo $$; exec sleep 3600") as server:
            for ending in (lambda client: client.close(), lambda client: client.sendall(b"stop\n")):
                with server.connect() as client, client.makefile("rb") as replies:
                    pid = int(replies.readline())
                    replies.close()
                    ending(client)
                    until(lambda: not os.path.exists(f"/proc/{pid}"))

    def answers_of_two(self, mode):
        """The server's process, and who answers two clients at once: processes, threads."""
        with Program("echo_modes", mode, ANY_PORT) as server:
            with server.connect() as one, server.connect() as other:
                who = []
                for client in (one, other):
                    client.sendall(b"hello\n")
                    who.append(re.fullmatch(rb"process (\d+), thread (0x[0-9a-f]+): hello\n",
                                            client.makefile("rb").readline()).groups())
                    if mode == "serial":
                        client.shutdown(socket.SHUT_WR)     # or the other one is never served
            return str(server.process.pid).encode(), *zip(*who)

    def test_echo_modes_answers_by_the_pool_or_one_by_one_in_the_servers_process(self):
        for mode in ("pool", "serial"):
            with self.subTest(mode=mode):
                pid, pids, threads = self.answers_of_two(mode)
                self.assertEqual(set(pids), {pid})
                if mode == "serial":
                    self.assertEqual(threads[0], threads[1])

    def test_echo_modes_answers_by_a_thread_each(self):
        pid, pids, threads = self.answers_of_two("thread")
        self.assertEqual(set(pids), {pid})
        self.assertEqual(len(set(threads)), 2)

    def test_echo_modes_answers_by_a_child_each(self):
        pid, pids, _ = self.answers_of_two("fork")
        self.assertEqual(len({pid, *pids}), 3)

    def test_echo_modes_answers_by_children_that_were_there_before(self):
        pid, pids, _ = self.answers_of_two("prefork")
        self.assertNotIn(pid, pids)

    def test_echo_modes_knows_no_other_way(self):
        done = subprocess.run([PATHS["echo_modes"], "other"], stderr=subprocess.PIPE, text=True,
                              timeout=TIMEOUT)
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, "^echo_modes: .*concurrency")

    def test_own_loop_serves_two_servers_on_one_thread(self):
        with Program("own_loop", ANY_PORT, ANY_PORT) as servers:
            for _ in range(3):
                for i, reply in enumerate((b"HELLO\n", b"hello\n")):
                    with servers.connect(i) as client:
                        client.sendall(b"Hello\n")
                        self.assertEqual(receive(client, 6), reply)

    def test_heavy_work_of_one_client_holds_up_no_other(self):
        with Program("heavy", ANY_PORT) as server, server.connect() as heavy:
            heavy.sendall(b"1000000000000\n")       # a matter of weeks
            with server.connect() as light:
                light.sendall(b"100\n")
                self.assertEqual(receive(light, 20), b"25 primes below 100\n")
            self.assertTrue(is_silent(heavy))


class Backend:
    """A server whose clients are each served by a function, on a thread; a context that ends it."""

    def __init__(self, serve):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.serve = serve
        self.failure = None
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.threads.append(threading.Thread(target=self.talk, args=(client,)))
            self.threads[-1].start()

    def talk(self, client):
        client.settimeout(TIMEOUT)
        try:
            with client:
                self.serve(client)
        except Exception as failure:    # pylint: disable=broad-except
            self.failure = failure

    def address(self):
        return "tcp://127.0.0.1:%d" % self.listener.getsockname()[1]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(TIMEOUT)
        if exception == (None, None, None) and self.failure:
            raise self.failure


class Stream:
    """So many bytes that are known, and end at no usual length before they repeat themselves."""

    BLOCK = random.Random(7).randbytes((1 << 20) + 7)
    TWICE = BLOCK * 2

    def __init__(self, length):
        self.length = length

    def send(self, client):
        """All of it, and the end behind it."""
        view = memoryview(self.TWICE)
        done = 0
        while done < self.length:
            at = done % len(self.BLOCK)
            done += client.send(view[at:at + min(1 << 20, self.length - done)])
        client.shutdown(socket.SHUT_WR)

    def receive(self, client):
        """All of it, and nothing else until the end."""
        buffer = memoryview(bytearray(1 << 20))
        view = memoryview(self.TWICE)
        done = 0
        while length := client.recv_into(buffer):
            at = done % len(self.BLOCK)
            if buffer[:length] != view[at:at + length]:
                raise AssertionError(f"other bytes within {length} from {done} on")
            done += length
        if done != self.length:
            raise AssertionError(f"{done} bytes instead of {self.length}")


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def ends(client):
    """Waits for the end, or a reset."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


class Proxy(unittest.TestCase):
    def through(self, backend):
        return Program("proxy", ANY_PORT, backend.address())

    def test_proxy_passes_a_gib_on_byte_for_byte(self):
        gib = Stream(1 << 30)
        with Backend(gib.send) as backend, self.through(backend) as proxy, \
                proxy.connect() as client:
            gib.receive(client)

    def test_proxy_passes_both_directions_on_at_once(self):
        much = Stream(30 << 20)

        def send_and_receive(client):
            sender = threading.Thread(target=much.send, args=(client,))
            sender.start()
            much.receive(client)
            sender.join(TIMEOUT)

        # A client that sends all before it reads: nobody may wait for the one to do the other.
        with Backend(send_and_receive) as backend, self.through(backend) as proxy, \
                proxy.connect() as client:
            much.send(client)
            much.receive(client)

    def test_proxy_passes_on_the_end_of_each_direction(self):
        def answer_behind_the_end(client):
            asked = receive_all(client)
            client.sendall(b"asked " + asked)

        def end_before_the_question(client):
            client.sendall(b"first")
            client.shutdown(socket.SHUT_WR)
            heard.append(receive_all(client))

        heard = []
        with Backend(answer_behind_the_end) as backend, self.through(backend) as proxy, \
                proxy.connect() as client:
            client.sendall(b"this")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_all(client), b"asked this")
        with Backend(end_before_the_question) as backend, self.through(backend) as proxy, \
                proxy.connect() as client:
            self.assertEqual(receive_all(client), b"first")
            client.sendall(b"then")
            client.shutdown(socket.SHUT_WR)
            until(lambda: heard)
        self.assertEqual(heard, [b"then"])

    def test_proxy_ends_both_connections_if_one_is_reset(self):
        def reset_in_the_middle(client):
            client.recv(1)
            reset(client)

        seen = []
        with Backend(lambda client: seen.append(ends(client))) as backend, \
                self.through(backend) as proxy:
            reset(proxy.connect())
            until(lambda: seen)
        self.assertEqual(seen, [True])
        with Backend(reset_in_the_middle) as backend, self.through(backend) as proxy, \
                proxy.connect() as client:
            client.sendall(b"x")
            self.assertTrue(ends(client))

    def test_proxy_serves_others_while_one_takes_nothing(self):
        much = Stream(30 << 20)
        with Backend(much.send) as backend, self.through(backend) as proxy, \
                proxy.connect() as slow:
            for _ in range(3):
                with proxy.connect() as client:
                    much.receive(client)
            much.receive(slow)

    def test_proxy_without_a_backend_ends_the_connection_and_says_why(self):
        with Backend(ends) as backend:
            gone = backend.address()
        with Program("proxy", ANY_PORT, gone) as proxy, proxy.connect() as client:
            self.assertTrue(ends(client))
            proxy.says(r"weir: .*Connection refused.*")


class Access(unittest.TestCase):
    def welcome(self, server, source):
        """What a client from that address is told."""
        with socket.create_connection(server.host_and_port(), TIMEOUT, (source, 0)) as client:
            try:
                return receive_all(client)
            except ConnectionResetError:
                return b""

    def test_rules_are_read_again_and_bad_ones_leave_the_old(self):
        with tempfile.NamedTemporaryFile("w") as rules:
            def write(text):
                rules.seek(0)
                rules.truncate()
                rules.write(text)
                rules.flush()

            write("allow 127.0.0.0/8\ndeny 127.0.0.2\n")
            with Program("access", rules.name, ANY_PORT) as server:
                self.assertIn(b"Welcome, 127.0.0.1:", self.welcome(server, "127.0.0.1"))
                self.assertEqual(self.welcome(server, "127.0.0.2"), b"")
                write("allow 127.0.0.2\n")
                server.process.send_signal(signal.SIGHUP)
                server.says("access: new rules")
                self.assertEqual(self.welcome(server, "127.0.0.1"), b"")
                self.assertIn(b"Welcome, 127.0.0.2:", self.welcome(server, "127.0.0.2"))
                write("allow 127.0.0.2\nallow everybody\n")
                server.process.send_signal(signal.SIGHUP)
                server.says("access: the old rules stay: .*line 2.*")
                self.assertIn(b"Welcome, 127.0.0.2:", self.welcome(server, "127.0.0.2"))


def has_ended(pid):
    """Also of a child that nobody has waited for."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], 0)[0])
    finally:
        os.close(process)


class Successor(unittest.TestCase):
    def ask(self, address):
        with connect(address) as client:
            client.sendall(b"a\n")
            return int(receive_all_of_line(client).split(b": ")[0])

    def hand_on(self, server, before):
        """From that process to another one, which is returned."""
        os.kill(before, signal.SIGUSR2)
        rest = rf"(?s:.*)successor: process {before} serves\n(?s:.*)successor: process (\d+) serves"
        return int(server.says(rest).group(1))

    def test_clients_are_answered_by_one_process_or_the_next(self):
        with tempfile.TemporaryDirectory() as folder:
            for uri in (ANY_PORT, f"unix://{folder}/s"):
                server = Program("successor", uri)
                address, pid = server.address(), server.process.pid
                for _ in range(3):
                    with connect(address) as kept:
                        kept.sendall(b"a\nb")
                        self.assertEqual(receive(kept, len(f"{pid}: a\n")), f"{pid}: a\n".encode())
                        before, pid = pid, self.hand_on(server, pid)
                        kept.sendall(b"\n")
                        self.assertEqual(receive(kept, len(f"{before}: b\n")),
                                         f"{before}: b\n".encode())
                    self.assertIn(self.ask(address), (before, pid))
                    # Until then it may still be who accepts, once more and once more.
                    until(lambda: has_ended(before))
                    self.assertEqual(self.ask(address), pid)
                os.kill(pid, signal.SIGTERM)
                self.assertEqual(server.wait(), 0)
                while os.read(server.output, 65536):    # until the last process has ended
                    pass
                server.process.stdout.close()
            self.assertEqual(os.listdir(folder), [])

    def test_a_successor_that_fails_changes_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "program")
            shutil.copy(PATHS["successor"], path)
            with Program(path, ANY_PORT) as server:
                pid = self.ask(server.address())
                os.unlink(path)
                server.process.send_signal(signal.SIGUSR2)
                server.says(r"successor: none serves \(No such file or directory\): "
                            f"{pid} serves on")
                with open(path, "w", encoding="ascii") as file:
                    file.write("#!/bin/sh\nexit 1\n")
                os.chmod(path, 0o755)
                server.process.send_signal(signal.SIGUSR2)
                server.says(rf"successor: none serves \(No child processes\): {pid} serves on")
                self.assertEqual(self.ask(server.address()), pid)


if __name__ == "__main__":
    main()
