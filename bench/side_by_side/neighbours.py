"""What a server's clients suffer from others: slow requests, and thousands who stall or idle.

slow: how long fast requests take while others keep the server's threads computing. Arrivals are an
open loop's: whoever has to wait is not asked less.

stalled, idle: what a server gives 64 clients while it has thousands of others, against another of
the same kind that has none. Both stay up and are loaded in turn.
"""

import contextlib
import dataclasses
import functools
import pathlib
import resource
import time
import typing

from side_by_side import figures, machine
from side_by_side.generators import Arrivals, Idle, OwnLoad, ports_per_address
from side_by_side.servers import PEERS, Failure

ACTIVE = 64

# ---------------------------------------------------------------------- slow among fast

SLOW = "slow"
SLOW_TITLE = "Slow requests among fast ones"
SLOW_SHARE = 0.01           # of requests
SLOW_MS = 10                # of CPU time: bench/burn.h
LOAD_SHARE = 0.3            # of what the yardstick can do
THREADS = 2
SLOW_CONNECTIONS = 16
SLOW_SLICES = 2             # as long as other slices: of those that are slow there are few
SLOW_LATENCIES = {"p50": "p50_us", "p90": "p90_us", "p99": "p99_us", "p99_9": "p999_us"}


def slow_rate(fast_us):
    """Requests per second: a share of what two threads can do, if a fast one takes fast_us."""
    mean_us = fast_us + SLOW_SHARE * SLOW_MS * 1000
    return LOAD_SHARE * min(THREADS, len(machine.CPUS)) * 1e6 / mean_us


class Mixed:
    """A server that is asked for both kinds of requests."""

    def __init__(self, peer, setting):
        self.peer, self.setting = peer, setting
        self.server = None
        self.failed = None
        self.slices = []
        self.commands = []
        try:
            self.server = setting.start(peer, SLOW, cpu=machine.ALL_CPUS)
            Idle(self.server.port, "http", 1).close()
        except Failure as failure:
            self.failed = str(failure)

    def fast_us(self, seconds):
        """The CPU time of a fast request when there are no others."""
        with contextlib.closing(OwnLoad(self.server, self.setting.built, ACTIVE, "http")) as load:
            load.run(0)
            before = machine.cpu_seconds(self.server.pid)
            requests = load.run(seconds)["requests"]
            return (machine.cpu_seconds(self.server.pid) - before) / requests * 1e6

    def run(self, seconds, rate):
        if self.failed:
            return
        try:
            self.slices.append(self._slice(seconds, rate))
        except Failure as failure:
            self.failed = str(failure)

    def _slice(self, seconds, rate):
        before = machine.cpu_seconds(self.server.pid)
        with contextlib.ExitStack() as stack:
            both = [stack.enter_context(contextlib.closing(Arrivals(
                self.server, self.setting, seconds, of * rate, connections, "--path", path)))
                for of, connections, path in ((1 - SLOW_SHARE, ACTIVE, "/"),
                                              (SLOW_SHARE, SLOW_CONNECTIONS, "/slow"))]
            self.commands = [arrivals.command for arrivals in both]
            fast, slow = [arrivals.end() for arrivals in both]
        used = machine.cpu_seconds(self.server.pid) - before
        return {
            "requests": fast["requests"], "slow_requests": slow["requests"],
            "rps": fast["requests_per_s"] + slow["requests_per_s"],
            "cpu_share": used / max(fast["elapsed_s"], slow["elapsed_s"]),
            **{key: fast["latency_ns"][name] / 1000 for name, key in SLOW_LATENCIES.items()},
            "slow_p50_us": slow["latency_ns"]["p50"] / 1000,
        }

    def row(self, base):
        row = {"neighbours": SLOW, "peer": self.peer.name, "yardstick": self.peer.yardstick,
               "server": self.server.command if self.server else "",
               "generator": "; ".join(self.commands)}
        if self.failed:
            return {**row, "failed": self.failed}
        spreads = {key: figures.spread(piece[key] for piece in self.slices)
                   for key in ("rps", "cpu_share", *SLOW_LATENCIES.values(), "slow_p50_us")}
        ratios = figures.ratios(self.slices, base, "p99_us")
        return {**row, **spreads, **({"ratio": figures.spread(ratios)} if ratios else {}),
                "slices": self.slices}


def slow_peers(only):
    return [peer for peer in PEERS if SLOW in peer.jobs and (not only or peer.name in only)]


def run_slow(setting, peers):
    """A row for each server; the yardstick is the first, and tells how much is asked of all."""
    with contextlib.ExitStack() as stack:
        subjects = []
        for peer in peers:
            setting.say(f"{SLOW_TITLE}: starting {peer.name}")
            subjects.append(Mixed(peer, setting))
            if subjects[-1].server:
                stack.callback(subjects[-1].server.stop)
        fine = [subject for subject in subjects if not subject.failed]
        rate = slow_rate(fine[0].fast_us(setting.seconds)) if fine else 0
        end = time.monotonic() + setting.patience
        for i in range(setting.rounds):
            if i > 0 and time.monotonic() > end:
                break
            turn = i % len(subjects)
            for subject in subjects[turn:] + subjects[:turn]:
                setting.say(f"{SLOW_TITLE}, {rate:,.0f} requests/s, round {i + 1} of "
                            f"{setting.rounds}: {subject.peer.name}")
                subject.run(setting.seconds * SLOW_SLICES, rate)
        by_name = {subject.peer.name: subject for subject in subjects if not subject.failed}
        return [{**subject.row(by_name[subject.peer.yardstick].slices
                               if subject.peer.yardstick in by_name else []), "rate": rate}
                for subject in subjects]


# ---------------------------------------------------------------------- stalled, idle

@dataclasses.dataclass(frozen=True)
class Crowd:
    """Clients who take part in nothing, and whose number is what the row is about."""

    name: str
    title: str
    stalled: bool               # with half a request; or idle, after an answer
    peers: typing.Callable      # (setting, processes): who is to bear it
    processes: int = 1          # of a server: its descriptors are each process's

    def clients_of(self, part):
        """How load_main is told of its part of them."""
        return {"connections": 0, "stalled": part} if self.stalled else {"connections": part}


def _whoever_is_there(names):
    return lambda setting, _: [peer for peer in setting.peers_for("crowd") if peer.name in names]


def _several_processes(setting, processes):
    return [dataclasses.replace(peer, name=f"{peer.name}, {processes} processes",
                                start=functools.partial(peer.start, processes=processes))
            for peer in setting.peers_for("crowd") if peer.name == "weir"]


STALLED, IDLE, IDLE_MANY = "stalled", "idle", "idle-many"
CROWDS = {crowd.name: crowd for crowd in [
    Crowd(STALLED, "Stalled clients", True,
          _whoever_is_there(("bare loop", "weir", "nginx", "apache2"))),
    Crowd(IDLE, "Idle clients of one process", False,
          _whoever_is_there(("bare loop", "weir", "nginx"))),
    Crowd(IDLE_MANY, "Idle clients of several processes", False, _several_processes, processes=6),
]}

SLICE_SHARE = 0.5           # of other workloads' slices: there are two for each round and server
ARRIVAL_SECONDS = 10        # in which a crowd has to be let in, for each 20,000
LOOK_SECONDS = 0.05         # enough to see whom a server has hung up on
PER_PROCESS = 10000         # clients of a generator
DESCRIPTORS_SPARE = 200     # a server's and a generator's own, and those of the active clients
KERNEL_BYTES = 16384        # both ends' sockets, epoll items and files: with a margin


def _number(path, which=0):
    return int(pathlib.Path(path).read_text().split()[which])


def crowd_needs(crowd, size):
    """What the machine does not allow, and how it is set, as a sentence; or None."""
    a_process = size // crowd.processes * 11 // 10 if crowd.processes > 1 else size
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if a_process + DESCRIPTORS_SPARE > hard:
        return (f"{size:,} connections take {a_process + DESCRIPTORS_SPARE:,} descriptors a "
                f"process, of which it may open {hard:,} (ulimit -Hn)")
    taken, limit = _number("/proc/sys/fs/file-nr"), _number("/proc/sys/fs/file-max")
    if taken + 2 * size + DESCRIPTORS_SPARE > limit:
        return (f"{size:,} connections have {2 * size:,} descriptors, and of {limit:,} {taken:,} "
                "are taken (sysctl fs.file-max)")
    tracked = pathlib.Path("/proc/sys/net/netfilter/nf_conntrack_max")
    if tracked.exists() and \
            _number(tracked) < size + _number(tracked.with_name("nf_conntrack_count")):
        return (f"the firewall tracks {_number(tracked):,} connections at most "
                "(sysctl net.netfilter.nf_conntrack_max)")
    if ports_per_address() < 1:
        return "clients have too few ports (sysctl net.ipv4.ip_local_port_range)"
    with open("/proc/meminfo", encoding="ascii") as lines:
        available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    if available * 1024 < size * KERNEL_BYTES:
        return (f"{size:,} connections may take {size * KERNEL_BYTES >> 20:,} MiB of the kernel's "
                f"memory, and {available >> 10:,} MiB are available")
    return None


def _check(said):
    """What a part of the crowd says."""
    cut_off = said["errors"] + said["hung_up"]
    if cut_off:
        raise Failure(f"of the crowd {cut_off} were cut off: "
                      f"{said['first_error'] or 'the server closed a connection'}")


class Side:
    """A server with its active clients, and perhaps the crowd."""

    def __init__(self, setting, peer):
        self.setting = setting
        self.server = setting.start(peer, "crowd")
        self.active = None
        self.crowd = []
        self.slices = []
        self.bytes_each = 0

    def let_in(self, crowd, size):
        Idle(self.server.port, "http", 1).close()
        before = machine.memory_bytes(self.server.pid)
        parts = -(-size // PER_PROCESS)
        for i in range(parts):
            part = size * (i + 1) // parts - size * i // parts
            self.crowd.append(OwnLoad(self.server, self.setting.built, mode="http",
                                      network=1 + i, **crowd.clients_of(part)))
        try:
            for load in self.crowd:
                load.begin(0)
            end = time.monotonic() + ARRIVAL_SECONDS * max(1, size // 20000)
            for load in self.crowd:
                _check(load.end(max(0, end - time.monotonic())))
        except Failure as failure:
            raise Failure(f"not all of them were let in ({failure}), and "
                          f"{self._what_others_get()}") from failure
        self.bytes_each = (machine.memory_bytes(self.server.pid) - before) / size

    def look_at_crowd(self, crowd):
        """Those that idle ask once more; of those that stall is seen whether they are there."""
        for load in self.crowd:
            load.begin(LOOK_SECONDS if crowd.stalled else 0)
            _check(load.end(ARRIVAL_SECONDS))

    def _what_others_get(self):
        try:
            Idle(self.server.port, "http", 1).close()
        except Failure:
            return "nobody else is served"
        return "others are served"

    def begin(self):
        self.active = OwnLoad(self.server, self.setting.built, ACTIVE, "http")
        self.active.warm()

    def run(self, seconds):
        before = machine.cpu_seconds(self.server.pid)
        load = self.active.run(seconds)
        self.slices.append(
            figures.slice_of(load, machine.cpu_seconds(self.server.pid) - before))

    def held(self):
        """Descriptors of each process that has many: how the crowd is shared."""
        counts = []
        for process in machine.tree(self.server.pid):
            with contextlib.suppress(OSError):
                counts.append(len(list(pathlib.Path(f"/proc/{process}/fd").iterdir())))
        return [count for count in counts if count > 100]

    def end(self):
        # before its clients: then the ports that rest for a while are the server's one
        self.server.stop()
        for load in [*self.crowd, *([self.active] if self.active else [])]:
            load.close()


def _crowd_row(setting, crowd, size, peer, end):
    row = {"neighbours": crowd.name, "peer": peer.name, "size": size}
    with contextlib.ExitStack() as stack:
        sides = []
        try:
            for _ in range(2):
                sides.append(Side(setting, peer))
                stack.callback(sides[-1].end)
            without, with_them = sides
            row["server"] = with_them.server.command
            with_them.let_in(crowd, size)
            row["generator"] = "; ".join(load.command for load in with_them.crowd)
            for side in sides:
                side.begin()
            for i in range(setting.rounds):
                if i > 0 and time.monotonic() > end:
                    break
                setting.say(f"{crowd.title}, {size:,}, round {i + 1} of {setting.rounds}: "
                            f"{peer.name}")
                for side in sides if i % 2 == 0 else reversed(sides):
                    side.run(setting.seconds * SLICE_SHARE)
            row["held"] = with_them.held()
            with_them.look_at_crowd(crowd)
        except Failure as failure:
            return {"server": "", "generator": "", **row, "failed": str(failure)}
    return {
        **row, "bytes_each": with_them.bytes_each,
        "kept": figures.spread(figures.ratios(with_them.slices, without.slices, "rps")),
        "cost": figures.spread(figures.ratios(with_them.slices, without.slices, "cpu_us")),
        "without": figures.summary(without.slices, []),
        "with": figures.summary(with_them.slices, []),
    }


def run_crowd(setting, crowd, size):
    """A row for each server, one after the other: two of a kind are enough at a time."""
    rows = []
    end = time.monotonic() + setting.patience
    for peer in crowd.peers(setting, crowd.processes):
        setting.say(f"{crowd.title}, {size:,}: letting them in to {peer.name}")
        rows.append(_crowd_row(setting, crowd, size, peer, end))
    return rows
