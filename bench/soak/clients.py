"""The clients of a soak: what each kind says, and what it has to hear.

A conversation is a coroutine that is given the servers and a source of chance, and yields the
number of answers that it has checked, byte by byte, since the last time.
"""

import asyncio
import contextlib
import dataclasses
import random
import typing

from soak.peer import Datagrams, Ended, Peer, Wrong

HELLO = b"Hello, world!\n"
GET = b"GET / HTTP/1.1\r\nHost: soak\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n"
LETTERS = bytes(range(97, 123)) + b"  0123456789-+"
FLOOD = 300
BIG = 1 << 20
LINE_LIMIT = 64 * 1024      # of the handler upper


@dataclasses.dataclass(frozen=True)
class Servers:
    """Where to go."""

    places: dict            # handler, or "datagrams": [(family, address), ...]
    narrow: tuple           # the place of the server with few descriptors
    few: int                # that many
    stall_s: float          # the longest silence of a client

    def place(self, chance, handler):
        return chance.choice(self.places[handler])


def some_line(chance, longest=200):
    return bytes(chance.choices(LETTERS, k=chance.randrange(longest))) + b"\n"


def some_lines(chance, most, longest=200):
    return [some_line(chance, longest) for _ in range(chance.randrange(1, most + 1))]


# ---------------------------------------------------------------------- honest

async def http_kept(servers, chance):
    async with Peer(servers.place(chance, "hello")) as peer:
        for _ in range(chance.randrange(20, 200)):
            await peer.send(GET)
            await peer.answer(200, HELLO)
            yield 1
            await asyncio.sleep(chance.random() / 50)


async def http_each(servers, chance):
    async with Peer(servers.place(chance, "hello")) as peer:
        await peer.send(LAST)
        await peer.answer(200, HELLO)
        await peer.end()
    yield 1


async def http_pipelined(servers, chance):
    async with Peer(servers.place(chance, "hello")) as peer:
        for _ in range(chance.randrange(1, 20)):
            count = chance.randrange(1, 64)
            await peer.send(GET * count)
            for _ in range(count):
                await peer.answer(200, HELLO)
            yield count


async def lines_kept(servers, chance):
    async with Peer(servers.place(chance, "upper")) as peer:
        for _ in range(chance.randrange(1, 100)):
            line = some_line(chance)
            await peer.send(line)
            await peer.exactly(line.upper())
            yield 1
            await asyncio.sleep(chance.random() / 50)


async def lines_pipelined(servers, chance):
    async with Peer(servers.place(chance, "upper")) as peer:
        for _ in range(chance.randrange(1, 20)):
            lines = some_lines(chance, 200)
            await peer.send(b"".join(lines))
            await peer.exactly(b"".join(lines).upper())
            yield len(lines)


async def big_bodies(servers, chance):
    """As much as a body, both ways at once."""
    async with Peer(servers.place(chance, "echo")) as peer:
        for _ in range(chance.randrange(1, 4)):
            body = chance.randbytes(chance.randrange(1, BIG))
            await asyncio.gather(peer.send(body), peer.exactly(body))
            yield 1


async def datagrams(servers, chance):
    with Datagrams(servers.place(chance, "datagrams")) as peer:
        for _ in range(chance.randrange(1, 50)):
            await peer.ask(chance.randbytes(chance.randrange(8, 1400)))
            yield 1


# ---------------------------------------------------------------------- with faults

async def resets(servers, chance):
    """Goes by a reset after any byte of what it says, with or without having read."""
    handler, text = chance.choice([("hello", GET * 20), ("upper", b"some line\n" * 50),
                                   ("echo", b"x" * 5000)])
    async with Peer(servers.place(chance, handler)) as peer:
        await peer.send(text[:chance.randrange(len(text))])
        if chance.random() < 0.5:
            await asyncio.sleep(chance.random() / 20)
        peer.reset()
    yield 0


async def leaves(servers, chance):
    """Asks, and has closed when the answers come."""
    async with Peer(servers.place(chance, chance.choice(["hello", "upper", "echo"]))) as peer:
        await peer.send(GET * chance.randrange(1, 50))
    yield 0


async def half_closes(servers, chance):
    """Ends what it says at any byte of the last line, and hears all answers all the same."""
    lines = some_lines(chance, 50)
    lines[-1] = lines[-1][:chance.randrange(len(lines[-1]))]
    async with Peer(servers.place(chance, "upper")) as peer:
        await peer.send(b"".join(lines))
        peer.half_close()
        await peer.exactly(b"".join(lines).upper())
        await peer.end()
    yield len(lines)


async def http_half_closes(servers, chance):
    count = chance.randrange(1, 20)
    async with Peer(servers.place(chance, "hello")) as peer:
        await peer.send(GET * count + GET[:chance.randrange(len(GET))])
        peer.half_close()
        for _ in range(count):
            await peer.answer(200, HELLO)
        await peer.end_or_reset()
    yield count


async def trickles(servers, chance):
    """A byte at a time."""
    async with Peer(servers.place(chance, "hello")) as peer:
        for byte in GET:
            await peer.send(bytes([byte]))
            await asyncio.sleep(chance.random() / 20)
        await peer.answer(200, HELLO)
    yield 1


async def stalls(servers, chance):
    """Half a request; the rest comes late, if the server has had so much patience."""
    at = chance.randrange(1, len(GET))
    async with Peer(servers.place(chance, "hello")) as peer:
        await peer.send(GET[:at])
        await asyncio.sleep(chance.random() * servers.stall_s)
        with contextlib.suppress(Ended):
            await peer.send(GET[at:])
            await peer.answer(200, HELLO)
            yield 1


async def silent(servers, chance):
    """Connects, and says nothing."""
    async with Peer(servers.place(chance, chance.choice(["hello", "upper", "echo"]))) as peer:
        await asyncio.sleep(chance.random() * servers.stall_s)
        assert not peer.unread
    yield 0


async def slow_readers(servers, chance):
    """Reads nothing while it asks, and then little by little."""
    body = chance.randbytes(BIG)
    async with Peer(servers.place(chance, "echo")) as peer:
        sending = asyncio.ensure_future(peer.send(body))
        try:
            await asyncio.sleep(chance.random() * 2)
            for at in range(0, BIG, BIG // 32):
                await peer.exactly(body[at:at + BIG // 32])
                await asyncio.sleep(chance.random() / 20)
            await sending
        finally:
            sending.cancel()
    yield 1


async def garbage(servers, chance):
    """Any bytes; what is an answer at all is one that refuses."""
    async with Peer(servers.place(chance, "hello")) as peer:
        with contextlib.suppress(Ended):
            await peer.send(chance.randbytes(chance.randrange(1, 3000)) + b"\r\n\r\n")
            peer.half_close()
        await peer.end_or_reset()
        if peer.unread and not peer.unread.startswith(b"HTTP/1.1 4"):
            raise Wrong(f"answered garbage with {peer.unread[:40]!r}")
    yield 1 if peer.unread else 0


async def garbage_lines(servers, chance):
    text = chance.randbytes(chance.randrange(1, 20000))
    async with Peer(servers.place(chance, "upper")) as peer:
        await peer.send(text)
        peer.half_close()
        await peer.exactly(text.upper())
        await peer.end()
    yield text.count(b"\n")


async def too_long(servers, chance):
    """A head beyond the limit is refused. A line beyond it comes back in pieces."""
    async with Peer(servers.place(chance, "hello")) as peer:
        with contextlib.suppress(Ended):
            field = b"X: " + b"y" * chance.randrange(70000, 500000)
            await peer.send(GET[:-2] + field + b"\r\n\r\n")
        with contextlib.suppress(Ended):
            while b"\n" not in peer.unread and await peer.more():
                pass
        if peer.unread and not peer.unread.startswith(b"HTTP/1.1 431 "):
            raise Wrong(f"answered a head that is too long with {peer.unread[:40]!r}")
    line = b"x" * chance.randrange(LINE_LIMIT, 8 * LINE_LIMIT) + b"\n"
    async with Peer(servers.place(chance, "upper")) as peer:
        await asyncio.gather(peer.send(line), peer.exactly(line.upper()))
    yield 2


BAD = [
    (b"GET /nothing HTTP/1.1\r\nHost: soak\r\n\r\n", 404, b"404 Not Found\n"),
    (b"GET / HTTP/1.1\r\n\r\n", 400, b"400 Bad Request\n"),
    (b"PUT / HTTP/1.1\r\nHost: soak\r\nContent-Length: 9\r\n\r\n123456789", 405,
     b"405 Method Not Allowed\n"),
    (b"PUT / HTTP/1.1\r\nHost: soak\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n",
     405, b"405 Method Not Allowed\n"),
    (b"GET / HTTP/1.1\r\nHost : soak\r\n\r\n", 400, b"400 Bad Request\n"),
]


async def bad_requests(servers, chance):
    asked, status, body = chance.choice(BAD)
    async with Peer(servers.place(chance, "hello")) as peer:
        await peer.send(GET + asked)
        await peer.answer(200, HELLO)
        await peer.answer(status, body)
    yield 2


async def floods(servers, chance):
    """Many at once, each of which asks one thing."""
    async def one():
        async with Peer(servers.place(chance, "hello")) as peer:
            await peer.send(LAST)
            await peer.answer(200, HELLO)
            await peer.end()

    await asyncio.gather(*(one() for _ in range(FLOOD)))
    yield FLOOD


# ---------------------------------------------------------------------- at the limit

async def narrow_crowd(servers, chance):
    """Twice as many as the server has descriptors: each has its answer, and stays."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2 * servers.few):
            peer = await stack.enter_async_context(Peer(servers.narrow))
            await peer.send(GET)
            await peer.answer(200, HELLO)
            yield 1
        await asyncio.sleep(chance.random())


async def narrow_newcomers(servers, chance):
    """Who has just come and asks is answered, however many idle beside him."""
    async with Peer(servers.narrow) as peer:
        await peer.send(LAST)
        await peer.answer(200, HELLO)
    yield 1


@dataclasses.dataclass(frozen=True)
class Kind:
    name: str
    conversation: typing.Callable
    copies: int             # that many at once
    pause_s: float          # between two conversations of one, on average
    faulty: bool = False


KINDS = [
    Kind("HTTP, kept", http_kept, 8, 0.1),
    Kind("HTTP, a connection each", http_each, 8, 0.1),
    Kind("HTTP, pipelined", http_pipelined, 4, 1),
    Kind("lines, kept", lines_kept, 4, 0.1),
    Kind("lines, pipelined", lines_pipelined, 4, 2),
    Kind("big bodies both ways", big_bodies, 2, 1),
    Kind("datagrams", datagrams, 2, 0.5),
    Kind("resets", resets, 8, 0.3, True),
    Kind("leaves unread", leaves, 4, 0.3, True),
    Kind("half-closes", half_closes, 4, 0.3, True),
    Kind("half-closes of HTTP", http_half_closes, 4, 0.3, True),
    Kind("trickles", trickles, 32, 0.5, True),
    Kind("stalls", stalls, 100, 1, True),
    Kind("says nothing", silent, 50, 1, True),
    Kind("slow readers", slow_readers, 4, 2, True),
    Kind("garbage for HTTP", garbage, 4, 0.3, True),
    Kind("garbage for lines", garbage_lines, 2, 0.5, True),
    Kind("heads and lines too long", too_long, 2, 2, True),
    Kind("requests that are refused", bad_requests, 4, 0.3, True),
    Kind("floods of connections", floods, 1, 10, True),
    Kind("twice the descriptors", narrow_crowd, 1, 5, True),
    Kind("newcomers beside them", narrow_newcomers, 2, 0.2),
]


class Tally:
    """What one kind has seen."""

    def __init__(self, kind):
        self.kind = kind
        self.conversations = 0
        self.checked = 0
        self.errors = 0
        self.first_error = ""

    async def converse(self, servers, chance):
        try:
            async for checked in self.kind.conversation(servers, chance):
                self.checked += checked
            self.conversations += 1
        except (Wrong, OSError) as error:
            self.errors += 1
            self.first_error = self.first_error or str(error)


async def _one(tally, servers, chance, ending):
    await asyncio.sleep(chance.random() * tally.kind.pause_s)
    while not ending.is_set():
        await tally.converse(servers, chance)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ending.wait(), 2 * chance.random() * tally.kind.pause_s)


def start(servers, seed, ending):
    """Returns the tallies, and the tasks, which end when ending is set and all is said."""
    tallies = [Tally(kind) for kind in KINDS]
    tasks = [asyncio.ensure_future(
        _one(tally, servers, random.Random(f"{seed} {tally.kind.name} {i}"), ending))
        for tally in tallies for i in range(tally.kind.copies)]
    return tallies, tasks
