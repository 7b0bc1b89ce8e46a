#!/bin/bash
# run_models.sh - checks the Promela models in this folder with spin.
#
# A model must hold as it is, and must fail in each way that it can be broken (-DNO_...): a model
# that cannot fail shows nothing. Prints its results in cmocka's form.
set -u

models=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for tool in spin gcc; do
    if ! command -v "$tool" >/dev/null; then
        echo "run_models.sh: no $tool: install Debian's package '$tool'" >&2
        exit 1
    fi
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0
failed=0

# Searches every state of a model. Usage: search MODEL safety|progress [-DVARIANT...] >report
search() {
    local model=$1 kind=$2 how=-DSAFETY run=
    shift 2
    if [ "$kind" = progress ]; then
        how=-DNP run=-l
    fi
    rm -rf "$scratch/search" && mkdir "$scratch/search" && cd "$scratch/search" || return
    # -w: the code that spin writes is not ours.
    spin "$@" -a "$models/$model.pml" && gcc -w -O2 $how -o pan pan.c &&
        ./pan -m100000 $run
}

# Usage: expect "errors: 0"|"what is found" MODEL KIND [-DVARIANT...]
expect() {
    local outcome=$1 name="$2 $3${4:+ ${*:4}}" report
    shift
    echo "[ RUN      ] $name"
    report=$(search "$@" 2>&1)
    # A search that ran out of depth or memory has not seen everything.
    if grep -q -- "$outcome" <<<"$report" &&
        ! grep -q -E 'max search depth too small|out of memory|Error' <<<"$report"; then
        echo "[       OK ] $name"
        passed=$((passed + 1))
    else
        echo "expected '$outcome', but spin reports:"
        echo "$report"
        echo "[  FAILED  ] $name"
        failed=$((failed + 1))
    fi
}

holds() { expect 'errors: 0' "$@"; }
breaks() { expect 'assertion violated' "$@"; }
stands_still() { expect 'non-progress cycle' "$@"; }

holds sleep_wake safety
breaks sleep_wake safety -DNO_WORKER_FENCE
breaks sleep_wake safety -DNO_WAKER_FENCE
breaks sleep_wake safety -DNO_SECOND_LOOK
holds sleep_wake safety -DSTUCK
breaks sleep_wake safety -DSTUCK -DNO_PASSING_ON
holds sleep_wake safety -DWATCHED
breaks sleep_wake safety -DWATCHED -DNO_WATCH_FENCE
breaks sleep_wake safety -DWATCHED -DNO_LOOK_AT_ALL
breaks sleep_wake safety -DWATCHED -DEARLY_LOOK
breaks sleep_wake safety -DWATCHED -DNO_CALL

holds ready_queue safety
holds ready_queue progress
breaks ready_queue safety -DNO_LAPS
stands_still ready_queue progress -DNO_HELP

holds connection safety
breaks connection safety -DNO_MARK
breaks connection safety -DNO_LOOK
breaks connection safety -DNO_RETRY
breaks connection safety -DSTALE
breaks connection safety -DBLIND

holds family safety
breaks family safety -DPARKS_TWICE
breaks family safety -DWAKES_FIRST
breaks family safety -DNO_AGAIN
breaks family safety -DNO_MARK_AGAIN
breaks family safety -DLEAVES_ALONE

holds receiver safety
breaks receiver safety -DNO_WAIT
breaks receiver safety -DNO_KICK
breaks receiver safety -DNO_REQUEUE
breaks receiver safety -DNO_LOOK
breaks receiver safety -DNO_SECOND_LOOK
breaks receiver safety -DNO_LOOK_AGAIN

holds select safety
breaks select safety -DNO_CLAIM
breaks select safety -DNO_GIVING_UP
breaks select safety -DONE_BY_ONE
breaks select safety -DNO_ORDER
breaks select safety -DNO_LAST_LOOK

holds lending safety
breaks lending safety -DNO_MUTEX
breaks lending safety -DNO_OPEN_LOOK
breaks lending safety -DNO_CALL
breaks lending safety -DNO_SECOND_LOOK
breaks lending safety -DNO_WATCH
breaks lending safety -DNO_TICK
holds lending safety -DSHARED
breaks lending safety -DSHARED -DHEEDED
breaks lending safety -DSHARED -DNO_OTHERS
breaks lending safety -DSHARED -DNO_FOLLOWER

holds wait_list safety
breaks wait_list safety -DNO_GUARD
breaks wait_list safety -DNO_AWAIT
breaks wait_list safety -DNO_TAKE_OUT
breaks wait_list safety -DNO_HAVING
breaks wait_list safety -DFREED_FIRST
breaks wait_list safety -DTOUCHED_LAST
breaks wait_list safety -DNO_SECOND_LOOK
breaks wait_list safety -DWOKEN_TWICE

echo "[==========] $((passed + failed)) test(s) run."
echo "[  PASSED  ] $passed test(s)."
if [ "$failed" -gt 0 ]; then
    echo "[  FAILED  ] $failed test(s)."
    exit 1
fi
