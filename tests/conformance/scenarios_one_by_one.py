"""30 to 34: handle_request, and clients that are gone before they are accepted."""

import os
import signal
import socket
import struct
import time

from harness import EVERY, SERVING, NotEarlierThan, behaviour, differs, equal, true
from serving import reset


def timed_out(server):
    """How often handle_timeout was called."""
    return len(server.told("handle_timeout"))


@behaviour(30, "handle_request calls handle_timeout after timeout, not earlier, if nobody comes",
           concurrencies=EVERY)
def handle_request_times_out(b):
    server = b.server(timeout_ms=150)
    with NotEarlierThan(0.15):
        server.call("handle_request")
    equal(timed_out(server), 1)
    with server.connect() as client:
        client.say("echo in time", "end")
        server.call("handle_request")
        equal(client.rest(), b"in time\n")
    equal(timed_out(server), 1)


@behaviour(31, "handle_request and two timeouts, the server's and its socket's",
           python=differs("it takes the smaller one"),
           weir=differs("it has one timeout: what is set on an inherited socket does not count"),
           concurrencies=EVERY)
def the_smaller_timeout(b):
    if b.is_python:
        for ours, the_sockets in (100, 600_000), (600_000, 100):
            server = b.server(timeout_ms=ours, socket_timeout_ms=the_sockets)
            with NotEarlierThan(0.1):
                server.call("handle_request")
            equal(timed_out(server), 1)
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 1000))
        heir = b.another(pass_fds=[listener.fileno()])
        server = heir.server(f"fd://{listener.fileno()}", timeout_ms=200)
        with NotEarlierThan(0.2):
            server.call("handle_request")
        equal(timed_out(server), 1)


@behaviour(32, "Signals neither end nor shorten the wait of handle_request", concurrencies=EVERY)
def handle_request_under_signals(b):
    server = b.server(timeout_ms=200)
    with NotEarlierThan(0.2):
        waiting = server.begin("handle_request")
        while not waiting.done:
            os.kill(b.pid, signal.SIGUSR1)
            time.sleep(0.005)
        equal(waiting.error(), None)
    equal(timed_out(server), 1)


@behaviour(33, "handle_request serves one of three clients that wait, and no more",
           concurrencies=EVERY)
def one_of_three(b):
    server = b.server(f"unix:@conformance-{b.pid}")
    clients = [server.connect() for _ in range(3)]
    for client in clients:
        client.say("echo served", "end")
    for served, client in enumerate(clients, 1):
        server.call("handle_request")
        equal(client.rest(), b"served\n")
        equal(server.stats()["accepted"], served)
        for later in clients[served:]:
            true(later.is_silent(), "a client too many was served")
    for client in clients:
        client.close()


@behaviour(34, "A client that resets its connection before it is accepted harms nobody",
           concurrencies=SERVING)
def reset_before_accept(b):
    server = b.server()
    reset(server.connect())
    serve = server.serve()
    equal(server.ask("echo next"), "next")
    server.shutdown()
    serve.wait()
