"""What many scenarios share: servers that serve meanwhile, clients that say much, errors told."""

import contextlib
import socket
import struct

import harness


@contextlib.contextmanager
def serving(b, address=harness.LOOPBACK, **settings):
    """A server that serves in the meantime, and is then shut down and closed."""
    server = b.server(address, **{"poll_interval_ms": 20, **settings})
    serve = server.serve()
    yield server
    server.shutdown()
    serve.wait()
    server.close()


def say_at_once(client, *lines):
    """In one packet: a handler that has read the first line has them all."""
    client.send("".join(line + "\n" for line in lines).encode())


def end(client):
    """Has the handler return, and closes."""
    client.say("end")
    client.sees_the_end()
    client.close()


def reset(client):
    """Closes with a RST. It spares a server that has closed first the TIME_WAIT."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def errors(server):
    """The names of the errors that handle_error has been told of."""
    return [event[1].removeprefix("error=") for event in server.told("handle_error")]


def handled(server):
    """How many calls of handle have begun."""
    return len(server.told("handle"))
