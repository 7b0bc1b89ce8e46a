#!/usr/bin/env python3
"""load.py ADDRESS REQUESTS AT_ONCE: a client for each request, so many at once, as `ab` has them.

Each connects, asks for an echo and for the end, and wants exactly the answer. Prints how many did
not get it, and how many milliseconds the slowest one took.
"""

import select
import socket
import struct
import sys
import time

from harness import endpoint

ASKED = b"echo loaded\nend\n"
WANTED = b"loaded\n"


class Visit:
    """One client, from connecting to the end of file."""

    def __init__(self, family, address):
        self.began = time.monotonic()
        self.received = b""
        self.asked = False
        self.socket = socket.socket(family)
        self.socket.setblocking(False)
        # Ten thousand in TIME_WAIT would be in the way of whoever comes next.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.connect_ex(address)

    def go_on(self):
        """What can be done now; True: it is over."""
        try:
            if not self.asked:
                self.socket.sendall(ASKED)
                self.asked = True
                return False
            data = self.socket.recv(100)
        except OSError:
            return True
        self.received += data
        return not data


def run(family, address, requests, at_once):
    """How many failed, and how many seconds the slowest one took."""
    poll = select.epoll()
    visits = {}
    failures = 0
    ended = 0
    slowest = 0.0

    def begin():
        visit = Visit(family, address)
        visits[visit.socket.fileno()] = visit
        poll.register(visit.socket, select.EPOLLOUT)

    for _ in range(min(requests, at_once)):
        begin()
    while visits:
        for fd, _ in poll.poll():
            visit = visits[fd]
            if not visit.go_on():
                poll.modify(fd, select.EPOLLIN)
                continue
            failures += visit.received != WANTED
            slowest = max(slowest, time.monotonic() - visit.began)
            ended += 1
            del visits[fd]
            visit.socket.close()
            if ended + len(visits) < requests:
                begin()
    return failures, slowest


def main():
    family, address = endpoint(sys.argv[1])
    failures, slowest = run(family, address, int(sys.argv[2]), int(sys.argv[3]))
    print(failures, round(1000 * slowest))


if __name__ == "__main__":
    main()
