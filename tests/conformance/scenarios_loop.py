"""18 to 29: serve_forever, how it is ended, and what it does besides."""

import time

from harness import EVERY, SERVING, NotEarlierThan, behaviour, differs, equal, true
from serving import end, serving

# Far beyond every wait here: what returns has not waited for it.
NEVER_MS = 600_000


@behaviour(18, "shutdown from another thread returns once the loop has ended",
           concurrencies=SERVING)
def shutdown_ends_the_loop(b):
    server = b.server(service_actions="event", poll_interval_ms=10)
    serve = server.serve()
    b.wait_for_event("service_actions", 2)
    server.shutdown()
    turns = len(server.told("service_actions"))
    equal(serve.error(), None)
    equal(len(server.told("service_actions")), turns, "turns of the loop")


@behaviour(19, "Twenty servers that are shut down as they start all end", concurrencies=EVERY)
def shutdown_races_the_start(b):
    servers = [b.server(poll_interval_ms=10) for _ in range(20)]
    commands = [server.begin(verb) for server in servers for verb in ("serve", "shutdown")]
    for command in commands:
        equal(command.error(), None)


@behaviour(20, "shutdown does not wait for a running handler, which goes on")
def shutdown_leaves_handlers(b):
    server = b.server(concurrency="pool", poll_interval_ms=10)
    serve = server.serve()
    with server.connect() as client:
        equal(client.ask("echo before"), "before")
        server.shutdown()
        serve.wait()
        equal(client.ask("echo after"), "after")
        end(client)


@behaviour(21, "A handler of a serial server calls its shutdown",
           python=differs("it waits for itself, for ever"),
           weir=differs("it returns -EDEADLK; `weir_server_stop` is what it may call"))
def shutdown_in_a_handler(b):
    server = b.server(poll_interval_ms=10)
    serve = server.serve()
    with server.connect() as client:
        if b.is_python:
            client.say("shutdown")
            true(client.is_silent(seconds=0.3), "it has answered")
            true(not serve.done, "serve_forever has ended")
            b.kill()
            return
        equal(client.ask("shutdown"), "EDEADLK")
        end(client)
    server.shutdown()
    serve.wait()


@behaviour(22, "After a shutdown before the start, serve_forever returns at once",
           python=differs("and until then shutdown waits"),
           weir=differs("and shutdown returns without waiting for it"),
           concurrencies=SERVING)
def shutdown_before_the_start(b):
    server = b.server(poll_interval_ms=NEVER_MS, service_actions="event")
    if b.is_weir:
        server.shutdown()
    else:
        server.call("stop")
        shutdown = server.begin("shutdown")
        time.sleep(0.1)
        true(not shutdown.done, "shutdown has returned before there was a loop")
    server.call("serve")
    if b.is_python:
        shutdown.wait()
    equal(server.told("service_actions"), [])


@behaviour(23, "A second shutdown, when the loop has ended already",
           python=differs("it ends the next serve_forever before that has begun"),
           weir=differs("it changes nothing: the next `weir_serve_forever` serves"),
           concurrencies=SERVING)
def second_shutdown(b):
    server = b.server(poll_interval_ms=10)
    serve = server.serve()
    equal(server.ask("echo served"), "served")
    server.shutdown()
    serve.wait()
    server.shutdown()
    if b.is_python:
        server.call("serve")
        return
    server.call("stop")
    serve = server.serve()
    equal(server.ask("echo served"), "served")
    server.shutdown()
    serve.wait()


@behaviour(24, "serve_forever can be called again after a shutdown", concurrencies=SERVING)
def serve_again(b):
    server = b.server(poll_interval_ms=10)
    for _ in range(3):
        serve = server.serve()
        equal(server.ask("echo served"), "served")
        server.shutdown()
        serve.wait()


@behaviour(25, "After a shutdown clients can still connect; they wait until the next loop serves",
           concurrencies=SERVING)
def connecting_after_shutdown(b):
    server = b.server(poll_interval_ms=10)
    serve = server.serve()
    equal(server.ask("echo served"), "served")
    server.shutdown()
    serve.wait()
    with server.connect() as client:
        client.say("echo waited")
        true(client.is_silent(), "somebody serves it")
        equal(server.stats()["accepted"], 1)
        serve = server.serve()
        equal(client.line(), "waited")
    server.shutdown()
    serve.wait()


@behaviour(26, "A client that is waiting when the loop sees the shutdown is not served",
           concurrencies=EVERY)
def ready_at_shutdown(b):
    server = b.server(f"unix:@conformance-{b.pid}", service_actions="hold", poll_interval_ms=10)
    serve = server.serve()
    b.wait_for_event("service_actions")
    with server.connect() as client:
        client.say("echo waited")
        server.call("stop")
        server.call("release")
        serve.wait()
        equal(server.stats()["accepted"], 0)
        true(client.is_silent(), "it was answered")


def shutdown_of_a_loop_that_waits(server):
    """A shutdown that the loop does not notice. If it came just before the loop waits: another."""
    while True:
        serve = server.serve()
        shutdown = server.begin("shutdown")
        time.sleep(0.2)
        if not shutdown.done:
            return serve, shutdown
        serve.wait()


@behaviour(27, "How long shutdown takes",
           python=differs("until poll_interval has passed, or a client happens to come (unserved)"),
           weir=differs("whatever poll_interval is, the loop is woken up"),
           concurrencies=SERVING)
def shutdown_latency(b):
    server = b.server(poll_interval_ms=NEVER_MS)
    if b.is_weir:
        serve = server.serve()
        equal(server.ask("echo serving"), "serving")
        server.shutdown()
        serve.wait()
        return
    serve, shutdown = shutdown_of_a_loop_that_waits(server)
    with server.connect() as client:
        client.say("echo awake")
        shutdown.wait()
        serve.wait()
        true(client.is_silent(), "it was answered")
    equal(server.stats()["accepted"], 0)


@behaviour(28, "service_actions is called every poll_interval, if idle too; not by handle_request",
           concurrencies=EVERY)
def service_actions(b):
    server = b.server(service_actions="event", poll_interval_ms=30, timeout_ms=100)
    for _ in range(2):
        server.call("handle_request")
    equal(len(server.told("handle_timeout")), 2)
    equal(server.told("service_actions"), [])
    with NotEarlierThan(4 * 0.03):
        serve = server.serve()
        b.wait_for_event("service_actions", 5)
    server.shutdown()
    serve.wait()


@behaviour(29, "serve_forever ignores timeout", concurrencies=SERVING)
def timeout_is_not_for_serve_forever(b):
    with serving(b, service_actions="event", poll_interval_ms=10, timeout_ms=1) as server:
        b.wait_for_event("service_actions", 10)
        equal(server.told("handle_timeout"), [])
        equal(server.ask("echo served"), "served")
