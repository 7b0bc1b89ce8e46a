#!/usr/bin/env python3
"""Under a service manager as systemd is: sockets that it passes."""

import fcntl
import os
import socket
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from weir_process import Weir, connect, main, receive, unix_name

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
        for count in ("", "0", "x", "2147483645", "99999999999999999999"):
            self.check_refused(one, ["--listen", "systemd:"], f"LISTEN_FDS is '{count}', which is "
                               "not a number of sockets", LISTEN_FDS=count)
        self.check_refused(one, ["--listen", "systemd:"], "LISTEN_FDNAMES has 2 names, and "
                           "LISTEN_FDS is 1: they must be as many", LISTEN_FDNAMES="a:b")
        self.check_refused(one, ["--listen", "systemd:b"], "--listen systemd:b: no socket of that "
                           "name was passed, but these: a", LISTEN_FDNAMES="a")
        self.check_refused(one, ["--listen", "systemd:"], "fd://4: descriptor 4 is not ",
                           LISTEN_FDS="2")
        self.check_refused(one, ["--listen", "systemd:"], "--listen: more than 64 addresses",
                           LISTEN_FDS="2147483644")


if __name__ == "__main__":
    main()
