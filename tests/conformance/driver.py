#!/usr/bin/env python3
"""The conformance suite: the behaviours of socketserver, asserted on CPython's and on weir's.

Usage: driver.py [--only N,N...] [--write] [DOCUMENT]

Runs every scenario of scenarios_*.py against both back ends, prints the result as a table, and
fails if DOCUMENT (docs/conformance.md) is not what the suite says; --write writes it. The program
on weir is $WEIR_BACKEND.
"""

import argparse
import concurrent.futures
import difflib
import glob
import importlib
import os
import sys
import traceback
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import harness

# They mostly wait; more at once than there are processors is only faster.
PARALLEL = 6
BACK_ENDS = ("python", "weir")

INTRODUCTION = """\
# Conformance with socketserver

What Python's `socketserver` does, item by item, and whether weir does the same. Each row is a
scenario that runs against CPython's `socketserver` (tests/conformance/backend.py) and against weir
(tests/conformance/backend.c) through one protocol (tests/conformance/protocol.md); both cells are
asserted. Where Python has a defect, or a limit that a server in C need not have, weir differs on
purpose, and the scenario asserts the difference on both sides.

`tools/test` runs the suite, and fails when this page is not what it says. To write it anew:
`bazel build //tests/conformance:backend && tests/conformance/driver.py --write`.

Most of it is asserted of serial, threaded and forking servers, and of weir's pool, alike. Where a
row says "the pool", its counterpart in Python is `ThreadingMixIn`. The suite runs on whichever
CPython is there; with 3.11 (Debian 12), 3.12 and 3.13 it comes to the same.

"""


class Outcome:
    """What one behaviour came to on one back end, with all concurrencies."""

    def __init__(self):
        self.failures = []
        self.notes = []


def run(behaviour, kind, concurrency, outcome):
    back_end = harness.BackEnd(kind, concurrency)
    try:
        behaviour.scenario(back_end)
        back_end.finish()
    except Exception:
        outcome.failures.append(f"{kind}, {concurrency}: {traceback.format_exc()}\n"
                                f"it said: {back_end.stderr()}")
    finally:
        outcome.notes += back_end.notes
        back_end.clean_up()


def unobservable():
    """The concurrency that can't be run with what the program on weir is built with, if any."""
    with open(harness.PROGRAMS["weir"][0], "rb") as file:
        has_tsan = b"__tsan_init" in file.read()
    # It can't follow threads that are started in a child of a process with threads.
    return "prefork" if has_tsan else None


def run_all(behaviours):
    """{(number, back end): Outcome}"""
    left_out = unobservable()
    outcomes = {(behaviour.number, kind): Outcome()
                for behaviour in behaviours for kind in BACK_ENDS}
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as threads:
        futures = [threads.submit(run, behaviour, kind, concurrency,
                                  outcomes[behaviour.number, kind])
                   for behaviour in behaviours for kind, concurrency in behaviour.runs()
                   if concurrency != left_out]
    for future in futures:
        future.result()
    if left_out:
        print(f"NOT ASSERTED HERE: {left_out}, which ThreadSanitizer does not support")
    return outcomes


def load_behaviours():
    for path in sorted(glob.glob(os.path.join(harness.HERE, "scenarios_*.py"))):
        importlib.import_module(os.path.basename(path).removesuffix(".py"))
    return [harness.BEHAVIOURS[number] for number in sorted(harness.BEHAVIOURS)]


# ---------------------------------------------------------------------- what it prints ------


def document(behaviours):
    def cell(behaviour, kind):
        word, text = behaviour.cells[kind]
        return {"holds": "yes", "differs": f"**differs**: {text}", "absent": f"none: {text}"}[word]

    lines = ["| | behaviour | CPython | weir |", "|---|---|---|---|"]
    for behaviour in behaviours:
        cells = " | ".join(cell(behaviour, kind) for kind in BACK_ENDS)
        lines.append(f"| {behaviour.number} | {behaviour.title} | {cells} |")
    return INTRODUCTION + "\n".join(lines) + "\n"


def print_table(behaviours, outcomes):
    width = max(len(behaviour.title) for behaviour in behaviours)
    print(f"{'':>3} {'behaviour':{width}} {'CPython':8} weir")
    for behaviour in behaviours:
        words = ["FAILED" if outcomes[behaviour.number, kind].failures
                 else behaviour.cells[kind].word for kind in BACK_ENDS]
        print(f"{behaviour.number:3} {behaviour.title:{width}} {words[0]:8} {words[1]}")
        for kind in BACK_ENDS:
            for note in outcomes[behaviour.number, kind].notes:
                print(f"    {kind}: {note}")
    sys.stdout.flush()


# ---------------------------------------------------------------------- as unit tests -------


def make_test(behaviour, outcomes):
    def test(self):
        failures = [failure for kind in BACK_ENDS
                    for failure in outcomes[behaviour.number, kind].failures]
        if failures:
            self.fail("\n".join([behaviour.title, *failures]))
    return test


def make_suite(behaviours, outcomes, document_path):
    class Conformance(unittest.TestCase):
        def test_all_eighty_behaviours_are_here(self):
            self.assertEqual([behaviour.number for behaviour in behaviours], list(range(1, 81)))

        def test_the_document_is_what_the_suite_says(self):
            with open(document_path) as file:
                lines = file.read().splitlines()
            wrong = list(difflib.unified_diff(lines, document(behaviours).splitlines(),
                                              document_path, "the suite", n=0, lineterm=""))
            if wrong:
                self.fail("\n".join(["write it anew:", *wrong]))

    for behaviour in behaviours:
        name = f"test_{behaviour.number:02}_{behaviour.scenario.__name__}"
        setattr(Conformance, name, make_test(behaviour, outcomes))
    if not document_path:
        del Conformance.test_all_eighty_behaviours_are_here
        del Conformance.test_the_document_is_what_the_suite_says
    return unittest.defaultTestLoader.loadTestsFromTestCase(Conformance)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", help="numbers of behaviours, separated by commas")
    parser.add_argument("--write", action="store_true", help="write the document")
    parser.add_argument("document", nargs="?",
                        default=os.path.join(harness.HERE, "../../docs/conformance.md"))
    options = parser.parse_args()

    behaviours = load_behaviours()
    if options.only:
        wanted = {int(number) for number in options.only.split(",")}
        behaviours = [behaviour for behaviour in behaviours if behaviour.number in wanted]
    outcomes = run_all(behaviours)
    print_table(behaviours, outcomes)
    if options.write and not any(outcome.failures for outcome in outcomes.values()):
        with open(options.document, "w") as file:
            file.write(document(behaviours))
    suite = make_suite(behaviours, outcomes, None if options.only else options.document)
    sys.exit(not unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful())


if __name__ == "__main__":
    main()
