"""75 to 80: other addresses, several servers, clients that stop half-way, and many at once."""

import os
import socket
import subprocess
import sys
import time

from harness import (EVERY, HERE, SERVING, TIMEOUT, absent, behaviour, connect, equal, eventually,
                     true)
from scenarios_opening import addresses, echo_for_three
from serving import end, serving


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@behaviour(75, "A server on ::1 tells its peer's address as IPv6", concurrencies=SERVING)
def ipv6(b):
    if not has_ipv6():
        b.cannot("there is no IPv6 here")
        return
    with serving(b, "tcp://[::1]:0", poll_interval_ms=10) as server:
        true(server.address.startswith("tcp://[::1]:"), f"it listens on {server.address}")
        with server.connect() as client:
            host, port = client.socket.getsockname()[:2]
            equal(client.ask("peer"), f"[{host}]:{port}")
            end(client)


@behaviour(76, "One thread serves two servers, by their fileno and handle_request",
           concurrencies=EVERY)
def two_servers_on_one_thread(b):
    servers = [b.server(), b.server(f"unix:@conformance-{b.pid}")]
    loop = b.begin("poll_loop", servers=",".join(str(server.number) for server in servers),
                   requests=4)
    for server in servers[0], servers[1], servers[1], servers[0]:
        equal(server.ask("echo served"), "served")
    loop.wait()
    for server in servers:
        equal(server.stats()["accepted"], 2)


def is_idle(b):
    """Over a while it uses less than half of a processor."""
    began, before = time.monotonic(), b.cpu_seconds()
    time.sleep(0.3)
    return b.cpu_seconds() - before < (time.monotonic() - began) / 2


@behaviour(77, "A request of which half comes, and then the end, is over; no loop spins")
def half_a_request(b):
    for concurrency in "serial", "pool":
        with serving(b, concurrency=concurrency, handler="echo", poll_interval_ms=10) as server:
            with server.connect() as client:
                client.send(b"half a li")
                eventually(lambda: server.told("handle"), "no handler has begun")
                true(is_idle(b), "it spins while it waits for the rest")
                client.half_close()
                equal(client.rest(), b"half a li")
            with server.connect() as client:
                client.send(b"half a li")
            eventually(lambda: len(server.told("finish")) == 2, "a handler waits for a client gone")
            true(is_idle(b), "it spins when the client has gone")
            equal(len(server.told("handle")), 2)


@behaviour(78, "The end of `with server:`, or `weir_server_destroy`, closes the listener",
           concurrencies=SERVING)
def destroy(b):
    b.server().call("destroy")      # whatever a first one makes for all that follow
    before = b.fds()
    server = b.server()
    address = server.address
    connect(address).close()
    server.call("destroy")
    try:
        connect(address).close()
        raise AssertionError("somebody listens still")
    except ConnectionRefusedError:
        pass
    equal(b.fds(), before, "the number of descriptors")


@behaviour(79, "The pool is the same with either dispatch, either kind of stack, 1 to 4 workers",
           python=absent("there is no pool"))
def every_kind_of_pool(b):
    for workers in range(1, 5):
        for dispatch in "worker", "acceptor":
            for stack in "fiber", "thread":
                for address in addresses(b):
                    echo_for_three(b, address, concurrency="pool", workers=workers,
                                   dispatch=dispatch, stack=stack)


def load(server, requests, at_once):
    """As many clients as `ab -n requests -c at_once` would be: failures, and the slowest in ms."""
    done = subprocess.run([sys.executable, os.path.join(HERE, "load.py"), server.address,
                           str(requests), str(at_once)], timeout=TIMEOUT, check=True,
                          stdout=subprocess.PIPE)
    failures, slowest_ms = map(int, done.stdout.split())
    return failures, slowest_ms


# With one more at once than the backlog has places no client finds it full; the last row does that.
# For such a client it is a second until TCP tries again, then 2, 4, ...: so there are not more.
LOADS = ((1, 1000, 2), (5, 1000, 6), (50, 1000, 51), (128, 10_000, 100), (5, 200, 20))


def cookies_taken():
    """How many connections the kernel has made of SYN cookies, or None if it does not say."""
    with open("/proc/net/netstat", encoding="ascii") as file:
        names, values = (line.split() for line in file if line.startswith("TcpExt:"))
    return dict(zip(names, values)).get("SyncookiesRecv")


def equal_but_for_cookies(accepted, requests, cookies_before):
    """Each client was accepted once, unless the kernel made connections of SYN cookies meanwhile.

    It does so when a backlog overflows. It then remembers nothing of a client, so that a copy of
    the client's ACK that comes after the connection's end makes a second one, which is silent.
    """
    if accepted > requests and cookies_taken() != cookies_before:
        return
    equal(accepted, requests, "the number of accepted clients")


@behaviour(80, "Thousands of clients, up to 100 at once, backlogs of 1 to 128: none fails")
def many_clients(b):
    for backlog, requests, at_once in LOADS:
        with serving(b, concurrency="pool", backlog=backlog, poll_interval_ms=10,
                     quiet=1) as server:
            cookies = cookies_taken()
            failures, slowest_ms = load(server, requests, at_once)
            equal(failures, 0, f"failures with a backlog of {backlog}")
            equal_but_for_cookies(server.stats()["accepted"], requests, cookies)
            b.note(f"backlog {backlog}, {requests} clients, {at_once} at once: "
                   f"the slowest took {slowest_ms} ms")
