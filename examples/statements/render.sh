#!/bin/sh
# Renders one statement for each origin in one part of the routes.
set -eu
export LC_ALL=C
mkdir "$BAAS_OUTPUTS/statements"
tail -n +2 "$BAAS_INPUT_PART" | sort -t, -k1,1 -k3,3nr -k2,2 >routes.csv
origins=$(cut -d, -f1 routes.csv | uniq | wc -l)
awk -v out="$BAAS_OUTPUTS" -v year="$BAAS_INPUT_YEAR" -v origins="$((origins))" \
	-f render.awk "$BAAS_INPUT_AIRPORTS" routes.csv
