#!/usr/bin/env python3
"""The command: what it prints, its exit statuses, and what signals do."""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from weir_process import (TIMEOUT, WEIR, Weir, connect, main, port_of, receive, receive_all, refuses,
                          run, serve)

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def forget_nohup():
    """Whoever runs the tests may have been started to outlive a terminal."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)



# Arguments of `weir serve` and the one line that they are refused with.
MISTAKES = [
    (["--unknown"], "there is no option '--unknown'; see `weir serve --help`"),
    (["-x"], "there is no option '-x'; see `weir serve --help`"),
    (["-\xfc"], r"there is no option '-\xc3'; see `weir serve --help`"),
    (["-ab"], "there is no option '-a'; see `weir serve --help`"),
    (["--daemon-threads", "-xh"], "there is no option '-x'; see `weir serve --help`"),
    (["a\n\x1b[2Jb"], r"'a\x0a\x1b[2Jb' is not an option; see `weir serve --help`"),
    (["stray"], "'stray' is not an option; see `weir serve --help`"),
    (["--workers"], "--workers needs a value, N"),
    (["--no-delay=yes"], "--no-delay takes no value"),
    (["--workers", "x"], "--workers: 'x' is not a number from 0 to 256"),
    (["--workers", "257"], "--workers: '257' is not a number from 0 to 256"),
    (["--workers", "-1"], "--workers: '-1' is not a number from 0 to 256"),
    (["--workers", ""], "--workers: '' is not a number from 0 to 256"),
    (["--workers", "1 "], "--workers: '1 ' is not a number from 0 to 256"),
    (["--acceptors", "65"], "--acceptors: '65' is not a number from 0 to 64"),
    (["--backlog", "4294967296"], "--backlog: '4294967296' is not a number from 0 to 2147483647"),
    (["--max-connections", "99999999999999999999"],
     "--max-connections: '99999999999999999999' is not a number from 0 to 4294967295"),
    (["--stack-size", "64Q"], "--stack-size: '64Q' is not a size such as 8192, 64K or 1M"),
    (["--rbufsize", "unbuffered"],
     "--rbufsize: 'unbuffered' is not a size such as 8192, 64K or 1M"),
    (["--wbufsize", "x"],
     "--wbufsize: 'x' is not a size such as 8192, 64K or 1M, or unbuffered"),
    (["--read-timeout", "1h"],
     "--read-timeout: '1h' is not a time such as 500ms, 10s or 2m (0: none, at most 49 days)"),
    (["--idle-timeout", "9999999"],
     "--idle-timeout: '9999999' is not a time such as 500ms, 10s or 2m (0: none, at most 49 days)"),
    (["--drain-timeout", "1.5"],
     "--drain-timeout: '1.5' is not a time such as 500ms, 10s or 2m (0: none, at most 49 days)"),
    (["--dispatch", "x"], "--dispatch: 'x' is neither worker nor acceptor"),
    (["--unix-mode", "0"], "--unix-mode: '0' is not a mode from 0001 to 0777, such as 0660"),
    (["--unix-mode", "1000"], "--unix-mode: '1000' is not a mode from 0001 to 0777, such as 0660"),
    (["--unix-mode", "668"], "--unix-mode: '668' is not a mode from 0001 to 0777, such as 0660"),
    (["--keep-path=no"], "--keep-path takes no value"),
    (["--max-packet-size", "x"],
     "--max-packet-size: 'x' is not a size such as 8192, 64K or 1M"),
    (["--reply-always=no"], "--reply-always takes no value"),
    (["--multicast"], "--multicast needs a value, GROUP[%IF]"),
    (["--multicast-ttl", "256"], "--multicast-ttl: '256' is not a number from 0 to 255"),
    (["--no-multicast-loop=1"], "--no-multicast-loop takes no value"),
    (["--max-per-address", "x"],
     "--max-per-address: 'x' is not a number from 0 to 4294967295"),
    (["--access"], "--access needs a value, FILE"),
    (["--concurrency", "x"],
     "--concurrency: 'x' is none of pool, serial, thread, fork and prefork"),
    (["--processes", "257"], "--processes: '257' is not a number from 0 to 256"),
    (["--max-children", "4097"], "--max-children: '4097' is not a number from 0 to 4096"),
    (["--handler", "x"], "--handler: there is no handler 'x'; `weir handlers` lists them"),
]

# Values that the engine refuses; its sentence names the option and the value.
REFUSED_BY_THE_ENGINE = [
    (["--listen", "x"], "x"),
    (["--listen", "tcp://127.0.0.1"], "tcp://127.0.0.1"),
    (["--listen", "tcp://127.0.0.1:65536"], "tcp://127.0.0.1:65536"),
    (["--listen", "http://127.0.0.1:80"], "http://127.0.0.1:80"),
    (["--listen", "unix:///no/such/folder/weir.sock"], "unix:///no/such/folder/weir.sock"),
    (["--listen", "unix:///" + "x" * 200], "unix:///" + "x" * 100),
    (["--listen", "fd://999"], "fd://999"),
    (["--listen", "tcp://[::1:80"], "tcp://[::1:80"),
    (["--worker-cpus", "x"], "worker_cpus"),
    (["--worker-cpus", "99999"], "worker_cpus"),
    (["--stack-size", "1"], "stack_size"),
    (["--rbufsize", "1048576M"], "rbufsize"),
    (["--max-packet-size", "2M"], "max_packet_size is 2097152: at most 1048576"),
    (["--listen", "tcp://:0", "--multicast", "127.0.0.1"],
     "multicast: 127.0.0.1: it must be the address of a group"),
    (["--listen", "tcp://:0", "--multicast", "224.3.29.71%no-such-if"],
     "multicast: 224.3.29.71%no-such-if: behind the % must stand the name"),
    (["--listen", "tcp://:0", "--multicast", "224.3.29.71%lo", "--multicast-ttl", "255"],
     "multicast: 224.3.29.71%lo: no listener can hear it"),
    (["--unix-owner", ""], "unix_owner"),
    (["--listen", "tcp://:0", "--unix-owner", "0"], "unix_owner is set, but no listener has a Unix "
     "path"),
    (["--listen", "tcp://:0", "--unix-mode", "600"], "unix_mode is set, but no listener has a Unix "
     "path"),
    (["--unix-owner", "no such user"], "unix_owner: no such user: there is no user"),
    (["--unix-owner", "0:no such group"], "there is no group 'no such group'"),
    (["--max-children", "2"], "max_children"),
    (["--processes", "2"], "processes"),
    (["--concurrency", "serial", "--acceptors", "2"], "acceptors"),
]


class Output(unittest.TestCase):
    def test_help_is_printed_on_standard_output(self):
        for args in (["--help"], ["serve", "--help"]):
            status, out, err = run(*args)
            self.assertEqual((status, err), (0, ""))
            self.assertTrue(out.startswith("usage: weir serve"))

    def test_help_is_found_where_people_look_for_it(self):
        whole, serving = run("--help"), run("serve", "--help")
        for args in (["-h"], ["help"], ["help", "handlers"], ["help", "--version"], ["help", "help"],
                     ["handlers", "--help"], ["--help", "-h"]):
            with self.subTest(args=args):
                self.assertEqual(run(*args), whole)
        for args in (["serve", "-h"], ["help", "serve"], ["--help", "serve"]):
            with self.subTest(args=args):
                self.assertEqual(run(*args), serving)

    def test_help_names_every_option_that_is_read(self):
        _, out, _ = run("serve", "--help")
        for option in ("listen", "handler", "workers", "worker-cpus", "dispatch", "acceptors",
                       "backlog", "max-connections", "stack-size", "rbufsize", "wbufsize",
                       "read-timeout", "write-timeout", "head-timeout", "progress-timeout",
                       "request-timeout", "idle-timeout",
                       "drain-timeout", "stall-warn", "no-delay", "reuse-port",
                       "no-reuse-address", "daemon-threads", "no-block-on-close",
                       "unix-mode", "unix-owner", "keep-path", "max-per-address", "access",
                       "queue-target", "max-queued", "when-queued",
                       "max-packet-size", "reply-always", "multicast", "multicast-ttl",
                       "no-multicast-loop",
                       "concurrency", "max-children", "processes", "help"):
            self.assertRegex(out, rf"(?m)^  --{option}\b")

    def test_the_version_is_one_line(self):
        status, out, err = run("--version")
        self.assertEqual((status, err), (0, ""))
        self.assertRegex(out, r"^weir [0-9]+\.[0-9]+\.[0-9]+\n$")

    def test_a_result_that_can_not_be_written_is_a_failure(self):
        for args in (["--help"], ["--version"], ["handlers"], ["serve", "--help"]):
            with open("/dev/full", "wb") as full:
                ended = subprocess.run([WEIR, *args], stdout=full, stderr=subprocess.PIPE,
                                       text=True, timeout=TIMEOUT, check=False)
            self.assertEqual(ended.returncode, 1)
            self.assertRegex(ended.stderr, r"^weir: standard output can't be written: [^\n]*\n$")

    def test_the_handlers_are_listed(self):
        status, out, err = run("handlers")
        self.assertEqual((status, err), (0, ""))
        self.assertEqual([line.split()[0] for line in out.splitlines()],
                         ["echo", "hello", "upper"])

    def test_without_options_it_says_what_to_try(self):
        try:
            socket.create_server(("127.0.0.1", 8080)).close()
        except OSError:
            self.skipTest("port 8080 is in use")
        with Weir() as weir:
            self.assertEqual(weir.listening(), ["tcp://127.0.0.1:8080"])
            self.assertEqual(weir.line("try: "), "try: curl http://127.0.0.1:8080/")


class Mistakes(unittest.TestCase):
    def check(self, args, pattern):
        status, out, err = run(*args)
        self.assertEqual((status, out), (2, ""))
        self.assertRegex(err, pattern)
        self.assertEqual(err.count("\n"), 1)

    def test_a_command_that_is_missing_or_unknown_is_refused_in_one_line(self):
        self.check([], r"^weir: say what to do")
        self.check(["dance"], r"^weir: there is no command 'dance'")
        self.check(["handlers", "x"], r"^weir: handlers takes no arguments")
        self.check(["help", "dance"], r"^weir: there is no command 'dance'")
        self.check(["help", "serve", "load"], r"^weir: help takes one command")

    def test_every_bad_option_is_refused_in_one_line_that_names_it(self):
        for args, line in MISTAKES:
            with self.subTest(args=args):
                self.check(["serve", *args], "^weir serve: " + re.escape(line) + "\n$")

    def test_what_the_engine_refuses_is_one_line_that_names_it(self):
        for args, name in REFUSED_BY_THE_ENGINE:
            with self.subTest(args=args):
                self.check(["serve", *args], "^weir serve: .*" + re.escape(name))

    def test_nothing_is_served_when_one_of_several_addresses_is_bad(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "weir.sock")
            self.check(["serve", "--listen", f"unix://{path}", "--listen", "tcp://x:y:z"],
                       "^weir serve: .*tcp://x:y:z")
            self.assertFalse(os.path.exists(path))

    def test_a_port_in_use_is_named(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
            self.check(["serve", "--listen", address],
                       f"^weir serve: .*{re.escape(address)}.*in use")

    def test_a_udp_port_is_not_taken_from_another_server(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", 0))
            address = f"udp://127.0.0.1:{taken.getsockname()[1]}"
            self.check(["serve", "--listen", address],
                       f"^weir serve: .*{re.escape(address)}.*in use")

    def test_a_unix_socket_in_use_is_named_and_left_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "weir.sock")
            with Weir("--listen", f"unix://{path}", "--handler", "echo") as weir:
                weir.listening()
                self.check(["serve", "--listen", f"unix://{path}"], "^weir serve: .*in use")
                with weir.connect() as client:
                    client.sendall(b"still here\n")
                    self.assertEqual(receive(client, 11), b"still here\n")


class Signals(unittest.TestCase):
    def half_a_request(self, weir):
        """A client whose handler is at work, for it waits for the rest."""
        client = weir.connect()
        self.addCleanup(client.close)
        client.sendall(GET[:10])
        weir.stats_until(lambda stats: stats["parked"] == 1 and stats["bytes_in"] >= 10)
        return client

    def test_a_signal_ends_a_server_that_has_nothing_to_do(self):
        for number in ENDING:
            with self.subTest(number=number), serve(preexec_fn=forget_nohup) as weir:
                weir.listening()
                weir.signal(number)
                self.assertEqual(weir.wait(), 0)

    def test_every_signal_that_ends_lets_requests_finish(self):
        for number in ENDING:
            with self.subTest(number=number), \
                    serve("--drain-timeout", "0", preexec_fn=forget_nohup) as weir:
                client = self.half_a_request(weir)
                weir.signal(number)
                self.assertTrue(refuses(weir.listening()[0]))
                client.sendall(GET[10:])
                self.assertIn(b"200 OK\r\n", receive_all(client))
                self.assertEqual(weir.wait(), 0)

    def test_nobody_is_disturbed_by_a_signal_without_a_meaning(self):
        with serve(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as weir:
            client = self.half_a_request(weir)
            weir.signal(signal.SIGHUP)
            client.sendall(GET[10:])
            self.assertIn(b"200 OK\r\n", receive(client, 30))

    def test_idle_connections_are_closed_by_the_first_signal(self):
        with serve("--drain-timeout", "0") as weir:
            clients = [weir.connect() for _ in range(10)]
            for client in clients:
                self.addCleanup(client.close)
                client.sendall(GET)
                receive(client, 20)
            weir.stats_until(lambda stats: stats["idle"] == 10)
            weir.signal(signal.SIGTERM)
            self.assertEqual(weir.wait(), 0)
            for client in clients:
                receive_all(client)

    def test_a_request_that_runs_is_finished_after_the_first_signal(self):
        with serve("--drain-timeout", "0") as weir:
            client = self.half_a_request(weir)
            weir.signal(signal.SIGTERM)
            self.assertTrue(refuses(weir.listening()[0]))
            client.sendall(GET[10:])
            reply = receive_all(client)
            self.assertIn(b"200 OK\r\n", reply)
            self.assertIn(b"\r\nConnection: close\r\n", reply)
            self.assertEqual(weir.wait(), 0)

    def test_a_second_signal_ends_what_the_first_waits_for(self):
        for second in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(second=second), serve("--drain-timeout", "0") as weir:
                client = self.half_a_request(weir)
                weir.signal(signal.SIGTERM)
                self.assertTrue(refuses(weir.listening()[0]))
                weir.signal(second)
                self.assertEqual(weir.wait(), 0)
                self.assertEqual(receive_all(client), b"")

    def test_the_drain_timeout_ends_what_the_first_signal_waits_for(self):
        with serve("--drain-timeout", "50ms") as weir:
            self.half_a_request(weir)
            weir.signal(signal.SIGTERM)
            self.assertEqual(weir.wait(), 0)

    def test_daemon_threads_end_without_waiting(self):
        with serve("--drain-timeout", "0", "--daemon-threads") as weir:
            self.half_a_request(weir)
            weir.signal(signal.SIGTERM)
            self.assertEqual(weir.wait(), 0)

    def test_every_statistic_of_the_header_is_printed(self):
        with open(os.environ["WEIR_H"], encoding="utf-8") as header:
            members = re.search(r"struct weir_stats \{(.*?)\n\};", header.read(), re.DOTALL)[1]
        members = re.sub(r"/\*.*?\*/", "", members, flags=re.DOTALL)
        names = [name.strip() for line in re.findall(r"uint64_t ([^;]+);", members)
                 for name in line.split(",")]
        with serve() as weir:
            weir.listening(1)
            stats = weir.stats()
        self.assertIn("accepted", names)
        self.assertEqual(list(stats), names + ["errors", "busy_ms"])

    def test_sigusr1_prints_what_was_done(self):
        with serve("--handler", "upper", "--workers", "2") as weir:
            with weir.connect() as client:
                client.sendall(b"abc\n")
                receive(client, 4)
                stats = weir.stats_until(lambda stats: stats["idle"] == 1)
            self.assertEqual((stats["accepted"], stats["active"], stats["workers"]), (1, 1, 2))
            self.assertEqual((stats["bytes_in"], stats["bytes_out"]), (4, 4))
            self.assertEqual((stats["errors"], stats["accept_errors"]), (0, 0))
            weir.stats_until(lambda stats: stats["active"] == 0 and stats["closed"] == 1)

    def test_sigusr1_prints_who_is_connected(self):
        for concurrency, state in (("pool", "parked"), ("thread", "running"), ("fork", "running"),
                                   ("prefork", "parked")):
            with self.subTest(concurrency=concurrency), \
                    serve("--handler", "upper", "--concurrency", concurrency) as weir:
                with weir.connect() as client:
                    client.sendall(b"half a line")
                    peer = "127.0.0.1:%d" % client.getsockname()[1]
                    told = {}
                    end = time.monotonic() + TIMEOUT
                    while told.get("waits") != "read" and time.monotonic() < end:
                        weir.signal(signal.SIGUSR1)
                        weir.line("weir: stats ")
                        first = weir.line("weir: dump connections=")
                        shown = int(first.split("shown=")[1])
                        told = self.dumped(weir.line("weir: dump peer=")) if shown else {}
                    self.assertEqual((told["peer"], told["state"], told["waits"], told["handler"]),
                                     (peer, state, "read", "upper"))
                    self.assertEqual(told["listen"], weir.addresses[0])
                    self.assertEqual(int(told["pid"]) == weir.process.pid,
                                     concurrency in ("pool", "thread"))

    def dumped(self, line):
        """What a line of a dump says, as a dictionary."""
        return dict(word.split("=", 1) for word in line.split()[2:])

    def test_a_standard_error_that_nobody_reads_any_more_does_not_end_the_server(self):
        weir = serve("--handler", "echo")
        with weir:
            address = weir.listening()[0]
            weir.stop_reading()
            weir.signal(signal.SIGUSR1)
            with connect(address) as client:
                client.sendall(b"x")
                self.assertEqual(receive(client, 1), b"x")

    def test_the_limit_of_descriptors_is_raised_and_one_that_is_low_is_told(self):
        for hard, is_low in ((80, True), (300, False)):
            def lower(hard=hard):
                resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))

            with self.subTest(hard=hard), serve(preexec_fn=lower) as weir:
                weir.listening()
                self.assertEqual(resource.prlimit(weir.process.pid, resource.RLIMIT_NOFILE),
                                 (hard, hard))
                self.assertEqual(weir.log[0].startswith(f"weir: only {hard} descriptors"), is_low)

    def test_closed_standard_streams_are_given_to_nobody(self):
        for closed in ([2], [1, 2], [0, 1, 2]):
            with self.subTest(closed=closed), \
                    socket.create_server(("127.0.0.1", 0)) as listener, \
                    subprocess.Popen([WEIR, "serve", "--listen", f"fd://{listener.fileno()}"],
                                     pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                     preexec_fn=lambda: [os.close(fd) for fd in closed]) as server:
                with connect("tcp://127.0.0.1:%d" % listener.getsockname()[1]) as client:
                    client.sendall(GET)
                    self.assertIn(b"200 OK", receive(client, 20))
                for fd in (0, 1, 2):
                    self.assertEqual(os.readlink(f"/proc/{server.pid}/fd/{fd}"), "/dev/null")
                server.terminate()
                self.assertEqual(server.wait(TIMEOUT), 0)

    def test_the_same_port_can_be_served_again_at_once(self):
        with serve() as weir:
            address = weir.listening()[0]
            with weir.connect() as client:
                client.sendall(GET)
                receive(client, 20)
                weir.signal(signal.SIGTERM)
                self.assertEqual(weir.wait(), 0)
        with Weir("--listen", address) as weir:
            self.assertEqual(weir.listening(), [address])

    def test_two_servers_share_a_port_if_both_ask_for_it(self):
        with serve("--reuse-port") as first:
            address = first.listening()[0]
            with Weir("--listen", address, "--reuse-port") as second:
                self.assertEqual(second.listening(), [address])


class UnixSockets(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "weir.sock")

    def serve(self, *args):
        return Weir("--listen", f"unix://{self.path}", "--handler", "echo", *args)

    def test_the_mode_is_as_asked_whatever_the_umask(self):
        for umask, args, mode in ((0o077, ["--unix-mode", "0660"], 0o660),
                                  (0o000, ["--unix-mode", "600"], 0o600),
                                  (0o027, [], 0o750)):
            with self.subTest(args=args):
                before = os.umask(umask)
                try:
                    weir = self.serve(*args)
                finally:
                    os.umask(before)
                with weir:
                    weir.listening()
                    self.assertEqual(os.stat(self.path).st_mode & 0o7777, mode)

    def test_the_owner_is_as_asked(self):
        uid, gid = (12345, 23456) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
        for owner in (f"{uid}:{gid}", f"{uid}", f":{gid}"):
            with self.subTest(owner=owner), self.serve("--unix-owner", owner) as weir:
                weir.listening()
                made = os.stat(self.path)
                self.assertEqual(made.st_uid, uid if owner[0] != ":" else os.geteuid())
                self.assertEqual(made.st_gid, gid if ":" in owner else os.getegid())

    def test_an_owner_that_may_not_be_had_is_refused_by_name_of_the_option(self):
        if os.geteuid() == 0:
            self.skipTest("root may give everything away")
        status, out, err = run("serve", "--listen", f"unix://{self.path}", "--unix-owner", "0")
        self.assertEqual((status, out), (2, ""))
        self.assertRegex(err, r"^weir serve: .*unix_owner: the socket cannot be given to 0: ")
        self.assertFalse(os.path.exists(self.path))

    def test_the_path_goes_at_the_end_unless_it_is_to_be_kept(self):
        with self.serve() as weir:
            weir.listening()
        self.assertFalse(os.path.exists(self.path))
        for _ in range(2):      # the second takes over what the first has left
            with self.serve("--keep-path") as weir:
                with weir.connect() as client:
                    client.sendall(b"here\n")
                    self.assertEqual(receive(client, 5), b"here\n")
            self.assertTrue(os.path.exists(self.path))


if __name__ == "__main__":
    main()
