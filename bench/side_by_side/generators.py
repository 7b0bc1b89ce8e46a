"""The generators of load: wrk for HTTP, our own for lines and datagrams, and clients that idle.

A generator stays on the clients' CPU. Every answer is checked, by wrk only its status.
"""

import contextlib
import json
import pathlib
import select
import shutil
import socket
import subprocess
import time

from side_by_side import machine
from side_by_side.figures import LATENCIES
from side_by_side.servers import Failure

WARM_SECONDS = 0.2
LONG = 200              # of a word of a command that is shown

# what wrk's own summary lacks: p99.9, and figures that need no parsing
WRK_SCRIPT = """
local depth = %d

init = function(args)
    local requests = {}
    for i = 1, depth do
        requests[i] = wrk.format()
    end
    batch = table.concat(requests)
end

if depth > 1 then
    request = function()
        return batch
    end
end

done = function(summary, latency, requests)
    local e = summary.errors
    print(string.format(
        '{"requests": %%d, "seconds": %%f, "p50_us": %%f, "p99_us": %%f, "p999_us": %%f, '
        .. '"connect": %%d, "read": %%d, "write": %%d, "status": %%d, "timeout": %%d}',
        summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
        latency:percentile(99.9), e.connect, e.read, e.write, e.status, e.timeout))
end
"""

# as apache2 does when it has no thread for a connection; of all requests
CLOSED_SHARE = 0.1
LOCAL_PORTS = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
PORTS_SPARE = 1000      # of an address, for others
WRK_ERRORS = ("connect", "read", "write", "status", "timeout")


def too_many_closed(server, load, closed):
    return closed > (load["requests"] * CLOSED_SHARE if server.peer.may_close else 0)


class Wrk:
    """wrk, anew for each run."""

    def __init__(self, server, scratch, connections, depth=1, close=False):
        script = scratch / f"depth_{depth}.lua"
        script.write_text(WRK_SCRIPT % depth, encoding="ascii")
        self.server = server
        self.connections = connections
        self.keeps = not close
        self.depth = depth
        self.argv = ["wrk", "-t1", f"-c{connections}", "-s", script,
                     *(["-H", "Connection: close"] if close else []),
                     f"http://127.0.0.1:{server.port}/"]
        self.command = " ".join(map(str, self.argv))

    @staticmethod
    def missing(_):
        return None if shutil.which("wrk") else \
            "Debian's package wrk is not installed (tools/bench --install)"

    def warm(self):
        end = time.monotonic() + WARM_SECONDS
        while True:
            Idle(self.server.port, "http", self.connections).close()
            if time.monotonic() > end:
                return

    def run(self, seconds):
        """wrk knows whole seconds only."""
        argv = [self.argv[0], f"-d{max(1, round(seconds))}s", *self.argv[1:]]
        done = subprocess.run(machine.pinned(machine.CLIENT_CPU, argv), text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode != 0 or not lines:
            raise Failure(f"wrk failed: {done.stdout.strip()}")
        load = json.loads(lines[-1])
        errors = {kind: load[kind] for kind in WRK_ERRORS if load[kind]}
        closed = errors.pop("read", 0)
        if errors or too_many_closed(self.server, load, closed):
            raise Failure(f"wrk saw {load['requests']} answers, {closed} connections closed, "
                          f"other errors: {errors or 'none'}")
        if self.depth > 1:
            # wrk corrects a batch's latency by the interval between requests, which makes nonsense
            load.update(dict.fromkeys(LATENCIES))
        return {**load, "lost": 0, "closed": closed}

    @contextlib.contextmanager
    def holding(self):
        """wrk's connections are gone: others take their place."""
        with contextlib.closing(
                Idle(self.server.port, "http", self.connections if self.keeps else 0)):
            yield

    def close(self):
        pass


def ports_per_address():
    """From an address the kernel finds half of the ports at once, and searches for the rest."""
    least, greatest = map(int, LOCAL_PORTS.read_text().split())
    return (greatest - least) // 2 - PORTS_SPARE


def addresses(count, network):
    """Of the loopback interface, enough for so many connections to one server."""
    return [f"127.{network}.{i // 250}.{1 + i % 250}"
            for i in range(-(-count // ports_per_address()))]


class OwnLoad:
    """tools/load, with connections that stay from run to run, unless they end before."""

    def __init__(self, server, built, connections, mode, body_len=0, per_connection=0,
                 busy=False, patience=0, depth=1, stalled=0, network=0, cpu=machine.CLIENT_CPU,
                 line_len=0, target_len=0):
        how = []
        if body_len:
            how += ["--path", "/body", "--size", body_len]
        if line_len:
            how += ["--size", line_len]
        if target_len:
            how += ["--path", f"/?{'x' * (target_len - 2)}"]
        if per_connection:
            how += ["--per-connection", per_connection, "--client-closes"]
        if patience:
            how += ["--timeout", patience * 1000]
        if depth > 1:
            how += ["--in-flight", depth]
        if stalled:
            how += ["--stalled", stalled]
        sources = addresses(connections + stalled, network)
        if network or len(sources) > 1:
            how += ["--source", ",".join(sources)]
        argv = [built / "bench/load_main", "--connections", connections, *how, mode,
                server.address]
        self.server = server
        self.busy = busy            # memory is that under load
        self.command = " ".join(word if len(word) <= LONG else f"{word[:LONG]}..."
                                for word in map(str, argv))
        self.process = subprocess.Popen(
            machine.pinned(cpu, argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)

    @staticmethod
    def missing(built):
        return None if (built / "bench/load_main").exists() else "bench/load_main is not built"

    def warm(self):
        self.run(WARM_SECONDS)

    def run(self, seconds):
        self.begin(seconds)
        return self._result()

    def begin(self, seconds):
        """It asks meanwhile, and tells when it is asked for the end."""
        try:
            self.process.stdin.write(f"{round(seconds * 1000)}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass        # it has something to say

    def end(self, patience=None):
        """What it says, unjudged. patience: seconds; None: it ends by itself."""
        if not select.select([self.process.stdout], [], [], patience)[0]:
            raise Failure(f"the generator was not done after {patience:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise Failure(f"the generator ended: {self.process.stderr.read().strip()}")
        return json.loads(line)

    def _result(self):
        load = self.end()
        if (load["errors"] > load["closed"] or load["requests"] == 0
                or too_many_closed(self.server, load, load["closed"])):
            raise Failure(f"{load['errors']} errors beside {load['requests']} requests, the first: "
                          f"{load['first_error']}")
        return load

    @contextlib.contextmanager
    def holding(self):
        """A time at which the connections are there, and idle unless they are to be busy."""
        if self.busy:
            self.begin(2 * WARM_SECONDS)
            time.sleep(WARM_SECONDS)
        yield
        if self.busy:
            self._result()

    def close(self):
        self.process.terminate()        # the end of its input would let it finish a run
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.stderr.close()


REQUESTS = {
    "line": (b"a line of 32 bytes, as elsewhere\n", b"a line"),
    "http": (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"HTTP/1.1 200 "),
    "memcached": (b"mn\r\n", b"MN\r\n"),
}


class Idle:
    """Clients that have each had one request answered and then keep their connection, silent."""

    def __init__(self, port, job, count):
        request, answer = REQUESTS[job]
        self.clients = []
        try:
            for _ in range(count):
                client = socket.create_connection(("127.0.0.1", port), timeout=5)
                self.clients.append(client)
                client.sendall(request)
                if not client.recv(4096).startswith(answer):
                    raise Failure("a wrong answer")
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise Failure(f"connection {len(self.clients)} of {count}: {error}") from error
            raise

    def close(self):
        for client in self.clients:
            client.close()


class ClosedLoop:
    """`weir load` for a while. how: what else it is to be told."""

    def __init__(self, server, setting, seconds, connections, *how, cpu=machine.ALL_CPUS):
        argv = [setting.built / "tools/weir", "load", server.address, *how,
                "--connections", connections, "--duration", f"{round(seconds * 1000)}ms",
                "--json", "-"]
        self.command = " ".join(map(str, argv))
        self.process = subprocess.Popen(machine.pinned(cpu, argv), text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def said(self):
        """What it says, unjudged."""
        said, wrong = self.process.communicate()
        if not said:
            raise Failure(f"weir load failed: {wrong.strip()}")
        return json.loads(said)

    def end(self):
        load = self.said()
        if load["errors"] or load["requests"] == 0:
            raise Failure(f"{load['errors']} errors beside {load['requests']} requests: "
                          f"{', '.join(load['errors_by_kind'])}")
        return load

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


class Arrivals(ClosedLoop):
    """The same at a constant rate, whatever the server does."""

    def __init__(self, server, setting, seconds, rate, connections, *how, cpu=machine.ALL_CPUS):
        super().__init__(server, setting, seconds, connections, *how,
                         "--rate", max(1, round(rate)), cpu=cpu)
