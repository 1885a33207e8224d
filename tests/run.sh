#!/usr/bin/env bash
# Runs all checks and tests; installs what they need. Usage: tests/run.sh [go test arguments]
#
# Needs Go. On Debian as root it installs missing packages by itself; elsewhere
# it names them.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=1 GOFLAGS="${GOFLAGS:-}"

need() { # need COMMAND PACKAGE...
	local command=$1
	shift
	command -v "$command" >/dev/null 2>&1 && return
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
		echo "installing $*"
		[ -n "${updated:-}" ] || { apt-get update -qq; updated=1; }
		# The tests start servers by themselves; the packages' own must not run.
		local policy=/usr/sbin/policy-rc.d
		[ -e "$policy" ] && policy= || printf '#!/bin/sh\nexit 101\n' >"$policy"
		[ -z "$policy" ] || chmod +x "$policy"
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
		[ -z "$policy" ] || rm -f "$policy"
	else
		echo "tests: please install $* (for $command)" >&2
		exit 1
	fi
}
need gcc gcc # the race detector
need chromium chromium
need java default-jre-headless
need /usr/share/zookeeper/bin/zkServer.sh zookeeper
need memcached memcached
need swift-proxy-server swift-proxy swift-account swift-container swift-object
need faketime faketime

STATICCHECK=honnef.co/go/tools/cmd/staticcheck@v0.8.2
WORKFLOWCHECK=go.temporal.io/sdk/contrib/tools/workflowcheck@v0.6.0

echo "== gofmt"
unformatted=$(gofmt -l $(git ls-files '*.go'))
[ -z "$unformatted" ] || { echo "not formatted: $unformatted" >&2; exit 1; }
echo "== go mod tidy"
go mod tidy -diff
echo "== go vet"
go vet ./...
echo "== staticcheck"
go run "$STATICCHECK" ./...
echo "== workflowcheck"
go run "$WORKFLOWCHECK" -config workflowcheck.config.yaml ./workflows/...
echo "== servers"
# The S3 server of the tests; tests/servers has its version.
VERSITYGW=$(sed -n 's/^const versitygw = "\(.*\)"$/\1/p' tests/servers/versity.go)
[ -x bin/tools/versitygw ] || CGO_ENABLED=0 GOBIN="$PWD/bin/tools" go install "$VERSITYGW"
echo "== binaries"
CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o bin/ ./cmd/...
size=$(wc -c <bin/baas-executor)
echo "baas-executor: $((size / 1024)) KiB"
[ "$size" -lt $((15 * 1024 * 1024)) ] || { echo "baas-executor is over 15 MB" >&2; exit 1; }
echo "== go test"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
go test -race -timeout 40m "${@:-./...}" 2>&1 | tee "$log" && exit
# The output of one failed test can be long: once more what matters of it.
echo "== what failed" >&2
grep -E '^ *(--- FAIL|[a-z_]+_test\.go:[0-9]+:)|^(FAIL|panic:|WARNING: DATA RACE)' "$log" | cut -c1-300 | head -60 >&2
exit 1
