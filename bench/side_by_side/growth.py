"""How cost grows: with connections, with workers, with requests sent at once, with their size.

A curve is one number that grows while all else stays. Its points are measured in turn like servers
are: each has servers of its own, all stay up, and a round loads every one of them. So a point can
be divided by the bare loop's beside it, and by another point of its server, both of the same round.
"""

import contextlib
import dataclasses
import time
import typing

from side_by_side import figures, machine
from side_by_side.generators import OwnLoad
from side_by_side.servers import Failure
from side_by_side.workloads import run_rounds

ACTIVE = 64             # connections, where their number is not what grows
SHARE = 0.15            # of a workload's slice: there are many points
WARM_SECONDS = 0.05
# What a server keeps of a burst of connections, as stacks, is not what an idle one costs. So there is
# one before memory is read: some clients that stall and go, then as many that stay.
SOME = 128
MANY = 512              # fewer take some pages, and who knows how much of them
SETTLED_SECONDS = 0.3   # without a change
SETTLE_SECONDS = 3
CONNECTIONS = (1, 4, 16, 64, 256, 1024, 4096, 19000)
DEPTHS = (1, 2, 4, 8, 16, 32, 64, 512)
LINES = (32, 256, 2048, 16384, 131072, 1048576)
HEADS = (64, 256, 1024, 4096)
FEW = 8                 # connections, where what they send is large
WORKERS = (1, 2, 3, 4)
# how a server is told of how many threads it is to consist
THREADS = {"bare loop": "threads", "weir": "workers"}


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a point consists of."""

    active: int = ACTIVE                # connections that ask
    idle: int = 0                       # that have had one answer each, and stay
    depth: int = 1                      # requests under way on each of the active
    workers: int = 0                    # on all CPUs; 0: one, on the servers' CPU
    size: int = 0                       # bytes of a line, or of the target in an HTTP head


@dataclasses.dataclass(frozen=True)
class Curve:
    name: str
    title: str
    theory: str                         # what to expect, in sentences
    unit: str                           # of what grows
    points: tuple
    job: str
    peers: tuple
    shape: typing.Callable              # of a point
    reference: int = 1                  # the point that a server's others are divided by
    logarithmic: str = "x"              # a plot's axes that are

    def has(self, peer):
        return self.job in peer.jobs and peer.name in self.peers


@dataclasses.dataclass(frozen=True)
class Growth:
    name: str
    title: str
    curves: tuple


def _grows(name, **how):
    """The shape in which one number is the point's."""
    return lambda point: Shape(**{name: point}, **how)


def _pipelining(name, title, job, peers):
    return Curve(name, title,
                 "What is sent at once shares a wake-up, a recv and a send: cost should fall with "
                 "the depth towards what a request costs by itself, and never rise.",
                 "requests under way on each of 64 connections", DEPTHS, job, peers,
                 _grows("depth"), logarithmic="xy")


def _sizes(name, title, job, points, unit, peers):
    return Curve(name, title,
                 "At first flat: what a request costs by itself. Then a straight line, on these axes "
                 "by one decade in a decade: each byte is looked at once. What rose faster would "
                 "be a way to keep a server busy with few bytes.",
                 unit, points, job, peers, _grows("size", active=FEW), reference=points[0],
                 logarithmic="xy")


GROWTHS = {growth.name: growth for growth in [
    Growth("growth-connections", "How cost grows with connections", (
        Curve("all active", "All connections active",
              "Flat, until what the kernel and the server remember of each connection no longer "
              "fits into the CPU's caches; from then on it grows for everybody, so compare with "
              "the bare loop, which remembers nothing itself.",
              "connections", CONNECTIONS, "line", ("bare loop", "weir", "libevent"),
              _grows("active"), reference=ACTIVE, logarithmic="xy"),
        Curve("64 active", "64 connections active, the rest idle",
              "Flat: epoll tells of those that are ready, and nobody else is looked at.",
              "connections", tuple(n for n in CONNECTIONS if n >= ACTIVE), "line",
              ("bare loop", "weir", "libevent"), lambda point: Shape(idle=point - ACTIVE),
              reference=ACTIVE),
    )),
    Growth("growth-workers", "How cost grows with workers", (
        Curve("workers", "Workers on all CPUs, 256 connections",
              "Flat, as far as workers need nothing from each other. Servers and generator share "
              "all CPUs here. With more workers than CPUs a request pays for being switched to, "
              "and for caches that another CPU has written, the bare loops as well: they share "
              "a port by SO_REUSEPORT and nothing else.",
              "workers", WORKERS, "line", ("bare loop", "weir"), _grows("workers", active=256),
              logarithmic=""),
    )),
    Growth("growth-pipelining", "How cost falls with pipelining", (
        _pipelining("lines", "Lines", "line", ("bare loop", "weir", "libevent")),
        _pipelining("HTTP", "HTTP", "http", ("bare loop", "weir", "nginx")),
    )),
    Growth("growth-size", "How cost grows with the size of a request", (
        _sizes("line size", "Lines", "line", LINES, "bytes of a line, on each of 8 connections",
               ("bare loop", "weir", "libevent")),
        _sizes("head size", "Heads of HTTP", "http", HEADS,
               "bytes of the target in a head, on each of 8 connections",
               ("bare loop", "weir", "nginx")),
    )),
]}


def _settled_bytes(pid):
    """Its memory, when it has given back what it does not need any more."""
    end = time.monotonic() + SETTLE_SECONDS
    memory, last = machine.memory_bytes(pid), None
    while memory != last and time.monotonic() < end:
        time.sleep(SETTLED_SECONDS)
        memory, last = machine.memory_bytes(pid), memory
    return memory


class Subject:
    """A server at a point of a curve."""

    def __init__(self, peer, curve, point):
        self.peer, self.curve, self.point = peer, curve, point
        self.shape = curve.shape(point)
        self.server = None
        self.loads = []
        self.failed = None
        self.slices = []
        self.memory = {}

    @property
    def name(self):
        return f"{self.peer.name}, {self.point:,}"

    def start(self, setting):
        peer = self.peer
        how = {}
        if self.shape.workers:
            start, threads = peer.start, {THREADS[peer.name]: self.shape.workers}
            peer = dataclasses.replace(peer, start=lambda place: start(place, **threads))
            how = {"cpu": machine.ALL_CPUS}
        try:
            self.server = setting.start(peer, self.curve.job, **how)
        except Failure as failure:
            self.failed = str(failure)

    def connect(self, setting):
        if self.failed:
            return
        try:
            self._load(setting, self.shape.active).run(WARM_SECONDS)
            self._load_idle(setting)
        except Failure as failure:
            self.failed = str(failure)

    def _load_idle(self, setting):
        """Those that idle, and what memory grows by with each of them, after some."""
        if not self.shape.idle:
            return
        with contextlib.closing(self._connect(setting, 1, stalled=SOME)) as stalled:
            stalled.run(0)
        _settled_bytes(self.server.pid)
        some = min(SOME, self.shape.idle)
        self._load(setting, some)
        rest = self.shape.idle - some
        if rest:
            before = _settled_bytes(self.server.pid)
            self._load(setting, rest)
            grown = _settled_bytes(self.server.pid) - before
            if rest >= MANY:
                self.memory["bytes_per_idle"] = grown / rest

    def _connect(self, setting, connections, **how):
        return OwnLoad(self.server, setting.built, connections, self.curve.job,
                       cpu=machine.ALL_CPUS if self.shape.workers else machine.CLIENT_CPU, **how)

    def _load(self, setting, connections):
        """Connections, each of which has had an answer."""
        size = {"line_len": self.shape.size} if self.curve.job == "line" else \
            {"target_len": self.shape.size}
        load = self._connect(setting, connections, depth=self.shape.depth, **size)
        self.loads.append(load)
        load.run(0)
        return load

    def run(self, seconds):
        if self.failed:
            return
        before = machine.cpu_seconds(self.server.pid)
        try:
            load = self.loads[0].run(seconds)
        except Failure as failure:
            self.failed = str(failure)
            return
        self.slices.append(figures.slice_of(load, machine.cpu_seconds(self.server.pid) - before))

    def end(self):
        if self.server:
            self._look_again()
            # before the clients: so the ports that stay taken for a while are the server's own
            self.server.stop()
        for load in self.loads:
            load.close()

    def _look_again(self):
        """What it all takes in the end; and whether those that idled are still served."""
        if self.failed:
            return
        self.memory["memory_bytes"] = machine.memory_bytes(self.server.pid)
        try:
            lost = sum(load.run(0)["closed"] for load in self.loads[1:])
            if lost:
                raise Failure(f"the server closed {lost} of them")
        except Failure as failure:
            self.failed = f"after idling: {failure}"

    def row(self, growth, base, reference):
        row = {"growth": growth.name, "curve": self.curve.name, "at": self.point,
               "peer": self.peer.name, "yardstick": "bare loop",
               "server": self.server.command if self.server else "",
               "generator": "; ".join(load.command for load in self.loads)}
        if self.failed:
            return {**row, "failed": self.failed}
        row = {**row, **self.memory, **figures.summary(self.slices, base.slices if base else [])}
        grown = figures.ratios(self.slices, reference.slices, "cpu_us") if reference else []
        return {**row, "grown": figures.spread(grown)} if grown else row


def _measure(setting, growth, curve, points):
    """A row for each server and point."""
    peers = [peer for peer in setting.peers_for(curve.job) if curve.has(peer)]
    subjects = [Subject(peer, curve, point) for point in points for peer in peers]
    title = f"{growth.title}, {curve.name}"
    end = time.monotonic() + setting.patience
    with contextlib.ExitStack() as stack:
        # all of them first: thousands of clients take ports, too
        for subject in subjects:
            setting.say(f"{title}: starting {subject.name}")
            stack.callback(subject.end)
            subject.start(setting)
        for subject in subjects:
            setting.say(f"{title}: connecting to {subject.name}")
            subject.connect(setting)
        run_rounds(setting, title, subjects, end,
                   lambda subject: subject.run(setting.seconds * SHARE))
    by_place = {(subject.peer.name, subject.point): subject for subject in subjects
                if not subject.failed}
    subjects.sort(key=lambda subject: peers.index(subject.peer))
    return [subject.row(growth, by_place.get(("bare loop", subject.point)),
                        by_place.get((subject.peer.name, curve.reference))) for subject in subjects]


def run_growth(setting, growth, connections):
    """Yields each curve with its rows. connections: other points than its own, where they grow."""
    for curve in growth.curves:
        points = curve.points
        if connections and curve.unit == "connections":
            points = sorted(point for point in connections if point >= curve.points[0])
        if points and any(curve.has(peer) for peer in setting.peers_for(curve.job)):
            yield curve, _measure(setting, growth, curve, points)
