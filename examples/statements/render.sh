#!/bin/sh
# Renders one statement for each origin in one part of the routes.
set -eu
mkdir -p "$BAAS_OUTPUTS/statements"
tail -n +2 "$BAAS_INPUT_PART" | sort -t, -k1,1 -k3,3nr -k2,2 >routes.csv
awk -v out="$BAAS_OUTPUTS" -v year="$BAAS_INPUT_YEAR" -v total="$(cut -d, -f1 routes.csv | sort -u | wc -l)" \
	-f render.awk "$BAAS_INPUT_AIRPORTS" routes.csv
