#!/usr/bin/env python3
"""Restarts that refuse nobody, and stops that end whatever handlers do."""

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import weir_process
from systemd_test import Manager
from weir_process import TIMEOUT, WEIR, Weir, connect, main, receive, serve

NASTY = os.path.abspath(os.environ.get("NASTY", "bazel-bin/tests/nasty"))
RESTARTS = os.path.abspath(os.environ.get("RESTARTS", "bench/restarts"))

# It would trace the process, which a sandbox does not allow.
WITHOUT_LEAK_SANITIZER = {
    **os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0",
}

WAYS = [
    ("--workers", "2"),
    ("--workers", "2", "--acceptors", "3"),
    ("--workers", "2", "--dispatch", "acceptor"),
    ("--concurrency", "thread"),
    ("--concurrency", "fork"),
    ("--concurrency", "prefork", "--processes", "2"),
    ("--concurrency", "serial"),
]


def state_of(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_running(pid):
    """With any of its threads: the first may have ended, as state_of says, before the others."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        return not select.select([process], [], [], 0)[0]
    finally:
        os.close(process)


def is_pending(pid, number):
    """The process has been sent it, and none of its threads has taken it."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        pending = re.search(r"^ShdPnd:\s*(\w+)$", status.read(), re.MULTILINE).group(1)
    return bool(int(pending, 16) >> (number - 1) & 1)


def is_writable(fd):
    return bool(select.select([], [fd], [], 0)[1])


def until(condition):
    end = time.monotonic() + TIMEOUT
    while not (result := condition()):
        assert time.monotonic() < end
        time.sleep(0.001)
    return result


def answer(address, line=b"abc\n"):
    with connect(address) as client:
        client.sendall(line)
        return receive(client, len(line))


class Successor:
    """What follows a server at SIGUSR2: no child of ours. It has the same standard error."""

    def __init__(self, weir):
        line = weir.line("weir: process ")
        self.pid = int(re.search(r"^weir: process (\d+) serves from now on, and this one drains$",
                                 line).group(1))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if is_running(self.pid):
            os.kill(self.pid, signal.SIGTERM)
        until(lambda: not is_running(self.pid))


class Program:
    """A copy of the command, which can be made another program meanwhile."""

    def __init__(self, test):
        folder = tempfile.TemporaryDirectory()
        test.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.path = os.path.join(self.folder, "program")
        self.replace(lambda path: shutil.copy(WEIR, path))

    def replace(self, make):
        """As an upgrade does: under another name first, since a program that runs can't be written."""
        new = self.path + ".new"
        make(new)
        os.chmod(new, 0o755)
        os.rename(new, self.path)

    def become_script(self, text):
        def write(path):
            with open(path, "w", encoding="ascii") as file:
                file.write("#!/bin/sh\n" + text + "\n")
        self.replace(write)

    def start(self, *args, **how):
        before, weir_process.WEIR = weir_process.WEIR, self.path
        try:
            return serve(*args, **how)
        finally:
            weir_process.WEIR = before


class Handover(unittest.TestCase):
    def folder(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return folder.name

    def check_serves(self, addresses):
        for address in addresses:
            self.assertEqual(answer(address), b"ABC\n")

    def test_a_successor_serves_the_same_sockets(self):
        for way in WAYS:
            with self.subTest(way=way):
                path = os.path.join(self.folder(), "s")
                weir = serve("--handler", "upper", "--listen", f"unix://{path}", *way)
                addresses = list(weir.listening(2))
                weir.signal(signal.SIGUSR2)
                with Successor(weir):
                    self.assertEqual([line for line in weir.log if "listening on" in line][2:],
                                     [f"weir: listening on {address}" for address in addresses])
                    self.assertEqual(weir.process.wait(TIMEOUT), 0)
                    self.check_serves(addresses)
                self.assertFalse(os.path.exists(path))
                self.assertEqual(weir.wait(), 0)

    def test_a_successor_has_one_too(self):
        weir = serve("--handler", "upper")
        addresses = list(weir.listening())
        weir.signal(signal.SIGUSR2)
        for _ in range(3):
            with Successor(weir) as successor:
                self.check_serves(addresses)
                os.kill(successor.pid, signal.SIGUSR2)
                last = Successor(weir)
                until(lambda: not is_running(successor.pid))
            os.kill(last.pid, signal.SIGUSR2)
        with Successor(weir):
            self.check_serves(addresses)
        self.assertEqual(weir.wait(), 0)

    def test_who_is_being_served_is_served_to_the_end(self):
        weir = serve("--handler", "upper")
        with weir.connect() as client:
            client.sendall(b"ab")
            weir.stats_until(lambda stats: stats["parked"] == 1)
            weir.signal(signal.SIGUSR2)
            with Successor(weir):
                client.sendall(b"c\n")
                self.assertEqual(receive(client, 4), b"ABC\n")
                self.assertEqual(weir.process.wait(TIMEOUT), 0)
        weir.wait()

    def test_the_program_may_have_become_another_one(self):
        program = Program(self)
        weir = program.start("--handler", "upper")
        weir.listening()
        marker = os.path.join(program.folder, "marker")
        program.become_script(f'touch {marker}; exec {WEIR} "$@"')
        weir.signal(signal.SIGUSR2)
        with Successor(weir):
            self.assertTrue(os.path.exists(marker))
            self.check_serves(weir.listening())
        self.assertEqual(weir.wait(), 0)

    def check_refused(self, program, weir, why):
        weir.signal(signal.SIGUSR2)
        self.assertIn(why, weir.line("weir: "))
        self.check_serves(weir.listening())

    def test_a_successor_that_fails_changes_nothing(self):
        program = Program(self)
        path = os.path.join(self.folder(), "s")
        with program.start("--handler", "upper", "--listen", f"unix://{path}") as weir:
            weir.listening(2)
            for _ in range(2):
                program.become_script("exit 3")
                self.check_refused(program, weir, "the successor ended with status 3 before it "
                                   "served: this process serves on")
                program.become_script("kill -9 $$")
                self.check_refused(program, weir, "the successor was ended by signal 9 before it "
                                   "served: this process serves on")
                program.become_script(f'exec {WEIR} "$@" --access /nowhere')
                weir.signal(signal.SIGUSR2)
                weir.line("weir serve: --access: /nowhere: ")
                weir.line("weir: the successor ended with status 2 before it served")
                self.check_serves(weir.listening(2))
                os.unlink(program.path)
                self.check_refused(program, weir, "a successor can't be started: "
                                   f"{program.path}: No such file or directory: this process "
                                   "serves on")

    def stop_while_one_starts(self, text, state, *args, before=":", signals=1):
        """The successor does `before`, tells its number, and is in that state by `text`."""
        program = Program(self)
        said = os.path.join(program.folder, "pid")
        with program.start(*args) as weir:
            weir.listening()
            program.become_script(f"{before}; echo $$ > {said}.new; mv {said}.new {said}; {text}")
            weir.signal(signal.SIGUSR2)
            until(lambda: os.path.exists(said))
            with open(said, encoding="ascii") as file:
                pid = int(file.read())
            until(lambda: state_of(pid) == state)
            weir.signal(signal.SIGUSR2)     # there is one already
            weir.signal(signal.SIGTERM)
            for _ in range(1, signals):
                until(lambda: not is_pending(weir.process.pid, signal.SIGTERM))
                weir.signal(signal.SIGTERM)
            self.assertEqual(weir.wait(), 0)
            self.assertFalse(is_running(pid))
        return weir.log

    def test_a_stop_ends_a_successor_that_starts(self):
        for text, state in (("exec sleep 1000", "S"), ("kill -STOP $$; exec sleep 1000", "T")):
            with self.subTest(state=state):
                log = self.stop_while_one_starts(text, state)
                self.assertFalse([line for line in log if "successor" in line])

    def test_a_stop_ends_a_successor_that_does_not_listen(self):
        for args, signals in ((("--drain-timeout", "1ms"), 1), (("--drain-timeout", "0"), 2)):
            with self.subTest(signals=signals):
                log = self.stop_while_one_starts("exec sleep 1000", "S", *args,
                                                 before="trap '' TERM", signals=signals)
                self.assertIn("weir: the successor did not end when it was told to, and was ended "
                              "by force", log)

    def test_a_server_that_drains_starts_no_successor(self):
        with serve("--handler", "upper", "--drain-timeout", "0") as weir, weir.connect() as client:
            client.sendall(b"ab")
            weir.stats_until(lambda stats: stats["parked"] == 1)
            weir.signal(signal.SIGTERM)
            self.assertTrue(weir_process.refuses(weir.listening()[0]))
            weir.signal(signal.SIGUSR2)
            client.sendall(b"c\n")
            self.assertEqual(receive(client, 4), b"ABC\n")
            self.assertEqual(weir.wait(), 0)

    def test_unix_sockets_keep_their_permissions(self):
        path = os.path.join(self.folder(), "s")
        weir = Weir("--handler", "upper", "--listen", f"unix://{path}", "--unix-mode", "0600")
        weir.listening()
        weir.signal(signal.SIGUSR2)
        with Successor(weir):
            self.assertEqual(os.lstat(path).st_mode & 0o777, 0o600)
            self.check_serves(weir.listening())
        self.assertEqual(weir.wait(), 0)

    def test_a_variable_that_says_nothing_is_ignored(self):
        for text in ("", "x", "3 4", "99999\n", "0\nfd://0", "0\n3 tcp://", "0\nfd://0 tcp://",
                     "0\nfd://0 1 tcp://", "0\nfd://0 1:x tcp://"):
            with serve(env={**os.environ, "WEIR_HANDED_ON": text}) as weir:
                weir.line("weir: WEIR_HANDED_ON is not what a process writes that hands its")
                weir.listening()


    def test_a_successor_of_a_server_at_the_default_address_names_none_either(self):
        with socket.create_server(("127.0.0.1", 0)) as listener, open(os.devnull, "wb") as ready:
            handed = (f"{ready.fileno()}\nfd://{listener.fileno()} 0:0 tcp://127.0.0.1:8080\n")
            with Weir("--handler", "upper", env={**os.environ, "WEIR_HANDED_ON": handed},
                      pass_fds=(ready.fileno(), listener.fileno())) as weir:
                self.assertEqual(answer(weir.listening()[0]), b"ABC\n")
                self.assertEqual(weir.listening(),
                                 [f"tcp://127.0.0.1:{listener.getsockname()[1]}"])

    def test_a_successor_that_ends_before_it_is_ready_has_removed_no_path(self):
        path = os.path.join(self.folder(), "s")
        ours, ready = os.pipe()
        self.addCleanup(os.close, ours)
        self.addCleanup(os.close, ready)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            made = os.lstat(path)
            # Nothing fits into the pipe, so it waits in the midst of saying that it is ready.
            os.set_blocking(ready, False)
            while os.write(ready, bytes(select.PIPE_BUF)) == select.PIPE_BUF and is_writable(ready):
                pass
            os.set_blocking(ready, True)
            handed = (f"{ready}\nfd://{listener.fileno()} {made.st_dev}:{made.st_ino} "
                      f"unix://{path}\n")
            weir = serve("--handler", "upper", env={**os.environ, "WEIR_HANDED_ON": handed},
                         pass_fds=(ready, listener.fileno()))
            weir.listening()
            until(lambda: state_of(weir.process.pid) == "S")
            self.assertTrue(os.path.exists(path))
            os.read(ours, 65536)
            until(lambda: not os.path.exists(path))
            weir.signal(signal.SIGTERM)
            self.assertEqual(weir.wait(), 0)


class Options(unittest.TestCase):
    """A file of options: read at the start, and again by whoever is started by SIGHUP."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.path = os.path.join(folder.name, "options")

    def write(self, *lines):
        with open(self.path + ".new", "w", encoding="ascii") as file:
            file.write("\n".join(lines))
        os.rename(self.path + ".new", self.path)

    def start(self, *args, **how):
        weir = Weir("--options", self.path, *args, **how)
        self.addCleanup(weir.__exit__, None, None, None)
        return weir

    def hang_up(self, weir, expected):
        weir.signal(signal.SIGHUP)
        return weir.line(expected)

    def test_what_has_changed_takes_effect_and_refuses_nobody(self):
        for way in WAYS:
            with self.subTest(way=way):
                self.write("# comment", "", "  handler = upper\t# comment",
                           "listen=tcp://127.0.0.1:0", "no-delay")
                weir = self.start(*way)
                address, = weir.listening()
                self.assertEqual(answer(address), b"ABC\n")
                self.write("handler = hello", "listen = tcp://127.0.0.1:0")
                self.hang_up(weir, f"weir: options: {self.path} has changed: a successor is to "
                             "read it")
                with Successor(weir) as successor:
                    # Until it has stopped, clients may be its own.
                    self.assertEqual(weir.process.wait(TIMEOUT), 0)
                    reply = answer(address, b"GET / HTTP/1.0\r\n\r\n")
                    self.assertTrue(reply.startswith(b"HTTP/1."), reply)
                    os.kill(successor.pid, signal.SIGHUP)
                    weir.line(f"weir: options: {self.path} is as it was")
                self.assertEqual(weir.wait(), 0)

    def test_a_mistake_changes_nothing(self):
        self.write("handler = upper", "listen = tcp://127.0.0.1:0")
        weir = self.start()
        address, = weir.listening()
        for line, why in (("idle-timeout = soon", "--idle-timeout: 'soon' is not a time"),
                          ("idle = 3", "there is no option 'idle'")):
            self.write("handler = hello", "listen = tcp://127.0.0.1:0", line)
            self.hang_up(weir, f"weir serve: {self.path}:3: {why}")
            weir.line("weir: the successor ended with status 2 before it served: this process "
                      "serves on")
            self.assertEqual(answer(address), b"ABC\n")
        os.unlink(self.path)
        self.hang_up(weir, f"weir serve: --options: {self.path}: No such file or directory")
        weir.line("weir: the successor ended with status 2")
        self.assertEqual(answer(address), b"ABC\n")
        self.write("handler = upper", "listen = tcp://127.0.0.1:0")
        self.hang_up(weir, f"weir: options: {self.path} is as it was")
        self.write("handler = upper", "listen = tcp://127.0.0.1:0", "no-delay")
        weir.signal(signal.SIGHUP)
        with Successor(weir):
            self.assertEqual(answer(address), b"ABC\n")
        self.assertEqual(weir.wait(), 0)

    def test_a_file_that_names_no_listener_any_more_changes_nothing(self):
        self.write("handler = upper", "listen = tcp://127.0.0.1:0")
        weir = self.start()
        address, = weir.listening()
        for lines in ([], ["# listen = tcp://127.0.0.1:0"], ["handler = hello"]):
            with self.subTest(lines=lines):
                self.write(*lines)
                self.hang_up(weir, "weir serve: no --listen is left, and tcp://127.0.0.1:0 is "
                             "served: name it, or the default, tcp://127.0.0.1:8080")
                weir.line("weir: the successor ended with status 2 before it served: this process "
                          "serves on")
                self.assertEqual(answer(address), b"ABC\n")

    def test_the_same_words_are_no_change_whenever_they_were_written(self):
        lines = ["handler = upper", "listen = tcp://127.0.0.1:0"]
        self.write(*lines)
        weir = self.start()
        address, = weir.listening()
        os.utime(self.path, (1, 1))
        self.hang_up(weir, f"weir: options: {self.path} is as it was")
        self.write(*lines)              # another file
        self.hang_up(weir, f"weir: options: {self.path} is as it was")
        self.assertEqual(answer(address), b"ABC\n")
        # Other words at the same time, of the same length, in the same file.
        before = os.stat(self.path)
        with open(self.path, "r+", encoding="ascii") as file:
            file.write("handler = hello")
        os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))
        self.hang_up(weir, f"weir: options: {self.path} has changed: a successor is to read it")
        with Successor(weir):
            self.assertEqual(weir.process.wait(TIMEOUT), 0)
        self.assertEqual(weir.wait(), 0)

    def test_listeners_come_and_go(self):
        old, new = (os.path.join(self.folder, name) for name in ("old", "new"))
        kept = f"listen = unix://{self.folder}/kept"
        self.write("handler = upper", kept, f"listen = unix://{old}")
        weir = self.start()
        weir.listening(2)
        self.write("handler = upper", f"listen = unix://{new}", kept)
        weir.signal(signal.SIGHUP)
        with Successor(weir):
            self.assertEqual(weir.process.wait(TIMEOUT), 0)
            until(lambda: not os.path.exists(old))
            for name in ("new", "kept"):
                self.assertEqual(answer(f"unix://{self.folder}/{name}"), b"ABC\n")
        self.assertEqual(sorted(os.listdir(self.folder)), ["options"])
        self.assertEqual(weir.wait(), 0)

    def test_another_servers_socket_stays_where_a_listener_was(self):
        path = os.path.join(self.folder, "s")
        self.write("handler = upper", "listen = tcp://127.0.0.1:0", f"listen = unix://{path}")
        weir = self.start()
        weir.listening(2)
        os.unlink(path)
        with Weir("--handler", "echo", "--listen", f"unix://{path}") as other:
            other.listening()
            self.write("handler = upper", "listen = tcp://127.0.0.1:0")
            weir.signal(signal.SIGHUP)
            with Successor(weir):
                self.assertEqual(weir.process.wait(TIMEOUT), 0)
            self.assertEqual(weir.wait(), 0)
            self.assertEqual(answer(f"unix://{path}", b"a\n"), b"a\n")

    def test_another_servers_socket_stays_where_a_kept_listener_was(self):
        path = os.path.join(self.folder, "s")
        self.write("handler = upper", "listen = tcp://127.0.0.1:0", f"listen = unix://{path}")
        weir = self.start()
        weir.listening(2)
        os.unlink(path)
        with Weir("--handler", "echo", "--listen", f"unix://{path}") as other:
            other.listening()
            weir.signal(signal.SIGUSR2)
            with Successor(weir) as successor:
                self.assertEqual(weir.process.wait(TIMEOUT), 0)
                os.kill(successor.pid, signal.SIGUSR2)
                with Successor(weir):   # which has been told of the same file
                    until(lambda: not is_running(successor.pid))
            self.assertEqual(weir.wait(), 0)
            self.assertEqual(answer(f"unix://{path}", b"a\n"), b"a\n")

    def test_a_path_that_was_removed_may_be_bound_by_other_words(self):
        path = os.path.join(self.folder, "s")
        self.write("handler = upper", f"listen = unix://{path}")
        weir = self.start()
        weir.listening()
        os.unlink(path)
        self.write("handler = upper", f"listen = unix://{self.folder}//s")
        weir.signal(signal.SIGHUP)
        with Successor(weir):
            self.assertEqual(weir.process.wait(TIMEOUT), 0)
            self.assertEqual(answer(f"unix://{path}"), b"ABC\n")
        self.assertEqual(weir.wait(), 0)

    def test_a_path_that_the_new_sandbox_keeps_is_told(self):
        path = os.path.join(self.folder, "s")
        self.write("handler = upper", "listen = tcp://127.0.0.1:0", f"listen = unix://{path}")
        weir = self.start(env=WITHOUT_LEAK_SANITIZER)
        weir.listening(2)
        self.write("handler = upper", "listen = tcp://127.0.0.1:0", "sandbox")
        weir.signal(signal.SIGHUP)
        with Successor(weir):
            self.assertEqual(weir.process.wait(TIMEOUT), 0)
        self.assertEqual(weir.wait(), 0)
        self.assertIn(f"weir: nobody listens at {path} any more, but it can't be removed: "
                      "Permission denied", weir.log)

    def test_a_path_that_is_to_be_kept_is_kept(self):
        old = os.path.join(self.folder, "old")
        self.write("keep-path", "handler = upper", f"listen = unix://{old}")
        weir = self.start()
        weir.listening()
        self.write("keep-path", "handler = upper", "listen = tcp://127.0.0.1:0")
        weir.signal(signal.SIGHUP)
        with Successor(weir):
            self.assertEqual(weir.process.wait(TIMEOUT), 0)
            self.assertTrue(os.path.exists(old))
        self.assertEqual(weir.wait(), 0)

    def test_sigusr2_reads_it_anew_and_the_command_line_counts_by_its_place(self):
        self.write("handler = upper", "listen = tcp://127.0.0.1:0")
        weir = self.start("--handler", "echo", "--listen", "tcp://127.0.0.1:0")
        self.assertEqual([answer(address) for address in weir.listening(2)], [b"ABC\n", b"abc\n"])
        self.write("handler = echo", "listen = tcp://127.0.0.1:0")
        weir.signal(signal.SIGUSR2)
        with Successor(weir):
            # Until it has stopped, clients may be its own.
            self.assertEqual(weir.process.wait(TIMEOUT), 0)
            self.assertEqual([answer(address) for address in weir.listening(2)],
                             [b"abc\n", b"abc\n"])
        self.assertEqual(weir.wait(), 0)

    def hang_up_while_one_starts(self, end):
        """The successor waits until its predecessor has had the signal, and then does this."""
        program = Program(self)
        self.write("handler = upper")
        weir = program.start("--options", self.path)
        weir.listening()
        gate = os.path.join(program.folder, "gate")
        os.mkfifo(gate)
        program.become_script(f"read line <{gate}; {end}")
        weir.signal(signal.SIGUSR2)
        with open(gate, "w", encoding="ascii") as file:
            weir.signal(signal.SIGHUP)
            weir.stats()        # it has been heard
            file.write("go\n")
        return weir

    def test_a_signal_that_comes_while_a_successor_starts_is_its_own(self):
        weir = self.hang_up_while_one_starts(f'exec {WEIR} "$@"')
        with Successor(weir):
            weir.line(f"weir: options: {self.path} is as it was")
        self.assertEqual(weir.wait(), 0)

    def test_a_signal_that_comes_while_one_starts_in_vain_is_obeyed_then(self):
        weir = self.hang_up_while_one_starts("exit 3")
        weir.line("weir: the successor ended with status 3 before it served")
        weir.line(f"weir: options: {self.path} is as it was")
        weir.signal(signal.SIGTERM)
        self.assertEqual(weir.wait(), 0)

    def test_a_signal_for_a_successor_that_has_ended_is_nobodys(self):
        # Where SIGCHLD is ignored, nothing is left of a child, and its number is free.
        for action in (signal.SIG_DFL, signal.SIG_IGN):
            self.write("handler = upper", "listen = tcp://127.0.0.1:0", "drain-timeout = 0")
            # pylint: disable-next=cell-var-from-loop
            weir = self.start(preexec_fn=lambda: signal.signal(signal.SIGCHLD, action))
            with self.subTest(action=action), weir.connect() as client:
                client.sendall(b"ab")
                weir.stats_until(lambda stats: stats["parked"] == 1)
                weir.signal(signal.SIGUSR2)
                with Successor(weir) as successor:
                    pass
                for _ in range(2):
                    self.hang_up(weir, f"weir: SIGHUP is for process {successor.pid}, which has "
                                 "ended: nothing is read again")
                client.sendall(b"c\n")
                self.assertEqual(receive(client, 4), b"ABC\n")
                self.assertEqual(weir.wait(), 0)

    def test_rules_are_read_in_place_where_only_they_have_changed(self):
        rules = os.path.join(self.folder, "rules")
        with open(rules, "w", encoding="ascii") as file:
            file.write("allow 127.0.0.0/8\n")
        self.write("handler = upper", "listen = tcp://127.0.0.1:0", f"access = {rules}")
        weir = self.start()
        with weir.connect() as client:
            client.sendall(b"a\n")
            self.assertEqual(receive(client, 2), b"A\n")
            self.hang_up(weir, f"weir: access: read {rules}")
            client.sendall(b"b\n")
            self.assertEqual(receive(client, 2), b"B\n")
        weir.signal(signal.SIGTERM)
        self.assertEqual(weir.wait(), 0)

    def test_a_sandbox_says_that_it_takes_a_restart(self):
        self.write("handler = upper", "listen = tcp://127.0.0.1:0", "sandbox")
        weir = self.start(env=WITHOUT_LEAK_SANITIZER)
        weir.listening()
        self.hang_up(weir, f"weir: options: {self.path} is as it was")
        self.write("handler = hello", "listen = tcp://127.0.0.1:0", "sandbox")
        self.hang_up(weir, f"weir: options: {self.path} has changed, which takes a stop and a "
                     "start: from within --sandbox no program can be started")
        self.assertEqual(answer(weir.listening()[0]), b"ABC\n")
        weir.signal(signal.SIGTERM)
        self.assertEqual(weir.wait(), 0)

    def test_a_sandbox_leaves_the_rules_if_the_options_have_changed_too(self):
        rules = os.path.join(self.folder, "rules")
        options = ["handler = upper", "listen = tcp://127.0.0.1:0", "sandbox", f"access = {rules}"]
        with open(rules, "w", encoding="ascii") as file:
            file.write("allow 127.0.0.0/8\n")
        self.write(*options)
        weir = self.start(env=WITHOUT_LEAK_SANITIZER)
        address, = weir.listening()
        with open(rules, "w", encoding="ascii") as file:
            file.write("deny 127.0.0.0/8\n")
        os.rename(self.path, self.path + ".read")
        self.write("no-delay", *options)
        self.hang_up(weir, f"weir: options: {self.path} has changed, which takes a stop and a ")
        weir.stats()        # whatever else it had to say
        self.assertEqual(answer(address), b"ABC\n")
        self.assertFalse([line for line in weir.log if "access" in line])
        os.rename(self.path + ".read", self.path)
        self.hang_up(weir, f"weir: access: read {rules}")
        weir.signal(signal.SIGTERM)
        self.assertEqual(weir.wait(), 0)

    def test_what_is_wrong_is_told_with_its_line(self):
        os.mkfifo(os.path.join(self.folder, "pipe"))
        for lines, why in (
                (["", "# a", "workers = many"], ":3: --workers: 'many' is not a number from 0 to"),
                (["workers"], ":1: --workers needs a value, N"),
                (["no-delay = yes"], ":1: --no-delay takes no value"),
                (["= 3"], ":1: there is no option ''; see `weir serve --help`"),
                (["help"], ":1: there is no option 'help'; see `weir serve --help`"),
                (["--workers = 1"], ":1: there is no option '--workers'; see"),
                (["work = 1"], ":1: there is no option 'work'; see"),
                ([f"options = {self.path}"], ":1: --options: there is a file of options already"),
                (["a\0b"], ": it has a NUL byte"),
                (["#" + 1024 * 1024 * "x"], ": it is larger than 1M")):
            self.write(*lines)
            with self.subTest(lines=lines[-1][:20]):
                self.check_refused(self.path, self.path + why)
        for name, why in (("", "it is no regular file"), ("pipe", "it is no regular file"),
                          ("none", "No such file or directory")):
            path = os.path.join(self.folder, name)
            self.check_refused(path, f"--options: {path}: {why}")

    def check_refused(self, path, why):
        done = subprocess.run([WEIR, "serve", "--options", path], capture_output=True, text=True,
                              timeout=TIMEOUT, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn(why, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1)

    def test_an_empty_file_is_no_option(self):
        self.write()
        with serve("--options", self.path, "--handler", "upper") as weir:
            self.assertEqual(answer(weir.listening()[0]), b"ABC\n")


class FirstProcess(unittest.TestCase):
    """All processes of a container end with its first one."""

    def test_the_first_process_starts_no_successor(self):
        inside = "unshare --user --map-root-user --pid --fork --kill-child"
        if subprocess.run([*inside.split(), "true"], capture_output=True,
                          check=False).returncode != 0:
            self.skipTest("no namespace of processes can be had")
        program = Program(self)
        program.become_script(f'exec {inside} {WEIR} "$@"')
        with program.start("--handler", "upper") as weir:
            address, = weir.listening()
            with open(f"/proc/{weir.process.pid}/task/{weir.process.pid}/children",
                      encoding="ascii") as file:
                first = int(file.read())
            os.kill(first, signal.SIGUSR2)
            weir.line("weir: a successor can't be started: all processes of a container end with "
                      "its first one, which this is: this process serves on")
            self.assertEqual(answer(address), b"ABC\n")
            os.kill(first, signal.SIGTERM)
            self.assertEqual(weir.wait(), 0)


class Told(unittest.TestCase):
    """What a service manager hears of it."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "notify")

    def test_the_successor_becomes_the_main_process_and_feeds_the_watchdog(self):
        with Manager(self.path) as manager:
            weir = manager.start(WATCHDOG_USEC="20000000")
            first = weir.process.pid
            self.assertEqual(manager.heard(), ("READY=1", first))
            weir.signal(signal.SIGUSR2)
            words, pid = manager.heard()
            self.assertEqual((words.split("\n")[0], pid), ("RELOADING=1", first))
            with Successor(weir) as successor:
                self.assertEqual(manager.heard(), (f"READY=1\nMAINPID={successor.pid}", first))
                self.assertEqual(weir.process.wait(TIMEOUT), 0)
                os.kill(successor.pid, signal.SIGTERM)
                self.assertEqual(manager.heard(), ("STOPPING=1", successor.pid))
            self.assertEqual(weir.wait(), 0)
            self.assertTrue(manager.hears_nothing(0.001))

    def test_the_watchdog_hears_the_successor(self):
        with Manager(self.path) as manager:
            weir = manager.start(WATCHDOG_USEC="20000")
            weir.listening()
            weir.signal(signal.SIGUSR2)
            with Successor(weir) as successor:
                while manager.heard() != ("WATCHDOG=1", successor.pid):
                    pass
            weir.wait()

    def test_a_restart_that_fails_is_a_reload_that_has_ended(self):
        program = Program(self)
        with Manager(self.path) as manager:
            with program.start(env={**os.environ, "NOTIFY_SOCKET": self.path}) as weir:
                manager.expect("READY=1")
                for text in ("exit 1", None):
                    if text:
                        program.become_script(text)
                    else:
                        os.unlink(program.path)
                    weir.signal(signal.SIGUSR2)
                    self.assertTrue(manager.heard()[0].startswith("RELOADING=1\n"))
                    manager.expect("READY=1")


class UnderLoad(unittest.TestCase):
    """A few restarts; docs/operations.md has the figures of many."""

    def run_tool(self, *args):
        done = subprocess.run([sys.executable, RESTARTS, *args, "--weir", WEIR], text=True,
                              capture_output=True, timeout=600, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_restarts_refuse_and_lose_nobody(self):
        self.run_tool("load", "--count", "3", "--clients", "8", "--ways",
                      "pool,acceptors,common,prefork,thread,fork,serial")

    def test_restarts_behind_passed_sockets_refuse_and_lose_nobody(self):
        self.run_tool("load", "--by", "passed", "--count", "3", "--clients", "8", "--ways",
                      "pool,acceptors,common,prefork,thread,fork,serial")

    def test_changed_options_refuse_and_lose_nobody(self):
        self.run_tool("load", "--by", "options", "--count", "3", "--clients", "8", "--ways",
                      "pool,acceptors,common,prefork,thread,fork,serial")

    def test_starts_and_stops_leave_nothing(self):
        self.run_tool("cycles", "--count", "2", "--ways",
                      "pool,acceptors,common,prefork,thread,fork,serial")


HANDLERS = ("waits", "spins", "blocks", "ignores")


class Nasty(unittest.TestCase):
    """Handlers that are hard to stop."""

    def serve(self, handler, *args):
        before, weir_process.WEIR = weir_process.WEIR, NASTY
        try:
            return serve("--handler", handler, "--stall-warn", "0", *args)
        finally:
            weir_process.WEIR = before

    def begin(self, weir):
        client = weir.connect()
        self.addCleanup(client.close)
        client.sendall(b"x\n")
        receive(client, 2)

    def begin_all(self, handlers, *args):
        """A server each, in all ways. They take their time beside one another."""
        servers = [(way, handler, self.serve(handler, *args, *way))
                   for way in WAYS for handler in handlers]
        for _, _, weir in servers:
            self.begin(weir)
        return servers

    def check_end(self, way, handler, weir):
        """Children that are killed are no failure of the server's."""
        by_force = handler != "waits" and "fork" not in way and "prefork" not in way
        with self.subTest(way=way, handler=handler):
            self.assertEqual(weir.wait(), 1 if by_force else 0)
            self.assertEqual("weir: a handler neither returns nor waits: the process ends without "
                             "it" in weir.log, by_force)

    def test_a_second_signal_ends_whatever_there_is(self):
        servers = self.begin_all(HANDLERS, "--drain-timeout", "0")
        for _, _, weir in servers:
            weir.signal(signal.SIGTERM)
            weir.signal(signal.SIGINT)
        for server in servers:
            self.check_end(*server)

    def test_a_drain_ends_within_its_bound_whatever_there_is(self):
        servers = self.begin_all(HANDLERS, "--drain-timeout", "10ms")
        for _, _, weir in servers:
            weir.signal(signal.SIGTERM)
        for server in servers:
            self.check_end(*server)


if __name__ == "__main__":
    main()
