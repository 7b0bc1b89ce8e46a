#!/usr/bin/env python3
"""Which rights `weir serve` keeps: --user, and no_new_privs."""

import ctypes
import grp
import os
import pwd
import shutil
import signal
import stat
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from weir_process import WEIR, Weir, main, receive, run, serve

PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 1 << 2
UID, GID = 54331, 54332     # which no user and no group has
NOBODY = pwd.getpwnam("nobody")


def status_of(pid):
    """/proc/PID/status, as a dictionary of lists of words."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        return {name: rest.split() for name, _, rest in (line.partition(":") for line in file)}


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def threads_of(pid):
    return [int(name) for name in os.listdir(f"/proc/{pid}/task")]


def keep_capabilities():
    """Also of a process that changes its user: see capabilities(7)."""
    if ctypes.CDLL(None).prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) < 0:
        raise OSError("no secure bits")


def says_hello(client):
    client.sendall(b"hello\n")
    return receive(client, 6) == b"hello\n"


class AsRoot(unittest.TestCase):
    def setUp(self):
        if os.geteuid() != 0:
            self.skipTest("it takes root to become somebody else")
        # Another user needs a way to what it holds.
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        os.chmod(self.folder.name, 0o755)
        self.path = os.path.join(self.folder.name, "file")

    def assert_is(self, pid, uid, gid, groups):
        """In each thread, and in all places that the kernel keeps it."""
        for thread in threads_of(pid):
            status = status_of(thread)
            self.assertEqual(status["Uid"], [str(uid)] * 4)
            self.assertEqual(status["Gid"], [str(gid)] * 4)
            self.assertEqual({int(group) for group in status["Groups"]}, set(groups))
            for rights in "CapPrm", "CapEff", "CapAmb":
                self.assertEqual(int(status[rights][0], 16), 0)

    def test_every_thread_is_the_user_once_it_serves(self):
        with serve("--handler", "echo", "--user", f"{UID}:{GID}") as weir, weir.connect() as client:
            self.assertTrue(says_hello(client))
            self.assert_is(weir.process.pid, UID, GID, [GID])
            # The watchdog's own look at /proc is not refused.
            self.assertEqual(os.stat(f"/proc/{weir.process.pid}/task").st_uid, UID)

    def test_who_could_become_root_again_is_refused(self):
        weir = serve("--user", f"{UID}:{GID}", preexec_fn=keep_capabilities)
        self.assertEqual(weir.wait(), 2)
        self.assertEqual(weir.log, [f"weir serve: --user: {UID}:{GID}: the process could become root "
                                    "again: start it without the secure bits that keep capabilities"])

    def test_the_groups_are_those_that_the_user_is_in(self):
        theirs = os.getgrouplist("nobody", NOBODY.pw_gid)
        with serve("--handler", "echo", "--user", "nobody") as weir, weir.connect() as client:
            self.assertTrue(says_hello(client))
            self.assert_is(weir.process.pid, NOBODY.pw_uid, NOBODY.pw_gid, theirs)

    def test_a_group_that_is_named_is_the_group(self):
        for name, gid in (str(GID), GID), (grp.getgrgid(0).gr_name, 0):
            with self.subTest(group=name), serve("--user", f"nobody:{name}") as weir:
                weir.listening()
                self.assert_is(weir.process.pid, NOBODY.pw_uid, gid,
                               os.getgrouplist("nobody", gid))

    def test_a_port_is_bound_that_only_root_may_bind(self):
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
            if int(file.read()) < 2:
                self.skipTest("everybody may bind every port")
        uri = "tcp://127.77.77.77:1"
        with Weir("--listen", uri, "--handler", "echo", "--user", f"{UID}:{GID}") as weir:
            self.assertEqual(weir.listening(), [uri])
            with weir.connect() as client:
                self.assertTrue(says_hello(client))

    def test_children_are_the_user(self):
        for how in "fork", "prefork":
            with self.subTest(concurrency=how), \
                 serve("--handler", "echo", "--concurrency", how, "--user", f"{UID}:{GID}") as weir, \
                 weir.connect() as client:
                self.assertTrue(says_hello(client))
                children = children_of(weir.process.pid)
                self.assertGreater(len(children), 0)
                for child in children:
                    self.assert_is(child, UID, GID, [GID])

    def test_sighup_reads_the_rules_as_the_user(self):
        with open(self.path, "w", encoding="ascii") as file:
            file.write("default allow\n")
        with serve("--handler", "echo", "--access", self.path, "--user", f"{UID}:{GID}") as weir:
            weir.listening()
            os.chmod(self.path, 0o600)
            weir.signal(signal.SIGHUP)
            self.assertRegex(weir.line("weir: access: "), "stay as they are: .*Permission denied")
            os.chown(self.path, UID, GID)
            weir.signal(signal.SIGHUP)
            self.assertEqual(weir.line("weir: access: "), f"weir: access: read {self.path}")

    def test_rules_that_the_user_may_not_read_are_refused_at_the_start(self):
        with open(self.path, "w", encoding="ascii") as file:
            file.write("default allow\n")
        os.chmod(self.path, 0o600)
        status, out, err = run("serve", "--listen", "tcp://127.0.0.1:0", "--access", self.path,
                               "--user", f"{UID}:{GID}")
        self.assertEqual((status, out), (2, ""))
        self.assertRegex(err, r"\Aweir serve: --access: .*Permission denied\n\Z")

    def listen_at_the_path(self):
        return Weir("--listen", f"unix://{self.path}", "--handler", "echo", "--user",
                    f"{UID}:{GID}")

    def test_a_path_in_the_users_own_folder_goes_at_the_end(self):
        os.chown(self.folder.name, UID, GID)
        with self.listen_at_the_path() as weir:
            weir.listening()
            self.assertTrue(stat.S_ISSOCK(os.stat(self.path).st_mode))
        self.assertFalse(os.path.exists(self.path))

    def test_a_path_in_roots_folder_stays_and_the_next_start_takes_its_place(self):
        for _ in range(2):
            with self.listen_at_the_path() as weir, weir.connect() as client:
                self.assertTrue(says_hello(client))
            self.assertTrue(stat.S_ISSOCK(os.stat(self.path).st_mode))

    def test_a_path_is_the_users_unless_another_owner_is_named(self):
        for args, owner in ([], (UID, GID)), (["--unix-owner", "0:0"], (0, 0)):
            with self.subTest(args=args), \
                    Weir("--listen", f"unix://{self.path}", "--listen", "tcp://127.0.0.1:0", "--handler",
                         "echo", "--user", f"{UID}:{GID}", *args) as weir:
                weir.listening(2)
                status = os.stat(self.path)
                self.assertEqual((status.st_uid, status.st_gid), owner)

    def test_a_path_in_a_folder_for_everybody_goes_at_the_end(self):
        os.chmod(self.folder.name, 0o1777)      # as /tmp: who owns a file may remove it
        with self.listen_at_the_path() as weir:
            weir.listening()
        self.assertFalse(os.path.exists(self.path))

    def test_root_is_warned_in_one_line_unless_it_is_to_be_root(self):
        for args, lines in ([], 1), (["--user", "root"], 0), (["--user", "nobody"], 0):
            with self.subTest(args=args), serve(*args) as weir:
                weir.listening()
                self.assertEqual(sum("runs as root" in line for line in weir.log), lines)

    def test_a_user_without_an_entry_needs_a_group(self):
        self.assertEqual(run("serve", "--user", str(UID)),
                         (2, "", f"weir serve: --user: {UID}: nothing is known of that user: name a "
                                 f"group as well, as in {UID}:{UID}\n"))


class AsAnybody(unittest.TestCase):
    def test_no_thread_and_no_child_can_gain_rights_by_executing(self):
        for how in "pool", "prefork":
            with self.subTest(concurrency=how), serve("--concurrency", how) as weir:
                weir.listening()
                pid = weir.process.pid
                for process in [pid, *children_of(pid)]:
                    for thread in threads_of(process):
                        self.assertEqual(status_of(thread)["NoNewPrivs"], ["1"])

    def test_a_user_that_there_is_not_is_refused(self):
        for user, why in (("nobody-of-weir", "there is no user 'nobody-of-weir'"),
                          ("nobody:none-of-weir", "there is no group 'none-of-weir'"),
                          (":0", "it must be USER or USER:GROUP"), ("", "it must be USER, ")):
            with self.subTest(user=user):
                status, out, err = run("serve", "--user", user)
                self.assertEqual((status, out, err.count("\n")), (2, "", 1))
                self.assertRegex(err, f"^weir serve: --user: .*{why}")


class AsNobody(unittest.TestCase):
    """Not as root: as who runs the test, or else as nobody in particular."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        os.chmod(self.folder.name, 0o777)

    def run_as_another(self):
        if os.geteuid() != 0:
            return os.geteuid(), os.getegid(), {}
        # What root has built may be in a folder that is root's alone.
        copy = shutil.copy(WEIR, self.folder.name)
        return UID, GID, {"user": UID, "group": GID, "extra_groups": [], "executable": copy}

    def test_it_takes_root_to_become_another(self):
        uid, gid, popen = self.run_as_another()
        path = os.path.join(self.folder.name, "socket")
        weir = Weir("--listen", f"unix://{path}", "--user", f"{uid + 1}:{gid}", **popen)
        self.assertEqual(weir.wait(), 2)
        self.assertEqual(weir.log, [f"weir serve: --user: {uid + 1}:{gid}: it takes root to become "
                                    "another user: be root, or leave the option out"])
        self.assertFalse(os.path.exists(path))

    def test_who_is_that_user_already_needs_no_root(self):
        uid, gid, popen = self.run_as_another()
        with serve("--handler", "echo", "--user", f"{uid}:{gid}", **popen) as weir:
            with weir.connect() as client:
                self.assertTrue(says_hello(client))


if __name__ == "__main__":
    main()
