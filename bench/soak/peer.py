"""One client's connection, and the answers that it has a right to.

Every wait ends: a server that falls silent for PATIENCE_S is a Wrong like one that says the wrong
thing. These are seconds in which we ourselves have run: on a machine that gives us no time for a
minute, all clients would else lose their patience at once.
"""

import asyncio
import os
import socket
import struct

PATIENCE_S = 60
SOME = 65536
RESET = struct.pack("ii", 1, 0)     # of SO_LINGER: close() sends a reset


class Wrong(Exception):
    """What a server did that it must not do."""


class Ended(Wrong):
    """It ended a connection from which something was still due."""


class Peer:
    """A connection to (family, address); a context that closes it."""

    def __init__(self, place):
        self.place = place
        self.unread = b""
        self.socket = socket.socket(place[0], socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.loop = asyncio.get_running_loop()

    async def __aenter__(self):
        try:
            await self.patiently(self._connect())
        except BaseException:
            self.socket.close()
            raise
        return self

    async def __aexit__(self, *_):
        self.socket.close()

    async def patiently(self, what):
        task = asyncio.ensure_future(what)
        try:
            for _ in range(PATIENCE_S):
                await asyncio.wait({task}, timeout=1)
                if task.done():
                    return task.result()
        finally:
            task.cancel()
        raise Wrong("fell silent")

    async def _connect(self):
        while True:
            try:
                return await self.loop.sock_connect(self.socket, self.place[1])
            except BlockingIOError:     # a Unix socket's backlog is full
                await asyncio.sleep(0.01)

    async def send(self, data):
        try:
            await self.patiently(self.loop.sock_sendall(self.socket, data))
        except OSError as error:
            raise Ended(f"takes nothing more: {error.strerror}") from None

    async def more(self):
        """What comes next; nothing at the end."""
        try:
            data = await self.patiently(self.loop.sock_recv(self.socket, SOME))
        except OSError as error:
            raise Ended(f"broke: {error.strerror}") from None
        self.unread += data
        return data

    async def exactly(self, expected):
        """Reads what has to be the next bytes."""
        while len(self.unread) < len(expected):
            if not await self.more():
                raise Ended(f"ended {len(expected) - len(self.unread)} bytes too early")
        got, self.unread = self.unread[:len(expected)], self.unread[len(expected):]
        if got != expected:
            at = next(i for i, (a, b) in enumerate(zip(got, expected)) if a != b)
            raise Wrong(f"sent {got[at:at + 40]!r} for {expected[at:at + 40]!r}")

    async def answer(self, status, body):
        """Reads an HTTP answer, whose status and body these have to be."""
        while b"\r\n\r\n" not in self.unread:
            if not await self.more():
                raise Ended(f"ended in the head of an answer: {self.unread!r}")
        head, self.unread = self.unread.split(b"\r\n\r\n", 1)
        lines = head.split(b"\r\n")
        if not lines[0].startswith(b"HTTP/1.1 %d " % status):
            raise Wrong(f"answered {lines[0]!r}, not {status}")
        fields = dict(line.lower().split(b": ", 1) for line in lines[1:])
        if fields.get(b"content-length") != b"%d" % len(body):
            raise Wrong(f"announced {fields.get(b'content-length')} bytes, not {len(body)}")
        await self.exactly(body)

    async def end(self):
        """Waits for the end, before which nothing may come."""
        if self.unread or await self.more():
            raise Wrong(f"said {self.unread[:40]!r} after its answer")

    async def end_or_reset(self):
        """Waits for the end, whatever comes before it."""
        try:
            while await self.more():
                pass
        except Ended:
            pass

    def half_close(self):
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise Ended(f"is gone: {error.strerror}") from None

    def reset(self):
        if self.place[0] == socket.AF_INET:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.socket.close()


class Datagrams:
    """A socket for datagrams to (family, address); a context that closes it."""

    def __init__(self, place):
        self.socket = socket.socket(place[0], socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        if place[0] == socket.AF_UNIX:
            self.socket.bind(b"\0weir-soak-" + os.urandom(8).hex().encode())
        self.socket.connect(place[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    async def ask(self, data):
        """Sends it and wants it back. One that got lost, as they may, is sent again."""
        loop = asyncio.get_running_loop()
        for _ in range(10):
            await asyncio.wait_for(loop.sock_sendall(self.socket, data), PATIENCE_S)
            try:
                while True:
                    got = await asyncio.wait_for(loop.sock_recv(self.socket, SOME), 5)
                    if got == data:
                        return
                    if got[:8] == data[:8]:     # not the late answer to an earlier one
                        raise Wrong(f"sent {got[:40]!r} for {data[:40]!r}")
            except asyncio.TimeoutError:
                pass
        raise Wrong("a datagram got no answer ten times")
