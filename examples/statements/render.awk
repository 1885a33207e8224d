# First file: airports (CSV, some fields quoted). Second: the routes of one part,
# sorted by origin and, within it, by falling number of flights.

# fields splits a CSV line into f[1..n].
function fields(line, f,    n, c, i, quoted) {
	n = 1; f[1] = ""; quoted = 0
	for (i = 1; i <= length(line); i++) {
		c = substr(line, i, 1)
		if (c == "\"") quoted = !quoted
		else if (c == "," && !quoted) f[++n] = ""
		else f[n] = f[n] c
	}
	return n
}

function begin(code) {
	origin = code; routes = 0; flights = 0
	file = out "/statements/" code ".txt"
	printf "STATEMENT OF DEPARTURES %s\n\n%s  %s\n     %s\n\n%-40s %9s\n%s\n",
		year, code, name[code], place[code], "Destination", "Flights", rule > file
}

function finish() {
	if (origin == "") return
	printf "%s\n%-40s %9d\n", rule, "Total of " routes (routes == 1 ? " route" : " routes"), flights > file
	close(file)
	done++
	departures += flights
	print done "/" origins " " origin > ENVIRON["BAAS_PROGRESS"]
	close(ENVIRON["BAAS_PROGRESS"])
}

BEGIN {
	rule = sprintf("%50s", ""); gsub(/ /, "-", rule)
}

NR == FNR {
	if (FNR > 1) {
		fields($0, f)
		name[f[1]] = f[2]
		place[f[1]] = f[3] (f[4] == "" ? "" : ", " f[4])
	}
	next
}

{
	split($0, r, ",")
	if (r[1] != origin) { finish(); begin(r[1]) }
	printf "%-40s %9d\n", r[2] "  " place[r[2]], r[3] > file
	routes++
	flights += r[3]
}

END {
	finish()
	printf "{\"count\": %d, \"departures\": %d}\n", done, departures > (out "/outputs.json")
}
