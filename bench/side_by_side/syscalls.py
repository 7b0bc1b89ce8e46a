"""System calls per request, of every thread and process of a server, counted by strace.

Each call stops the server for the tracer. So it is many times slower, more requests are waiting
whenever it looks, and what it does once for all that are there (epoll_wait above all) is shared by
more of them than it is without strace. What it does for each of them stays what it is.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
import typing

from side_by_side import machine
from side_by_side.generators import OwnLoad, Wrk
from side_by_side.servers import Failure

SYSCALLS = "syscalls"
CLIENTS = 64
SECONDS = 0.5           # under wrk a whole one
PATIENCE_SECONDS = 5
SCOPE = pathlib.Path("/proc/sys/kernel/yama/ptrace_scope")


@dataclasses.dataclass(frozen=True)
class Traffic:
    name: str
    title: str
    job: str                            # what servers are started for
    generator: typing.Callable          # (server, setting)
    needs: typing.Callable              # why the generator is not there, or None


def _own(server, setting, **how):
    return OwnLoad(server, setting.built, CLIENTS, **how)


TRAFFICS = {traffic.name: traffic for traffic in [
    Traffic("line", "Line echo, 64 kept connections", "line",
            functools.partial(_own, mode="line"), OwnLoad.missing),
    Traffic("hello", "HTTP hello, 64 kept connections", "http",
            functools.partial(_own, mode="http"), OwnLoad.missing),
    Traffic("pipelined", "HTTP hello, 64 kept connections, pipelined 16 deep", "http",
            functools.partial(_own, mode="http", depth=16), OwnLoad.missing),
    Traffic("connect", "HTTP hello, a connection per request, 64 clients", "close",
            lambda server, setting: Wrk(server, setting.scratch, CLIENTS, close=True), Wrk.missing),
    Traffic("udp", "UDP echo, 64 datagrams under way", "udp",
            functools.partial(_own, mode="line"), OwnLoad.missing),
]}
JOBS = {traffic.job for traffic in TRAFFICS.values()}


def syscalls_needs():
    """Why nothing can be counted, or None."""
    if not shutil.which("strace"):
        return "Debian's package strace is not installed (tools/bench --install)"
    if os.geteuid() != 0 and SCOPE.exists() and SCOPE.read_text().strip() != "0":
        return f"strace may attach to other programs only as root, or with 0 in {SCOPE}"
    return None


def _threads(pid):
    return [thread for process in machine.tree(pid)
            for thread in pathlib.Path(f"/proc/{process}/task").iterdir()]


def _is_traced(thread):
    try:
        return "TracerPid:\t0\n" not in (thread / "status").read_text()
    except OSError:
        return True     # it has ended


@contextlib.contextmanager
def _strace(pid, summary):
    """Counts while it is entered; the summary is a file's name, and is there behind it."""
    attach = [word for process in machine.tree(pid) for word in ("-p", process)]
    tracer = subprocess.Popen(
        machine.pinned(machine.SERVER_CPU, ["strace", "-c", "-f", "-qq", "-U", "calls,name", "-o",
                                            summary, *attach]),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + PATIENCE_SECONDS
        while not all(map(_is_traced, _threads(pid))):
            if tracer.poll() is not None or time.monotonic() > end:
                raise Failure(f"strace does not attach: {_stop(tracer)}")
            time.sleep(0.01)
        yield
    finally:
        _stop(tracer)


def _stop(tracer):
    """Lets go of the server, and returns what was said."""
    if tracer.poll() is None:
        tracer.send_signal(signal.SIGINT)
    try:
        return tracer.communicate(timeout=PATIENCE_SECONDS)[1].strip()
    except subprocess.TimeoutExpired:
        tracer.kill()
        return tracer.communicate()[1].strip()
    except ValueError:
        return ""       # it was stopped before


def calls_of(summary):
    """By name, from what strace writes."""
    return {name: int(calls)
            for calls, name in re.findall(r"^\s*(\d+)\s+(\w+)\s*$", summary, re.MULTILINE)
            if name != "total"}


def _count(setting, server, traffic):
    summary = setting.scratch / "strace"
    generator = traffic.generator(server, setting)
    try:
        generator.warm()
        with _strace(server.pid, summary):
            load = generator.run(SECONDS)
    finally:
        generator.close()
    calls = calls_of(summary.read_text())
    if not calls:
        raise Failure("strace has counted nothing")
    return {"requests": load["requests"], "calls": calls, "generator": generator.command}


def _row(setting, peer, traffic):
    row = {"traffic": traffic.name, "peer": peer.name, "server": "", "generator": ""}
    try:
        with setting.start(peer, traffic.job) as server:
            row["server"] = server.command
            return {**row, **_count(setting, server, traffic)}
    except Failure as failure:
        return {**row, "failed": str(failure)}


def run_syscalls(setting, missing):
    """Yields a list of rows for each kind of traffic; adds those that are left out to missing."""
    for traffic in TRAFFICS.values():
        reason = traffic.needs(setting.built)
        if reason:
            missing.append({"workload": f"{SYSCALLS}, {traffic.name}", "reason": reason})
            continue
        rows = []
        for peer in setting.peers_for(traffic.job):
            if not peer.variant:
                setting.say(f"System calls, {traffic.title}: {peer.name}")
                rows.append(_row(setting, peer, traffic))
        if rows:
            yield rows
