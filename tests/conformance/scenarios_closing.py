"""35 to 38: how servers end, and what ten thousand clients leave behind."""

import os

from harness import SERVING, Client, behaviour, connect, differs, equal, eventually, true
from serving import errors, reset, say_at_once, serving


# Handlers run beside the server's loop, in one process.
BESIDE = ("thread", "pool")


def begin_handler(client):
    """The handler has answered once, and is waiting for the next line."""
    equal(client.ask("echo begun"), "begun")


def block_handler(client):
    """The handler keeps its thread, until the client sends more."""
    say_at_once(client, "echo blocks", "flush", "block")
    equal(client.line(), "blocks")


def goes_on(client):
    """The handler is still there."""
    for _ in range(3):
        equal(client.ask("echo goes on"), "goes on")


def serve_one(b, begin, **settings):
    """A server that has been shut down while the handler of its only client was busy."""
    server = b.server(poll_interval_ms=20, **settings)
    serve = server.serve()
    client = server.connect()
    begin(client)
    server.shutdown()
    serve.wait()
    return server, client


def close_waits(b):
    server, client = serve_one(b, begin_handler)
    close = server.begin("close")
    goes_on(client)
    true(not close.done, "close has not waited")
    equal(server.told("finish"), [])
    client.say("end")
    close.wait()
    equal(len(server.told("finish")), 1, "calls of finish")
    client.sees_the_end()


def close_leaves_daemons(b):
    server, client = serve_one(b, block_handler, daemon_threads=1)
    server.close()
    equal(server.told("finish"), [])
    client.half_close()
    equal(client.rest(), b"woken\n")


def close_and_daemons_that_wait(b):
    server, client = serve_one(b, begin_handler, daemon_threads=1)
    server.close()
    if b.is_python:
        goes_on(client)
        client.say("end")
    client.sees_the_end()
    eventually(lambda: server.told("finish"), "finish is not called")
    equal(errors(server), [] if b.is_python else ["ECANCELED"])


def close_does_not_block(b):
    server, client = serve_one(b, begin_handler, block_on_close=0)
    server.close()
    goes_on(client)
    client.say("end")
    client.sees_the_end()


@behaviour(35, "close waits for handlers, unless they are daemons or block_on_close is false",
           weir=differs("daemon handlers that wait for their client are cancelled, and so end"),
           concurrencies=BESIDE)
def close_policy(b):
    close_waits(b)
    close_leaves_daemons(b)
    close_and_daemons_that_wait(b)
    close_does_not_block(b)


@behaviour(36, "The end of the process waits for a running handler, and kills a daemon's",
           concurrencies=BESIDE)
def process_exit(b):
    program = b.another()
    server, client = serve_one(program, begin_handler)
    program.process.stdin.close()
    goes_on(client)
    equal(program.process.poll(), None, "the status before the handler's end")
    client.say("echo last", "end")
    equal(client.rest(), b"last\n")
    equal(program.wait(), 0, "the exit status")

    program = b.another()
    server, client = serve_one(program, block_handler, daemon_threads=1)
    program.process.stdin.close()
    equal(program.wait(), 0, "the exit status")
    equal([event for event in program.events if event[1] == "finish"], [])
    client.sees_the_end()


def refuses(address):
    try:
        connect(address).close()
    except ConnectionRefusedError:
        return
    raise AssertionError(f"{address} is still listening")


@behaviour(37, "close is no error directly after creation, nor a second time",
           concurrencies=SERVING)
def close_at_once(b):
    b.call("ping")      # it has read its own files
    before = b.fds()
    server = b.server()
    address = server.address
    server.close()
    server.close()
    refuses(address)
    server.call("destroy")
    equal(b.fds(), before, "descriptors")


@behaviour(38, "Ten thousand requests leave no threads and no memory behind",
           concurrencies=BESIDE)
def ten_thousand(b):
    def ask(times):
        for _ in range(times):
            client = Client(connect(address))
            client.say("end")
            client.sees_the_end()
            reset(client)

    # AddressSanitizer would keep what is freed.
    options = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"
    b = b.another(env={**os.environ, "ASAN_OPTIONS": options})
    with serving(b, quiet=1) as server:
        address = server.address
        ask(1000)
        threads, rss_kib = b.threads(), b.rss_kib()
        ask(9000)
        equal(server.stats()["accepted"], 10000, "clients")
        eventually(lambda: b.threads() <= threads, "there are more threads than before")
        # A record of 2 KiB for each would be more.
        grown_kib = b.rss_kib() - rss_kib
        true(grown_kib < 16 << 10, f"it grew by {grown_kib} KiB")
