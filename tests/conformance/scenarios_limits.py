"""71 to 74: permissions, the backlog, and servers that can't accept."""

import ctypes
import errno
import os
import socket
import stat
import threading
import time

from harness import SERVING, behaviour, connect, differs, endpoint, equal, eventually, true
from serving import end, serving

NOBODY = 65534
MANY = 1000         # so often only who spins fails to accept
REST_S = 0.05       # what weir waits after it has failed to accept


def error_of_connecting(path):
    try:
        connect(f"unix://{path}").close()
    except OSError as error:
        return errno.errorcode[error.errno]
    return None


def connect_as_nobody(path):
    """On a thread of its own, which alone acts as somebody else on files, and then ends."""
    results = []

    def run():
        ctypes.CDLL(None).setfsuid(NOBODY)
        results.append(error_of_connecting(path))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


@behaviour(71, "A Unix path with mode 0600 lets nobody in but its owner",
           python=differs("by `chmod` when it has been bound: until then the umask counts"),
           weir=differs("by the option `unix_mode`, before anybody can connect"))
def unix_mode(b):
    private, public = b.path("private"), b.path("public")
    b.server(f"unix://{private}", unix_mode="600")
    b.server(f"unix://{public}", unix_mode="666")
    equal(stat.S_IMODE(os.stat(private).st_mode), 0o600)
    equal(error_of_connecting(private), None)
    if os.getuid() != 0:
        b.cannot("only root can connect as another user")
        return
    equal(connect_as_nobody(public), None)
    equal(connect_as_nobody(private), "EACCES")


def try_one_more(address):
    """What becomes of a client for whom the backlog has no room."""
    family, name = endpoint(address)
    with socket.socket(family) as client:
        client.settimeout(0.3 if family == socket.AF_INET else 0)
        try:
            client.connect(name)
        except TimeoutError:
            return "ETIMEDOUT"
        except OSError as error:
            return errno.errorcode[error.errno]
    return None


@behaviour(72, "listen(n) has room for n + 1 clients; TCP is silent for one more, Unix says so",
           concurrencies=SERVING)
def backlog(b):
    for address, one_more in (("tcp://127.0.0.1:0", "ETIMEDOUT"),
                              (f"unix://{b.path('server')}", "EAGAIN")):
        server = b.server(address, backlog=2, poll_interval_ms=10)
        clients = [server.connect() for _ in range(3)]
        equal(try_one_more(server.address), one_more)
        serve = server.serve()
        for client in clients:
            equal(client.ask("echo waited"), "waited")
            end(client)
        server.shutdown()
        serve.wait()


def leave_no_descriptors(b):
    """Those that it has stay; the next number is beyond the limit."""
    b.call("limit", nofile=1 + max(int(fd) for fd in os.listdir(f"/proc/{b.pid}/fd")))


def failed_to_accept(server):
    return server.stats()["accept_errors"]


def rests_while_it_fails(server):
    """Over a while, it has tried no more often than its rests allow."""
    eventually(lambda: failed_to_accept(server) > 0, "it has accepted without a descriptor")
    began, before = time.monotonic(), failed_to_accept(server)
    time.sleep(0.5)
    after, took = failed_to_accept(server), time.monotonic() - began
    true(after - before <= took / REST_S + 1, f"{after - before} tries in {took:.2f} s")


@behaviour(73, "Out of descriptors; when some are free again the clients that waited are served",
           python=differs("meanwhile the loop spins: accept fails again and again, at once"),
           weir=differs("meanwhile accepting rests for 50 ms at a time"))
def out_of_descriptors(b):
    with serving(b, concurrency="pool", poll_interval_ms=10) as server:
        held = [server.connect() for _ in range(10)]
        for client in held:
            equal(client.ask("echo held"), "held")
        leave_no_descriptors(b)
        waiting = [server.connect() for _ in range(3)]
        if b.is_python:
            eventually(lambda: failed_to_accept(server) > MANY, "it does not spin")
        else:
            rests_while_it_fails(server)
        for client in held:
            end(client)
        for client in waiting:
            equal(client.ask("echo at last"), "at last")
            end(client)
    if b.is_weir:
        # It pauses whenever a descriptor has come and gone, and says so thrice in ten seconds.
        said = [line for line in b.last_words() if not line.startswith("weir: left out: ")]
        equal({line.partition(": accepting ")[2] for line in said},
              {"pauses: Too many open files"}, "what it said")


@behaviour(74, "Closing a server that serves",
           python=differs("it is closed, and its loop spins until shutdown"),
           weir=differs("it is refused with -EBUSY, and goes on serving"),
           concurrencies=SERVING)
def close_while_serving(b):
    server = b.server(poll_interval_ms=10)
    serve = server.serve()
    equal(server.ask("echo serving"), "serving")
    if b.is_python:
        server.close()
        eventually(lambda: failed_to_accept(server) > MANY, "it does not spin")
    else:
        equal(server.begin("close").error(), "EBUSY")
        equal(server.ask("echo still"), "still")
    server.shutdown()
    serve.wait()
