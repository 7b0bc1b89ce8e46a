#!/usr/bin/env python3
"""System calls that are refused for good, by an old kernel (ENOSYS) or a container's policy (EPERM): a
server says so before it listens, or does without."""

import contextlib
import ctypes
import errno
import os
import signal
import struct
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from weir_process import Weir, main, receive

PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
LIBC = ctypes.CDLL(None, use_errno=True)
SECCOMP = ctypes.CDLL("libseccomp.so.2")

# Without these nobody can be served; in the order in which they are looked at.
NEEDED = ("epoll_create1", "epoll_ctl", "epoll_wait", "poll", "eventfd2", "write", "accept4",
          "recvfrom", "recvmsg", "recvmmsg", "sendto", "sendmsg", "sendmmsg", "shutdown",
          "getsockname", "getsockopt", "tgkill", "rt_sigprocmask", "rt_sigtimedwait")
NEEDED_BY_CHILDREN = ("waitid", "clone")
# What opens the sockets says which one it could not open.
OPENING = ("socket", "bind", "listen", "setsockopt")
# There is another way, or what is lost is no client's.
OPTIONAL = ("brk", "clone", "getrandom", "gettid", "lstat", "madvise", "membarrier", "munmap",
            "pidfd_open", "prctl", "pwritev2", "rseq", "sched_getaffinity", "set_robust_list",
            "sigaltstack", "timerfd_create", "unlink", "waitid")
OPTIONAL_FOR_CHILDREN = ("getppid", "kill", "madvise", "membarrier", "pidfd_send_signal", "rseq",
                         "sched_getaffinity", "sigaltstack", "timerfd_settime")


class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def number_of(name):
    return SECCOMP.seccomp_syscall_resolve_name(name.encode())


def known(names):
    """Those that this architecture has: younger ones lack the older calls."""
    return [name for name in names if number_of(name) >= 0]


def refusal(name, error):
    """What a child does before it executes: this call fails with that error from then on."""
    number = number_of(name)
    instructions = [
        (0x20, 0, 0, 0),                    # load the call's number
        (0x15, 0, 1, number),               # is it this one
        (0x06, 0, 0, 0x00050000 | error),   # SECCOMP_RET_ERRNO
        (0x06, 0, 0, 0x7fff0000),           # SECCOMP_RET_ALLOW
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *i) for i in instructions))
    program = Program(len(instructions), ctypes.addressof(code))

    def refuse():
        assert code and LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
        assert LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0

    return refuse


class Missing(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = os.path.join(self.folder.name, "socket")

    def start(self, name, error, how):
        return Weir("--listen", "tcp://127.0.0.1:0", "--listen", f"unix://{self.path}", "--listen",
                    "udp://127.0.0.1:0", "--handler", "echo", "--concurrency", how,
                    "--max-per-address", "10", preexec_fn=refusal(name, error))

    def check_refused(self, name, how, pattern):
        for error in errno.ENOSYS, errno.EPERM:
            with self.subTest(call=name, error=errno.errorcode[error], concurrency=how):
                weir = self.start(name, error, how)
                self.assertEqual(weir.wait(), 2, weir.log)
                self.assertEqual(len(weir.log), 1, weir.log)
                self.assertRegex(weir.log[0], f"^weir serve: {pattern}: {os.strerror(error)}$")
                self.assertFalse(os.path.exists(self.path))

    def check_served(self, name, how):
        for error in errno.ENOSYS, errno.EPERM:
            with self.subTest(call=name, error=errno.errorcode[error], concurrency=how), \
                    self.start(name, error, how) as weir:
                for i in range(2):
                    for _ in range(2):
                        with weir.connect(i) as client:
                            client.sendall(b"hello")
                            self.assertEqual(receive(client, 5), b"hello")
            with contextlib.suppress(FileNotFoundError):    # who can't remove it leaves it
                os.unlink(self.path)

    def test_what_serving_needs_is_named_before_it_listens(self):
        for name in known(NEEDED):
            self.check_refused(name, "pool", f"the system call {name} is refused here, by a sandbox "
                               "or an old kernel, and nobody can be served without it")

    def test_what_children_need_is_named_where_there_are_to_be_some(self):
        for how in "fork", "prefork":
            for name in NEEDED_BY_CHILDREN:
                self.check_refused(name, how, f"the system call {name} is refused here, .*")
        self.check_refused("pidfd_open", "prefork", r"WEIR_PREFORK needs pidfd_open\(2\), .*")
        self.check_refused("timerfd_create", "fork", "the server")

    def test_what_opens_sockets_names_the_address(self):
        for name in OPENING:
            self.check_refused(name, "pool", "tcp://127.0.0.1:0(: .*)?")

    def test_all_else_can_be_done_without(self):
        for name in known(OPTIONAL):
            self.check_served(name, "pool")
        for how in "fork", "prefork":
            for name in known(OPTIONAL_FOR_CHILDREN):
                self.check_served(name, how)

    def test_threads_that_are_refused_are_no_shortage(self):
        weir = self.start("clone3", errno.EPERM, "pool")
        self.assertEqual(weir.wait(), 1)
        self.assertEqual(weir.log[-1:], ["weir serve: no thread can be had: a policy forbids clone3(2), "
                                         "which is to fail with ENOSYS, or to be allowed"])
        self.check_served_without_clone3()

    def check_served_without_clone3(self):
        with self.start("clone3", errno.ENOSYS, "pool") as weir, weir.connect() as client:
            client.sendall(b"hello")
            self.assertEqual(receive(client, 5), b"hello")


if __name__ == "__main__":
    main()
