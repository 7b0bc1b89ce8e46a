"""What a server's clients suffer from other programs that keep its CPU busy.

One program or several compute on the servers' CPU without a pause. Requests come at a constant rate, which
is less than the server's share of that CPU could serve; so what they wait for is the scheduler, each
time that the server was asleep or has used up its turn.
"""

import contextlib
import dataclasses
import subprocess
import sys
import time

from side_by_side import figures, machine
from side_by_side.generators import Arrivals
from side_by_side.servers import Failure
from side_by_side.workloads import run_rounds

CONTENTION = "contention"
CONTENTION_TITLE = "Beside busy programs on the server's CPU"
BUSY = (1, 6)               # programs
CONNECTIONS = 64
SLICE_SECONDS = 2           # times --seconds: of p99.9 there are few
LATENCIES = {"p50": "p50_us", "p99": "p99_us", "p99_9": "p999_us"}


@dataclasses.dataclass(frozen=True)
class Traffic:
    name: str
    title: str
    job: str
    rate: int               # requests a second
    how: tuple              # `weir load` is told


TRAFFICS = [
    Traffic("echo", "Line echo", "line", 2000, ("--payload", "line")),
    Traffic("hello", "HTTP hello", "http", 2000, ()),
    Traffic("connect", "HTTP hello, a connection per request", "close", 500, ("--close",)),
]
PEERS = ("bare loop", "weir", "nginx")


@contextlib.contextmanager
def busy_programs(count):
    """They end with the block."""
    argv = machine.pinned(machine.SERVER_CPU, [sys.executable, "-c", "while True: pass"])
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            program = stack.enter_context(subprocess.Popen(argv, stdin=subprocess.DEVNULL))
            stack.callback(program.kill)
        yield


class Sufferer:
    """A server beside them, with its slices."""

    def __init__(self, peer, traffic):
        self.peer, self.traffic = peer, traffic
        self.name = peer.name
        self.failed = None
        self.server = None
        self.slices = []
        self.command = ""

    def begin(self, setting):
        try:
            self.server = setting.start(self.peer, self.traffic.job)
        except Failure as failure:
            self.failed = str(failure)

    def run(self, setting):
        if self.failed:
            return
        load = Arrivals(self.server, setting, setting.seconds * SLICE_SECONDS, self.traffic.rate,
                        CONNECTIONS, *self.traffic.how, cpu=machine.CLIENT_CPU)
        self.command = load.command
        with contextlib.closing(load):
            try:
                latency = load.end()["latency_ns"]
            except Failure as failure:
                self.failed = str(failure)
                return
        self.slices.append({key: latency[name] / 1000 for name, key in LATENCIES.items()})

    def row(self, busy, base):
        row = {"contention": CONTENTION, "traffic": self.traffic.name, "busy": busy,
               "peer": self.name,
               "server": self.server.command if self.server else "", "generator": self.command}
        if self.failed:
            return {**row, "failed": self.failed}
        spreads = {key: figures.spread(piece[key] for piece in self.slices)
                   for key in LATENCIES.values()}
        ratios = figures.ratios(self.slices, base, "p999_us")
        return {**row, **spreads, **({"ratio": figures.spread(ratios)} if ratios else {}),
                "slices": self.slices}


def run_traffic(setting, traffic, busy):
    end = time.monotonic() + setting.patience
    with contextlib.ExitStack() as stack:
        sufferers = [Sufferer(peer, traffic) for peer in setting.peers_for(traffic.job)
                     if peer.name in PEERS]
        for sufferer in sufferers:
            sufferer.begin(setting)
            if sufferer.server:
                stack.callback(sufferer.server.stop)
        stack.enter_context(busy_programs(busy))
        if sufferers:
            run_rounds(setting, f"{CONTENTION_TITLE}, {busy} of them: {traffic.title}", sufferers,
                       end, lambda sufferer: sufferer.run(setting))
        by_name = {sufferer.name: sufferer.slices for sufferer in sufferers}
        return [sufferer.row(busy, by_name.get(sufferer.peer.yardstick, []))
                for sufferer in sufferers]


def run_contention(setting):
    """Yields the rows of each number of programs, and each traffic."""
    for busy in BUSY:
        for traffic in TRAFFICS:
            rows = run_traffic(setting, traffic, busy)
            if rows:
                yield rows
