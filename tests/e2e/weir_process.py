"""The weir command as a child process, and the sockets of its clients.

Nothing here waits for time to pass: a server is ready when it has said so, and every wait for a
peer ends with TIMEOUT, far beyond what even a sanitizer needs, only so that a test cannot hang.
"""

import os
import select
import signal
import socket
import subprocess
import time
import unittest

WEIR = os.path.abspath(os.environ.get("WEIR", "bazel-bin/tools/weir"))
TIMEOUT = 30


class Weir:
    """`weir serve` with some arguments; a context that ends it and wants exit status 0."""

    def __init__(self, *args, **popen):
        ours, theirs = os.pipe()
        self.process = subprocess.Popen([WEIR, "serve", *args], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=theirs, **popen)
        os.close(theirs)
        self.stderr = ours
        self.addresses = []
        self.log = []           # every line of standard error
        self.unread = ""        # of it, what line() has not looked at

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.wait()
        if exception == (None, None, None):
            assert status == 0, f"exit status {status}, said {self.log}"

    def line(self, start):
        """The next line on standard error that begins so."""
        while True:
            line, end, rest = self.unread.partition("\n")
            if end:
                self.unread = rest
                self.log.append(line)
                if line.startswith(start):
                    return line
            elif not self._read():
                raise AssertionError(f"ended without a line {start!r}, said {self.log}")

    def _read(self):
        if not select.select([self.stderr], [], [], TIMEOUT)[0]:
            raise AssertionError(f"fell silent, said {self.log}")
        data = os.read(self.stderr, 65536)
        self.unread += data.decode(errors="replace")
        return data

    def stop_reading(self):
        """Closes our end of its standard error."""
        os.close(self.stderr)
        self.stderr = -1

    def listening(self, count=1):
        """The addresses that it listens on, once it does."""
        start = "weir: listening on "
        while len(self.addresses) < count:
            self.addresses.append(self.line(start)[len(start):])
        return self.addresses

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self):
        """Its exit status; what it still had to say is in the log."""
        try:
            status = self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            status = "none: it had to be killed"
        if self.stderr >= 0:
            while self._read():
                pass
            self.log += self.unread.splitlines()
            self.stop_reading()
        return status

    def stats(self):
        """What SIGUSR1 prints, as a dictionary."""
        self.signal(signal.SIGUSR1)
        words = self.line("weir: stats ").split()[2:]
        return {name: int(value) for name, value in (word.split("=") for word in words)}

    def stats_until(self, condition):
        """Asks until what was counted fulfils the condition."""
        end = time.monotonic() + TIMEOUT
        while not condition(stats := self.stats()):
            if time.monotonic() > end:
                raise AssertionError(f"the statistics stayed at {stats}")
        return stats

    def connect(self, i=0):
        """A new client of the i-th listener."""
        return connect(self.listening(i + 1)[i])


def serve(*args, **popen):
    """A server on a port that the kernel chooses."""
    return Weir("--listen", "tcp://127.0.0.1:0", *args, **popen)


def connect(address):
    scheme, rest = address.split("://") if "://" in address else address.split(":", 1)
    if scheme == "unix":
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(TIMEOUT)
        client.connect(unix_name(address))
        return client
    host, port = rest.rsplit(":", 1)
    return socket.create_connection((host.strip("[]"), int(port)), TIMEOUT)


def unix_name(address):
    """Of a unix: or unixgram: address, as the socket module has it."""
    path = address.split("://" if "://" in address else ":", 1)[1]
    return "\0" + path[1:] if path.startswith("@") else path


def port_of(address):
    return int(address.rsplit(":", 1)[1])


def receive(client, length):
    """Exactly length bytes."""
    data = b""
    while len(data) < length:
        piece = client.recv(length - len(data))
        if not piece:
            raise AssertionError(f"the connection ended after {data!r}")
        data += piece
    return data


def receive_all(client):
    """Everything up to the end of file."""
    data = b""
    while piece := client.recv(65536):
        data += piece
    return data


def refuses(address):
    """Waits until connecting to the address is refused: its server has begun to close."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        try:
            connect(address).close()
        except (ConnectionRefusedError, ConnectionResetError):
            return True
        time.sleep(0.001)
    return False


def run(*args):
    """`weir` with some arguments that end by themselves: status, standard output and error."""
    done = subprocess.run([WEIR, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=TIMEOUT)
    return done.returncode, done.stdout, done.stderr


def main():
    unittest.main(verbosity=2)
