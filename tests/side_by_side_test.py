#!/usr/bin/env python3
"""tools/bench: its statistics and drawings, and the smallest bench there is, from the outside."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree
from unittest import mock

BENCH = pathlib.Path(os.environ["BENCH"]).resolve()
BUILT = pathlib.Path(os.environ.get("BUILT", "."))
sys.path.insert(0, str(BENCH.parent.parent / "bench"))

from side_by_side import (                                        # noqa: E402
    contention, figures, machine, neighbours, overload, page, plots, servers, syscalls, text,
    workloads)
from side_by_side.growth import ACTIVE, GROWTHS, Subject          # noqa: E402
from side_by_side.workloads import WORKLOADS                      # noqa: E402

TIMEOUT = 60


def piece(cpu_us, rps=1000.0, p50_us=1.0):
    return {"requests": 100, "lost": 1, "closed": 2, "rps": rps, "cpu_us": cpu_us,
            "p50_us": p50_us, "p99_us": 2.0, "p999_us": 3.0}


class Figures(unittest.TestCase):
    def test_a_spread_is_the_median_and_the_extremes(self):
        self.assertEqual(figures.spread([5, 1, 3]), {"median": 3, "least": 1, "greatest": 5})
        self.assertEqual(figures.spread(iter([1, 2])), {"median": 1.5, "least": 1, "greatest": 2})

    def test_a_ratio_is_taken_within_a_round(self):
        # the machine became half as fast meanwhile: the ratio of medians would tell 1.33
        own, base = [piece(2), piece(4), piece(4)], [piece(1), piece(2), piece(2)]
        self.assertEqual(figures.ratios(own, base, "cpu_us"), [2, 2, 2])
        drifting = figures.summary([piece(3), piece(4), piece(9)],
                                   [piece(1), piece(2), piece(3)])
        self.assertEqual(drifting["ratio"], {"median": 3, "least": 2, "greatest": 3})

    def test_rounds_without_a_yardstick_have_no_ratio(self):
        self.assertNotIn("ratio", figures.summary([piece(1)], []))
        self.assertEqual(figures.ratios([piece(1), piece(1)], [piece(0), piece(1)], "cpu_us"), [1])

    def test_a_summary_adds_what_is_counted_and_keeps_the_rounds(self):
        slices = [piece(1), piece(2)]
        result = figures.summary(slices, slices)
        self.assertEqual((result["lost"], result["closed"]), (2, 4))
        self.assertIs(result["slices"], slices)
        self.assertEqual(result["ratio"]["median"], 1)

    def test_a_latency_that_nobody_knows_is_left_out(self):
        result = figures.summary([piece(1, p50_us=None), piece(1)], [])
        self.assertNotIn("p50_us", result)
        self.assertIn("p99_us", result)

    def test_a_slice_divides_by_requests_and_by_seconds(self):
        load = {"requests": 500, "seconds": 0.25, "lost": 3, "closed": 0,
                "p50_us": 1, "p99_us": 2, "p999_us": None}
        made = figures.slice_of(load, 0.001)
        self.assertEqual((made["rps"], made["lost"], made["p999_us"]), (2000, 3, None))
        self.assertAlmostEqual(made["cpu_us"], 2)


class Syscalls(unittest.TestCase):
    def test_a_summary_is_read_without_its_frame_and_its_sum(self):
        self.assertEqual(syscalls.calls_of("""\
    calls syscall
--------- ----------------
     4242 recvfrom
        7 epoll_wait
--------- ----------------
     4249 total
"""), {"recvfrom": 4242, "epoll_wait": 7})

    def test_calls_that_are_few_are_named_together(self):
        row = {"peer": "weir", "requests": 1000,
               "calls": {"sendto": 1000, "recvfrom": 1001, "mmap": 3, "brk": 4}}
        self.assertEqual(text.syscalls_cells_of(row),
                         ["weir", "2.01", "recvfrom 1.00, sendto 1.00, others 0.01"])


class Contenders(unittest.TestCase):
    def test_who_fails_is_ended_at_once(self):
        contender = workloads.Contender(mock.Mock())
        contender.server, contender.generator = mock.Mock(pid=os.getpid()), mock.Mock()
        contender.generator.run.side_effect = servers.Failure("no answer in time")
        contender.run(WORKLOADS["line"], 1)
        contender.run(WORKLOADS["line"], 1)
        self.assertEqual(contender.failed, "no answer in time")
        contender.generator.run.assert_called_once()
        contender.server.stop.assert_called_once()


class Machine(unittest.TestCase):
    def test_the_tree_has_children_and_their_memory_and_time_count(self):
        with subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            self.assertIn(child.pid, machine.tree(os.getpid()))
            alone, both = machine.memory_bytes(child.pid), machine.memory_bytes(os.getpid())
            self.assertGreater(alone, 0)
            self.assertGreater(both, alone)
            of_child = machine.cpu_seconds(child.pid)
            self.assertGreater(of_child, 0)
            self.assertGreater(machine.cpu_seconds(os.getpid()), of_child)
            child.communicate("\n")

    def test_threads_of_all_processes_count(self):
        alone = machine.threads(os.getpid())
        self.assertGreaterEqual(alone, 1)
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
            self.assertEqual(machine.threads(os.getpid()), alone + 1)
            self.assertEqual(machine.threads(child.pid), 1)
            child.communicate(b"")
        self.assertEqual(machine.threads(child.pid), 0)

    def test_who_has_ended_uses_nothing(self):
        with subprocess.Popen(["true"]) as child:
            child.wait()
        self.assertEqual(machine.cpu_seconds(child.pid), 0)
        self.assertEqual(machine.memory_bytes(child.pid), 0)

    def test_a_quiet_run_has_no_warning_and_a_busy_one_says_why(self):
        quiet = {"load_average": 0.1, "others": 0.01, "stolen": 0.0}
        cpus = 1 if len(machine.CPUS) == 1 else 0
        self.assertEqual(len(machine.warnings(quiet)), cpus)
        busy = machine.warnings({"load_average": 3, "others": 0.4, "stolen": 0.02})
        self.assertEqual(len(busy), cpus + 2)
        self.assertIn("40%", busy[-2])


class Drawing(unittest.TestCase):
    def test_ticks_are_round_and_reach_the_greatest(self):
        for greatest in (0.7, 1, 7, 99, 12345):
            ticks = plots.round_ticks(greatest)
            self.assertEqual(ticks[0], 0)
            self.assertGreaterEqual(ticks[-1] * (1 + 1e-9), greatest)
            self.assertTrue(2 <= len(ticks) <= 7, ticks)
        self.assertEqual(plots.decades(5, 200), [1, 10, 100, 1000])
        self.assertEqual(plots.decades(10, 10), [10, 100])
        self.assertEqual(plots.steps(0.3, 12), [0.2, 0.5, 1, 2, 5, 10, 20])
        self.assertEqual(plots.steps(2, 2), [2, 5])

    def test_an_axis_puts_equal_steps_or_equal_factors_apart(self):
        for logarithmic, values in (("", (1, 2, 3)), ("x", (1, 10, 100))):
            drawn = plots.lines("title", "unit", [("a", "c1", [(x, 1) for x in values])],
                                logarithmic)
            line = xml.etree.ElementTree.fromstring(drawn).find("polyline").get("points")
            places = [float(point.split(",")[0]) for point in line.split()]
            self.assertAlmostEqual(places[1] - places[0], places[2] - places[1], 0)

    def test_a_point_shows_its_spread(self):
        drawn = plots.lines("title", "unit", [("a", "c1", [(1, 5, 4, 6), (2, 5, 4, 6)])], "xy")
        lines = xml.etree.ElementTree.fromstring(drawn).findall("line")
        self.assertEqual(len([line for line in lines if line.get("class") == "reach c1"]), 2)

    def test_labels_keep_apart_and_stay_in_order(self):
        self.assertEqual(plots.apart([], 10), [])
        places = plots.apart([0, 1, 2, 50], 10)
        self.assertEqual(places, sorted(places))
        self.assertTrue(all(after - before >= 10 for before, after in zip(places, places[1:])))

    def test_a_table_aligns_its_columns_and_lets_a_remark_run_on(self):
        lines = text.aligned(["a", "b"], [["x", "10"], ["longer"], ["y", "2"]]).splitlines()
        self.assertEqual(lines[0], "| a      |  b |")
        self.assertEqual(lines[2], "| x      | 10 |")
        self.assertEqual(lines[3], "| longer |")


class Neighbours(unittest.TestCase):
    def test_the_rate_is_a_share_of_what_the_threads_can_do_with_the_slow_requests_counted(self):
        threads = min(2, len(machine.CPUS))
        self.assertAlmostEqual(neighbours.slow_rate(20), 0.3 * threads / (20e-6 + 0.01 * 10e-3))

    def test_what_the_machine_does_not_allow_is_told_with_what_has_to_be_set(self):
        idle, many = (neighbours.CROWDS[name] for name in ("idle", "idle-many"))
        self.assertIsNone(neighbours.crowd_needs(idle, 100))
        self.assertIn("ulimit -Hn", neighbours.crowd_needs(idle, 10 ** 10))
        self.assertIn("a process", neighbours.crowd_needs(many, 10 ** 10))

    def test_a_failed_crowd_says_why_and_is_not_drawn(self):
        rows = [{"neighbours": name, "peer": "weir", "size": 9, "rate": 9, "server": "",
                 "generator": "", "failed": "it <broke>"}
                for name in (neighbours.SLOW, *neighbours.CROWDS)]
        tree = well_formed(page.page({**report_of([]), "neighbours": rows}))
        self.assertEqual("".join(tree.itertext()).count("no figure: it <broke>"), len(rows))
        self.assertEqual(tree.findall(".//svg"), [])


class Overload(unittest.TestCase):
    SAID = {"requests": 500, "errors_by_kind": {overload.REFUSED: 1500, "no answer in time": 2},
            "latency_ns": {"p50": 150e6, "p99": 210e6}}

    def test_a_storm_has_a_connection_for_each_that_waits(self):
        storm = overload.Storm(100.0, 5, 10)
        self.assertEqual(storm.rate, 500)
        self.assertGreater(storm.connections, 500 * overload.PATIENCE_S)

    def test_what_is_served_counts_by_the_time_in_which_clients_came(self):
        made = overload.slice_of(self.SAID, overload.Storm(100.0, 5, 10), 0.2, 1, 2)
        self.assertEqual((made["offered"], made["served"], made["share"], made["refused"]),
                         (500, 50, 0.5, 150))
        self.assertEqual((made["p50_ms"], made["p99_ms"], made["next_s"]), (150, 210, 0.2))

    def test_the_peak_is_the_best_of_all_storms(self):
        victim = overload.Victim(mock.Mock())
        for i, times in enumerate(overload.TIMES):
            victim.slices[times] = [overload.slice_of(
                {**self.SAID, "requests": 1000 - 250 * i}, overload.Storm(100.0, times, 10), 0, 1, 2)]
        self.assertEqual([row["of_peak"]["median"] for row in victim.rows()], [1, 0.75, 0.5, 0.25])

    def test_where_nobody_was_served_the_share_is_0(self):
        victim = overload.Victim(mock.Mock())
        for times in overload.TIMES:
            victim.slices[times] = [overload.slice_of({**self.SAID, "requests": 0},
                                                      overload.Storm(1.0, times, 1), 0, 1, 2)]
        self.assertEqual({row["of_peak"]["median"] for row in victim.rows()}, {0})

    def test_who_is_refused_comes_again_until_somebody_is_served(self):
        with mock.patch.object(overload, "_is_answered", side_effect=[False, OSError, True]) as ask:
            self.assertLess(overload.wait_of_the_next(1), overload.LONGEST_WAIT_S)
        self.assertEqual(ask.call_count, 3)

    def test_who_fails_keeps_nobody_else_from_being_measured(self):
        setting, peers = mock.Mock(rounds=1, patience=9), [mock.Mock(), mock.Mock()]
        peers[0].name, peers[1].name = "breaks", "lasts"
        setting.peers_for.return_value = peers

        def suffer(victim, _, times):
            if victim.name == "breaks":
                raise servers.Failure("it broke")
            victim.slices[times].append(
                overload.slice_of(self.SAID, overload.Storm(100.0, times, 10), 0.1, 1, 2))

        with mock.patch.multiple(overload.Victim, be_measured=mock.DEFAULT, suffer=suffer):
            rows = overload.run_overload(setting)
        self.assertEqual([row.get("failed") for row in rows],
                         ["it broke", *[None] * len(overload.TIMES)])
        tree = well_formed(page.page({**report_of([]), "overload": rows}))
        self.assertIn("no figure: it broke", "".join(tree.itertext()))
        self.assertEqual(len(tree.findall(".//svg")), 4)


class Contention(unittest.TestCase):
    def test_a_ratio_is_that_of_the_worst_latencies(self):
        sufferer = contention.Sufferer(mock.Mock(), contention.TRAFFICS[0])
        sufferer.slices = [{"p50_us": 1, "p99_us": 2, "p999_us": 30}]
        row = sufferer.row(1, [{"p50_us": 1, "p99_us": 2, "p999_us": 20}])
        self.assertEqual(row["ratio"]["median"], 1.5)
        self.assertNotIn("ratio", sufferer.row(1, []))

    def test_a_failure_says_why_and_is_not_drawn(self):
        sufferer = contention.Sufferer(mock.Mock(), contention.TRAFFICS[0])
        sufferer.name, sufferer.failed = "weir", "it <broke>"
        rows = [sufferer.row(1, [])]
        tree = well_formed(page.page({**report_of([]), "contention": rows}))
        self.assertIn("no figure: it <broke>", "".join(tree.itertext()))
        self.assertEqual(tree.findall(".//svg"), [])
        self.assertIn("it <broke>", text.contention_table(rows))

    def test_busy_programs_end_with_the_block(self):
        with contention.busy_programs(3):
            self.assertEqual(len(machine.children(os.getpid())), 3)
        self.assertEqual(machine.children(os.getpid()), [])


def report_of(rows, memory=(), growth=()):
    return {"began": "then", "command": "tools/bench <&>", "rounds": 1, "seconds": 1,
            "took_seconds": 1, "versions": {"weir": "1"}, "warnings": ["A & B."],
            "missing": [{"peer": "h2o", "reason": "not <here>"}],
            "machine": {**machine.describe(), "load_average": 0, "others": 0, "stolen": 0},
            "rows": list(rows), "memory": list(memory), "growth": list(growth)}


def well_formed(html):
    """The page's elements, as a parser of XML has them."""
    kind, rest = html.split("\n", 1)
    assert kind == "<!DOCTYPE html>"
    return xml.etree.ElementTree.fromstring(rest)


class Page(unittest.TestCase):
    def row(self, peer, connections, **more):
        return {"workload": "line", "connections": connections, "peer": peer,
                "yardstick": "bare loop", "server": f"{peer} <x>", "generator": "load",
                "memory_bytes": 4096, **figures.summary([piece(1)], [piece(1)]), **more}

    def test_several_counts_of_connections_are_drawn_as_lines(self):
        rows = [self.row(peer, count) for count in (1, 64) for peer in ("bare loop", "weir")]
        tree = well_formed(page.page(report_of(rows)))
        self.assertEqual(len(tree.findall(".//polyline")), 2)
        self.assertEqual(len(tree.findall(".//h3")), 2)

    def test_a_row_without_a_figure_says_why_and_is_not_drawn(self):
        rows = [self.row("bare loop", 64), {
            "workload": "line", "connections": 64, "peer": "weir", "yardstick": "bare loop",
            "server": "", "generator": "", "failed": "it <broke>"}]
        memory = [{"job": "line", "peer": "weir", "connections": 9, "failed": "no & no"}]
        tree = well_formed(page.page(report_of(rows, memory)))
        said = "".join(tree.itertext())
        self.assertIn("no figure: it <broke>", said)
        self.assertIn("no figure: no & no", said)
        self.assertEqual(len(tree.findall(".//rect")), 2)      # requests/s and ratio of one

    def grown(self, peer, at, **more):
        return {"growth": "growth-connections", "curve": "64 active", "at": at, "peer": peer,
                "yardstick": "bare loop", "server": "", "generator": "", "memory_bytes": 4096,
                "bytes_per_idle": 300.0, **figures.summary([piece(1)], [piece(1)]), **more}

    def test_growth_is_drawn_beneath_what_theory_says(self):
        rows = [self.grown(peer, at) for peer in ("bare loop", "weir") for at in (64, 256)]
        tree = well_formed(page.page(report_of([], growth=rows)))
        self.assertEqual(len(tree.findall(".//polyline")), 4)      # time and memory of two
        self.assertIn(GROWTHS["growth-connections"].curves[1].theory, "".join(tree.itertext()))

    def test_growth_without_a_figure_says_why(self):
        rows = [self.grown("weir", 64), {
            "growth": "growth-connections", "curve": "64 active", "at": 256, "peer": "weir",
            "yardstick": "bare loop", "server": "", "generator": "", "failed": "it <broke>"}]
        tree = well_formed(page.page(report_of([], growth=rows)))
        self.assertIn("no figure: it <broke>", "".join(tree.itertext()))
        self.assertEqual(tree.findall(".//svg"), [])

    def test_a_page_of_nothing_but_failures_is_well_formed(self):
        rows = [{"workload": name, "connections": 1, "peer": "weir", "yardstick": "bare loop",
                 "server": "", "generator": "", "failed": "why"} for name in WORKLOADS]
        self.assertEqual(well_formed(page.page(report_of(rows))).findall(".//svg"), [])


class Growing(unittest.TestCase):
    def test_a_point_that_lost_idle_connections_has_no_figure(self):
        growth = GROWTHS["growth-connections"]
        curve = growth.curves[1]
        peer = servers.Peer("weir", ("line",), lambda place: servers.Launch(
            [place.built / "tools/weir", "serve", "--listen", "tcp://127.0.0.1:0", "--handler",
             "echo", "--idle-timeout", "1s"]))
        with tempfile.TemporaryDirectory() as folder:
            setting = workloads.Setting(BUILT.resolve(), pathlib.Path(folder), [], 1, 1, 1, None)
            subject = Subject(peer, curve, 4 * ACTIVE)
            subject.start(setting)
            try:
                descriptors = pathlib.Path(f"/proc/{subject.server.pid}/fd")
                subject.connect(setting)
                while len(list(descriptors.iterdir())) >= ACTIVE:       # until all are closed
                    time.sleep(0.01)
            finally:
                subject.end()
        self.assertIn("the server closed", subject.row(growth, None, None)["failed"])


def bench(folder, *words):
    return subprocess.run([BENCH, "--built", BUILT, "--out", folder, *words], text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=TIMEOUT, check=False)


SMALL = ("--connections", "1", "--rounds", "1", "--seconds", "0.2", "--idle", "10")


class Bench(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)

    def report(self):
        return json.loads((self.folder / "bench.json").read_text(encoding="utf-8"))

    def test_the_smallest_bench_makes_a_table_json_and_a_page(self):
        done = bench(self.folder, *SMALL, "--rows", "line,memory")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("## Line echo, 1 connection\n", done.stdout)
        report = self.report()
        rows = {row["peer"]: row for row in report["rows"]}
        for name in ("bare loop", "weir", "socketserver"):
            row = rows[name]
            self.assertEqual((row["workload"], row["connections"]), ("line", 1))
            for figure in ("rps", "cpu_us", "ratio", "p50_us", "p99_us", "p999_us"):
                spread = row[figure]
                self.assertTrue(0 < spread["least"] <= spread["median"] <= spread["greatest"])
            self.assertGreater(row["memory_bytes"], 0)
            self.assertEqual((len(row["slices"]), row["lost"], row["closed"]), (1, 0, 0))
            self.assertIn(f"| {name} ", done.stdout)
        self.assertEqual(rows["bare loop"]["ratio"]["median"], 1)
        memory = {(row["peer"], row["job"]): row for row in report["memory"]}
        self.assertIn(("weir", "http"), memory)
        self.assertEqual(memory["socketserver", "line"]["connections"], 10)
        for key in ("machine", "versions", "missing", "warnings", "command", "took_seconds"):
            self.assertIn(key, report)
        html = (self.folder / "bench.html").read_text(encoding="utf-8")
        tree = well_formed(html)
        self.assertEqual(tree.findall(".//script"), [])
        self.assertEqual([link for link in tree.iter() if link.get("src") or link.get("href")], [])
        self.assertGreaterEqual(len(tree.findall(".//svg")), 4)
        self.assertIn("socketserver", html)

    def test_lines_go_over_a_unix_socket(self):
        done = bench(self.folder, *SMALL, "--rows", "unixline", "--peers",
                     "bare loop,weir,socketserver")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        rows = {row["peer"]: row for row in self.report()["rows"]}
        self.assertEqual(list(rows), ["bare loop", "weir", "socketserver"])
        for row in rows.values():
            self.assertIn("unix:///", row["generator"])
            self.assertEqual((row["lost"], row["closed"]), (0, 0))

    def test_bodies_are_measured_at_their_length(self):
        done = bench(self.folder, *SMALL, "--rows", "memory-64k,file-1m", "--peers",
                     "bare loop,weir")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        rows = {(row["workload"], row["peer"]): row for row in self.report()["rows"]}
        self.assertEqual(len(rows), 4)
        self.assertIn("--size 65536", rows["memory-64k", "weir"]["generator"])
        self.assertIn("--size 1048576", rows["file-1m", "weir"]["generator"])

    def test_models_stand_beside_the_pool_and_serial_has_one_client(self):
        done = bench(self.folder, *SMALL, "--rows", "models", "--connections", "1", "4", "--peers",
                     "bare loop;weir, pool;weir, fork;weir, serial")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("Ratio to: weir, pool\n", done.stdout)
        rows = {(row["peer"], row["connections"]): row for row in self.report()["rows"]}
        self.assertEqual(rows["weir, pool", 4]["ratio"]["median"], 1)
        self.assertIn(("weir, serial", 1), rows)
        self.assertNotIn(("weir, serial", 4), rows)
        self.assertEqual(rows["weir, fork", 4]["lost"], 0)

    def test_handlers_that_wait_keep_their_clients_waiting(self):
        done = bench(self.folder, *SMALL, "--rows", "sleep,fanout", "--connections", "2", "--peers",
                     "bare loop;weir;weir, threads;socketserver")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        rows = self.report()["rows"]
        self.assertEqual(len(rows), 8)
        for row in rows:
            self.assertGreaterEqual(row["p50_us"]["least"], 10000, row["peer"])

    def test_growth_compares_a_point_with_the_bare_loop_and_with_another_point(self):
        done = bench(self.folder, "--rows", "growth-connections,growth-workers", "--connections",
                     "64", "800", "--rounds", "1", "--seconds", "0.2", "--peers", "bare loop,weir")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        rows = {(row["curve"], row["peer"], row["at"]): row for row in self.report()["growth"]}
        self.assertEqual(len(rows), 2 * 2 * 2 + 2 * 4)
        for row in rows.values():
            self.assertGreater(row["ratio"]["median"], 0)
            self.assertGreater(row["memory_bytes"], 0)
        self.assertEqual(rows["64 active", "weir", 64]["grown"]["median"], 1)
        self.assertIn("grown", rows["64 active", "weir", 800])
        self.assertNotIn("bytes_per_idle", rows["64 active", "weir", 64])
        self.assertGreater(rows["64 active", "weir", 800]["bytes_per_idle"], 0)
        self.assertIn("--workers 3 ", rows["workers", "weir", 3]["server"])
        self.assertIn("--threads 3 ", rows["workers", "bare loop", 3]["server"])

    def test_a_crowd_and_slow_requests_have_rows_of_their_own(self):
        done = bench(self.folder, *SMALL, "--rows", "slow,stalled,idle,idle-many", "--crowd", "60",
                     "--peers", "bare loop;weir;2 bare loops;weir, 2 workers")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        report = self.report()
        rows = {(row["neighbours"], row["peer"]): row for row in report["neighbours"]}
        self.assertEqual(len(rows), 7)
        for name in ("2 bare loops", "weir, 2 workers"):
            row = rows["slow", name]
            self.assertGreaterEqual(row["slow_p50_us"]["least"], neighbours.SLOW_MS * 1000)
            self.assertIn("ratio", row)
        for name in ("stalled", "idle"):
            for peer in ("bare loop", "weir"):
                row = rows[name, peer]
                self.assertEqual(row["size"], 60)
                self.assertGreater(row["kept"]["median"], 0)
        self.assertIn(("idle-many", "weir, 6 processes"), rows)
        for title in ("Slow requests", "Stalled clients, 60", "Idle clients of one process, 60"):
            self.assertIn(f"## {title}", done.stdout)

    def test_storms_have_a_row_for_each_strength(self):
        done = bench(self.folder, "--rounds", "1", "--seconds", "0.1", "--rows", "overload",
                     "--peers", "weir")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        rows = self.report()["overload"]
        self.assertEqual([row["times"] for row in rows], list(overload.TIMES))
        for row in rows:
            self.assertGreater(row["offered"]["median"], 0)
            self.assertGreater(row["greatest_bytes"]["median"], 0)
        self.assertIn(f"## {overload.OVERLOAD_TITLE}", done.stdout)

    def test_beside_busy_programs_each_traffic_has_rows_with_a_ratio(self):
        done = bench(self.folder, "--rounds", "1", "--seconds", "0.1", "--rows", "contention",
                     "--peers", "bare loop;weir")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        rows = {(row["busy"], row["traffic"], row["peer"]): row
                for row in self.report()["contention"]}
        self.assertEqual(len(rows), 2 * len(contention.TRAFFICS) * len(contention.BUSY))
        for busy in contention.BUSY:
            for traffic in contention.TRAFFICS:
                self.assertGreater(rows[busy, traffic.name, "weir"]["ratio"]["median"], 0)
                self.assertEqual(rows[busy, traffic.name, "bare loop"]["ratio"]["median"], 1)

    def test_more_idle_clients_than_the_machine_allows_are_left_out_with_the_reason(self):
        done = bench(self.folder, *SMALL, "--rows", "line,idle", "--crowd", "1000000000",
                     "--peers", "bare loop")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("left out: idle: ", done.stdout)

    @unittest.skipIf(syscalls.syscalls_needs(), syscalls.syscalls_needs())
    def test_system_calls_are_counted_per_request(self):
        done = bench(self.folder, "--rows", "syscalls", "--peers", "bare loop,weir")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        rows = {(row["traffic"], row["peer"]): row for row in self.report()["syscalls"]}
        for name in ("bare loop", "weir"):
            row = rows["line", name]
            for call in ("recvfrom", "sendto"):
                self.assertGreaterEqual(row["calls"][call], row["requests"])
            self.assertLess(rows["pipelined", name]["calls"]["sendto"],
                            rows["pipelined", name]["requests"])
        self.assertIn("## System calls: Line echo, 64 kept connections", done.stdout)

    def test_a_page_can_be_drawn_again(self):
        bench(self.folder, *SMALL, "--rows", "udp", "--peers", "bare loop,weir")
        first = (self.folder / "bench.html").read_bytes()
        (self.folder / "bench.html").unlink()
        done = bench(self.folder, "--draw", self.folder / "bench.json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((self.folder / "bench.html").read_bytes(), first)

    def test_what_is_not_there_is_left_out_with_the_reason(self):
        done = bench(self.folder, *SMALL, "--rows", "line", "--peers", "bare loop,libuv")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([row["peer"] for row in self.report()["rows"]], ["bare loop"])
        self.assertEqual([entry["peer"] for entry in self.report()["missing"]], ["libuv"])
        self.assertIn("left out: libuv: ", done.stdout)

    def test_mistakes_are_told_before_anything_runs(self):
        for words in (("--rows", "lines"), ("--peers", "weir,iis"), ("--rounds", "0"),
                      ("--seconds", "soon")):
            done = bench(self.folder, *words)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn(words[1].split(",")[-1], done.stderr)
        self.assertEqual(list(self.folder.iterdir()), [])
        file = self.folder / "file"
        file.write_text("", encoding="ascii")
        done = bench(file)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn(f"tools/bench: --out: [Errno 17] File exists: '{file}'", done.stderr)

    def test_who_ends_the_bench_ends_its_servers(self):
        with subprocess.Popen(
                [BENCH, "--built", BUILT, "--out", self.folder, "--rows", "line", "--seconds",
                 "600"],
                text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            for line in process.stderr:
                if "round 1" in line:
                    break
            others = machine.tree(process.pid)[1:]
            used = machine.cpu_seconds(process.pid) + 0.2
            while machine.cpu_seconds(process.pid) < used:      # until the load is under way
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            process.stderr.close()
            self.assertNotEqual(process.wait(TIMEOUT), 0)
        self.assertGreaterEqual(len(others), 3)
        self.assertEqual([pid for pid in others if os.path.exists(f"/proc/{pid}")], [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
