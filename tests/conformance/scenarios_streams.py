"""48 to 61: what handlers read and write, and what their clients see of it."""

import os
import signal
import socket
import time

from harness import (
    SERVING, TIMEOUT, Client, NotEarlierThan, behaviour, differs, endpoint, equal, eventually, true)
from serving import errors, reset, say_at_once, serving

PATTERN = bytes(range(251))


def pattern(length):
    """What `write` writes."""
    return (PATTERN * (length // len(PATTERN) + 1))[:length]


@behaviour(48, "Writing to a client that has reset its connection fails that handler only",
           concurrencies=SERVING)
def write_to_reset_peer(b):
    with serving(b) as server:
        client = server.connect()
        say_at_once(client, "echo in", "flush", "block", "write 100000")
        equal(client.line(), "in")
        reset(client)
        eventually(lambda: errors(server), "it does not fail")
        true(errors(server)[0] in ("ECONNRESET", "EPIPE"), f"it failed with {errors(server)}")
        equal(server.ask("echo next"), "next")
        equal(len(errors(server)), 1, "calls of handle_error")


@behaviour(49, "An unbuffered wfile sends at once, while handle goes on",
           concurrencies=SERVING)
def unbuffered(b):
    with serving(b, wbufsize=0) as server, server.connect() as client:
        say_at_once(client, "echo now", "block")
        equal(client.line(), "now")
        equal(server.told("finish"), [])
        client.say("end")
        equal(client.line(), "woken")


@behaviour(50, "A buffered wfile sends nothing before it is flushed; finish flushes",
           weir=differs("it is flushed, too, whenever the handler waits for input"),
           concurrencies=SERVING)
def buffered(b):
    with serving(b, wbufsize=4096) as server:
        with server.connect() as client:
            say_at_once(client, "echo one", "flush", "echo two", "block")
            equal(client.line(), "one")
            true(client.is_silent(0.05), "it is sent without a flush")
            say_at_once(client, "flush", "echo three", "end")
            equal(client.rest(), b"two\nwoken\nthree\n")
        with server.connect() as client:
            client.say("echo waits")
            if b.is_weir:
                equal(client.line(), "waits")
            else:
                true(client.is_silent(0.05), "it is sent without a flush")
                client.say("end")
                equal(client.rest(), b"waits\n")


@behaviour(51, "A write of 16 MiB under a hail of signals is complete and exact",
           concurrencies=SERVING)
def large_write_under_signals(b):
    length = 16 << 20
    with serving(b) as server:
        with server.connect() as client:
            handler_pid = int(client.ask("pid"))
            client.say(f"write {length}")
            data = bytearray()
            while len(data) < length and (piece := client.socket.recv(65536)):
                data += piece
                os.kill(handler_pid, signal.SIGUSR1)
            client.say("end")
            data += client.rest()
            equal(len(data), length + len(f"{length}\n"), "the length")
            true(data == pattern(length) + f"{length}\n".encode(), "other bytes have come")
        equal(errors(server), [])


@behaviour(52, "readline takes LF and CRLF, a line in two packets, and one byte by byte",
           concurrencies=SERVING)
def line_ends(b):
    with serving(b) as server, server.connect() as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        say_at_once(client, "line 100", "lf", "line 100", "crlf\r")
        equal(client.line(), "3 " + b"lf\n".hex())
        equal(client.line(), "6 " + b"crlf\r\n".hex())
        client.send(b"echo first\nline 100\nin two ")
        equal(client.line(), "first")
        client.send(b"packets\n")
        equal(client.line(), "15 " + b"in two packets\n".hex())
        for byte in b"echo byte by byte\necho twice\n":
            client.send(bytes([byte]))
        equal(client.line(), "byte by byte")
        equal(client.line(), "twice")


@behaviour(53, "readline(limit) gives limit bytes, and the next call what follows",
           concurrencies=SERVING)
def line_limit(b):
    with serving(b) as server, server.connect() as client:
        say_at_once(client, "line 4", "abcdecho rest", "line 4", "abc", "line 4", "ab")
        equal(client.line(), "4 " + b"abcd".hex())
        equal(client.line(), "rest")
        equal(client.line(), "4 " + b"abc\n".hex())
        equal(client.line(), "3 " + b"ab\n".hex())


@behaviour(54, "A line that the end of file cuts short is given, and then the end",
           concurrencies=SERVING)
def partial_line(b):
    with serving(b) as server:
        with server.connect() as client:
            client.send(b"line 100\nno end")
            client.half_close()
            equal(client.rest(), b"6 " + b"no end".hex().encode() + b"\n")
        with server.connect() as client:
            client.send(b"insist\n")
            client.half_close()
            equal(client.rest(), b"ok ok\n")
        equal(errors(server), [])


@behaviour(55, "read(n) waits for n bytes, and gives fewer at the end of file",
           concurrencies=SERVING)
def short_read(b):
    with serving(b) as server, server.connect() as client:
        client.send(b"echo first\nread 6\nabc")
        equal(client.line(), "first")
        client.send(b"defread 6\nghi")
        equal(client.line(), "6 " + b"abcdef".hex())
        client.half_close()
        equal(client.line(), "3 " + b"ghi".hex())
        client.sees_the_end()


@behaviour(56, "A client that has half-closed is answered",
           concurrencies=SERVING)
def half_close(b):
    with serving(b) as server, server.connect() as client:
        client.send(b"sleep 10\necho still here")
        client.half_close()
        equal(client.rest(), b"slept\nstill here\n")


@behaviour(57, "A silent client is given up after the timeout, and reading again fails, too",
           concurrencies=SERVING)
def read_timeout(b):
    with serving(b, read_timeout_ms=100) as server:
        with NotEarlierThan(0.1), server.connect() as client:
            client.sees_the_end()
        equal(errors(server), ["ETIMEDOUT"])
        with server.connect() as client:
            # Python's second error is "cannot read from timed out object", which has no number.
            equal(client.ask("insist"), "ETIMEDOUT " + ("OSError" if b.is_python else "ETIMEDOUT"))


@behaviour(58, "The timeout of a write is for all of it, however slowly the client reads on",
           concurrencies=SERVING)
def write_timeout(b):
    length = 64 << 20
    with serving(b, write_timeout_ms=300) as server, server.connect() as client:
        data = bytearray()
        with NotEarlierThan(0.3):
            client.say(f"write {length}")
            while not errors(server):
                data += client.socket.recv(65536)
                time.sleep(0.01)
        equal(errors(server), ["ETIMEDOUT"])
        data += client.rest()
        true(0 < len(data) < length, f"{len(data)} bytes have come")
        true(data == pattern(len(data)), "other bytes have come")


def slow_client(server):
    """One whose kernel takes few bytes that it has not read."""
    family, name = endpoint(server.address)
    connected = socket.socket(family)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connected.settimeout(TIMEOUT)
    connected.connect(name)
    return Client(connected)


@behaviour(59, "A client is answered although it has sent what the handler never reads",
           python=differs("but a reset takes what of the answer has not reached the client yet"),
           concurrencies=SERVING)
def unread_input(b):
    unread = "x" * 200000       # from 3.14 on CPython reads 128 KiB at a time
    with serving(b) as server:
        with server.connect() as client:
            say_at_once(client, "echo bye", "end", unread)
            equal(client.line(), "bye")
            client.sees_the_end()
        with slow_client(server) as client:
            # More than the client takes now, less than the server's kernel does.
            say_at_once(client, "write 500000", "end", unread)
            eventually(lambda: len(server.told("finish")) == 2, "the handler does not end")
            server.shutdown()
            server.close()
            if b.is_weir:
                equal(client.rest(), pattern(500000) + b"500000\n")
            else:
                true(is_reset(client), "the end is not a reset")


def is_reset(client):
    try:
        client.rest()
    except ConnectionResetError:
        return True
    return False


@behaviour(60, "disable_nagle_algorithm sets TCP_NODELAY, which is not set otherwise",
           concurrencies=SERVING)
def nodelay(b):
    for disable, on in ("1", "1"), ("0", "0"):
        with serving(b, disable_nagle=disable) as server:
            equal(server.ask("nodelay"), on)


@behaviour(61, "The connection ends although the handler has leaked a duplicate of its socket",
           concurrencies=("serial", "thread", "pool"))
def leaked_duplicate(b):
    with serving(b) as server:
        with server.connect() as client:
            duplicate = client.ask("leak")
            client.say("end")
            equal(client.rest(), b"")
        true(os.path.exists(f"/proc/{b.pid}/fd/{duplicate}"), "the duplicate is closed")
