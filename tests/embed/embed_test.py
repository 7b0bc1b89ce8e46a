#!/usr/bin/env python3
"""Programs that embed weir as its README says: from plain cc, with what tools/install installs, and
from a Bazel workspace of their own.

Usage: embed_test.py PACKAGE README MODULE.bazel GDB_SCRIPT

The servers of the examples listen on a fixed port. Here it is replaced by a socket that they
inherit and that listens already, so no port can be taken and no client has to wait for a server.
"""

import ctypes
import http.client
import pathlib
import re
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import another
import installed

PR_SET_PTRACER = 0x59616d61
TIMEOUT = 30    # far beyond what is needed, so that a test cannot hang
LISTEN = "tcp://127.0.0.1:9999"


def read_pc(path):
    """The fields of a pkg-config file, as pkg-config would print them."""
    variables = {"pcfiledir": path.parent}
    fields = {}
    for name, sign, value in re.findall(r"^(\w+)(=|: )(.*)$", path.read_text(), re.MULTILINE):
        value = string.Template(value).substitute(variables)
        (variables if sign == "=" else fields)[name] = value
    return fields


def be_debugged_by_anyone():
    """Where a process may be attached to by its parents alone (Yama), lets gdb attach to this one."""
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)


class Embed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.prefix = installed.unpack(cls, PACKAGE)
        cls.pc = read_pc(cls.prefix / "lib/pkgconfig/weir.pc")

    def build(self, name, listen, *arguments):
        """The program of that source, listening there."""
        text = (HERE / name).read_text()
        self.assertEqual(text.count(LISTEN), 1)
        source = self.prefix / name
        source.write_text(text.replace(LISTEN, listen))
        compiler = ["c++", "-std=c++17"] if source.suffix == ".cc" else ["cc"]
        subprocess.run([*compiler, "-Wall", "-Wextra", "-Werror", source, "-o", source.with_suffix(""),
                        *arguments, *self.pc["Cflags"].split(), *self.pc["Libs"].split()],
                       check=True)
        return source.with_suffix("")

    def serve(self, name, *arguments):
        """Builds and starts the server of that source; returns its address."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            program = self.build(name, f"fd://{listener.fileno()}", *arguments)
            server = subprocess.Popen([program], pass_fds=[listener.fileno()],
                                      preexec_fn=be_debugged_by_anyone)
            self.server = server
            self.addCleanup(self.stop, server)
            return listener.getsockname()

    def ask_gdb(self, command):
        """What gdb says of the server that was started last."""
        return subprocess.run(["gdb", "--batch", "--nx", "-p", str(self.server.pid),
                               f"--command={GDB}", f"--eval-command={command}"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False).stdout

    def stop(self, server):
        server.terminate()
        self.assertEqual(server.wait(TIMEOUT), -signal.SIGTERM)

    def test_the_smallest_server_answers_in_capitals(self):
        for name in "upper.c", "capitals.cc":
            with socket.create_connection(self.serve(name), TIMEOUT) as client:
                client.sendall(b"hello\nworld\n")
                client.shutdown(socket.SHUT_WR)
                with client.makefile("rb") as replies:
                    self.assertEqual(replies.read(), b"HELLO\nWORLD\n")

    def test_a_server_with_a_route_answers_over_http(self):
        host, port = self.serve("hello.c")
        client = http.client.HTTPConnection(host, port, TIMEOUT)
        self.addCleanup(client.close)
        client.request("GET", "/")
        response = client.getresponse()
        self.assertEqual((response.status, response.read()), (200, b"Hello, world!\n"))

    def test_gdb_shows_where_its_handlers_wait(self):
        with socket.create_connection(self.serve("upper.c"), TIMEOUT) as client:
            client.sendall(b"half a line")
            end = time.monotonic() + TIMEOUT
            while "parked" not in (said := self.ask_gdb("weir fibers")):
                self.assertLess(time.monotonic(), end, said)
        self.assertRegex(said, r"(?m)^[0-9]+: handler upper, parked: waits for descriptor ")
        self.assertRegex(said, r"(?m)^ +#[0-9]+ +weir_readline at ")

    def test_a_library_of_cxx_waits_with_exceptions_in_hand(self):
        library = self.prefix / "libagain.so"
        subprocess.run(["c++", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", HERE / "again.cc",
                        "-o", library, *self.pc["Cflags"].split()], check=True)
        address = self.serve("again.c", "-rdynamic", library, f"-Wl,-rpath,{self.prefix}")
        clients = [socket.create_connection(address, TIMEOUT) for _ in range(3)]
        replies = [client.makefile("rb") for client in clients]
        for client in clients:
            self.addCleanup(client.close)
        for i, (client, reply) in enumerate(zip(clients, replies)):
            client.sendall(f"exception {i}\n".encode())
            self.assertEqual(reply.readline(), b"go\n")
        for i, (client, reply) in enumerate(zip(clients, replies)):
            client.sendall(b"on\n")
            self.assertEqual(reply.read(), f"exception {i}\n".encode())

    def test_the_library_takes_no_names_but_its_own(self):
        archive = self.prefix / "lib/libweir.a"
        names = subprocess.run(["nm", "-g", "--defined-only", "--format=just-symbols", archive],
                               check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        self.assertIn("weir_http_reply", names)
        self.assertEqual([name for name in names if not name.startswith("weir_")], [])

    def test_the_library_needs_no_boost_and_no_parser(self):
        archive = self.prefix / "lib/libweir.a"
        names = subprocess.run(["nm", "--undefined-only", "--format=just-symbols", archive],
                               check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        self.assertIn("pthread_create", names)
        self.assertEqual([name for name in names
                          if re.search("fcontext|http_parser|^http_|^llhttp_", name)], [])

    def test_another_workspace_builds_without_a_network(self):
        with tempfile.TemporaryDirectory() as output:
            another.build(output, "//...")

    def test_versions_agree(self):
        header = (self.prefix / "include/weir/weir.h").read_text()
        self.assertIn(f'#define WEIR_VERSION "{self.pc["Version"]}"', header)
        self.assertIn(f'version = "{self.pc["Version"]}"', MODULE.read_text())

    def test_the_readme_shows_what_is_tested(self):
        readme = README.read_text()
        libraries = " ".join(self.pc["Libs"].split()[1:])
        programs = [(HERE / name).read_text() for name in ("upper.c", "capitals.cc")]
        for text in *programs, libraries:
            self.assertTrue(text in readme, f"not in the README as it is here:\n{text}")


if __name__ == "__main__":
    PACKAGE, README, MODULE, GDB = map(pathlib.Path, sys.argv[1:5])
    unittest.main(argv=sys.argv[:1])
