"""The servers: how each is started for a job, and what it takes to have it.

Every server is a child of ours in the foreground, on the servers' CPU, ended by its pid. Its
configuration is written into a scratch folder, its port is one that the kernel chose. No service of
the system is touched.
"""

import collections
import dataclasses
import functools
import os
import pathlib
import platform
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import typing

from side_by_side import machine

HERE = pathlib.Path(__file__).resolve().parent
SOCKETSERVER = HERE.parent / "peers/socketserver_peer"
PROGRAM_FOLDERS = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
BACKLOG = 4096
READY_SECONDS = 10
SLOW_TEXT_LEN = 24000
HELLO = "Hello, world!\\n"

# jobs that go together
LINES = ("line", "unixline")
WEB = ("http", "close")
BODIES = ("memory", "file")
WAITS = ("sleep", "ask")


class Failure(Exception):
    """Why there is no figure, as a sentence."""


def find_program(name):
    return shutil.which(name, path=PROGRAM_FOLDERS)


@dataclasses.dataclass
class Place:
    """Where a server is to be started, and for what."""

    built: pathlib.Path     # a folder like bazel-bin
    scratch: pathlib.Path   # a folder of its own
    job: str                # line, unixline (of a Unix socket), http, close (HTTP, a connection
                            # per request), memory and file (HTTP, a body), crowd (HTTP, with
                            # thousands who stall or idle), slow (HTTP, some requests take long),
                            # overload (HTTP, a connection per request, each takes long),
                            # udp, memcached, models (lines, on connections that end), sleep
                            # (lines, after 10 ms), ask (lines, sent back by another server)
    body_len: int = 0       # of jobs that have one
    backend: str = ""       # whom ask asks

    # Seconds that a silent client may stay, of servers that limit them: more than other servers'
    # rounds take.
    patience = 600

    @property
    def socket(self):
        """The path of a Unix socket, for jobs that have one."""
        return self.scratch / "socket" if self.job == "unixline" else None

    def __post_init__(self):
        """A file of so many bytes is there in any case, for servers that serve the folder."""
        self.body = self.scratch / "body"
        if self.body_len:
            self._link_body()

    @property
    def room(self):
        """For so many connections. (nginx closes idle ones when less than a 16th of it is free.)"""
        return 20480 if self.job == "crowd" else 8192

    def _link_body(self):
        """The same file for all: how its pages lie in memory is half of what sendfile costs."""
        body = self.scratch.parent / f"body-{self.body_len}"
        if not body.exists():
            body.write_bytes(bytes(self.body_len))
        os.link(body, self.body)

    def write(self, name, text):
        path = self.scratch / name
        path.write_text(text, encoding="ascii")
        return path


@dataclasses.dataclass
class Launch:
    """A command. port is None where the program says itself where it listens."""

    argv: list
    port: typing.Optional[int] = None
    listener: typing.Optional[socket.socket] = None     # what the program takes over from us
    env: dict = dataclasses.field(default_factory=dict)


def listen():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    return listener, listener.getsockname()[1]


def free_port():
    """For programs that want to listen themselves: a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# ---------------------------------------------------------------------- how each is started

def special(place):
    """Words that bare_loop and weir_main have in common."""
    if place.body_len:
        return ["--body", place.body, place.job]
    return [*(["--backend", place.backend] if place.backend else []), place.job]


def bare_loop(place, threads=1):
    if place.socket:
        how = ["--unix", place.socket, "line"]
    elif place.body_len or place.job in WAITS:
        how = special(place)
    else:
        job = {"models": "line", "crowd": "http"}.get(place.job, place.job)
        how = ["--threads", threads, job]
    return Launch([place.built / "bench/bare_loop_main", *how])


def weir(place, workers=1, dispatch="worker", processes=0):
    if place.job == "overload":
        # what `weir serve` sets, which has no such handler
        return weir_without_target(place, "--queue-target", 100)
    if place.body_len or place.job in WAITS:
        return Launch([place.built / "bench/weir_main", *special(place)])
    if place.job == "slow":
        return Launch([place.built / "bench/weir_main", "--workers", workers, "--dispatch",
                       dispatch, place.job])
    handler = "hello" if place.job in ("http", "close", "crowd") else "echo"
    scheme = "udp" if place.job == "udp" else "tcp"
    address = f"unix://{place.socket}" if place.socket else f"{scheme}://127.0.0.1:0"
    return Launch([place.built / "tools/weir", "serve", "--listen", address, "--handler",
                   handler, "--workers", workers, "--dispatch", dispatch,
                   "--idle-timeout", f"{place.patience}s",
                   *(["--concurrency", "prefork", "--processes", processes] if processes else [])])


def weir_without_target(place, *how):
    return Launch([place.built / "bench/weir_main", *how, "slow"])


# as many children as there are clients, and twice that: who ends is not reaped at once
MODEL_OPTIONS = {"fork": ["--max-children", 1024], "prefork": ["--processes", 1]}


def weir_model(place, model):
    return Launch([place.built / "tools/weir", "serve", "--listen", "tcp://127.0.0.1:0",
                   "--handler", "echo", "--workers", 1, "--concurrency", model,
                   *MODEL_OPTIONS.get(model, [])])


def weir_threads(place):
    return Launch([place.built / "bench/weir_main", "--concurrency", "thread", *special(place)])


def at_socket(place):
    return [place.socket] if place.socket else []


def library_peer(place, program):
    return Launch([place.built / "bench/peers" / program, *at_socket(place)])


def libmicrohttpd(place):
    how = [place.job, place.body] if place.body_len else []
    return Launch([place.built / "bench/peers/libmicrohttpd_http", *how])


def python_peer(place):
    job = {"close": "http", "models": "line"}.get(place.job, place.job)
    return Launch([SOCKETSERVER, job, *at_socket(place),
                   *([place.backend] if place.backend else [])])


def python_forks(_):
    return Launch([SOCKETSERVER, "fork"])


def write_slow_text(place):
    """What gzip takes some 10 ms to pack, and makes a short answer: nothing else here is slow."""
    place.write("slow", "".join(random.Random(1).choices("ab", k=SLOW_TEXT_LEN)))


def nginx(place):
    listener, port = listen()
    if place.job == "overload":
        write_slow_text(place)
    conf = place.write("nginx.conf", f"""
        worker_processes 1;
        daemon off;
        pid {place.scratch}/pid;
        error_log {place.scratch}/error.log;
        events {{ worker_connections {place.room}; }}
        http {{
            access_log off;
            keepalive_requests 1000000000;
            keepalive_timeout {place.patience}s;
            client_header_timeout {place.patience}s;
            default_type text/plain;
            client_body_temp_path {place.scratch}/body;
            proxy_temp_path {place.scratch}/proxy;
            fastcgi_temp_path {place.scratch}/fastcgi;
            uwsgi_temp_path {place.scratch}/uwsgi;
            scgi_temp_path {place.scratch}/scgi;
            sendfile on;
            tcp_nopush on;
            open_file_cache max=10;
            server {{
                listen 127.0.0.1:{port} backlog={BACKLOG};
                location = / {{ return 200 "{HELLO}"; }}
                location = /slow {{
                    root {place.scratch};
                    gzip on;
                    gzip_comp_level 9;
                    gzip_types *;
                    chunked_transfer_encoding off;
                }}
                location / {{ root {place.scratch}; }}
            }}
        }}
        """)
    # -e: or it would open the system's log before it reads where ours is
    return Launch([find_program("nginx"), "-p", place.scratch, "-e", "error.log", "-c", conf], port,
                  listener, {"NGINX": f"{listener.fileno()};"})


def haproxy_relay(place):
    listener, port = listen()
    conf = place.write("haproxy.cfg", f"""
        global
            nbthread 1
            maxconn 8192
        defaults
            mode tcp
            timeout connect 5s
            timeout client 60s
            timeout server 60s
        listen relay
            bind fd@{listener.fileno()}
            server backend {place.backend.split("//")[1]}
        """.replace("        ", ""))
    return Launch([find_program("haproxy"), "-db", "-q", "-f", conf], port, listener)


def haproxy(place):
    """A body is read at the start, and has to fit into a buffer."""
    listener, port = listen()
    large = f"tune.bufsize {place.body_len + 16384}" if place.body_len else ""
    what = f"application/octet-stream file {place.body}" if place.body_len else \
        f'text/plain lf-string "{HELLO}"'
    conf = place.write("haproxy.cfg", f"""
        global
            nbthread 1
            maxconn 8192
            {large}
        defaults
            mode http
            timeout client 60s
            timeout http-keep-alive 60s
        frontend hello
            bind fd@{listener.fileno()}
            http-request return status 200 content-type {what}
        """.replace("        ", ""))
    return Launch([find_program("haproxy"), "-db", "-q", "-f", conf], port, listener)


def h2o(place):
    listener, port = listen()
    place.write("index.txt", "Hello, world!\n")
    conf = place.write("h2o.conf", f"""
listen: {{ host: 127.0.0.1, port: {port} }}
num-threads: 1
max-connections: 8192
http1-request-timeout: 60
hosts:
  default:
    paths:
      /:
        file.dir: {place.scratch}
        file.index: [ index.txt ]
        file.send-compressed: OFF
""")
    return Launch([find_program("h2o"), "-c", conf], port, listener,
                  {"SERVER_STARTER_PORT": f"127.0.0.1:{port}={listener.fileno()}"})


def apache2(place):
    """As Debian configures its event MPM, but that more connections may idle than it has threads."""
    port = free_port()
    place.write("index.txt", "Hello, world!\n")
    modules = "/usr/lib/apache2/modules"
    conf = place.write("apache2.conf", f"""
ServerRoot {place.scratch}
DefaultRuntimeDir {place.scratch}
ServerName 127.0.0.1
PidFile pid
ErrorLog error.log
{"User www-data" if os.geteuid() == 0 else ""}
{"Group www-data" if os.geteuid() == 0 else ""}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule dir_module {modules}/mod_dir.so
Listen 127.0.0.1:{port}
ListenBacklog {BACKLOG}
StartServers 2
ThreadsPerChild 25
MaxRequestWorkers 150
AsyncRequestWorkerFactor 200
MaxKeepAliveRequests 0
KeepAliveTimeout {place.patience}
Timeout {place.patience}
EnableSendfile On
DocumentRoot {place.scratch}
DirectoryIndex index.txt
<Directory />
    AllowOverride None
    ForceType text/plain
</Directory>
""")
    return Launch([find_program("apache2"), "-D", "FOREGROUND", "-f", conf], port)


def memcached(_):
    port = free_port()
    user = ["-u", "root"] if os.geteuid() == 0 else []
    return Launch([find_program("memcached"), "-l", "127.0.0.1", "-p", port, "-U", 0, "-t", 1,
                   "-c", 8192, "-b", BACKLOG, *user], port)


# ---------------------------------------------------------------------- who there is

@dataclasses.dataclass(frozen=True)
class Peer:
    """A contender. variant: only run when asked for."""

    name: str
    jobs: tuple
    start: typing.Callable
    package: str = ""           # Debian's; none: it comes with weir, or with Python
    program: str = ""           # of that package
    header: str = ""            # of that package; bench/peers is built with it
    target: str = ""            # what is built in bench/peers
    yardstick: str = "bare loop"
    connections_max: int = 0    # beyond which it is left out; 0: none
    may_close: bool = False     # connections between two requests, without notice
    variant: bool = False

    def missing(self, built):
        """Why it cannot be run, or None."""
        if self.target:
            if (built / "bench/peers" / self.target).exists():
                return None
            if os.path.exists(self.header):
                return f"bench/peers/{self.target} is not built"
        elif not self.package or find_program(self.program):
            return None
        return f"Debian's package {self.package} is not installed (tools/bench --install)"

    def version(self):
        if not self.package:
            return platform.python_version() if self.start in (python_peer, python_forks) else ""
        done = subprocess.run(["dpkg-query", "--show", "--showformat=${Version}", self.package],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              check=False)
        return done.stdout.strip()


PEERS = [
    Peer("bare loop", (*LINES, *WEB, *BODIES, *WAITS, "udp", "models", "crowd", "overload"),
         bare_loop),
    Peer("weir", (*LINES, *WEB, *BODIES, *WAITS, "udp", "crowd", "overload"), weir),
    Peer("weir, no queue target", ("overload",), weir_without_target),
    Peer("weir, threads", WAITS, weir_threads),
    Peer("weir, pool", ("models",), functools.partial(weir_model, model="pool")),
    Peer("weir, prefork", ("models",), functools.partial(weir_model, model="prefork")),
    Peer("weir, thread", ("models",), functools.partial(weir_model, model="thread")),
    Peer("weir, fork", ("models",), functools.partial(weir_model, model="fork")),
    Peer("weir, serial", ("models",), functools.partial(weir_model, model="serial"),
         connections_max=1),
    Peer("weir, dispatch acceptor", ("line", "http"),
         functools.partial(weir, dispatch="acceptor"), variant=True),
    Peer("libevent", LINES, functools.partial(library_peer, program="libevent_lines"),
         package="libevent-dev", header="/usr/include/event2/event.h", target="libevent_lines"),
    Peer("libuv", LINES, functools.partial(library_peer, program="libuv_lines"),
         package="libuv1-dev", header="/usr/include/uv.h", target="libuv_lines"),
    Peer("memcached", ("memcached",), memcached, package="memcached", program="memcached"),
    Peer("nginx", (*WEB, "crowd", "file", "overload"), nginx, package="nginx", program="nginx"),
    Peer("haproxy", (*WEB, "memory"), haproxy, package="haproxy", program="haproxy"),
    Peer("haproxy, relay", ("ask",), haproxy_relay, package="haproxy", program="haproxy"),
    Peer("h2o", (*WEB, "file"), h2o, package="h2o", program="h2o"),
    Peer("apache2", (*WEB, "crowd", "file"), apache2, package="apache2-bin", program="apache2",
         may_close=True),
    Peer("libmicrohttpd", (*WEB, *BODIES), libmicrohttpd, package="libmicrohttpd-dev",
         header="/usr/include/microhttpd.h", target="libmicrohttpd_http"),
    Peer("socketserver", (*LINES, *WAITS, "udp", "models"), python_peer),
    Peer("socketserver, fork", ("models",), python_forks),
    Peer("http.server", WEB, python_peer),
    Peer("2 bare loops", ("line", "http", "close", "slow"),
         functools.partial(bare_loop, threads=2), yardstick="2 bare loops", variant=True),
    Peer("weir, 2 workers", ("line", "http", "close", "slow"),
         functools.partial(weir, workers=2), yardstick="2 bare loops", variant=True),
    Peer("weir, 2 workers, dispatch acceptor", ("line", "http", "slow"),
         functools.partial(weir, workers=2, dispatch="acceptor"),
         yardstick="2 bare loops", variant=True),
]


# ---------------------------------------------------------------------- one that runs

class Server:
    """A server that serves. A context that ends it, and all that descends from it."""

    def __init__(self, peer, place, cpu=machine.SERVER_CPU):
        self.peer = peer
        self.last_words = collections.deque(maxlen=5)
        launch = peer.start(place)
        self.command = " ".join(map(str, launch.argv))
        fds = [launch.listener.fileno()] if launch.listener else []
        self.process = subprocess.Popen(
            machine.pinned(cpu, launch.argv), cwd=place.scratch, pass_fds=fds,
            env={**os.environ, **launch.env}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)
        try:
            if launch.listener:
                launch.listener.close()
            if launch.port is None:
                self.address = self._address_from_line()
            else:
                self.address = f"tcp://127.0.0.1:{launch.port}"
            # a server must not be stopped by a full pipe
            threading.Thread(target=self._listen_to, daemon=True).start()
            if launch.port is not None:
                self._wait_until_it_accepts()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self):
        return self.process.pid

    @property
    def port(self):
        return int(self.address.rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def _address_from_line(self):
        for line in self.process.stderr:
            match = re.search(r"listening on (\w+://\S+)", line)
            if match:
                return match.group(1)
            self.last_words.append(line.strip())
        raise Failure(self._with_last_words("did not start"))

    def _listen_to(self):
        for line in self.process.stderr:
            self.last_words.append(line.strip())

    def _wait_until_it_accepts(self):
        end = time.monotonic() + READY_SECONDS
        while True:
            if self.process.poll() is not None:
                raise Failure(self._with_last_words("did not start"))
            try:
                socket.create_connection(("127.0.0.1", self.port), READY_SECONDS).close()
                return
            except OSError as error:
                if time.monotonic() > end:
                    raise Failure(self._with_last_words("does not listen")) from error
                time.sleep(0.01)

    def _with_last_words(self, what):
        said = f": {self.last_words[-1]}" if self.last_words else ""
        return f"{self.peer.name} {what}{said}"

    def runs(self):
        return self.process.poll() is None

    def stop(self):
        if not self.runs():
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
            return
        except subprocess.TimeoutExpired:
            pass
        for process in reversed(machine.tree(self.pid)):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
