"""68 to 70: the addresses of Unix sockets, of streams and of datagrams."""

import os
import socket

from harness import TIMEOUT, behaviour, differs, endpoint, equal, true
from serving import serving

KINDS = {"unix": socket.SOCK_STREAM, "unixgram": socket.SOCK_DGRAM}


def bound(kind, path):
    """Somebody else's socket of that kind, who listens if it can."""
    other = socket.socket(socket.AF_UNIX, kind)
    other.bind(path)
    if kind == socket.SOCK_STREAM:
        other.listen()
    return other


def create_file(path):
    with open(path, "x"):
        pass


def answers(b, address):
    """Asserts that a server at the address answers a client that has an address of its own."""
    with serving(b, address) as server, \
            socket.socket(socket.AF_UNIX, KINDS[address.split(":")[0]]) as client:
        equal(server.address, address)
        client.settimeout(TIMEOUT)
        client.bind(b.path("client"))
        client.connect(endpoint(address)[1])
        client.send(b"echo hello\nend\n")
        equal(client.recv(100), b"hello\n")
    os.unlink(b.path("client"))


def refused(b, address, error):
    """Creating the server fails so, and leaves no descriptor behind."""
    before = b.fds()
    for reuse_address in 0, 1:
        b.refuses(error, "create", server=b.number(), address=address,
                  reuse_address=reuse_address)
    equal(b.fds(), before, "descriptors")


@behaviour(68, "A Unix path that exists is refused, whatever reuse_address says",
           weir=differs("a socket that nobody has open any more is taken over, never a live one or "
                        "a file of another kind"))
def stale_path(b):
    b.call("ping")
    for scheme, kind in KINDS.items():
        path = b.path(scheme)
        with bound(kind, path):
            refused(b, f"{scheme}://{path}", "EADDRINUSE")
        if b.is_python:
            refused(b, f"{scheme}://{path}", "EADDRINUSE")
        else:
            answers(b, f"{scheme}://{path}")
        for make in os.mkdir, create_file:
            other = b.path(f"{scheme}-{make.__name__}")
            make(other)
            refused(b, f"{scheme}://{other}", "EADDRINUSE")
            true(os.path.exists(other), "it is removed")


@behaviour(69, "A Unix path is still there when its server has closed",
           weir=differs("it is removed if it is still the server's, unless keep_path is set"))
def path_after_close(b):
    for scheme, kind in KINDS.items():
        path = b.path(scheme)
        address = f"{scheme}://{path}"
        b.server(address).close()
        equal(os.path.exists(path), b.is_python, "there is a path")
        if b.is_python:
            continue
        b.server(address, keep_path=1).close()
        true(os.path.exists(path), "keep_path has not kept it")
        server = b.server(address)
        os.unlink(path)
        with bound(kind, path):
            server.close()
            true(os.path.exists(path), "it has removed another's path")
        os.unlink(path)


@behaviour(70, "A Unix path that is too long is an error; an abstract name needs no path")
def long_path_and_abstract_name(b):
    b.call("ping")
    for scheme in KINDS:
        # Python finds that before the kernel does: "AF_UNIX path too long" has no number.
        refused(b, f"{scheme}://{b.path('x' * 200)}", "OSError" if b.is_python else "EINVAL")
        answers(b, f"{scheme}:@weir-conformance-{b.pid}-{scheme}")
