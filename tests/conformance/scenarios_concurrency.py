"""39 to 47: who runs the handlers, how many at once, and what becomes of children."""

import os
import signal

from harness import SERVING, absent, behaviour, differs, equal, eventually, stat_fields, true
from serving import end, errors, handled, say_at_once, serving


def connect_all(server, count, *lines):
    """So many clients, who have said that."""
    clients = [server.connect() for _ in range(count)]
    for client in clients:
        say_at_once(client, *lines)
    return clients


def answered(clients):
    return [client for client in clients if not client.is_silent()]


# ---------------------------------------------------------------------- how many at once ----


def overlap(b):
    with serving(b) as server:
        first, second = connect_all(server, 2, "echo in")
        equal((first.line(), second.line()), ("in", "in"))
        end(first)
        end(second)


def take_turns(b):
    with serving(b) as server:
        first, second = connect_all(server, 2, "echo in")
        equal(first.line(), "in")
        true(second.is_silent(0.05), "the second is served beside the first")
        end(first)
        equal(second.line(), "in")
        end(second)
        calls = [name for name in server.trace() if name in ("setup", "handle", "finish")]
        equal(calls, ["setup", "handle", "finish"] * 2)


@behaviour(39, "Handlers overlap in the pool, on threads and in children, not in a serial server",
           concurrencies=SERVING)
def at_once_or_in_turn(b):
    if b.concurrency == "serial":
        take_turns(b)
    else:
        overlap(b)


FULL = ": full: "


def complaints(b):
    """What it has said, its end included: weir says that it is full, if others wait."""
    return {line.partition(FULL)[1] or line for line in b.last_words()}


def no_more_than_workers(b):
    # On a stack of its worker's, a handler that waits keeps that worker.
    settings = {} if b.is_python else {"workers": 2, "stack": "thread"}
    with serving(b, **settings) as server:
        clients = connect_all(server, 5, "echo in")
        at_once = 5 if b.is_python else 2
        for ended in range(5):
            now = min(at_once, 5 - ended)
            eventually(lambda: len(answered(clients)) == now, f"not {now} are answered")
            equal(handled(server), ended + now, "calls of handle")
            client = answered(clients)[0]
            clients.remove(client)
            equal(client.line(), "in")
            end(client)


def no_more_than_max_connections(b):
    with serving(b, workers=1, max_connections=2) as server:
        clients = connect_all(server, 5, "echo in")
        for i, client in enumerate(clients):
            equal(client.line(), "in")
            eventually(lambda: server.stats()["accepted"] == min(i + 2, 5), "no other is accepted")
            true(all(waits.is_silent(0.02) for waits in clients[i + 2:]), "more are served")
            equal(server.stats()["accepted"], min(i + 2, 5), "clients taken from the backlog")
            end(client)


@behaviour(40, "More slow clients than the pool has threads: none is lost",
           weir=differs("as many handlers that keep their thread run as there are workers; "
                        "clients beyond max_connections wait in the backlog; Python runs all"),
           concurrencies=("pool",))
def pool_is_bounded(b):
    no_more_than_workers(b)
    if b.is_weir:
        no_more_than_max_connections(b)
    # Those that wait for their client keep no thread.
    with serving(b, **({} if b.is_python else {"workers": 1})) as server:
        clients = connect_all(server, 5, "echo in")
        for client in clients:
            equal(client.line(), "in")
        for client in clients:
            end(client)
    equal(complaints(b), {FULL} if b.is_weir else set(), "what it said")


@behaviour(41, "Clients beyond max_per_address are refused: they see the end, and are counted",
           python=absent("verify_request would have to count"),
           concurrencies=("pool",))
def overload(b):
    with serving(b, max_per_address=3) as server:
        clients = connect_all(server, 3, "echo in")
        for client in clients:
            equal(client.line(), "in")
        for _ in range(5):
            with server.connect() as client:
                client.sees_the_end()
        stats = server.stats()
        equal((stats["accepted"], stats["refused"], stats["errors"]), (8, 5, 0))
        equal(handled(server), 3)
        end(clients.pop())
        equal(server.ask("echo again"), "again")
        for client in clients:
            end(client)


# ---------------------------------------------------------------------- children ------------


@behaviour(42, "A forked handler is another process, whose memory the server does not see",
           concurrencies=("fork", "serial"))
def forked(b):
    with serving(b) as server:
        pids = {int(server.ask("pid")) for _ in range(3)}
        counts = [server.ask("count") for _ in range(3)]
    if b.concurrency == "fork":
        equal(len({b.pid, *pids}), 4, "processes")
        equal(counts, ["1", "1", "1"])
    else:
        equal(pids, {b.pid})
        equal(counts, ["1", "2", "3"])


@behaviour(43, "There are max_children at most, and other clients wait",
           concurrencies=("fork",))
def max_children(b):
    with serving(b, max_children=2) as server:
        clients = connect_all(server, 5, "echo in")
        for i, client in enumerate(clients):
            equal(client.line(), "in")
            eventually(lambda: handled(server) == min(i + 2, 5), "the next one is not served")
            true(all(waits.is_silent(0.02) for waits in clients[i + 2:]), "more are served")
            running = [pid for pid, state in b.children().items() if state != "Z"]
            true(len(running) <= 2, f"there are {len(running)} children")
            end(client)
    equal(complaints(b), {FULL} if b.is_weir else set(), "what it said")


@behaviour(44, "shutdown while there are max_children",
           python=differs("returns only after a child has ended"),
           weir=differs("returns at once; the children go on"),
           concurrencies=("fork",))
def shutdown_at_max_children(b):
    server = b.server(max_children=1, poll_interval_ms=10)
    serve = server.serve()
    with server.connect() as client:
        equal(client.ask("echo in"), "in")
        shutdown = server.begin("shutdown")
        if b.is_weir:
            shutdown.wait()
        equal(client.ask("sleep 50"), "slept")
        if b.is_python:
            b.call("ping")
            true(not shutdown.done, "it has returned before the child ended")
        end(client)
        shutdown.wait()
    serve.wait()
    server.close()


def children_are_reaped(b, foreign_status, **settings):
    foreign = int(b.call("spawn")["pid"])
    eventually(lambda: stat_fields(foreign)[0] == "Z", "the foreign child does not end")
    with serving(b, **settings) as server:
        for _ in range(5):
            equal(server.ask("echo done"), "done")
        client = server.connect()
        equal(client.ask("echo goes on"), "goes on")
        client.say("sleep 20", "end")
    equal(client.rest(), b"slept\n")
    client.close()
    equal(b.children(), {foreign: "Z"} if foreign_status == 7 else {}, "children left after close")
    equal(int(b.call("reap", pid=foreign)["status"]), foreign_status, "the foreign child's status")


@behaviour(45, "close has reaped every child of the server, and no other",
           python=differs("at max_children it may reap a child that is none of the server's"),
           concurrencies=("fork",))
def children_reaped(b):
    children_are_reaped(b, 7)
    children_are_reaped(b, -1 if b.is_python else 7, max_children=1)
    # The next client may come before the last one's child has ended.
    said = complaints(b)
    true(said <= {FULL}, f"it said {said}")


def stop(b):
    """Stops the process, every thread of it."""
    os.kill(b.pid, signal.SIGSTOP)
    eventually(lambda: all((stat_fields(f"{b.pid}/task/{tid}") or "T")[0] == "T"
                           for tid in os.listdir(f"/proc/{b.pid}/task")), "it does not stop")


def last_status(b, server, order):
    """What waitpid will say of a child that followed the order. Its parent is stopped meanwhile."""
    with server.connect() as client:
        child = int(client.ask("pid"))
        stop(b)
        try:
            client.say(order)
            eventually(lambda: stat_fields(child)[0] == "Z", "the child does not end")
            status = int(stat_fields(child)[49])
        finally:
            os.kill(b.pid, signal.SIGCONT)
        client.sees_the_end()
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return os.WEXITSTATUS(status)


@behaviour(46, "A child's status is 0, or 1 after an error; one that crashes harms nobody",
           weir=differs("handle_error is told of the crash, too"),
           concurrencies=("fork",))
def child_status(b):
    with serving(b) as server:
        equal(last_status(b, server, "end"), 0)
        equal(last_status(b, server, "fail"), 1)
        equal(last_status(b, server, "crash"), "SIGSEGV")
        equal(server.ask("echo next"), "next")
        if b.is_weir:
            b.wait_for_event("handle_error", 2)
            equal(errors(server), ["EIO", "ECHILD"])
            eventually(lambda: "signal 11" in b.stderr(), "it does not say which signal")


@behaviour(47, "No child or thread can be had for a client; the next one is served when it can",
           python=differs("the client sees the end, and handle_error is told"),
           weir=differs("the client waits, which is said, and is served then"),
           concurrencies=("fork", "thread"))
def no_process(b):
    pauses = ": accepting pauses: "
    with serving(b) as server:
        equal(server.ask("echo before"), "before")
        b.call("limit", nproc=0)
        with server.connect() as client:
            if b.is_python:
                client.sees_the_end()
            else:
                eventually(lambda: pauses in b.stderr(), "it does not say that it pauses")
            b.call("limit", nproc=4096)
            if b.is_weir:
                equal(client.ask("echo at last"), "at last")
        equal(server.ask("echo after"), "after")
        error = "RuntimeError" if b.concurrency == "thread" else "EAGAIN"
        equal(errors(server), [error] if b.is_python else [])
    true(all(pauses in line for line in b.last_words()), "it has said something else")
