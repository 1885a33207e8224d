#!/bin/sh
# Makes one table of the lists of results (JSON arrays, one entry a security).
set -eu
column() { echo "$1" | tr -d '[]" ' | tr ',' '\n'; }
column "$BAAS_INPUT_SYMBOLS" >symbols
column "$BAAS_INPUT_VAR95" >var95
column "$BAAS_INPUT_VAR99" >var99
column "$BAAS_INPUT_SHORTFALL99" >shortfall99
{
	echo "Loss over $BAAS_INPUT_MONTHS months, as a share of the position"
	printf '%-10s %10s %10s %16s\n' security 'VaR 95 %' 'VaR 99 %' 'shortfall 99 %'
	paste symbols var95 var99 shortfall99 |
		awk '{ printf "%-10s %10.4f %10.4f %16.4f\n", $1, $2, $3, $4 }'
} >"$BAAS_OUTPUTS/report"
cat "$BAAS_OUTPUTS/report"
