#!/usr/bin/env python3
"""count_tests.py EVENTS STATUS: counts the test cases of one `bazel test`.

EVENTS is its --build_event_json_file, STATUS its exit status. Prints "PASSED FAILED". Reads the
programs' logs, which Bazel keeps for results that it had cached too. A target that did not build, or
that failed without a case of its own that did (it crashed, timed out, or a sanitizer found something),
counts as one failure, and is named on standard error. A target whose log counts nothing is one case.
"""

import json
import re
import sys
from urllib.parse import unquote, urlparse

CMOCKA = re.compile(r"^\[  (PASSED|FAILED)  \] (\d+) test\(s\)", re.MULTILINE)
UNITTEST = re.compile(r"^Ran (\d+) tests? in .*\n\n(?:OK|FAILED)(?: \((.*)\))?$", re.MULTILINE)


def cases(log):
    """How many test cases this log says have passed and failed."""
    passed = failed = 0
    for verdict, number in CMOCKA.findall(log):
        if verdict == "PASSED":
            passed += int(number)
        else:
            failed += int(number)
    for number, details in UNITTEST.findall(log):
        counts = dict(re.findall(r"([a-z ]+)=(\d+)", details))
        counts = {name.strip(): int(value) for name, value in counts.items()}
        bad = sum(counts.get(name, 0) for name in ("failures", "errors", "unexpected successes"))
        failed += bad
        # one test may fail in several of its subtests
        passed += max(0, int(number) - bad - counts.get("skipped", 0))
    return passed, failed


def read_log(result):
    for output in result.get("testActionOutput", []):
        if output["name"] == "test.log":
            with open(unquote(urlparse(output["uri"]).path), errors="replace") as file:
                return file.read()
    return ""


def events(path):
    with open(path) as file:
        for line in file:
            event = json.loads(line)
            (kind, ident), = event["id"].items()
            yield kind, ident, event


def count(path, status):
    passed = failed = 0
    results = {}
    broken = set()

    for kind, ident, event in events(path):
        if kind == "testResult":
            # a later attempt replaces an earlier one
            part = ident["label"], ident.get("run"), ident.get("shard")
            results[part] = event["testResult"]
        elif kind in ("targetCompleted", "targetConfigured"):
            if "aborted" in event or not event.get("completed", {"success": True}).get("success"):
                broken.add(ident["label"])

    for (label, *_), result in results.items():
        good, bad = cases(read_log(result))
        ok = result["status"] == "PASSED"
        if ok and good + bad == 0:
            good = 1
        if not ok and bad == 0:
            bad = 1
            print(f"{label}: {result['status'].lower().replace('_', ' ')}", file=sys.stderr)
        passed += good
        failed += bad

    for label in sorted(broken - {label for label, *_ in results}):
        print(f"{label}: did not build", file=sys.stderr)
        failed += 1

    if status != 0 and failed == 0:
        print(f"bazel test ended with status {status}", file=sys.stderr)
        failed = 1
    return passed, failed


if __name__ == "__main__":
    print(*count(sys.argv[1], int(sys.argv[2])))
