"""What a server is worth to impatient clients when more come than it can serve.

Each request takes some 10 ms of CPU time, on a connection of its own. The load is an open loop: so
many clients come a second, whatever becomes of those before, and each leaves after a second. Counted
are whole answers within that second, by how much is offered; and behind each storm, how long the
next client has to wait. What a server can serve is its own: measured with as many clients as are
never kept waiting for long.
"""

import contextlib
import dataclasses
import math
import socket
import time

from side_by_side import figures, machine
from side_by_side.generators import Arrivals, ClosedLoop
from side_by_side.servers import Failure

OVERLOAD = "overload"
OVERLOAD_TITLE = "More impatient clients than can be served"
TIMES = (0.8, 2, 5, 10)     # of what it can serve
PATIENCE_S = 1
STORM_SECONDS = 5           # times --seconds
CAPACITY_SECONDS = 2
CAPACITY_CONNECTIONS = 2    # nobody waits behind another one, who waits
ROUNDS_SHARE = 3            # of the others' rounds one is a storm's: it is long
LONGEST_WAIT_S = 30
LOOK_SECONDS = 0.2          # between two looks at a server's memory
PATH = "/slow"
# nginx has nothing that takes long by itself but packing
ASKS = ("--path", PATH, "--close", "--header", "Accept-Encoding: gzip")
REFUSED = "a status other than 200"


@dataclasses.dataclass(frozen=True)
class Storm:
    """What is offered, and for how long."""

    capacity: float
    times: float
    seconds: float

    @property
    def rate(self):
        return self.capacity * self.times

    @property
    def connections(self):
        """As many as can be waiting at a time, and those that pause behind an error."""
        return math.ceil(self.rate * PATIENCE_S * 1.5) + 16


def _is_answered(port):
    """Returns true if one client has its answer, however long that takes."""
    with socket.create_connection(("127.0.0.1", port), LONGEST_WAIT_S) as client:
        client.sendall(f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
                       "Accept-Encoding: gzip\r\n\r\n".encode())
        return client.recv(4096).startswith(b"HTTP/1.1 200 ")


def wait_of_the_next(port):
    """Seconds until somebody is served again. Who is refused, or cut off, comes again."""
    began = time.monotonic()
    while time.monotonic() - began < LONGEST_WAIT_S:
        with contextlib.suppress(OSError):
            if _is_answered(port):
                break
    return time.monotonic() - began


def greatest_memory(pid, seconds):
    """Its memory, looked at for so long."""
    end = time.monotonic() + seconds
    greatest = 0
    while time.monotonic() < end:
        greatest = max(greatest, machine.memory_bytes(pid))
        time.sleep(max(0, min(LOOK_SECONDS, end - time.monotonic())))
    return greatest


def slice_of(said, storm, next_s, before, greatest):
    errors = said["errors_by_kind"]
    return {
        "offered": storm.rate,
        "served": said["requests"] / storm.seconds,
        "share": said["requests"] / storm.seconds / storm.capacity,
        "refused": errors.get(REFUSED, 0) / storm.seconds,
        "p50_ms": said["latency_ns"]["p50"] / 1e6,
        "p99_ms": said["latency_ns"]["p99"] / 1e6,
        "next_s": next_s,
        "before_bytes": before, "greatest_bytes": greatest,
    }


class Victim:
    """A server of a kind, with its storms by how much was offered."""

    def __init__(self, peer):
        self.peer = peer
        self.name = peer.name
        self.failed = None
        self.capacity = 0
        self.slices = {times: [] for times in TIMES}
        self.server_command = self.load_command = ""

    def be_measured(self, setting):
        """What it can serve, for the storms of this round."""
        with setting.start(self.peer, OVERLOAD) as server:
            with contextlib.closing(ClosedLoop(
                    server, setting, CAPACITY_SECONDS * setting.seconds, CAPACITY_CONNECTIONS,
                    *ASKS, cpu=machine.CLIENT_CPU)) as load:
                self.capacity = load.end()["requests_per_s"]

    def suffer(self, setting, times):
        storm = Storm(self.capacity, times, STORM_SECONDS * setting.seconds)
        with setting.start(self.peer, OVERLOAD) as server:
            self.server_command = server.command
            before = machine.memory_bytes(server.pid)
            load = Arrivals(server, setting, storm.seconds, storm.rate, storm.connections,
                            *ASKS, "--timeout", f"{PATIENCE_S}s",
                            cpu=machine.CLIENT_CPU)
            self.load_command = load.command
            with contextlib.closing(load):
                greatest = greatest_memory(server.pid, storm.seconds)
                next_s = wait_of_the_next(server.port)
                self.slices[times].append(slice_of(load.said(), storm, next_s, before, greatest))

    def rows(self):
        """The peak is what was served at most, whatever was offered."""
        about = {"overload": OVERLOAD, "peer": self.name, "server": self.server_command,
                 "generator": self.load_command}
        if self.failed:
            return [{**about, "failed": self.failed}]
        peak = max(figures.spread(piece["served"] for piece in some)["median"]
                   for some in self.slices.values()) or math.inf
        return [self._row(about, times, some, peak) for times, some in self.slices.items()]

    @staticmethod
    def _row(about, times, some, peak):
        spreads = {key: figures.spread(piece[key] for piece in some) for key in some[0]}
        of_peak = figures.spread(piece["served"] / peak for piece in some)
        return {**about, "times": times, **spreads, "of_peak": of_peak, "slices": some}


def _try(victim, what):
    """Runs what it has to go through, unless something has gone wrong with it before."""
    if victim.failed:
        return
    try:
        what()
    except Failure as failure:
        victim.failed = str(failure)


def _round(setting, victims, title):
    """Everybody's storms, of the same strength one after the other."""
    for victim in victims:
        setting.say(f"{title}: what {victim.name} can serve")
        _try(victim, lambda victim=victim: victim.be_measured(setting))
    for times in TIMES:
        for victim in victims:
            setting.say(f"{title}, {times:g} times what it can serve: {victim.name}")
            _try(victim, lambda victim=victim, times=times: victim.suffer(setting, times))


def run_overload(setting):
    """Rows: for each server and how much it is offered."""
    victims = [Victim(peer) for peer in setting.peers_for(OVERLOAD)]
    end = time.monotonic() + setting.patience
    for i in range(max(1, setting.rounds // ROUNDS_SHARE)):
        if i > 0 and time.monotonic() > end:
            break
        _round(setting, victims, f"{OVERLOAD_TITLE}, round {i + 1}")
    return [row for victim in victims for row in victim.rows()]
