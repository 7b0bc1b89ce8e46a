"""weir.py - commands of gdb's for a program with weir in it: a live process, or a core file.

    (gdb) source tools/gdb/weir.py
    (gdb) weir workers          the workers: thread, where they are, how many fibers
    (gdb) weir connections      the connections: state, peer, handler
    (gdb) weir fibers           the handlers at work: state, and the backtrace of each
    (gdb) weir fibers 7         those of the connection with descriptor 7

weir has to be built with -g, as it is unless you strip it. The script calls nothing in the process
and changes nothing in it. A core file has to be one that the kernel wrote: since Linux 6.13, gdb's
own generate-core-file (gcore) leaves out the memory that fibers run on.
"""
import socket

import gdb
import gdb.unwinder

# As in engine/pool/connection.c: bits of the state word.
STATE, READY, ALERT = 7, 8, 16

# What Boost.Context's jump_fcontext leaves on a stack that it jumps away from, by architecture:
# where the address to go on at may lie, from the saved stack pointer on; what lies where, from that
# address on; and where the stack pointer will be, from that address on.
LAYOUTS = {
    "x86_64": ((0x40, 0x38), {"rbp": -0x8, "rbx": -0x10, "r15": -0x18, "r14": -0x20,
                              "r13": -0x28, "r12": -0x30}, "rip", "rsp", 8),
    "aarch64": ((0xa0,), {"x30": -0x8, "x29": -0x10, "x28": -0x18, "x27": -0x20, "x26": -0x28,
                          "x25": -0x30, "x24": -0x38, "x23": -0x40, "x22": -0x48, "x21": -0x50,
                          "x20": -0x58, "x19": -0x60}, "pc", "sp", 0x10),
}


# ---------------------------------------------------------------------- values ---------------

def number(value):
    """Of an integer or a pointer, atomic or not."""
    return int(value.cast(gdb.lookup_type("unsigned long")))


def pointer(value, tag):
    """A pointer, atomic or not, as one to a struct."""
    return gdb.Value(number(value)).cast(gdb.lookup_type(f"struct {tag}").pointer())


def text(value):
    """A string of C, or "-" for NULL."""
    address = number(value)
    if not address:
        return "-"
    return gdb.Value(address).cast(gdb.lookup_type("char").pointer()).string(errors="replace")


def word(address):
    return number(gdb.Value(address).cast(gdb.lookup_type("unsigned long").pointer()).dereference())


def state_name(value):
    """The names of the state and of the marks beside it, from a connection's state word."""
    fields = gdb.lookup_type("enum connection_state").fields()
    names = {field.enumval: field.name[len("CONNECTION_"):] for field in fields}
    return names.get(value & STATE, "?") + (" ready" if value & READY else "") + (" alert" if value & ALERT else "")


def peer_name(conn):
    """A connection's peer, as it was noted at accept."""
    family = int(conn["family"])
    host = gdb.selected_inferior().read_memory(number(conn["peer_host"].address), 16).tobytes()
    port = socket.ntohs(int(conn["peer_port"]))
    if family == socket.AF_INET:
        return f"{socket.inet_ntop(family, host[:4])}:{port}"
    if family == socket.AF_INET6:
        return f"[{socket.inet_ntop(family, host)}]:{port}"
    return "unix" if family == socket.AF_UNIX else "-"


# ---------------------------------------------------------------------- finding --------------

def threads():
    """Each thread, while it is the one that is selected."""
    before = gdb.selected_thread()
    try:
        for thread in sorted(gdb.selected_inferior().threads(), key=lambda thread: thread.num):
            thread.switch()
            yield thread
    finally:
        if before:
            before.switch()


def workers():
    """The worker that each thread is, the innermost first, and the thread."""
    for thread in threads():
        worker = pointer(gdb.parse_and_eval("self_worker"), "worker")
        while number(worker):
            yield worker, thread
            worker = worker["outer"]


def connections():
    """Every connection in the table of a worker."""
    crews = {number(worker["crew"]): worker["crew"] for worker, _ in workers()}
    for crew in crews.values():
        table = crew["table"]
        for i in range(number(table["used"])):
            conn = pointer(table["slots"][i], "connection")
            if number(conn):
                yield conn


def listed(task, link):
    while number(task):
        yield task
        task = task[link]


def tasks():
    """Every handler at work, once: its task."""
    found = {}
    for worker, _ in workers():
        for task in listed(worker["parked"], "parked_next"):
            found[number(task)] = task
        for task in listed(worker["runnable"], "next"):
            found[number(task)] = task
    for conn in connections():
        if number(conn["task"]):
            found[number(conn["task"])] = conn["task"]
    if not all(number(task["conn"]) for task in found.values()):
        raise gdb.GdbError("weir: the fibers' stacks aren't in this core file: was it written by gdb? "
                           "Let the kernel write it (ulimit -c unlimited; kill -ABRT)")
    return found.values()


# ---------------------------------------------------------------------- backtraces -----------

class Saved:
    """The registers of a fiber that has parked, from what jump_fcontext has left on its stack."""

    def __init__(self, fiber):
        arch = gdb.selected_inferior().architecture().name().split(":")[-1].replace("-", "_")
        if arch not in LAYOUTS:
            raise gdb.GdbError(f"weir: no backtrace of a fiber on {arch}: see LAYOUTS in weir.py")
        places, others, counter, stack, above = LAYOUTS[arch]
        self.context = number(fiber["context"])
        at = next((self.context + place for place in places
                   if self.is_code(word(self.context + place))), None)
        if at is None:
            raise gdb.GdbError("weir: a fiber's saved registers aren't where they are expected")
        self.registers = {name: word(at + place) for name, place in others.items()}
        self.registers[counter] = word(at)
        self.registers[stack] = at + above

    @staticmethod
    def is_code(address):
        """Of fiber.c, which alone jumps."""
        found = gdb.find_pc_line(address).symtab
        return found is not None and found.filename.endswith("fiber.c")


class Unwinder(gdb.unwinder.Unwinder):
    """Makes a parked fiber the caller of the selected thread's innermost frame, for a moment."""

    def __init__(self):
        super().__init__("weir")
        self.saved = None

    def __call__(self, pending):
        saved, self.saved = self.saved, None
        if not saved:
            return None
        pointers = gdb.lookup_type("void").pointer()
        counter = "rip" if "rip" in saved.registers else "pc"
        here = FrameId(gdb.Value(saved.context).cast(pointers), pending.read_register(counter))
        info = pending.create_unwind_info(here)
        for name, value in saved.registers.items():
            kind = pending.read_register(name).type
            info.add_saved_register(name, gdb.Value(value).cast(kind))
        return info

    def frames_of(self, fiber):
        """The frames of a parked fiber, the innermost first."""
        self.saved = Saved(fiber)
        gdb.invalidate_cached_frames()
        try:
            frame = gdb.newest_frame().older()
            while frame:
                yield frame
                frame = frame.older() if frame.name() != "trampoline" else None     # the first
        finally:
            self.saved = None
            gdb.invalidate_cached_frames()


class FrameId:
    """Of the frame that the fiber seems to have called: on the fiber's stack, below its frames."""

    def __init__(self, sp, pc):
        self.sp = sp
        self.pc = pc


def running_frames():
    frame = gdb.newest_frame()
    while frame:
        yield frame
        frame = frame.older()


def show_frames(frames):
    for level, frame in enumerate(frames):
        place = frame.find_sal()
        where = f" at {place.symtab.filename}:{place.line}" if place.symtab else ""
        gdb.write(f"    #{level:<3} {frame.name() or hex(frame.pc())}{where}\n")


# ---------------------------------------------------------------------- commands -------------

class Weir(gdb.Command):
    """What a program with weir in it is at work on: weir workers, weir connections, weir fibers."""

    def __init__(self):
        super().__init__("weir", gdb.COMMAND_STATUS, prefix=True)


class Subcommand(gdb.Command):
    def __init__(self):
        super().__init__(self.NAME, gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        self.dont_repeat()
        if not gdb.selected_inferior().threads():
            raise gdb.GdbError("weir: there is no process: start one, attach to one, or load a core")
        if not gdb.lookup_static_symbol("self_worker"):
            raise gdb.GdbError("weir: this program has no weir in it, or was built without -g")
        self.show(argument)


class Workers(Subcommand):
    """The workers: thread, handler it is in, fibers that are parked and runnable."""

    NAME = "weir workers"

    def show(self, argument):
        for worker, thread in workers():
            parked = len(list(listed(worker["parked"], "parked_next")))
            runnable = len(list(listed(worker["runnable"], "next")))
            kind = "alone" if number(worker["alone"]) else f"worker {int(worker['index'])}"
            gdb.write(f"{kind}: thread {thread.num} ({thread.ptid[1]}), in handler "
                      f"{text(worker['inside'])}, {parked} parked, {runnable} runnable, "
                      f"{number(worker['steps'])} calls, (struct worker *){hex(number(worker))}\n")


class Connections(Subcommand):
    """The connections: descriptor, state word, handler, peer."""

    NAME = "weir connections"

    def show(self, argument):
        for conn in connections():
            handler = text(conn["handler"]["name"]) if number(conn["handler"]) else "-"
            gdb.write(f"{int(conn['fd'])}: {state_name(number(conn['state']))}, handler {handler}, "
                      f"peer {peer_name(conn)}, (struct connection *){hex(number(conn))}\n")


class Fibers(Subcommand):
    """The handlers at work: weir fibers [DESCRIPTOR]. State, and the backtrace of each."""

    NAME = "weir fibers"

    def __init__(self):
        super().__init__()
        self.unwinder = Unwinder()
        gdb.unwinder.register_unwinder(None, self.unwinder, replace=True)

    def show(self, argument):
        only = int(gdb.parse_and_eval(argument)) if argument else None
        thread_of = {number(worker): thread for worker, thread in workers()}
        for task in tasks():
            if only in (None, int(task["conn"]["fd"])):
                self.show_task(task, thread_of)

    def show_task(self, task, thread_of):
        fiber = pointer(task["fiber"], "fiber")
        parked = number(fiber) and not number(fiber["scheduler"])
        conn = task["conn"]
        gdb.write(f"{int(conn['fd'])}: handler {text(conn['handler']['name'])}, "
                  f"{self.state(task, parked)}, worker {int(task['worker']['index'])}, "
                  f"(struct task *){hex(number(task))}\n")
        if parked:
            show_frames(self.unwinder.frames_of(fiber))
            return
        before, thread = gdb.selected_thread(), thread_of.get(number(task["worker"]))
        if thread:
            thread.switch()
            show_frames(running_frames())
            before.switch()

    @staticmethod
    def state(task, parked):
        if not parked:
            return "running" if number(task["fiber"]) else "on its thread's own stack"
        if not number(task["parked_link"]):
            return "runnable"
        waits_for = pointer(task["waits_for"], "connection")
        if not number(waits_for):
            return "parked: sleeps, or waits for others"
        return f"parked: waits for descriptor {int(waits_for['fd'])}"


Weir()
Workers()
Connections()
Fibers()
