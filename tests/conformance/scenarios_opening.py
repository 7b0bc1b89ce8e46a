"""1 to 7: binding, listening, and every kind of server."""

import socket

from harness import SERVING, TIMEOUT, Client, behaviour, connect, endpoint, equal, eventually, true
from serving import end, serving


@behaviour(1, "A port 0 is told as the port that was bound", concurrencies=SERVING)
def port_0_is_resolved(b):
    with serving(b) as server:
        address = server.address
        _, (host, port) = endpoint(address)
        equal(host, "127.0.0.1")
        true(port != 0, "the port is 0 still")
        with server.connect() as client:
            equal(client.socket.getpeername(), (host, port))
            equal(client.ask("echo here"), "here")


@behaviour(2, "An address that can't be bound is an error, and costs no descriptor in 1,024 tries")
def failed_bind_leaks_nothing(b):
    with socket.create_server(("127.0.0.1", 0)) as ours:
        address = f"tcp://127.0.0.1:{ours.getsockname()[1]}"
        b.refuses("EADDRINUSE", "create", server=b.number(), address=address)
        before = b.fds()
        for _ in range(1024):
            b.refuses("EADDRINUSE", "create", server=b.number(), address=address)
        equal(b.fds(), before, "the number of descriptors")


@behaviour(3, "Without bind_and_activate nobody can connect before both calls were made",
           concurrencies=SERVING)
def deferred(b):
    server = b.server(defer=1)
    server.call("bind")
    address = server.address
    true(endpoint(address)[1][1] != 0, "the port is 0 still")
    try:
        connect(address).close()
        raise AssertionError("somebody listens before activate")
    except ConnectionRefusedError:
        pass
    server.call("activate")
    with Client(connect(address)) as client:
        serve = server.serve()
        equal(client.ask("echo here"), "here")
    server.shutdown()
    serve.wait()


@behaviour(4, "A port where another server listens is refused, with reuse_address as well")
def second_live_bind(b):
    server = b.server(reuse_address=1)
    for reuse_address in 0, 1:
        b.refuses("EADDRINUSE", "create", server=b.number(), address=server.address,
                  reuse_address=reuse_address)


def leave_time_wait(b, reuse_address):
    """A server that has ended a connection first and is gone; the address that it had."""
    with serving(b, reuse_address=reuse_address) as server:
        address = server.address
        end(server.connect())
    return address


@behaviour(5, "A port in TIME_WAIT can be bound again with reuse_address only")
def rebind_over_time_wait(b):
    b.refuses("EADDRINUSE", "create", server=b.number(), address=leave_time_wait(b, 0))
    b.server(leave_time_wait(b, 1), reuse_address=1)


@behaviour(6, "With reuse_port two servers listen on one port, and both get clients")
def reuse_port(b):
    first = b.server(reuse_port=1)
    second = b.server(first.address, reuse_port=1)
    serves = [server.serve() for server in (first, second)]

    def both_have_clients():
        end(first.connect())
        return all(server.stats()["accepted"] > 0 for server in (first, second))

    eventually(both_have_clients, "the kernel gave all clients to one of them")
    for server, serve in zip((first, second), serves):
        server.shutdown()
        serve.wait()


# ---------------------------------------------------------------------- every kind ----------


def echo_over_stream(server, text):
    with server.connect() as client:
        client.say(text)
        equal(client.line(), text)
        client.half_close()
        client.sees_the_end()


def echo_over_datagrams(b, server, text):
    family, address = endpoint(server.address)
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(TIMEOUT)
        if family == socket.AF_UNIX:
            client.bind(b.path(f"client{b.number()}"))
        client.sendto(text.encode() + b"\n", address)
        equal(client.recv(1000), text.encode() + b"\n")


def addresses(b):
    yield "tcp://127.0.0.1:0"
    yield "udp://127.0.0.1:0"
    for scheme in "unix", "unixgram":
        yield f"{scheme}://{b.path(f'server{b.number()}')}"


def echo_for_three(b, address, **settings):
    with serving(b, address, handler="echo", **settings) as server:
        for text in "one", "two", "three":
            if address.startswith(("udp", "unixgram")):
                echo_over_datagrams(b, server, text)
            else:
                echo_over_stream(server, text)


@behaviour(7, "TCP, UDP, Unix streams and datagrams echo for three clients, in every concurrency",
           concurrencies=SERVING)
def every_kind_of_server(b):
    for address in addresses(b):
        echo_for_three(b, address)
