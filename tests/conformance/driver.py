#!/usr/bin/env python3
"""The conformance suite: the behaviours of socketserver, asserted on CPython's and on weir's.

Usage: driver.py [--only N,N...] [--write] [DOCUMENT]

Runs every scenario of scenarios_*.py against both back ends, prints the result as a table, and fails
if DOCUMENT (docs/conformance.md) is not what the suite says; --write writes it. The program on weir
is $WEIR_BACKEND.
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

What Python's `socketserver` does, item by item, and whether weir does the same. Each row is a scenario
that runs against CPython's `socketserver` (tests/conformance/backend.py) and against weir
(tests/conformance/backend.c) through one protocol (tests/conformance/protocol.md); both cells are
asserted. Where Python has a defect, or a limit that a server in C need not have, weir differs on
purpose, and the scenario asserts the difference on both sides.

`tools/test` runs the suite, and fails when this page is not what it says. To write it anew:
`bazel build //tests/conformance:backend && tests/conformance/driver.py --write`.

The behaviours were collected from CPython 3.13, and are asserted on the CPython that is there (3.11
on Debian 12), which is the same in all of them. "The pool" is `concurrency = WEIR_POOL` on weir; its
counterpart in Python is `ThreadingMixIn`.

"""


class Outcome:
    """What one behaviour came to on one back end."""

    def __init__(self, failure=None, notes=()):
        self.failure = failure
        self.notes = notes


def run(behaviour, kind):
    if behaviour.cells[kind].word == "absent":
        return Outcome()
    back_end = None
    try:
        back_end = harness.BackEnd(kind)
        behaviour.scenario(back_end)
        back_end.finish()
    except Exception:
        said = f"\n{kind} said: {back_end.stderr()}" if back_end else ""
        return Outcome(traceback.format_exc() + said)
    finally:
        if back_end:
            back_end.clean_up()
    return Outcome(notes=back_end.notes)


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
        words = [behaviour.cells[kind].word if not outcomes[behaviour.number, kind].failure
                 else "FAILED" for kind in BACK_ENDS]
        print(f"{behaviour.number:3} {behaviour.title:{width}} {words[0]:8} {words[1]}")
        for kind in BACK_ENDS:
            for note in outcomes[behaviour.number, kind].notes:
                print(f"    {kind}: {note}")
    sys.stdout.flush()


# ---------------------------------------------------------------------- as unit tests -------


def make_test(behaviour, outcomes):
    def test(self):
        for kind in BACK_ENDS:
            failure = outcomes[behaviour.number, kind].failure
            if failure:
                self.fail(f"{behaviour.title}\n{kind}: {failure}")
    return test


def make_suite(behaviours, outcomes, document_path):
    class Conformance(unittest.TestCase):
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
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as threads:
        futures = {(behaviour.number, kind): threads.submit(run, behaviour, kind)
                   for behaviour in behaviours for kind in BACK_ENDS}
    outcomes = {key: future.result() for key, future in futures.items()}
    print_table(behaviours, outcomes)
    if options.write and not any(outcome.failure for outcome in outcomes.values()):
        with open(options.document, "w") as file:
            file.write(document(behaviours))
    suite = make_suite(behaviours, outcomes, None if options.only else options.document)
    sys.exit(not unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful())


if __name__ == "__main__":
    main()
