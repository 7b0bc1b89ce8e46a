"""What is asked of the servers, and the rounds in which it is asked.

All servers of a workload stay up, and are loaded one after the other, round after round. Each
begins a round in turn, so that nobody always comes first, or after the same other.
"""

import contextlib
import dataclasses
import functools
import pathlib
import time
import typing

from side_by_side import figures, machine
from side_by_side.generators import Idle, OwnLoad, Wrk
from side_by_side.servers import PEERS, Failure, Place, Server


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    title: str
    job: str                            # what servers are started for
    asks: str                           # what `connections` of them are
    generator: typing.Callable          # (server, setting, connections)
    needs: typing.Callable              # why the generator is not there, or None
    connections: tuple = (1, 64, 512)
    body_len: int = 0
    yardstick: str = ""                 # instead of each server's own
    pace: float = 1                     # times --seconds
    backend: bool = False               # there is another server to ask
    settles: bool = False               # servers end threads and processes behind the load

    def counted(self, count):
        return f"{count:,} {self.asks.replace('s', '', 1) if count == 1 else self.asks}"


def _wrk(server, setting, connections, **how):
    return Wrk(server, setting.scratch, connections, **how)


def _own(server, setting, connections, **how):
    return OwnLoad(server, setting.built, connections, **how)


def _body(job, name, title, body_len, connections):
    return Workload(name, title, job, "connections",
                    functools.partial(_own, mode="http", body_len=body_len), OwnLoad.missing,
                    connections=(connections,), body_len=body_len, pace=0.3)


PATIENCE = 30       # seconds for an answer, where thousands of threads share a CPU

WORKLOADS = {workload.name: workload for workload in [
    Workload("line", "Line echo", "line", "connections",
             functools.partial(_own, mode="line"), OwnLoad.missing),
    Workload("hello", "HTTP hello", "http", "connections", _wrk, Wrk.missing),
    Workload("pipelined", "HTTP hello, pipelined 16 deep", "http", "connections",
             functools.partial(_wrk, depth=16), Wrk.missing),
    Workload("connect", "HTTP hello, a connection per request", "close", "clients",
             functools.partial(_wrk, close=True), Wrk.missing),
    Workload("udp", "UDP echo", "udp", "datagrams under way",
             functools.partial(_own, mode="line"), OwnLoad.missing, connections=(1, 16, 128)),
    Workload("unixline", "Line echo over a Unix socket", "unixline", "connections",
             functools.partial(_own, mode="line"), OwnLoad.missing, connections=(64,), pace=0.3),
    Workload("models", "Line echo by concurrency model, 10 requests a connection", "models",
             "clients", functools.partial(_own, mode="line", per_connection=10, busy=True),
             OwnLoad.missing, connections=(1, 64), yardstick="weir, pool", pace=0.3, settles=True),
    Workload("sleep", "Line echo by a handler that sleeps 10 ms", "sleep", "clients",
             functools.partial(_own, mode="line", busy=True, patience=PATIENCE), OwnLoad.missing,
             connections=(512, 5000), pace=0.3),
    Workload("fanout", "Line echo by a server that asks another, which takes 10 ms", "ask",
             "clients", functools.partial(_own, mode="line", busy=True, patience=PATIENCE),
             OwnLoad.missing, connections=(512, 5000), pace=0.3, backend=True),
    _body("memory", "memory-64k", "HTTP, 64 KiB from memory", 1 << 16, 64),
    _body("memory", "memory-1m", "HTTP, 1 MiB from memory", 1 << 20, 16),
    _body("file", "file-64k", "HTTP, a file of 64 KiB", 1 << 16, 64),
    _body("file", "file-1m", "HTTP, a file of 1 MiB", 1 << 20, 16),
]}
SETTLE_SECONDS = 2
BARE_LOOP = next(peer for peer in PEERS if peer.name == "bare loop")
MEMORY_JOBS = ("line", "http", "memcached")


@dataclasses.dataclass
class Setting:
    """What a run is made of."""

    built: pathlib.Path
    scratch: pathlib.Path
    peers: list                         # by name, of those that are there
    rounds: int
    seconds: float
    patience: float                     # seconds; no new round of a workload begins after them
    say: typing.Callable                # progress, a line
    places: int = 0

    def peers_for(self, job):
        return [peer for peer in PEERS if peer.name in self.peers and job in peer.jobs]

    def start(self, peer, job, cpu=machine.SERVER_CPU, **more):
        self.places += 1
        folder = self.scratch / f"{self.places:03}"
        folder.mkdir()
        return Server(peer, Place(self.built, folder, job, **more), cpu)


class Contender:
    """A server in a workload, with its slices of one number of connections."""

    def __init__(self, peer):
        self.peer = peer
        self.name = peer.name
        self.backend = None
        self.server = None
        self.generator = None
        self.failed = None
        self.slices = []
        self.memory = 0

    def begin(self, setting, workload, connections):
        self.slices, self.failed, self.memory = [], None, 0
        try:
            self._start(setting, workload)
            self.generator = workload.generator(self.server, setting, connections)
            self.generator.warm()
        except Failure as failure:
            self._fail(failure)

    def _start(self, setting, workload):
        if self.server and self.server.runs():
            return
        if workload.backend and not self.backend:
            # one each: together their connections would be more than a process may have
            self.backend = setting.start(BARE_LOOP, "sleep", machine.CLIENT_CPU)
        self.server = setting.start(self.peer, workload.job, body_len=workload.body_len,
                                    backend=self.backend.address if self.backend else "")

    def stop(self):
        for server in (self.server, self.backend):
            if server:
                server.stop()

    def run(self, workload, seconds):
        if self.failed:
            return
        before = machine.cpu_seconds(self.server.pid)
        threads = machine.threads(self.server.pid) if workload.settles else 0
        try:
            load = self.generator.run(seconds * workload.pace)
        except Failure as failure:
            self._fail(failure)
            return
        if workload.settles:
            self._settle(threads)
        used = machine.cpu_seconds(self.server.pid) - before
        self.slices.append(figures.slice_of(load, used))

    def _fail(self, failure):
        """Ends the server: what it has not done yet would be done at the others' expense."""
        self.failed = str(failure)
        if self.server:
            self.server.stop()

    def _settle(self, threads):
        """What the last clients left behind is part of what they cost."""
        end = time.monotonic() + SETTLE_SECONDS
        while machine.threads(self.server.pid) > threads and time.monotonic() < end:
            time.sleep(0.01)

    def end(self):
        try:
            if self.generator and not self.failed:
                with self.generator.holding():
                    self.memory = machine.memory_bytes(self.server.pid)
        except Failure as failure:
            self._fail(failure)
        if self.generator:
            self.generator.close()
            self.generator = None

    def row(self, workload, connections, base):
        row = {"workload": workload.name, "connections": connections, "peer": self.peer.name,
               "yardstick": workload.yardstick or self.peer.yardstick,
               "server": self.server.command if self.server else ""}
        if self.failed:
            return {**row, "failed": self.failed}
        return {**row, "memory_bytes": self.memory, **figures.summary(self.slices, base)}


def run_rounds(setting, title, contenders, end, run):
    """Runs each contender in each round. No round but the first begins after the time `end`."""
    for i in range(setting.rounds):
        if i > 0 and time.monotonic() > end:
            return
        turn = i % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            setting.say(f"{title}, round {i + 1} of {setting.rounds}: {contender.name}")
            run(contender)


def run_workload(setting, workload, connections_list):
    """Yields a list of rows for each number of connections."""
    contenders = [Contender(peer) for peer in setting.peers_for(workload.job)]
    by_name = {contender.peer.name: contender for contender in contenders}
    try:
        for connections in connections_list:
            end = time.monotonic() + setting.patience
            some = [contender for contender in contenders
                    if connections <= (contender.peer.connections_max or connections)]
            try:
                for contender in some:
                    setting.say(f"{workload.title}, {workload.counted(connections)}: "
                                f"starting {contender.peer.name}")
                    contender.begin(setting, workload, connections)
                run_rounds(setting, f"{workload.title}, {workload.counted(connections)}", some, end,
                           lambda contender: contender.run(workload, setting.seconds))
                command = next((contender.generator.command for contender in some
                                if contender.generator), "")
            finally:
                for contender in some:
                    contender.end()
            rows = []
            for contender in some:
                base = by_name.get(workload.yardstick or contender.peer.yardstick)
                row = contender.row(workload, connections,
                                    base.slices if base and not base.failed else [])
                rows.append({**row, "generator": command})
            yield rows
    finally:
        for contender in contenders:
            contender.stop()


def run_memory(setting, count):
    """What an idle connection takes: a row for each server and job, each started for it alone."""
    rows = []
    for job in MEMORY_JOBS:
        for peer in setting.peers_for(job):
            if peer.variant:
                continue
            setting.say(f"Memory of {count} idle connections: {peer.name}")
            row = {"job": job, "peer": peer.name, "connections": count}
            try:
                rows.append({**row, **_memory(setting, peer, job, count)})
            except Failure as failure:
                rows.append({**row, "failed": str(failure)})
    return rows


def _memory(setting, peer, job, count):
    with setting.start(peer, job) as server:
        Idle(server.port, job, 1).close()       # what the first one brings is nobody's share
        before = machine.memory_bytes(server.pid)
        with contextlib.closing(Idle(server.port, job, count)):
            after = machine.memory_bytes(server.pid)
    return {"before_bytes": before, "after_bytes": after,
            "bytes_per_connection": (after - before) / count}
