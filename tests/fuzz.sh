#!/bin/sh
# Runs every fuzz target, one after the other. Usage: tests/fuzz.sh [TIME] [PACKAGE...]
#
# TIME is how long each target runs, such as 30s (the default) or 10m, or how many
# inputs it tries, such as 10000x. What fails is kept in the package's
# testdata/fuzz, where go test tries it from then on.
# FUZZ_WORKERS is how many processes fuzz at the same time, by default 1.
set -u
cd "$(dirname "$0")/.."
time=${1:-30s}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- ./...

failed=
for dir in $(go list -f '{{.Dir}}' "$@"); do
	for target in $(cat "$dir"/*_test.go 2>/dev/null | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' | sort); do
		echo "== ${dir#"$PWD"/} $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 100x -parallel "${FUZZ_WORKERS:-1}" "$dir" ||
			failed="$failed $target"
	done
done
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
