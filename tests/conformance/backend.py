#!/usr/bin/env python3
"""The conformance suite's back end on Python's socketserver: see protocol.md."""

import ctypes
import errno
import itertools
import os
import resource
import select
import signal
import socket
import socketserver
import sys
import threading
import time

LINE_MAX = 65536
NOBODY = 65534
PATTERN = bytes(range(251))


def say(*words):
    """One line, in one write: so lines of threads and children never mix."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def error_name(error):
    if isinstance(error, TimeoutError):
        return "ETIMEDOUT"
    if isinstance(error, OSError) and error.errno:
        return errno.errorcode[error.errno]
    return type(error).__name__


def failure():
    return OSError(errno.EIO, "as asked")


class NotSupported(Exception):
    """socketserver has nothing like it."""


# ---------------------------------------------------------------------- handlers ------------


class Obey:
    """What a client may ask of its handler. `self` is a handler of socketserver."""

    counter = 0     # of the process

    def handle_obey(self):
        self.over = False
        while not self.over and (line := self.rfile.readline(LINE_MAX)):
            word, _, argument = line.decode().rstrip("\r\n").partition(" ")
            action = getattr(self, "do_" + word, None)
            if not action:
                raise OSError(errno.EINVAL, line)
            action(argument)

    def answer(self, *words):
        self.wfile.write(" ".join(map(str, words)).encode() + b"\n")

    def answer_data(self, data):
        self.answer(len(data), data.hex())

    def do_echo(self, text):
        self.answer(text)

    def do_upper(self, text):
        self.answer(text.upper())

    def do_say(self, text):
        self.wfile.write(text.encode())

    def do_flush(self, _):
        self.wfile.flush()

    def do_pid(self, _):
        self.answer(os.getpid())

    def do_tid(self, _):
        self.answer(threading.get_native_id())

    def do_count(self, _):
        Obey.counter += 1
        self.answer(Obey.counter)

    def do_sleep(self, ms):
        time.sleep(int(ms) / 1000)
        self.answer("slept")

    def do_block(self, _):
        poll = select.poll()
        poll.register(self.request, select.POLLIN)
        poll.poll()
        self.answer("woken")

    def do_hold(self, _):
        self.server.released.acquire()
        self.answer("released")

    def do_fail(self, _):
        raise failure()

    def do_stop(self, _):
        raise SystemExit

    def do_end(self, _):
        self.over = True

    def do_shutdown(self, _):
        self.server.shutdown()
        self.answer("ok")

    def do_crash(self, _):
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        ctypes.string_at(0)

    def do_leak(self, _):
        self.answer(os.dup(self.request.fileno()))

    def do_nodelay(self, _):
        self.answer(self.request.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def do_peer(self, _):
        self.answer(peer_text(self.server, self.client_address))

    def do_read(self, n):
        self.answer_data(self.rfile.read(int(n)))

    def do_line(self, limit):
        self.answer_data(self.rfile.readline(int(limit)))

    def do_insist(self, _):
        results = []
        for _ in range(2):
            try:
                self.rfile.readline(LINE_MAX)
                results.append("ok")
            except OSError as error:
                results.append(error_name(error))
        self.answer(*results)

    def do_write(self, n):
        n = int(n)
        data = PATTERN * (n // len(PATTERN) + 1)
        self.answer(self.wfile.write(data[:n]))


class Events(Obey):
    """A handler that tells when it is called, and behaves as its server was created to."""

    def setup(self):
        self.server.tell("setup")
        super().setup()
        if self.server.settings.get("setup") == "fail":
            raise failure()

    def handle(self):
        self.server.tell("handle")
        getattr(self, "handle_" + self.server.settings.get("handler", "obey"))()

    def handle_echo(self):
        while line := self.rfile.readline(LINE_MAX):
            self.wfile.write(line)

    def handle_mute(self):
        pass

    def finish(self):
        self.server.tell("finish")
        super().finish()
        if self.server.settings.get("finish") == "fail":
            raise failure()


class StreamHandler(Events, socketserver.StreamRequestHandler):
    pass


class DatagramHandler(Events, socketserver.DatagramRequestHandler):
    def do_block(self, _):
        raise NotSupported


# ---------------------------------------------------------------------- servers -------------


class Server:
    """Mixed into a class of socketserver: tells what is called, counts, and asks its settings."""

    def prepare(self, number, settings):
        self.number = number
        self.settings = settings
        self.quiet = settings.get("quiet") == "1"
        self.verdicts = settings.get("verify", "yes").split(",")
        self.lock = threading.Lock()
        self.counts = dict.fromkeys(("accepted", "refused", "errors", "accept_errors"), 0)
        self.released = threading.Semaphore(0)

    def tell(self, *words):
        if not self.quiet:
            say("event", self.number, *words)

    def add(self, count):
        with self.lock:
            self.counts[count] += 1

    def get_request(self):
        try:
            request = super().get_request()
        except OSError:
            self.add("accept_errors")
            raise
        self.tell("get_request")
        self.add("accepted")
        return request

    def verify_request(self, request, client_address):
        self.tell("verify_request")
        verdict = self.verdicts[0]
        if len(self.verdicts) > 1:
            del self.verdicts[0]
        if verdict == "error":
            raise failure()
        if verdict == "hold":
            self.released.acquire()
        if verdict == "no":
            self.add("refused")
        return verdict != "no"

    def process_request(self, request, client_address):
        self.tell("process_request")
        super().process_request(request, client_address)

    def finish_request(self, request, client_address):
        self.tell("finish_request")
        super().finish_request(request, client_address)

    def shutdown_request(self, request):
        self.tell("shutdown_request")
        super().shutdown_request(request)

    def close_request(self, request):
        self.tell("close_request")
        super().close_request(request)

    def handle_error(self, request, client_address):
        self.add("errors")
        self.tell("handle_error", f"error={error_name(sys.exc_info()[1])}",
                  f"peer={peer_text(self, client_address)}")
        if self.settings.get("handle_error") == "default":
            super().handle_error(request, client_address)

    def handle_timeout(self):
        self.tell("handle_timeout")
        super().handle_timeout()

    def service_actions(self):
        super().service_actions()
        if self.settings.get("service_actions", "default") != "default":
            self.tell("service_actions")
        if self.settings.get("service_actions") == "hold":
            self.released.acquire()

    def server_bind(self):
        super().server_bind()
        if "unix_mode" in self.settings:
            os.chmod(self.server_address, int(self.settings["unix_mode"], 8))


TRANSPORTS = {
    "tcp": (socketserver.TCPServer, StreamHandler),
    "udp": (socketserver.UDPServer, DatagramHandler),
    "unix": (socketserver.UnixStreamServer, StreamHandler),
    "unixgram": (socketserver.UnixDatagramServer, DatagramHandler),
}

MIXINS = {
    "serial": (),
    "thread": (socketserver.ThreadingMixIn,),
    "pool": (socketserver.ThreadingMixIn,),
    "fork": (socketserver.ForkingMixIn,),
}


def flag(text):
    return {"0": False, "1": True}[text]


def seconds(text):
    return int(text) / 1000


# Settings that are attributes of the server's class, and of the handler's.
SERVER_ATTRIBUTES = {
    "reuse_address": ("allow_reuse_address", flag),
    "reuse_port": ("allow_reuse_port", flag),
    "daemon_threads": ("daemon_threads", flag),
    "block_on_close": ("block_on_close", flag),
    "backlog": ("request_queue_size", int),
    "max_children": ("max_children", int),
    "max_packet_size": ("max_packet_size", int),
    "timeout_ms": ("timeout", seconds),
}
HANDLER_ATTRIBUTES = {
    "disable_nagle": ("disable_nagle_algorithm", flag),
    "rbufsize": ("rbufsize", int),
    "wbufsize": ("wbufsize", int),
    "read_timeout_ms": ("timeout", seconds),
    "write_timeout_ms": ("timeout", seconds),
}
OTHERS = {
    "address", "concurrency", "handler", "setup", "finish", "verify", "service_actions",
    "handle_error", "quiet", "defer", "socket_timeout_ms", "poll_interval_ms", "unix_mode",
}


def attributes(table, settings):
    """What a class gets of these settings."""
    found = {}
    for key, (name, read) in table.items():
        if key in settings and found.setdefault(name, read(settings[key])) != read(settings[key]):
            raise NotSupported
    return found


def parse(address):
    """The transport of a URI, its family, and what socketserver takes as the address."""
    scheme, _, rest = address.partition(":")
    if scheme not in TRANSPORTS:
        raise NotSupported
    if rest.startswith("@"):
        return scheme, socket.AF_UNIX, "\0" + rest[1:]
    rest = rest.removeprefix("//")
    if scheme.startswith("unix"):
        return scheme, socket.AF_UNIX, rest
    host, _, port = rest.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    return scheme, family, (host.strip("[]"), int(port))


def address_text(family, address):
    """The part of a URI behind its scheme, or for a peer all of its text."""
    if family == socket.AF_UNIX:
        if isinstance(address, str):
            address = address.encode()
        return (b"@" + address[1:] if address[:1] == b"\0" else address).decode()
    host, port = address[:2]
    return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"


def peer_text(server, address):
    if server.address_family == socket.AF_UNIX:
        return "unix:" + address_text(socket.AF_UNIX, address or "")
    return address_text(server.address_family, address)


def create(number, settings):
    if settings.keys() - (SERVER_ATTRIBUTES.keys() | HANDLER_ATTRIBUTES.keys() | OTHERS):
        raise NotSupported
    scheme, family, address = parse(settings["address"])
    base, handler = TRANSPORTS[scheme]
    concurrency = settings.get("concurrency", "serial")
    if concurrency not in MIXINS:
        raise NotSupported
    cls = type("Server", (Server, *MIXINS[concurrency], base),
               {"address_family": family, "scheme": scheme,
                **attributes(SERVER_ATTRIBUTES, settings)})
    handler = type("Handler", (handler,), attributes(HANDLER_ATTRIBUTES, settings))
    # The constructor binds at once unless told not to: prepare what binding asks before.
    server = cls.__new__(cls)
    server.prepare(number, settings)
    server.__init__(address, handler, bind_and_activate=settings.get("defer") != "1")
    if "socket_timeout_ms" in settings:
        server.socket.settimeout(seconds(settings["socket_timeout_ms"]))
    return server


# ---------------------------------------------------------------------- verbs ---------------


class BackEnd:
    # May block: each has a thread.
    THREADED = {"serve", "handle_request", "shutdown", "close", "destroy", "poll_loop"}

    def __init__(self):
        self.servers = {}

    def do_create(self, server, **settings):
        self.servers[server] = create(server, settings)

    def do_bind(self, server):
        self.servers[server].server_bind()

    def do_activate(self, server):
        self.servers[server].server_activate()

    def do_address(self, server):
        it = self.servers[server]
        text = address_text(it.address_family, it.server_address)
        slashes = "" if text.startswith("@") else "//"
        return {"address": f"{it.scheme}:{slashes}{text}"}

    def do_serve(self, server):
        it = self.servers[server]
        it.serve_forever(seconds(it.settings.get("poll_interval_ms", "500")))

    def do_handle_request(self, server):
        self.servers[server].handle_request()

    def do_shutdown(self, server):
        self.servers[server].shutdown()

    def do_stop(self, server):
        """socketserver can only wait; so a thread does, and we until the wish is on record."""
        it = self.servers[server]
        waiter = threading.Thread(target=it.shutdown, daemon=True)
        waiter.start()
        while waiter.is_alive() and not it._BaseServer__shutdown_request:
            time.sleep(0.001)

    def do_close(self, server):
        self.servers[server].server_close()

    def do_destroy(self, server):
        with self.servers.pop(server):
            pass

    def do_release(self, server):
        self.servers[server].released.release()

    def do_stats(self, server):
        return self.servers[server].counts

    def do_poll_loop(self, servers, requests):
        poll = select.poll()
        by_fd = {it.fileno(): it for it in (self.servers[number] for number in servers.split(","))}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        left = int(requests)
        while left > 0:
            for fd, _ in itertools.islice(poll.poll(), left):
                by_fd[fd].handle_request()
                left -= 1

    def do_limit(self, nofile=None, nproc=None):
        if nproc and os.getuid() == 0:
            os.setresuid(NOBODY, NOBODY, NOBODY)
        for kind, soft in (resource.RLIMIT_NOFILE, nofile), (resource.RLIMIT_NPROC, nproc):
            if soft:
                resource.setrlimit(kind, (int(soft), resource.getrlimit(kind)[1]))

    def do_spawn(self):
        nowhere = [(os.POSIX_SPAWN_CLOSE, fd) for fd in (0, 1)]
        return {"pid": os.posix_spawn("/bin/sh", ["sh", "-c", "exit 7"], {}, file_actions=nowhere)}

    def do_reap(self, pid):
        try:
            return {"status": os.waitstatus_to_exitcode(os.waitpid(int(pid), 0)[1])}
        except ChildProcessError:
            return {"status": -1}

    def do_ping(self):
        pass

    def run(self, tag, verb, settings):
        try:
            result = getattr(self, "do_" + verb)(**settings) or {}
        except NotSupported:
            say(tag, "error", "ENOTSUP")
        # SystemExit too: it leaves serve_forever, and what is told here is how that ended.
        except BaseException as error:
            say(tag, "error", error_name(error))
        else:
            say(tag, "ok", *(f"{key}={value}" for key, value in result.items()))

    def run_on_a_thread(self, *command):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        self.run(*command)

    def obey(self, line):
        """One line of the driver's; False: it was the last."""
        tag, verb, *settings = line.split()
        settings = dict(setting.split("=", 1) for setting in settings)
        if verb == "exit":
            return False
        if not hasattr(self, "do_" + verb):
            sys.exit(f"backend.py: what is {line!r}?")
        if verb in self.THREADED:
            threading.Thread(target=self.run_on_a_thread, args=(tag, verb, settings),
                             daemon=True).start()
        else:
            self.run(tag, verb, settings)
        return True


def main():
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    back_end = BackEnd()
    for line in iter(sys.stdin.readline, ""):
        if not back_end.obey(line):
            break


if __name__ == "__main__":
    main()
