"""62 to 67: datagrams, whose packet is rfile and whose reply is wfile."""

import socket

from harness import SERVING, TIMEOUT, behaviour, differs, endpoint, equal, eventually, true
from serving import errors, handled, serving

UDP = "udp://127.0.0.1:0"
LARGEST = 65507     # what UDP over IPv4 carries


class Peer:
    """A socket that sends packets to a server and gets replies."""

    def __init__(self, server, path=None):
        family, self.address = endpoint(server.address)
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.settimeout(TIMEOUT)
        if path:
            self.socket.bind(path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, packet):
        self.socket.sendto(packet, self.address)

    def reply(self):
        return self.socket.recv(1 << 17)

    def ask(self, packet):
        self.send(packet)
        return self.reply()


def gets_nothing(server, peer, packet):
    """The packet is handled, and the next reply is that to the next packet."""
    peer.send(packet)
    eventually(lambda: server.told("finish"), "it is not handled")
    equal(peer.ask(b"echo next"), b"next\n")


def the_error(server):
    """The only one that handle_error is told of."""
    eventually(lambda: errors(server), "handle_error is not called")
    error, = errors(server)
    return error


def always(b):
    """The settings with which weir replies as Python does."""
    return {} if b.is_python else {"reply_always": 1}


@behaviour(62, "A datagram that is longer than max_packet_size is cut",
           weir=differs("the handler can ask whether it was"),
           concurrencies=SERVING)
def oversize(b):
    for settings, size in ({}, 8192), ({"max_packet_size": 100}, 100):
        with serving(b, UDP, handler="echo", **settings) as server, Peer(server) as peer:
            equal(peer.ask(b"x" * 9000), b"x" * size)
            equal(peer.ask(b"y" * size), b"y" * size)
    if b.is_weir:
        with serving(b, UDP) as server, Peer(server) as peer:
            for length, cut in (8192, b"0\n"), (8193, b"1\n"):
                equal(peer.ask(b"truncated\nend\n".ljust(length)), cut)


@behaviour(63, "An empty datagram is a request; a handler that writes nothing sends an empty reply",
           weir=differs("it sends none, unless reply_always is set"),
           concurrencies=SERVING)
def empty(b):
    with serving(b, UDP, **always(b)) as server, Peer(server) as peer:
        equal(peer.ask(b""), b"")
        equal(handled(server), 1, "calls of handle")
        equal(peer.ask(b"end"), b"")
    if b.is_weir:
        with serving(b, UDP) as server, Peer(server) as peer:
            gets_nothing(server, peer, b"")
            equal(handled(server), 2, "calls of handle")
            equal(errors(server), [])


@behaviour(64, "A datagram's handler that fails has sent what it wrote",
           weir=differs("it sends nothing, unless reply_always is set"),
           concurrencies=SERVING)
def failing(b):
    with serving(b, UDP, **always(b)) as server, Peer(server) as peer:
        equal(peer.ask(b"say part\nfail"), b"part")
        equal(the_error(server), "EIO")
    if b.is_weir:
        with serving(b, UDP) as server, Peer(server) as peer:
            gets_nothing(server, peer, b"say part\nfail")
            equal(the_error(server), "EIO")


@behaviour(65, "A reply of 65,507 bytes is sent, a longer one is an error for handle_error",
           concurrencies=SERVING)
def largest(b):
    for settings in [always(b)] + [{}] * b.is_weir:
        with serving(b, UDP, max_packet_size=LARGEST, handler="echo", **settings) as server, \
                Peer(server) as peer:
            packet = bytes(i % 251 for i in range(LARGEST)).replace(b"\n", b" ")
            true(peer.ask(packet) == packet, "another reply has come")
        with serving(b, UDP, **settings) as server, Peer(server) as peer:
            peer.send(b"write %d" % (LARGEST + 1))
            equal(the_error(server), "EMSGSIZE")
            equal(peer.ask(b"echo next"), b"next\n")


@behaviour(66, "Three datagrams are handled side by side in the pool, one after another without",
           concurrencies=("serial", "thread", "pool"))
def side_by_side(b):
    one = {"workers": 1} if b.is_weir and b.concurrency == "pool" else {}
    with serving(b, UDP, **one) as server, Peer(server) as peer:
        for _ in range(3):
            peer.send(b"hold")
        if b.concurrency != "serial":
            eventually(lambda: handled(server) == 3, "they do not wait side by side")
        for _ in range(3):
            server.call("release")
        for _ in range(3):
            equal(peer.reply(), b"released\n")
        calls = [name for name in server.trace() if name in ("handle", "finish")]
    if b.concurrency == "serial":
        equal(calls, ["handle", "finish"] * 3)
    else:
        equal(calls[:3], ["handle"] * 3)


@behaviour(67, "A Unix sender with an address gets a reply; without one it costs an error",
           concurrencies=SERVING)
def unix_sender(b):
    error = "TypeError" if b.is_python else "EDESTADDRREQ"
    for i, settings in enumerate([always(b)] + [{}] * b.is_weir):
        own = b.path(f"peer{i}")
        with serving(b, f"unixgram://{b.path(f'server{i}')}", **settings) as server:
            with Peer(server) as unbound:
                unbound.send(b"echo lost")
            equal(the_error(server), error)
            with Peer(server, own) as peer:
                equal(peer.ask(b"echo hello"), b"hello\n")
                equal(peer.ask(b"peer"), f"unix:{own}\n".encode())
            equal(server.told("handle_error")[0][2], "peer=unix:")
