#!/bin/sh
# Lists all statements with their totals, which must agree with those of the parts.
set -eu
export LC_ALL=C
awk 'FNR == 3 { code = $1 } /^Total of / { print code "," $3 "," $NF }' \
	"$BAAS_INPUT_STATEMENTS"/* | sort >lines
{
	echo "airport,routes,departures"
	cat lines
} >"$BAAS_OUTPUTS/index"

sum() { tr -d '[] ' | tr ',' '\n' | awk '{ n += $1 } END { printf "%d", n }'; }
statements=$(awk 'END { print NR }' lines)
departures=$(cut -d, -f3 lines | sum)
expected="$(echo "$BAAS_INPUT_COUNTS" | sum) statements, $(echo "$BAAS_INPUT_DEPARTURES" | sum) departures"
echo "$statements statements, $departures departures"
if [ "$statements statements, $departures departures" != "$expected" ]; then
	echo "the parts have counted $expected" >&2
	exit 65
fi
printf '{"statements": %d, "departures": %d}\n' "$statements" "$departures" >"$BAAS_OUTPUTS/outputs.json"
