#!/bin/sh
# Lists the securities of the price history.
set -eu
tail -n +2 "$BAAS_INPUT_PRICES" | cut -d, -f1 | sort -u |
	awk 'BEGIN { printf "{\"symbols\": [" } { printf "%s\"%s\"", sep, $1; sep = ", " } END { print "]}" }' \
	>"$BAAS_OUTPUTS/outputs.json"
