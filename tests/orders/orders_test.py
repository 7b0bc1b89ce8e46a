#!/usr/bin/env python3
"""Explores every scenario, and then each again with one memory order of the code weakened.

As the code is, all hold. Weakened, one must break: an order that nobody misses is stronger than it
has to be, or no scenario reaches what needs it. KEPT has those that stay nevertheless, and why.
Prints its results in the form of Python's unittest.
"""
import collections
import os
import subprocess
import sys

NAMES = {0: "relaxed", 2: "acquire", 3: "release", 4: "acq_rel", 5: "seq_cst"}
RELAXED, ACQUIRE, RELEASE, ACQ_REL, SEQ_CST = NAMES

# One step down from each order, by what the operation can do.
WEAKER = {
    "load": {SEQ_CST: [ACQUIRE], ACQUIRE: [RELAXED]},
    "store": {SEQ_CST: [RELEASE], RELEASE: [RELAXED]},
}
WEAKER["change"] = WEAKER["swap"] = WEAKER["fence"] = {
    SEQ_CST: [ACQ_REL], ACQ_REL: [ACQUIRE, RELEASE], ACQUIRE: [RELAXED], RELEASE: [RELAXED]}

# (function, operation, order, weaker order): why it stays.
KEPT = {
    ("connection_ready", "swap", ACQ_REL, ACQUIRE):
        "what the waker did reaches the next owner by the message or the queue as well",
    ("connection_requeue", "change", RELEASE, RELAXED):
        "the queue that it goes into next hands on the same",
    ("connection_start", "change", ACQUIRE, RELAXED):
        "the queue or the batch that it comes from has handed on the same",
    ("leave_running", "change", ACQUIRE, RELAXED):
        "the edge's bytes are the kernel's, which orders them itself",
    ("leave_waiting", "swap", SEQ_CST, ACQ_REL):
        "a drain has a fence of its own before its walk; the same instruction on x86-64 and ARM",
    ("pool_drain", "store", SEQ_CST, RELEASE):
        "the fence behind it does the same; it is the store of the pair that crew_draining() names",
    ("quota_take", "swap", SEQ_CST, ACQ_REL):
        "the look of quota_count() orders what it relies on",
    ("wake_if_asleep", "change", ACQ_REL, ACQUIRE):
        "its callers' fence releases as well; one that passes a call on has none, but whoever then "
        "misses the push looks once more behind a fence of its own, before it sleeps",
    ("wake_if_asleep", "change", ACQ_REL, RELEASE):
        "a waker looks at nothing that the sleeper did",
    ("worker_take_from_batch", "change", ACQ_REL, ACQUIRE):
        "whoever takes leaves nothing that the next one to fill the slot looks at",
}

WEAKENED_MOST = "2000000"       # executions of a scenario: a fault shows within the first thousands


def run(program, arguments):
    return subprocess.run([program, *arguments], stdout=subprocess.PIPE, text=True, check=False)


def functions_of(program, offsets):
    """The function of each offset, inlined ones too. A call's return address lies behind it."""
    said = subprocess.run(
        ["addr2line", "-f", "-e", program, "-i", "-a", *(hex(int(o, 16) - 1) for o in offsets)],
        stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return [(said[i + 1], said[i + 2]) for i, line in enumerate(said) if line.startswith("0x")]


def read_sites(output, program):
    """Of each operation in the code: where the compiler has put it, and what passes it there."""
    found = [line.split()[1:] for line in output.splitlines()
             if line.startswith("site ") and not line.startswith("site litmus_")]
    sites = collections.defaultdict(lambda: (set(), []))
    for (scenario, offset, order, kind), (function, line) in zip(
            found, functions_of(program, [site[1] for site in found])):
        offsets, scenarios = sites[function, line.split(" ")[0], kind, int(order)]
        offsets.add(offset)
        if scenario not in scenarios:
            scenarios.append(scenario)
    return sites


def breaks(program, offsets, weaker, scenarios):
    weaken = [word for offset in sorted(offsets) for word in ("--weaken", f"{offset}={weaker}")]
    return run(program, ["--most", WEAKENED_MOST, *weaken, *scenarios]).returncode != 0


def main(program):
    ended = run(program, ["--sites"])
    counts = [line.split() for line in ended.stdout.splitlines() if line.endswith(" executions")]
    print("\n".join(line for line in ended.stdout.splitlines() if not line.startswith("site ")))
    if ended.returncode != 0:
        print("FAILED (failures=1)")
        return 1
    size = {words[0][:-1]: int(words[1]) for words in counts}
    failed, tried, kept = 0, 0, set()
    for (function, line, kind, order), (offsets, scenarios) in sorted(read_sites(
            ended.stdout, program).items()):
        for weaker in WEAKER[kind].get(order, []):
            tried += 1
            key = (function, kind, order, weaker)
            what = f"{function}: {kind}, {NAMES[weaker]} for {NAMES[order]}"
            if breaks(program, offsets, weaker, sorted(scenarios, key=size.get)):
                print(f"{what}: a scenario breaks")
                if key in KEPT:
                    print(f"  but KEPT says that none would: {KEPT[key]}")
                    failed += 1
            elif key in KEPT:
                print(f"{what}: nothing breaks: {KEPT[key]}")
                kept.add(key)
            else:
                print(f"{what}: NOTHING BREAKS ({line})")
                failed += 1
    for key in KEPT.keys() - kept:
        print(f"KEPT has {key}, which no scenario passes")
        failed += 1
    print(f"Ran {len(counts) + tried} tests")
    print(f"FAILED (failures={failed})" if failed else "OK")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(os.environ.get("ORDERS") or sys.argv[1]))
