#!/usr/bin/env python3
"""Shows that the simulation finds faults: builds it with one fault at a time, and counts the seeds.

Each mutant replaces a piece of the engine's text, which must be there exactly once. A mutant that
no seed finds within the limit fails the script.

    mutants.py [--seeds N] [--plain] [PART-OF-A-NAME...]

By default all of them, with 1000 seeds each at most, or more for those of SEEDS. --plain: runs have the features that their
seeds say, and no others.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# Those that few runs can show: what each run has, besides what its seed says, and what it has not
# (-), be it for speed.
FEATURES = {
    "no last look at a deadline": "timeouts,pauses,places",
    "a deadline resumes a task that is ready already": "timeouts,options,preemption,pauses",
    "who keeps does not look for a drain":
        "stop,pauses,places,-big,-waits,-modes,-http,-datagrams,-files,-upstream,-memory,-calls,"
        "-timeouts,-submit,-cancel,-unix",
    "a drain walks before it says so": "stop,pauses,places",
    "a drain that begins behind the last look": "stop,preemption,pipelining",
    "a drain that begins behind the look at an idle client": "stop,stalls,pipelining",
    "a file has a time of its own behind what was gathered": "big,pipelining,timeouts,files",
    "who was not held has the time of a write anew": "big,pipelining,timeouts,pauses",
    "no grace period": "stalls,preemption,stop",
    "nobody lingers": "big,departures,pipelining",
    "a wait for room uses no credit up": "timeouts,pauses,big",
    "the cancel does not wake workers": "cancel",
    "an acceptor forgets who waits after a batch": "rush",
    "a side door is shut and nobody told": "rush,limits",
    "room is asked for behind the look":
        "limits,acceptors,places,-big,-waits,-modes,-http,-datagrams,-files,-upstream,-memory,"
        "-calls,-timeouts,-submit",
    "a read has no time of its own": "http,timeouts,pauses",
    "a write has no time of its own": "http,timeouts,pauses,big",
    "a wait without a time of its own minds no request's": "http,timeouts,pauses",
    "HTTP: a late read is a failure of its callback's": "http,timeouts,pauses",
    "who closes looks who waits for room before it counts": "rush,limits,preemption",
    "an acceptor that finds a place taken in vain does not ask again": "limits,datagrams,rush",
    "who gives a place back that was taken in vain tells nobody": "limits,datagrams,rush",
    "a call that is not passed on": "waits,rush",
    "a further acceptor's late stop is for the next serving": "again,acceptors",
    "each piece of a head begins its time anew": "timeouts,pauses,pipelining,-places,-stalls,-time",
    "who is idle has twice the time": "timeouts,pauses,-places,-time,-stalls,-again",
    "a file's second piece is its first once more": "files,big",
    "a deadline is taken for a connect's success": "upstream",
    "a refusal behind the look at the error is not heard": "upstream",
    "a read that stops behind descriptors counts as the last": "unix",
    "shared: who has given up takes nothing that is on its way": "share,preemption",
    "shared: who has given up stays in the list": "share",
    "shared: a lock that is handed over is free as well": "share",
    "shared: what is handed over wakes whom its deadline has woken": "share,preemption",
    "shared: readers behind a writer that has given up wait on": "share",
    "shared: a fiber of another worker is woken here": "share,preemption",
    "a message wakes one fiber of a family": "children,options,big",
    "an event that does not concern a fiber leaves it unparked": "children,big,pauses",
    "a fiber's deadline ends the wait of the other one, too": "children,big,pauses,timeouts",
}

# Those that one run in thousands shows: how many seeds, where there are not more by --seeds.
SEEDS = {
    "room is asked for behind the look": 20000,
    "who keeps does not look for a drain": 10000,
}

# Name, file, the text, and what is there instead.
MUTANTS = [
    ("sleep without a look at the queue", "engine/pool/worker.c",
     "return !ready_queue_empty(&worker->crew->handoff.queue) || !inbox_empty(&worker->inbox) ||",
     "return !inbox_empty(&worker->inbox) ||"),
    ("sleep without a look at the inbox", "engine/pool/worker.c",
     "return !ready_queue_empty(&worker->crew->handoff.queue) || !inbox_empty(&worker->inbox) ||",
     "return !ready_queue_empty(&worker->crew->handoff.queue) ||"),
    ("announce the sleep behind the look", "engine/pool/worker.c",
     """    handoff_sleep(handoff, worker->index);
    if (!something_to_do(worker))
        timeout_ms = clock_timeout_ms(next_ms(worker), now_ns / 1000000);
""", """    if (!something_to_do(worker))
        timeout_ms = clock_timeout_ms(next_ms(worker), now_ns / 1000000);
    handoff_sleep(handoff, worker->index);
"""),
    ("a message without a wake-up", "engine/pool/worker.c",
     "    handoff_wake(&worker->crew->handoff, worker->index);\n", ""),
    ("put without a call", "engine/accept/acceptor.c",
     "    if (admitted > 0)\n        pool_call_workers(acceptor->pool, admitted);\n}\n\n/* When",
     "    (void)admitted;\n}\n\n/* When"),
    ("a call that is not passed on", "engine/pool/worker.c",
     "    if (worker->called)\n        handoff_pass_on(&worker->crew->handoff);\n", ""),
    ("an edge at a running connection is dropped", "engine/pool/connection.c",
     "            to = word | READY;\n", "            to = word;\n"),
    ("the mark is looked at before the exchange alone", "engine/pool/connection.c",
     """    for (;;) {
        if (WEIR_UNLIKELY(word & READY)) {""",
     """    for (bool first = true;; first = false) {
        if (first && WEIR_UNLIKELY(word & READY)) {"""),
    ("a start takes the marks off", "engine/pool/connection.c",
     """    atomic_fetch_add_explicit(&conn->state, CONNECTION_RUNNING - CONNECTION_QUEUED,
                              memory_order_acquire);""",
     "    atomic_store_explicit(&conn->state, CONNECTION_RUNNING, memory_order_release);"),
    ("input that came in a wait for room is not looked at", "engine/stream/rfile.c",
     """    if (WEIR_UNLIKELY(!req->conn->drained))
        return 0;
    make_small""", "    make_small"),
    ("no last look at a deadline", "engine/stream/rfile.c",
     "    if (reading->late)\n        req->conn->drained = false;\n", ""),
    ("a full read counts as the last", "engine/stream/rfile.c",
     "conn->drained = (size_t)n < room;", "conn->drained = (size_t)n <= room;"),
    ("a task that was woken elsewhere does not read again", "engine/pool/dispatch.c",
     "    (void)worker;\n    conn->drained = false;\n", "    (void)worker;\n"),
    ("a task that was woken here does not read again", "engine/pool/dispatch.c",
     "        conn->drained = false;\n        task_unpark(task, 0);", "        task_unpark(task, 0);"),
    ("a deadline resumes a task that is ready already", "engine/pool/worker.c",
     """        if (leave_wait(task))
            task_unpark(task, -ETIMEDOUT);""",
     """        leave_wait(task);
        task_unpark(task, -ETIMEDOUT);"""),
    ("a message wakes one fiber of a family", "engine/pool/dispatch.c",
     "        family_wake(conn, FAMILY_ANY_EVENT);\n", "        family_wake(conn, EPOLLOUT);\n"),
    ("an event that does not concern a fiber leaves it unparked", "engine/pool/family.c",
     "    if (*waiting && !connection_park(conn))\n        wake_concerned", "    if (0)\n        wake_concerned"),
    ("a fiber's deadline ends the wait of the other one, too", "engine/pool/family.c",
     "    bool alone = *waiting_for(conn) == task && !task->beside;\n", "    bool alone = true;\n"),
    ("a drain walks before it says so", "engine/pool/pool.c",
     """    atomic_store_explicit(&pool->crew.order, CREW_DRAINS, memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst);
    if (pool->crew.drain_fd >= 0)
        sys_eventfd_signal(pool->crew.drain_fd);
    crew_queue_idle(&pool->crew, NULL, NULL);
""", """    crew_queue_idle(&pool->crew, NULL, NULL);
    atomic_store_explicit(&pool->crew.order, CREW_DRAINS, memory_order_seq_cst);
"""),
    ("who keeps does not look for a drain", "engine/pool/worker.c",
     "    if (WEIR_UNLIKELY(crew_draining(worker->crew)))\n        crew_queue_idle(worker->crew, NULL, NULL);\n", ""),
    ("room is asked for behind the look", "engine/accept/resting.c",
     """    pool_want_room(acceptor->pool);
    /* One that was closed just before we asked told nobody. */
    wake_those_with_room(acceptor);
}

void acceptor_wake_in_time""",
     """    pool_want_room(acceptor->pool);
}

void acceptor_wake_in_time"""),
    ("who closes looks who waits for room before it counts", "engine/pool/connection.c",
     """    left = atomic_fetch_sub_explicit(&quota->count, n, memory_order_seq_cst) - n;
    below = atomic_load_explicit(&table->room_below, memory_order_seq_cst);""",
     """    below = atomic_load_explicit(&table->room_below, memory_order_seq_cst);
    left = atomic_fetch_sub_explicit(&quota->count, n, memory_order_seq_cst) - n;"""),
    ("no grace period", "engine/sync/reclaim.c",
     "    pthread_mutex_lock(&grace);\n    urcu_memb_synchronize_rcu();\n    while (head) {",
     "    pthread_mutex_lock(&grace);\n    while (head) {"),
    ("the reclaimer is not woken", "engine/sync/reclaim.c",
     "    if (!first)\n        sem_post(&work);\n", ""),
    ("a job without a signal", "engine/pool/offload.c",
     "        offload->waiting++;\n        pthread_cond_signal(&offload->work);", "        offload->waiting++;"),
    ("an offload thread counts as resting for one job more", "engine/pool/offload.c",
     "    if (offload->waiting >= offload->idle &&", "    if (offload->waiting > offload->idle &&"),
    ("a rescuer keeps the worker's wake-up", "engine/pool/dispatch.c",
     "    if (tokens & DISPATCH_WAKE)\n        sys_eventfd_signal(crew->handoff.wake_fds[stuck->index]);\n", "    (void)tokens;\n"),
    ("a short send is taken for all", "engine/stream/wfile.c",
     "    if (WEIR_UNLIKELY(n != (ssize_t)req->wfile.len))\n        return send_rest(req, n, flags);",
     "    if (WEIR_UNLIKELY(n < 0))\n        return send_rest(req, n, flags);"),
    ("no EPOLLOUT", "engine/pool/connection.c",
     "    if (conn->home == set && (conn->watched & events) == events)\n        return 0;",
     "    if (conn->home == set)\n        return 0;"),
    ("nobody lingers", "engine/stream/linger.c",
     "    if (WEIR_LIKELY(!may_lose(req)) || !may_wait(req->task))\n        return;",
     "    if (req)\n        return;"),
    ("the cancel does not wake workers", "engine/pool/pool.c",
     """    sys_eventfd_signal(pool->crew.table.room_fd);
    handoff_wake_all(&pool->crew.handoff);""",
     "    sys_eventfd_signal(pool->crew.table.room_fd);"),
    ("a descriptor is closed before its connection leaves the table", "engine/pool/connection.c",
     """void connection_close(struct connection_table *table, struct connection *conn)
{
    take_out_of_table(table, conn);
""", """void connection_close(struct connection_table *table, struct connection *conn)
{
"""),
    ("an acceptor forgets who waits after a batch", "engine/accept/acceptor.c",
     "        if (listening->state == LISTENING_READY)\n            return 0;\n", ""),
    ("a side door is shut and nobody told", "engine/pool/side_door.c",
     "    shut_locked(door);\n    sys_eventfd_signal(door->config.call_fd);", "    shut_locked(door);"),
    ("a timer ends a millisecond early", "engine/stream/request.c",
     "    uint64_t until_ms = clock_ms() + ms + 1;\n    uint64_t limit_ms = request_root",
     "    uint64_t until_ms = clock_ms() + ms;\n    uint64_t limit_ms = request_root"),
    ("an acceptor that finds a place taken in vain does not ask again", "engine/accept/resting.c",
     "        if (quota_lacks(listening->endpoint->quota))\n            all = false;",
     "        if (quota_is_used_up(listening->endpoint->quota))\n            all = false;"),
    ("who gives a place back that was taken in vain tells nobody", "engine/pool/connection.c",
     "    if (atomic_exchange_explicit(&quota->lacked, false, memory_order_relaxed))\n"
     "        sys_eventfd_signal(table->room_fd);",
     "    atomic_store_explicit(&quota->lacked, false, memory_order_relaxed);"),
    ("a drain looks only at what is buffered", "engine/stream/serve.c",
     "        rfile_let_go(req);\n        req->conn->drained = false;\n", ""),
    ("a drain that begins behind the last look", "engine/stream/serve.c",
     "    } while (has_last_input(req));", "    } while (false);"),
    ("a drain that begins behind the look at an idle client", "engine/stream/serve.c",
     "return may_serve_the_last(req) ? look_for_input(req) : -EAGAIN;", "return -EAGAIN;"),
    ("a file has a time of its own behind what was gathered", "engine/stream/wfile.c",
     "    r = flush_before(req, &file, waits ? MSG_MORE : 0);",
     "    r = flush_before(req, &(struct sending){ 0 }, waits ? MSG_MORE : 0);"),
    ("who was not held has the time of a write anew", "engine/stream/wfile.c",
     "now_ms >= writing->deadline_ms + REQUEST_HELD_MS &&", "now_ms >= writing->deadline_ms &&"),
    ("a further acceptor's late stop is for the next serving", "engine/server/serving.c",
     "        acceptor_forget_stop(&server->acceptors[i]);\n", ""),
    ("each piece of a head begins its time anew", "engine/stream/patience.c",
     "    if (req->rfile.timing & TIMING_HEAD)\n        return req->patience.head_until_ms;\n", ""),
    ("a wait for room uses no credit up", "engine/stream/patience.c",
     "    req->patience.credit -= used < req->patience.credit ? used : req->patience.credit;\n",
     "    (void)used;\n"),
    ("a read has no time of its own", "engine/stream/rfile.c",
     "request_deadline_ms(req, timeout_ms), CONNECTION_READ_LATE",
     "request_deadline_ms(req, 0 * timeout_ms), CONNECTION_READ_LATE"),
    ("a write has no time of its own", "engine/stream/wfile.c",
     "                                                   request_timeout_ms(req, WEIR_TIMEOUT_WRITE));",
     "                                                   0);"),
    ("a wait without a time of its own minds no request's", "engine/stream/request.c",
     "    if (timeout_ms == 0)\n        return req->deadline_ms;", "    if (timeout_ms == 0)\n        return 0;"),
    ("HTTP: a late read is a failure of its callback's", "handlers/http/http.c",
     "    return error == -ETIMEDOUT ? 408 : 500;", "    return 500;"),
    ("HTTP: nobody is invited to send a body", "handlers/http/body.c",
     "        n = weir_write(body->req, line, sizeof(line) - 1);", "        n = (ssize_t)sizeof(line);"),
    ("HTTP: the search for a line's end begins behind what has come", "handlers/http/scan.c",
     "    scan->seen = (uint32_t)len;\n    status", "    scan->seen = (uint32_t)len + 1;\n    status"),
    ("HTTP: a head is not copied before a body", "handlers/http/http.c",
     "        ex->text = memcpy(ex->copy, ex->text, len);", "        memcpy(ex->copy, ex->text, len);"),
    ("HTTP: the date of the first reply stays", "handlers/http/reply.c",
     "    if (now.tv_sec != second) {", "    if (second == 0) {"),
    ("HTTP: an unread body is skipped and left there", "handlers/http/body.c",
     "        weir_consume(body->req, (size_t)n);\n", ""),
    ("HTTP: who drains says no end", "handlers/http/answer.c",
     "ex->keep && !weir_draining(ex->req) && http", "ex->keep && http"),
    ("a file's second piece is its first once more", "engine/stream/wfile.c",
     "conn, file->file_fd, file->offset + (off_t)file->done,", "conn, file->file_fd, file->offset,"),
    ("a deadline is taken for a connect's success", "engine/stream/request.c",
     "        if (r == -EALREADY)\n", "        if (r == -EALREADY)\n            r = 0;\n"
     "        if (r == -EALREADY)\n"),
    ("a refusal behind the look at the error is not heard", "engine/stream/request.c",
     "        if (r == -EISCONN)\n", "        if (r != -EALREADY)\n"),
    ("a read that stops behind descriptors counts as the last", "engine/stream/rfile.c",
     "    if (more)\n        conn->drained = false;\n", "    (void)more;\n"),
    ("who is idle has twice the time", "engine/accept/housekeeping.c",
     "since_ms + timeout_ms +", "since_ms + 2 * timeout_ms +"),
    ("shared: who has given up takes nothing that is on its way", "engine/share/wait_list.c",
     "    if (r == 0 || !withdraw_it(arg))\n        return waiter_await(waiter);\n",
     "    if (r == 0)\n        return waiter_await(waiter);\n    withdraw_it(arg);\n"),
    ("shared: who has given up stays in the list", "engine/share/wait_list.c",
     "    if (listed)\n        wait_list_take(list, entry);\n", ""),
    ("shared: a lock that is handed over is free as well", "engine/share/mutex.c",
     "next ? holder_of(next) : 0);\n    if (next)", "0);\n    if (next)"),
    ("shared: what is handed over wakes whom its deadline has woken", "engine/pool/waiter.c",
     "    if (task_is_parked(waiter->task))\n", ""),
    ("shared: readers behind a writer that has given up wait on", "engine/share/rwlock.c",
     "    if (r < 0)\n        leave_to_next(&lock->list, wait_list_enter(&lock->list));\n", ""),
    ("shared: a fiber of another worker is woken here", "engine/pool/waiter.c",
     "    if (waiter->task->worker == self)\n", "    if (self)\n"),
    ("a worker sleeps past its first timer", "engine/pool/worker.c",
     "timeout_ms = clock_timeout_ms(next_ms(worker), now_ns / 1000000);",
     "timeout_ms = clock_timeout_ms(next_ms(worker) + 5, now_ns / 1000000);"),
]


def words_of(name):
    """The list of that name in BUILD."""
    build = (HERE / "BUILD").read_text()
    return re.findall(r'"(.*?)"', re.search(rf"^{name} = \[(.*?)^\]", build, re.M | re.S)[1])


class Builder:
    """Compiles all once, and for each mutant the one file that differs; as BUILD says."""

    # As tools/bazel/repositories.bzl chooses it.
    PARSER = "llhttp" if pathlib.Path("/usr/include/llhttp.h").exists() else "http_parser"
    FLAGS = ["-std=c17", "-D_GNU_SOURCE", "-O2", "-I.", f"-DWEIR_HTTP_PARSER_{PARSER.upper()}"]
    LIBRARIES = ["-l:libboost_context.a", "-lurcu-common", f"-l:lib{PARSER}.a", "-pthread"]

    def __init__(self, folder):
        self.folder = folder
        include = folder / "include" / "weir"
        include.mkdir(parents=True)
        (include / "weir.h").symlink_to(ROOT / "engine/weir.h")
        # log_stub.c is in its place.
        sources = [path for path in ROOT.glob("engine/*/*.c") if path.name != "log.c"]
        sources += ROOT.glob("handlers/http/*.c")
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            made = pool.map(self.compile, sources + list(HERE.glob("*.c")))
            self.objects = dict(made)

    def compile(self, source, text=None):
        """The source, or this text in its place. Its name in the tree, and its object."""
        name = str(source.relative_to(ROOT))
        flags = self.FLAGS + [f"-I{self.folder}/include"]
        flags += words_of("_INSTRUMENTED") if name.startswith(("engine/", "handlers/")) else []
        object_file = self.folder / ((name if text is None else "mutant") + ".o").replace("/", "_")
        subprocess.run(["gcc", *flags, "-w", "-x", "c", "-c", "-o", object_file, "-"], cwd=ROOT,
                       input=text or source.read_text(), text=True, check=True)
        return name, object_file

    def link(self, changed):
        program = self.folder / "simulation"
        objects = {**self.objects, **changed}
        wraps = ["-Wl,--wrap=" + name for name in words_of("_WRAPPED")]
        subprocess.run(["gcc", "-o", program, *objects.values(), *wraps, *self.LIBRARIES],
                       check=True)
        return program

    def mutant(self, name, path, old, new):
        text = (ROOT / path).read_text()
        if text.count(old) != 1:
            sys.exit(f"mutants.py: {name}: the text is {text.count(old)} times in {path}")
        return self.link(dict([self.compile(ROOT / path, text.replace(old, new))]))


def named(program, why):
    """What a run says, and the function instead of a place that it has crashed at."""
    place = re.search(r"at place (0x[0-9a-f]+)", why)
    if not place:
        return why
    function = subprocess.run(["addr2line", "-f", "-e", program, place[1]], check=True,
                              stdout=subprocess.PIPE, text=True).stdout.splitlines()[0]
    return f"it crashes: {why.replace(place[0], 'in ' + function)}"


def seeds_until_found(program, seeds, features):
    """How many seeds until one fails, and what it says; or None."""
    words = features.split(",") if features else []
    forced = []
    for option, some in (("--with", [word for word in words if word[0] != "-"]),
                         ("--without", [word[1:] for word in words if word[0] == "-"])):
        forced += [option, ",".join(some)] if some else []
    run = subprocess.run([program, "--seed", "1", "--runs", str(seeds), "--failures", "1",
                          "--events", "0", "--jobs", str(min(os.cpu_count(), 16)), *forced],
                         stdout=subprocess.PIPE, text=True, errors="replace", check=False)
    found = re.search(r"^seed (\d+): (.*)$", run.stdout, re.M)
    return (int(found[1]), named(program, found[2])) if found else None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("names", nargs="*")
    args = parser.parse_intermixed_args()
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        builder = Builder(pathlib.Path(folder))
        for mutant in MUTANTS:
            if args.names and not any(part in mutant[0] for part in args.names):
                continue
            seeds = max(args.seeds, SEEDS.get(mutant[0], 0))
            found = seeds_until_found(builder.mutant(*mutant), seeds,
                                      None if args.plain else FEATURES.get(mutant[0]))
            print(f"{mutant[0]}: " + (f"seed {found[0]}: {found[1]}" if found else "NOT FOUND"),
                  flush=True)
            missed += found is None
    return missed > 0


if __name__ == "__main__":
    sys.exit(main())
