#!/bin/bash
# A life without a fault in each way, and one in 67 of those with one; tools/faults makes all of them.
set -uo pipefail

status=0
output=$("$FAULTS" --every 67 --from 13) || status=1
echo "$output"

[[ $output =~ ([0-9]+)' lives with a fault, '([0-9]+)' of them struck, '([0-9]+)' failed' ]] || exit 1
# a fault that nobody has met shows nothing
if [[ ${BASH_REMATCH[1]} -lt 100 || ${BASH_REMATCH[2]} -lt $((BASH_REMATCH[1] * 9 / 10)) ]]; then
    echo "only ${BASH_REMATCH[2]} faults of ${BASH_REMATCH[1]} have struck"
    status=1
fi
echo "$((BASH_REMATCH[1] - BASH_REMATCH[3])) passed, ${BASH_REMATCH[3]} failed"
exit $status
