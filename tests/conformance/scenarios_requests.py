"""8 to 17: what is called for one request, and what follows when that fails."""

from harness import EVERY, SERVING, behaviour, differs, equal, eventually, true
from serving import errors, reset, serving


def last_words(b, line, **settings):
    """What a server told of its only client, which said this and saw the end."""
    with serving(b, **settings) as server:
        with server.connect() as client:
            client.say(line)
            client.sees_the_end()
    return server.trace()


def without_pythons_own(trace):
    """What both back ends can tell."""
    common = ("verify_request", "setup", "handle", "finish", "handle_error")
    return [name for name in trace if name in common]


@behaviour(8, "verify_request, setup, handle, finish, then the connection ends",
           weir=differs("the steps between them (process_request, finish_request, "
                        "shutdown_request, close_request) are the server's own business, no hooks"),
           concurrencies=SERVING)
def golden_trace(b):
    trace = last_words(b, "end")
    equal(without_pythons_own(trace), ["verify_request", "setup", "handle", "finish"], "the order")
    if b.is_weir:
        return
    if b.concurrency == "fork":
        # Parent and child close it, in any order; only the child says farewell.
        equal((trace.count("close_request"), trace.count("shutdown_request")), (2, 1))
    else:
        equal(trace, ["get_request", "verify_request", "process_request", "finish_request", "setup",
                      "handle", "finish", "shutdown_request", "close_request"], "the whole order")


@behaviour(9, "A client that verify_request refuses sees the end, and no handler sees it",
           concurrencies=EVERY)
def verify_refuses(b):
    with serving(b, verify="no,yes") as server:
        with server.connect() as client:
            client.sees_the_end()
        equal(without_pythons_own(server.trace()), ["verify_request"])
        equal(server.stats()["refused"], 1)
        equal(server.ask("echo next"), "next")
    if b.is_python:
        equal(server.trace().count("shutdown_request"), 2, "calls of shutdown_request")


@behaviour(10, "verify_request fails",
           python=differs("the exception ends serve_forever; nobody closes the client or is told"),
           weir=differs("the client is refused, `handle_error` is told, and serving goes on"),
           concurrencies=EVERY)
def verify_fails(b):
    server = b.server(verify="error,yes")
    serve = server.serve()
    with server.connect() as client:
        if b.is_python:
            equal(serve.error(), "EIO")
            equal(errors(server), [])
            equal(server.trace(), ["get_request", "verify_request"])
            return
        client.sees_the_end()
    equal(errors(server), ["EIO"])
    equal(server.stats()["refused"], 1)
    equal(server.ask("echo next"), "next")
    server.shutdown()
    serve.wait()


def peer_of(client):
    host, port = client.socket.getsockname()
    return f"{host}:{port}"


@behaviour(11, "handle fails: handle_error is told once, with the peer; the next client is served",
           concurrencies=SERVING)
def handle_fails(b):
    with serving(b) as server:
        with server.connect() as client:
            peer = peer_of(client)
            client.say("fail")
            client.sees_the_end()
        (_, error, told_peer, *_), = server.told("handle_error")
        equal((error, told_peer), ("error=EIO", f"peer={peer}"))
        equal(server.ask("echo next"), "next")
        equal(len(errors(server)), 1)


@behaviour(12, "setup fails: only handle_error is called after it, and the client sees the end",
           concurrencies=SERVING)
def setup_fails(b):
    trace = last_words(b, "echo nobody hears this", setup="fail")
    equal(without_pythons_own(trace), ["verify_request", "setup", "handle_error"])


@behaviour(13, "handle fails: finish is called all the same, before handle_error",
           concurrencies=SERVING)
def finish_follows_a_failure(b):
    trace = without_pythons_own(last_words(b, "fail"))
    equal(trace, ["verify_request", "setup", "handle", "finish", "handle_error"])


@behaviour(14, "handle and finish fail: handle_error is called once", concurrencies=SERVING)
def both_fail(b):
    trace = without_pythons_own(last_words(b, "fail", finish="fail"))
    equal(trace, ["verify_request", "setup", "handle", "finish", "handle_error"])


@behaviour(15, "A handler may end a serial loop: its client sees the end, and no error is told",
           python=differs("by SystemExit, with which serve_forever ends"),
           weir=differs("by `WEIR_STOP_SERVER`, after which `weir_serve_forever` returns 0"))
def handler_stops_the_server(b):
    server = b.server()
    serve = server.serve()
    with server.connect() as client:
        client.say("stop")
        client.sees_the_end()
    equal(serve.error(), "SystemExit" if b.is_python else None)
    equal(errors(server), [])


@behaviour(16, "By default handle_error names the peer on standard error, and returns",
           concurrencies=SERVING)
def default_handle_error(b):
    with serving(b, handle_error="default") as server:
        with server.connect() as client:
            host, port = client.socket.getsockname()
            client.say("fail")
            client.sees_the_end()
        equal(server.ask("echo next"), "next")
        # weir's lines are written by a thread: nobody waits for them.
        eventually(lambda: host in b.stderr() and str(port) in b.stderr(), "it doesn't name the peer")


@behaviour(17, "A thousand handlers that fail end no server, whatever daemon_threads is")
def a_thousand_failures(b):
    for daemon_threads in 0, 1:
        with serving(b, concurrency="pool", daemon_threads=daemon_threads, quiet=1) as server:
            for _ in range(1000):
                client = server.connect()
                client.say("fail")
                client.sees_the_end()
                reset(client)
            equal(server.ask("echo alive"), "alive")
            equal(server.stats()["errors"], 1000)
