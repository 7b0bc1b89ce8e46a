#!/usr/bin/env python3
"""`weir serve --concurrency prefork`: its processes from outside, whoever of them ends."""

import os
import signal
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from weir_process import TIMEOUT, main, receive, refuses, serve


def parent_of(pid):
    """The parent's number, of a process that hasn't ended; else None."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            state, parent = file.read().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state in "ZX" else int(parent)


def children_of(pid):
    return {int(name) for name in os.listdir("/proc")
            if name.isdigit() and parent_of(name) == pid}


def until(condition):
    """What the condition gives, once it is true."""
    end = time.monotonic() + TIMEOUT
    while not (result := condition()):
        if time.monotonic() > end:
            raise AssertionError("it never came true")
        time.sleep(0.001)
    return result


def kill_if_there(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def serve_prefork(*args):
    return serve("--handler", "echo", "--concurrency", "prefork", "--processes", "2", *args)


class Prefork(unittest.TestCase):
    def echo(self, weir, text=b"hello\n"):
        """A connection that has been served, and is kept."""
        client = weir.connect()
        self.addCleanup(client.close)
        client.sendall(text)
        self.assertEqual(receive(client, len(text)), text)
        return client

    def children(self, weir):
        """Both, once there are two."""
        return until(lambda: len(found := children_of(weir.process.pid)) == 2 and found)

    def test_children_serve_and_their_counts_are_one_servers(self):
        with serve_prefork() as weir:
            self.children(weir)
            for _ in range(10):
                self.echo(weir).close()
            stats = weir.stats_until(lambda stats: stats["closed"] == 10)
            self.assertEqual((stats["accepted"], stats["bytes_in"]), (10, 60))

    def test_a_child_that_is_killed_is_replaced(self):
        with serve_prefork() as weir:
            weir.listening()
            victim = min(self.children(weir))
            os.kill(victim, signal.SIGKILL)
            self.assertEqual(weir.line("weir: child "),
                             f"weir: child {victim} was ended by signal 9")
            weir.line("weir: a child process has ended before its time")
            self.echo(weir)
            until(lambda: len(children_of(weir.process.pid) - {victim}) == 2)
            for _ in range(4):
                self.echo(weir)

    def is_let_in(self, weir):
        with weir.connect() as client:
            try:
                client.sendall(b"x\n")
                return client.recv(2) == b"x\n"
            except (BrokenPipeError, ConnectionResetError):
                return False

    def test_sighup_brings_children_with_the_new_rules(self):
        with tempfile.NamedTemporaryFile("w", encoding="ascii") as rules:
            rules.write("default allow\n")
            rules.flush()
            with serve_prefork("--access", rules.name) as weir:
                before = self.children(weir)
                self.assertTrue(self.is_let_in(weir))
                rules.write("deny 127.0.0.1\n")
                rules.flush()
                weir.signal(signal.SIGHUP)
                weir.line("weir: access: read ")
                until(lambda: not self.is_let_in(weir))
                until(lambda: len(children_of(weir.process.pid) - before) == 2)
                self.assertFalse(self.is_let_in(weir))

    def test_sigterm_ends_all_of_them(self):
        with serve_prefork() as weir:
            children = self.children(weir)
            kept = self.echo(weir)
            weir.signal(signal.SIGTERM)
            self.assertEqual(weir.wait(), 0)
            self.assertEqual(kept.recv(1), b"")
            self.assertFalse([pid for pid in children if parent_of(pid)])

    def check_that_stopped_ones_are_killed(self, signals, *args):
        """A stopped child hears nothing: the parent must not end before it has killed them."""
        with serve_prefork(*args) as weir:
            weir.listening()
            children = self.children(weir)
            for pid in children:
                self.addCleanup(kill_if_there, pid)
                os.kill(pid, signal.SIGSTOP)
            for number in signals:
                weir.signal(number)
            killed = {weir.line("weir: child ").split()[2] for _ in children}
            self.assertEqual(killed, {str(pid) for pid in children})
            self.assertEqual(weir.wait(), 0)
            self.assertFalse([pid for pid in children if parent_of(pid)])

    def test_those_that_are_stopped_are_killed_behind_the_drain(self):
        self.check_that_stopped_ones_are_killed([signal.SIGTERM], "--drain-timeout", "1s")

    def test_those_that_are_stopped_are_killed_if_they_are_cancelled_before_the_drain(self):
        self.check_that_stopped_ones_are_killed([signal.SIGTERM, signal.SIGINT])

    def test_they_end_with_their_parent(self):
        with serve_prefork() as weir:
            self.children(weir)
            address = weir.listening()[0]
            kept = self.echo(weir)
            weir.signal(signal.SIGKILL)
            # Standard error ends when the last of them has closed it.
            self.assertEqual(weir.wait(), -signal.SIGKILL)
            self.assertTrue(refuses(address))
            self.assertEqual(kept.recv(1), b"")
            weir.wait = lambda: 0


if __name__ == "__main__":
    main()
