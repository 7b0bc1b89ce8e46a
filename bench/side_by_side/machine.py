"""The machine: its CPUs, what processes take of it, and whether others took of it meanwhile."""

import os
import pathlib
import platform
import re
import time

CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU = CPUS[0]
CLIENT_CPU = CPUS[-1]
ALL_CPUS = ",".join(map(str, CPUS))
TICK = 1 / os.sysconf("SC_CLK_TCK")

# a share of all CPUs' time beyond which a run deserves a warning
BUSY = 0.05
STOLEN = 0.01


def pinned(cpu, argv):
    """The command that keeps another on a CPU or several, and ends it with us in any case."""
    return ["setpriv", "--pdeathsig", "KILL", "taskset", "-c", str(cpu), *map(str, argv)]


def children(pid):
    found = []
    try:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        pass        # it, or one of its threads, has just ended
    return found


def tree(pid):
    """A process and all that descend from it."""
    return [pid] + [process for child in children(pid) for process in tree(child)]


def threads(pid):
    """How many threads a process and all its descendants have."""
    count = 0
    for process in tree(pid):
        try:
            count += len(os.listdir(f"/proc/{process}/task"))
        except OSError:
            pass
    return count


def _reaped_seconds(pid):
    """What the children used that have ended, as exact as the kernel's ticks."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[13]) + int(fields[14])) * TICK


def cpu_seconds(pid):
    """The CPU time of a process and all its descendants, those that live by the scheduler's clock."""
    used = 0.0
    for process in tree(pid):
        try:
            # what clock_getcpuclockid(3) makes of a pid
            used += time.clock_gettime((~process << 3) | 2) + _reaped_seconds(process)
        except OSError:
            pass
    return used


def memory_bytes(pid):
    """Memory that a process and its descendants have to themselves, what they share counted once.

    That is Pss_Anon and Pss_Shmem: programs' and libraries' own pages do not depend on the load.
    """
    kib = 0
    for process in tree(pid):
        try:
            text = pathlib.Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        kib += sum(map(int, re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", text, re.MULTILINE)))
    return kib * 1024


class Meter:
    """Who used the CPUs from its creation on: we and our children, others, or a hypervisor."""

    def __init__(self):
        self.load_average = os.getloadavg()[0]
        self.began = self._read()

    @staticmethod
    def _read():
        user, nice, system, idle, iowait, irq, softirq, steal = map(
            int, pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
        busy = user + nice + system + irq + softirq
        return busy * TICK, (busy + idle + iowait + steal) * TICK, steal * TICK, \
            cpu_seconds(os.getpid())

    def read(self):
        busy, total, steal, ours = (now - then for now, then in zip(self._read(), self.began))
        return {
            "load_average": self.load_average,
            "others": max(0.0, busy - ours) / total if total else 0.0,
            "stolen": steal / total if total else 0.0,
        }


def warnings(usage):
    """Why the figures may be worth less than they seem, as sentences."""
    found = []
    if len(CPUS) == 1:
        found.append("One CPU: the load generator ran on the servers'.")
    if usage["others"] > BUSY:
        found.append(f"The machine was busy: others used {usage['others']:.0%} of its CPU time "
                     f"(load average {usage['load_average']:.1f} at the start).")
    if usage["stolen"] > STOLEN:
        found.append(f"The hypervisor took {usage['stolen']:.0%} of the CPU time away.")
    return found


def describe():
    def first(pattern, path, default):
        try:
            match = re.search(pattern, pathlib.Path(path).read_text(), re.MULTILINE)
        except OSError:
            match = None
        return match.group(1) if match else default

    return {
        "cpus": len(CPUS),
        "model": first(r"^model name\s*:\s*(.+)$", "/proc/cpuinfo", platform.machine()),
        "kernel": platform.release(),
        "system": first(r'^PRETTY_NAME="(.+)"$', "/etc/os-release", platform.system()),
        "server_cpu": SERVER_CPU,
        "client_cpu": CLIENT_CPU,
    }
