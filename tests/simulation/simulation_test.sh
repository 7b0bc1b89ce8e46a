#!/bin/bash
# Seeds that have failed once, a few hundred others, the same seed twice, and a kernel that loses
# edges, which has to be found out.
set -uo pipefail

failed=0

# check WHAT STATUS COMMAND...: counts a case, which passes if the command ends with that status
passed=0
check() {
    local what=$1 wanted=$2 status
    shift 2
    "$@"
    status=$?
    if [[ $status -eq $wanted ]]; then
        passed=$((passed + 1))
        return
    fi
    failed=$((failed + 1))
    echo "$what: exit status $status"
}

check 'seeds that have failed once' 0 "$SIMULATION" --replay "$FAILED"
check 'the first seeds' 0 "$SIMULATION" --runs 200 --jobs 2
for seed in 6 7 11 21; do
    check "seed $seed twice" 0 "$SIMULATION" --seed $seed --runs 1
done
check 'a kernel that loses edges' 1 "$SIMULATION" --runs 50 --drop-edges 300 --failures 1 --events 0

echo "$passed passed, $failed failed"
[[ $failed -eq 0 ]]
