#!/usr/bin/env python3
"""tools/gdb/weir.py: what it says of a live process, and of a core file.

WEIR_GDB is the script. gdb asks for nothing here: it is given its commands, and ends.
"""

import ctypes
import os
import pathlib
import re
import resource
import signal
import subprocess
import tempfile
import unittest

from weir_process import TIMEOUT, WEIR, Weir, serve

SCRIPT = pathlib.Path(os.environ["WEIR_GDB"]).resolve()
PR_SET_PTRACER = 0x59616d61


def be_debugged_by_anyone():
    """Where a process may be attached to by its parents alone (Yama), lets gdb attach to this one."""
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)


def dumps_core():
    """Does the kernel write a core file into the folder that a process runs in?"""
    pattern = pathlib.Path("/proc/sys/kernel/core_pattern").read_text().strip()
    return "/" not in pattern and "|" not in pattern and resource.getrlimit(resource.RLIMIT_CORE)[1]


def may_dump_core():
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


def gdb(*arguments, commands):
    """A gdb that is at work, with the script read."""
    executed = [f"--eval-command={command}" for command in commands]
    return subprocess.Popen(["gdb", "--batch", "--nx", *arguments, f"--command={SCRIPT}", *executed],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


def run_gdb(*arguments, commands):
    """What it has printed."""
    with gdb(*arguments, commands=commands) as process:
        return process.communicate(timeout=4 * TIMEOUT)[0]


def says_of_parked(test, said):
    """Two handlers wait for the rest of a line."""
    fibers = re.split(r"^(?=[0-9]+: handler )", said, flags=re.MULTILINE)[1:]
    test.assertEqual(len(fibers), 2, said)
    for fiber in fibers:
        fd = fiber.split(":")[0]
        test.assertTrue(fiber.startswith(f"{fd}: handler upper, parked: waits for descriptor {fd}, "),
                        said)
        names = re.findall(r"^ +#[0-9]+ +(\w+)", fiber, re.MULTILINE)
        test.assertEqual(names[-1], "trampoline", said)
        for name in "fiber_park", "weir_readline", "upper_handle", "request_serve":
            test.assertIn(name, names)


class Gdb(unittest.TestCase):
    def serve(self, *arguments):
        return serve("--handler", "upper", *arguments, preexec_fn=be_debugged_by_anyone)

    def client(self, server, text):
        client = server.connect()
        self.addCleanup(client.close)
        client.sendall(text)
        return client

    def stalled(self, server):
        """Two clients in the middle of a line, and one that rests behind one."""
        for _ in range(2):
            self.client(server, b"abc")
        rests = self.client(server, b"line\n")
        self.assertEqual(rests.recv(5), b"LINE\n")
        server.stats_until(lambda stats: stats["parked"] == 2 and stats["idle"] == 1)

    def test_parked_fibers_of_a_live_process(self):
        with self.serve("--workers", "2") as server:
            self.stalled(server)
            pid = server.process.pid
            says_of_parked(self, run_gdb("-p", str(pid), commands=["weir fibers"]))

    @unittest.skipUnless(dumps_core(), "NO CORE FILE is written here, by /proc/sys/kernel/core_pattern")
    def test_what_it_says_of_a_core_file(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        server = Weir("--listen", "tcp://127.0.0.1:0", "--handler", "upper", "--workers", "2",
                      cwd=folder.name, preexec_fn=may_dump_core)
        self.stalled(server)
        server.signal(signal.SIGABRT)
        self.assertEqual(server.wait(), -signal.SIGABRT)
        (core,) = pathlib.Path(folder.name).iterdir()
        says_of_parked(self, run_gdb(WEIR, str(core), commands=["weir fibers"]))
        said = run_gdb(WEIR, str(core), commands=["weir connections", "weir workers"])
        states = re.findall(r"^[0-9]+: (\w+), handler upper, peer 127.0.0.1:[0-9]+, ", said,
                            re.MULTILINE)
        self.assertEqual(sorted(states), ["IDLE", "PARKED", "PARKED"], said)
        parked = re.findall(r"^worker ([01]): .*, in handler -, ([0-9]) parked, 0 runnable, ", said,
                            re.MULTILINE)
        # A worker whose thread has not come to run yet, on a busy machine, is not listed.
        self.assertLessEqual({index for index, _ in parked}, {"0", "1"}, said)
        self.assertEqual(sum(int(count) for _, count in parked), 2, said)

    def test_one_connection_alone(self):
        with self.serve("--workers", "2") as server:
            self.stalled(server)
            pid = str(server.process.pid)
            fds = re.findall(r"^([0-9]+): PARKED", run_gdb("-p", pid, commands=["weir connections"]),
                             re.MULTILINE)
            said = run_gdb("-p", pid, commands=[f"weir fibers {fds[0]}"])
        self.assertEqual(re.findall(r"^([0-9]+): handler", said, re.MULTILINE), fds[:1])

    def expect_running(self, server, state):
        """A handler that is stopped in the middle."""
        commands = ["break upper_handle", "python print('stopped', flush=True)", "continue",
                    "weir fibers", "weir connections", "delete", "detach"]
        with gdb("-p", str(server.process.pid), commands=commands) as process:
            self.addCleanup(process.kill)
            while process.stdout.readline() not in ("stopped\n", ""):
                pass
            client = self.client(server, b"line\n")
            said = process.communicate(timeout=4 * TIMEOUT)[0]
        self.assertEqual(client.recv(5), b"LINE\n")
        self.assertRegex(said, rf"(?m)^[0-9]+: handler upper, {state}, worker 0, ")
        self.assertRegex(said, r"(?m)^ +#0 +upper_handle at ")
        self.assertRegex(said, r"(?m)^[0-9]+: RUNNING, handler upper, peer 127.0.0.1:")

    def test_a_handler_that_runs(self):
        with self.serve("--workers", "1") as server:
            server.listening()
            self.expect_running(server, "running")

    def test_a_handler_on_its_threads_own_stack(self):
        with self.serve("--concurrency", "serial") as server:
            server.listening()
            self.expect_running(server, "on its thread's own stack")

    def test_a_program_without_weir(self):
        said = run_gdb("/bin/true", commands=["starti", "weir workers"])
        self.assertIn("no weir in it", said)

    def test_no_process(self):
        self.assertIn("there is no process", run_gdb(WEIR, commands=["weir fibers"]))


if __name__ == "__main__":
    unittest.main(verbosity=2)
