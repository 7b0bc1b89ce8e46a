"""What scenarios are written with: behaviours, back ends, their servers, and clients.

    @behaviour(4, "Binding where another server listens fails", weir=differs("..."))
    def second_bind(b):
        server = b.server(reuse_address=1)
        b.refuses("EADDRINUSE", "create", server=b.number(), address=server.address)

The function is called once with each back end, a process of its own: b.is_python, b.is_weir. That
is ended afterwards, and has to exit with status 0 and nothing on standard error that nobody has
looked at. Nothing here waits for time to pass: whoever waits waits for an answer, an event or a
byte, TIMEOUT seconds at most, which is far beyond what a sanitizer needs.
"""

import collections
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.realpath(__file__))
PROGRAMS = {
    "python": [sys.executable, os.path.join(HERE, "backend.py")],
    "weir": [os.path.abspath(os.environ.get("WEIR_BACKEND",
                                            "bazel-bin/tests/conformance/backend"))],
}
TIMEOUT = 45
LOOPBACK = "tcp://127.0.0.1:0"

# ---------------------------------------------------------------------- behaviours ----------

BEHAVIOURS = {}

Cell = collections.namedtuple("Cell", "word text")
HOLDS = Cell("holds", "")


def differs(text):
    """A deliberate difference; the scenario asserts it."""
    return Cell("differs", text)


def absent(text):
    """There is nothing to run on this back end, for this reason."""
    return Cell("absent", text)


SERIAL = ("serial",)
EVERY = ("serial", "thread", "pool", "fork")
SERVING = EVERY + ("prefork",)      # which weir has alone, and without handle_request


class Behaviour:
    def __init__(self, number, title, scenario, cells, concurrencies):
        self.number = number
        self.title = title
        self.scenario = scenario
        self.cells = cells
        self.concurrencies = concurrencies

    def runs(self):
        """What the scenario runs against: (back end, concurrency) each."""
        def exists(kind, concurrency):
            """Python has no processes beforehand, and its pool is its threads: once is enough."""
            return kind == "weir" or concurrency not in (
                "prefork", "pool" if "thread" in self.concurrencies else None)

        return [(kind, concurrency) for kind, cell in self.cells.items() if cell.word != "absent"
                for concurrency in self.concurrencies if exists(kind, concurrency)]


def behaviour(number, title, python=HOLDS, weir=HOLDS, concurrencies=SERIAL):
    """Makes a function the scenario of a behaviour. The texts become the committed document.

    It runs with each of the concurrencies: that is what its servers have, unless it says otherwise.
    """
    def register(scenario):
        assert number not in BEHAVIOURS, f"two scenarios for {number}"
        BEHAVIOURS[number] = Behaviour(number, title, scenario, {"python": python, "weir": weir},
                                       concurrencies)
        return scenario
    return register


# ---------------------------------------------------------------------- back ends -----------


class Refused(Exception):
    """A back end has answered `error NAME`."""


class Pending:
    """A command that may not have been answered yet."""

    def __init__(self, back_end, command):
        self.back_end = back_end
        self.command = command
        self.result = None

    @property
    def done(self):
        return self.result is not None

    def wait(self):
        """Its answer's settings; raises Refused for an error."""
        self.back_end.wait_until(lambda: self.done, f"no answer to {self.command!r}")
        word, *rest = self.result
        if word == "error":
            raise Refused(*rest)
        return dict(setting.split("=", 1) for setting in rest)

    def error(self):
        """The error's name that it was answered with, or None."""
        try:
            self.wait()
        except Refused as refused:
            return str(refused)
        return None


class BackEnd:
    """A process of one of the two programs. All it has said is in .events."""

    def __init__(self, kind, concurrency="serial", **popen):
        self.kind = kind
        self.concurrency = concurrency
        self.events = []
        self.notes = []             # what is printed below the result
        self.changed = threading.Condition()
        self._pending = {}
        self._numbers = 0
        self._ended = False
        self._others = []
        self._temporary = tempfile.TemporaryDirectory(prefix="conf")
        os.chmod(self._temporary.name, 0o755)
        # It appends, since who reads moves where it would write: the offset is of both.
        self._stderr = open(self.path("stderr"), "a+b", 0)
        self._seen = 0              # bytes of stderr that somebody has looked at
        self.process = subprocess.Popen(PROGRAMS[kind], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self._stderr, **popen)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    is_python = property(lambda self: self.kind == "python")
    is_weir = property(lambda self: self.kind == "weir")
    pid = property(lambda self: self.process.pid)

    # ------------------------------------------------------------------ talking

    def _read(self):
        for line in self.process.stdout:
            tag, *words = line.decode().split()
            with self.changed:
                if tag == "event":
                    self.events.append(words)
                else:
                    self._pending.pop(tag).result = words
                self.changed.notify_all()
        with self.changed:
            self._ended = True
            self.changed.notify_all()

    def wait_until(self, condition, otherwise):
        """Until what the back end has said fulfils it."""
        with self.changed:
            if not self.changed.wait_for(lambda: condition() or self._ended, TIMEOUT):
                raise AssertionError(f"{otherwise} in {TIMEOUT} s")
            if not condition():
                raise AssertionError(f"{otherwise}: it has ended")

    def begin(self, verb, **settings):
        """Sends a command that may block."""
        with self.changed:
            tag = str(self._next_number())
            command = " ".join([verb, *(f"{key}={value}" for key, value in settings.items())])
            pending = self._pending[tag] = Pending(self, command)
            self.process.stdin.write(f"{tag} {command}\n".encode())
            self.process.stdin.flush()
        return pending

    def _next_number(self):
        self._numbers += 1
        return self._numbers

    def number(self):
        """A number for a server."""
        with self.changed:
            return self._next_number()

    def call(self, verb, **settings):
        """A command and its answer."""
        return self.begin(verb, **settings).wait()

    def refuses(self, error, verb, **settings):
        equal(self.begin(verb, **settings).error(), error, f"the error of {verb}")

    def server(self, address=LOOPBACK, **settings):
        """A new server."""
        number = self.number()
        self.call("create", server=number, address=address,
                  **{"concurrency": self.concurrency, **settings})
        return Server(self, number)

    def another(self, **popen):
        """A further process of the same program, ended with this one."""
        other = BackEnd(self.kind, self.concurrency, **popen)
        self._others.append(other)
        return other

    # ------------------------------------------------------------------ looking at it

    def told(self, name=None, server=None):
        """All events until now (of that name, of that server), each a list of words."""
        self.call("ping")
        with self.changed:
            return [event[1:] for event in self.events
                    if (server is None or event[0] == str(server.number))
                    and (name is None or event[1] == name)]

    def wait_for_event(self, name, count=1):
        """Until an event of that name has come so often."""
        self.wait_until(lambda: sum(event[1] == name for event in self.events) >= count,
                        f"not {count} times {name}")

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def children(self):
        """{pid: state} of its children; Z is a zombie."""
        found = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                fields = stat_fields(entry)
                if fields and int(fields[1]) == self.pid:
                    found[int(entry)] = fields[0]
        return found

    def cpu_seconds(self):
        """What it has used so far, its children left out."""
        user, system = stat_fields(self.pid)[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def rss_kib(self):
        with open(f"/proc/{self.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))

    def stderr(self):
        """All that it has said on standard error."""
        self._stderr.seek(0)
        data = self._stderr.read()
        self._seen = len(data)
        return data.decode()

    def path(self, name):
        """A path in a directory of its own."""
        return os.path.join(self._temporary.name, name)

    def note(self, text):
        """Something to print below the result."""
        self.notes.append(text)

    def cannot(self, reason):
        """What is left could not be asserted here, and why."""
        self.note(f"NOT ASSERTED HERE: {reason}")

    # ------------------------------------------------------------------ its end

    def exit(self):
        """Asks it to exit; its status."""
        self.process.stdin.close()
        return self.wait()

    def last_words(self):
        """Has it exit; all the lines that it has said on standard error."""
        equal(self.exit(), 0, "the exit status")
        return self.stderr().splitlines()

    def wait(self):
        try:
            status = self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("it does not exit") from None
        self._reader.join(TIMEOUT)
        return status

    def kill(self):
        """For one that can't end: it is not looked at any more."""
        self.process.kill()
        self.process.wait()
        self.process.returncode = 0
        self.stderr()

    def finish(self):
        """The regular end, with all that is asserted of every scenario."""
        for other in self._others:
            other.finish()
        status = self.exit() if self.process.returncode is None else self.process.returncode
        unseen = self._seen
        said = self.stderr()[unseen:]
        equal(said, "", "standard error")
        equal(status, 0, "the exit status")

    def clean_up(self):
        for other in self._others:
            other.clean_up()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in self.process.stdin, self.process.stdout, self._stderr:
            try:
                stream.close()
            except BrokenPipeError:
                pass
        self._temporary.cleanup()


def stat_fields(pid):
    """Of /proc/PID/stat those behind the name: state, parent, ... None: no such process."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


# ---------------------------------------------------------------------- servers -------------


class Server:
    """A server in a back end."""

    def __init__(self, back_end, number):
        self.back_end = back_end
        self.number = number

    def begin(self, verb, **settings):
        return self.back_end.begin(verb, server=self.number, **settings)

    def call(self, verb, **settings):
        return self.back_end.call(verb, server=self.number, **settings)

    @property
    def address(self):
        return self.call("address")["address"]

    def serve(self):
        """Begins serve_forever: the command, which is answered when that returns."""
        return self.begin("serve")

    def shutdown(self):
        self.call("shutdown")

    def close(self):
        self.call("close")

    def stats(self):
        return {name: int(value) for name, value in self.call("stats").items()}

    def told(self, name=None):
        return self.back_end.told(name, self)

    def trace(self):
        """The names of what it has told."""
        return [event[0] for event in self.told()]

    def connect(self):
        return Client(connect(self.address))

    def ask(self, line):
        """A client's answer to one line, and the connection is over."""
        with self.connect() as client:
            return client.ask(line)


# ---------------------------------------------------------------------- clients -------------


def endpoint(address):
    """Family and address of a URI, for the socket module."""
    scheme, rest = address.split(":", 1)
    if scheme.startswith("unix"):
        return socket.AF_UNIX, "\0" + rest[1:] if rest.startswith("@") else rest.removeprefix("//")
    host, port = rest.removeprefix("//").rsplit(":", 1)
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    return family, (host.strip("[]"), int(port))


def connect(address, timeout=TIMEOUT):
    """A stream socket that is connected to a URI."""
    family, name = endpoint(address)
    client = socket.socket(family)
    client.settimeout(timeout)
    try:
        client.connect(name)
    except BaseException:
        client.close()
        raise
    return client


class Client:
    """A conversation with an `obey` handler."""

    def __init__(self, connected):
        self.socket = connected
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def say(self, *lines):
        for line in lines:
            self.send(line.encode() + b"\n")

    def line(self):
        """The next line, without its end; what there is of it at the end of file."""
        while b"\n" not in self.buffer and (data := self.socket.recv(65536)):
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode()

    def ask(self, line):
        self.say(line)
        return self.line()

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def rest(self):
        """Everything up to the end of file."""
        while data := self.socket.recv(65536):
            self.buffer += data
        data, self.buffer = self.buffer, b""
        return data

    def sees_the_end(self):
        """Asserts that nothing more comes but the end; a reset is an end, too."""
        try:
            equal(self.rest(), b"", "what came before the end")
        except ConnectionResetError:
            pass

    def is_silent(self, seconds=0.0):
        """Has nothing come, the end neither, for so long?"""
        if self.buffer:
            return False
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, TimeoutError):
            return True
        finally:
            self.socket.settimeout(TIMEOUT)
        return False


# ---------------------------------------------------------------------- assertions ----------


def equal(found, wanted, what="the result"):
    if found != wanted:
        raise AssertionError(f"{what} is {found!r}, not {wanted!r}")


def true(condition, otherwise):
    if not condition:
        raise AssertionError(otherwise)


def eventually(condition, otherwise):
    """Of what nobody tells us (the kernel's tables, another process's end): asks until it is so."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(otherwise)
        time.sleep(0.005)


class NotEarlierThan:
    """with NotEarlierThan(0.2): what is done in here takes so many seconds, or longer."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __enter__(self):
        self.began = time.monotonic()

    def __exit__(self, kind, *_):
        took = time.monotonic() - self.began
        if kind is None and took < self.seconds:
            raise AssertionError(f"it took {took:.4f} s only, not {self.seconds}")
