#!/usr/bin/env python3
"""Under a service manager as systemd is: sockets that it passes, and what it is told."""

import fcntl
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from weir_process import TIMEOUT, Weir, connect, main, receive, serve, unix_name

FIRST = 3       # of the descriptors that a manager passes


class Passing:
    """How to start a process that is passed these sockets, or is told of others than it has."""

    def __init__(self, sockets, **variables):
        # Far from where they are to be, so that none stands in another's place.
        self.fds = [fcntl.fcntl(s.fileno(), fcntl.F_DUPFD_CLOEXEC, 100) for s in sockets]
        self.variables = {"LISTEN_FDS": str(len(sockets)), **variables}

    def prepare(self):
        os.environ["LISTEN_PID"] = str(os.getpid())
        for name, value in self.variables.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        for i, fd in enumerate(self.fds):
            os.dup2(fd, FIRST + i)

    def start(self, *args):
        try:
            return Weir(*args, preexec_fn=self.prepare,
                        pass_fds=range(FIRST, FIRST + len(self.fds)))
        finally:
            for fd in self.fds:
                os.close(fd)


GET = b"GET / HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n"


class Asking(threading.Thread):
    """Asks in a connection each until it is told to stop."""

    def __init__(self, address):
        super().__init__()
        self.address = address
        self.served = 0
        self.failed = None      # what must not happen
        self.over = False
        self.start()

    def run(self):
        try:
            while not self.over:
                self.ask()
        except (AssertionError, OSError) as failure:
            self.failed = failure

    def ask(self):
        with connect(self.address) as client:       # may never be refused
            reply = b""
            try:
                client.sendall(GET)
                while piece := client.recv(65536):
                    reply += piece
            except (BrokenPipeError, ConnectionResetError):
                pass
        assert reply.endswith(b"\r\n\r\nHello, world!\n"), reply
        self.served += 1


class Activation(unittest.TestCase):
    def listener(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        return listener

    def serve(self, sockets, *args, **variables):
        return Passing(sockets, **variables).start(*args)

    def answer(self, address, line):
        with connect(address) as client:
            client.sendall(line)
            return receive(client, len(line))

    def check_refused(self, sockets, args, why, **variables):
        weir = self.serve(sockets, *args, **variables)
        self.assertEqual(weir.wait(), 2)
        self.assertEqual(len(weir.log), 1, weir.log)
        self.assertIn(why.replace("THIS", str(weir.process.pid)), weir.log[0])

    def test_every_socket_that_is_passed_is_served(self):
        passed = [self.listener(), self.listener()]
        with self.serve(passed, "--handler", "upper", "--listen", "systemd:") as weir:
            ports = [f"tcp://127.0.0.1:{s.getsockname()[1]}" for s in passed]
            self.assertEqual(weir.listening(2), ports)
            for address in ports:
                self.assertEqual(self.answer(address, b"abc\n"), b"ABC\n")

    def test_sockets_are_told_apart_by_their_names(self):
        passed = [self.listener(), self.listener(), self.listener()]
        addresses = [f"tcp://127.0.0.1:{s.getsockname()[1]}" for s in passed]
        with self.serve(passed, "--handler", "upper", "--listen", "systemd:b",
                        "--handler", "echo", "--listen", "systemd:a",
                        LISTEN_FDNAMES="a:b:a") as weir:
            self.assertEqual(weir.listening(3), [addresses[1], addresses[0], addresses[2]])
            self.assertEqual(self.answer(addresses[0], b"abc\n"), b"abc\n")
            self.assertEqual(self.answer(addresses[1], b"abc\n"), b"ABC\n")
            self.assertEqual(self.answer(addresses[2], b"abc\n"), b"abc\n")

    def test_without_names_each_is_called_unknown(self):
        with self.serve([self.listener()], "--listen", "systemd:unknown",
                        LISTEN_FDNAMES=None) as weir:
            weir.listening()

    def test_who_waited_before_the_server_was_there_is_served(self):
        listener = self.listener()
        with connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}") as client:
            client.sendall(b"abc\n")
            with self.serve([listener], "--handler", "upper", "--listen", "systemd:"):
                self.assertEqual(receive(client, 4), b"ABC\n")

    def test_the_manager_keeps_its_socket_and_its_path_for_the_next_start(self):
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
            path = os.path.join(folder, "weir.sock")
            listener.bind(path)
            listener.listen()
            for _ in range(2):
                with self.serve([listener], "--handler", "upper", "--listen", "systemd:") as weir:
                    address = weir.listening()[0]
                    self.assertEqual(unix_name(address), path)
                    self.assertEqual(self.answer(address, b"abc\n"), b"ABC\n")

    def test_restarts_refuse_nobody_and_cut_no_answer_off(self):
        listener = self.listener()
        clients = [Asking(f"tcp://127.0.0.1:{listener.getsockname()[1]}") for _ in range(4)]
        for restart in range(10):
            with self.serve([listener], "--listen", "systemd:") as weir:
                weir.listening()
                before = [client.served for client in clients]
                for client, count in zip(clients, before):
                    self.wait_for_progress(client, count)
                if restart == 9:
                    for client in clients:
                        client.over = True
                    for client in clients:
                        client.join(TIMEOUT)
        self.assertEqual([client.failed for client in clients], [None] * len(clients))

    def wait_for_progress(self, client, count):
        end = time.monotonic() + TIMEOUT
        while client.served <= count and client.is_alive():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.001)

    def test_a_datagram_socket_is_served(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
            bound.bind(("127.0.0.1", 0))
            with self.serve([bound], "--handler", "upper", "--listen", "systemd:") as weir:
                self.assertTrue(weir.listening()[0].startswith("udp://127.0.0.1:"))

    def test_a_socket_is_served_once(self):
        self.check_refused([self.listener()], ["--listen", "systemd:", "--listen", "systemd:"],
                           "--listen: fd://3 is served already, by an earlier --listen")

    def test_what_was_not_passed_is_refused_in_a_line_that_says_why(self):
        self.check_refused([], ["--listen", "systemd:"], "--listen systemd:: no sockets were "
                           "passed to this process: start it from a systemd service that has a "
                           ".socket unit", LISTEN_FDS=None)
        one = [self.listener()]
        self.check_refused(one, ["--listen", "systemd:"], "LISTEN_PID passes the sockets to "
                           "process 1, and this is process THIS: a script that starts weir must "
                           "use exec",
                           LISTEN_PID="1")
        self.check_refused(one, ["--listen", "systemd:"], "LISTEN_PID is '-1', which is not the "
                           "number of a process", LISTEN_PID="-1")
        for count in ("", "0", "x", "4097", "2147483645", "99999999999999999999"):
            self.check_refused(one, ["--listen", "systemd:"], f"LISTEN_FDS is '{count}', which is "
                               "not a number of sockets from 1 to 4096", LISTEN_FDS=count)
        self.check_refused(one, ["--listen", "systemd:"], "LISTEN_FDNAMES has 2 names, and "
                           "LISTEN_FDS is 1: they must be as many", LISTEN_FDNAMES="a:b")
        self.check_refused(one, ["--listen", "systemd:b"], "--listen systemd:b: no socket of that "
                           "name was passed, but these: a", LISTEN_FDNAMES="a")
        self.check_refused(one, ["--listen", "systemd:"], "fd://4: descriptor 4 is not ",
                           LISTEN_FDS="2")
        self.check_refused(one, ["--listen", "systemd:"], "--listen: more than 64 addresses",
                           LISTEN_FDS="4096")


class Manager:
    """The socket that a service manager listens on, and what it has been told."""

    def __init__(self, name):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.settimeout(TIMEOUT)
        self.socket.bind(name.replace("@", "\0", 1))
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def start(self, *args, **variables):
        """A server that is to speak to this manager."""
        return serve(*args, env={**os.environ, "NOTIFY_SOCKET": self.name, **variables})

    def heard(self):
        """The next datagram, and the number of the process that sent it."""
        words, rest, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(12))
        return words.decode(), int.from_bytes(rest[0][2][:4], sys.byteorder)

    def expect(self, words):
        assert (heard := self.heard()[0]) == words, f"{heard} instead of {words}"

    def wait_for(self, words):
        while self.heard()[0] != words:
            pass

    def hears_nothing(self, seconds):
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(4096) is None
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(TIMEOUT)

    def fill(self):
        """Takes no more: what it is told waits."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(self.name)
            try:
                while True:
                    client.send(b"STATUS=")
            except BlockingIOError:
                pass


WAYS = [
    ("--workers", "2"),
    ("--workers", "2", "--dispatch", "acceptor", "--acceptors", "2"),
    ("--concurrency", "thread"),
    ("--concurrency", "fork"),
    ("--concurrency", "prefork", "--processes", "2"),
    ("--concurrency", "serial"),
]


class Notify(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "notify")

    def test_the_manager_is_told_when_it_serves_and_when_it_stops(self):
        for way in WAYS:
            with self.subTest(way=way), Manager(self.path) as manager:
                with manager.start(*way) as weir:
                    self.assertEqual(manager.heard(), ("READY=1", weir.process.pid))
                    weir.connect().close()
                    weir.signal(signal.SIGTERM)
                    self.assertEqual(manager.heard(), ("STOPPING=1", weir.process.pid))
                    self.assertEqual(weir.wait(), 0)
                self.assertTrue(manager.hears_nothing(0.001))
                os.unlink(self.path)

    def test_an_abstract_name_will_do(self):
        with Manager(f"@weir-notify-{os.getpid()}") as manager, manager.start():
            manager.expect("READY=1")

    def test_it_stops_when_the_drain_begins_and_says_nothing_more(self):
        with Manager(self.path) as manager, tempfile.NamedTemporaryFile("w") as rules:
            rules.write("default allow\n")
            rules.flush()
            with manager.start("--drain-timeout", "0", "--access", rules.name) as weir, \
                    weir.connect() as client:
                manager.expect("READY=1")
                client.sendall(b"GET / HTTP/1.1\r\n")
                weir.stats_until(lambda stats: stats["parked"] == 1)
                weir.signal(signal.SIGTERM)
                manager.expect("STOPPING=1")
                weir.signal(signal.SIGHUP)
                weir.line("weir: access: read")
                client.close()
                self.assertEqual(weir.wait(), 0)
            self.assertTrue(manager.hears_nothing(0.001))

    def test_a_reload_is_told_with_its_time_however_it_ends(self):
        with Manager(self.path) as manager, tempfile.NamedTemporaryFile("w") as rules, \
                manager.start("--access", rules.name) as weir:
            manager.expect("READY=1")
            for said in ("", "nonsense\n"):
                rules.write(said)
                rules.flush()
                before = time.monotonic_ns() // 1000
                weir.signal(signal.SIGHUP)
                first, at = manager.heard()[0].split("\nMONOTONIC_USEC=")
                self.assertEqual(first, "RELOADING=1")
                self.assertLessEqual(before, int(at))
                self.assertLessEqual(int(at), time.monotonic_ns() // 1000)
                manager.expect("READY=1")

    def test_the_watchdog_is_told_again_and_again(self):
        for way in WAYS:
            with self.subTest(way=way), Manager(self.path) as manager:
                with manager.start(*way, WATCHDOG_USEC="20000"):
                    manager.expect("READY=1")
                    for _ in range(10):
                        manager.expect("WATCHDOG=1")
                os.unlink(self.path)

    def test_the_watchdog_is_not_told_while_nobody_can_be_accepted(self):
        # Under serial a handler has the accepting thread to itself: so it is stuck when we like.
        with Manager(self.path) as manager, \
                manager.start("--concurrency", "serial", "--handler", "echo",
                              WATCHDOG_USEC="2000") as weir:
            client = weir.connect()
            client.sendall(b"x")
            receive(client, 1)
            while not manager.hears_nothing(0.2):
                pass
            client.close()
            manager.wait_for("WATCHDOG=1")

    def test_the_watchdog_of_another_process_is_not_told(self):
        for variables in ({}, {"WATCHDOG_USEC": "2", "WATCHDOG_PID": "1"}):
            with self.subTest(variables=variables), Manager(self.path) as manager:
                with manager.start(**variables):
                    manager.expect("READY=1")
                    self.assertTrue(manager.hears_nothing(0.1))
                os.unlink(self.path)

    def test_a_manager_that_is_not_there_costs_a_line(self):
        with serve(env={**os.environ, "NOTIFY_SOCKET": self.path}) as weir:
            weir.listening()
            self.assertIn("can't be told READY=1: No such file", weir.line("weir: NOTIFY_SOCKET: "))
            weir.connect().close()

    def test_a_manager_that_takes_nothing_holds_nobody_up_for_long(self):
        with Manager(self.path) as manager:
            manager.fill()
            with manager.start("--handler", "echo") as weir:
                weir.listening()
                self.assertIn("can't be told READY=1: ", weir.line("weir: NOTIFY_SOCKET: "))
                with weir.connect() as client:
                    client.sendall(b"x")
                    receive(client, 1)

    def test_variables_that_say_nothing_cost_a_line(self):
        for name in ("vsock:2:1234", "relative", "/", "@", "/" + "x" * 108):
            with serve(env={**os.environ, "NOTIFY_SOCKET": name}) as weir:
                self.assertIn(f"is '{name}', which is neither a path of at most 107 bytes nor an",
                              weir.line("weir: NOTIFY_SOCKET "))
                weir.listening()
        for limit in ("", "0", "x", "-1", "99999999999999999999"):
            with Manager(self.path) as manager:
                with manager.start(WATCHDOG_USEC=limit) as weir:
                    self.assertIn(f"is '{limit}', which is not a number of microseconds",
                                  weir.line("weir: WATCHDOG_USEC "))
                    manager.expect("READY=1")
                os.unlink(self.path)


if __name__ == "__main__":
    main()
