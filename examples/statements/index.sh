#!/bin/sh
# Lists all statements with their totals.
set -eu
for statement in "$BAAS_INPUT_STATEMENTS"/*; do
	awk -v name="$(basename "$statement")" '/^Total/ { print name, $3, $NF }' "$statement"
done >lines
{
	echo "airport,routes,departures"
	sed 's/^[0-9]*-//; s/\.txt//; s/ /,/g' lines | sort
} >"$BAAS_OUTPUTS/index"
printf '{"statements": %d}\n' "$(wc -l <lines)" >"$BAAS_OUTPUTS/outputs.json"
