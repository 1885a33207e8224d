package examples

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/starter"
	_ "github.com/baas-batch/baas/storage/s3"
	_ "github.com/baas-batch/baas/storage/swift"
	"github.com/baas-batch/baas/tests/harness"
	"github.com/baas-batch/baas/tests/servers"
)

// route is one line of a statement.
type route struct {
	to      string
	flights int
}

// airport is what the data says of one airport.
type airport struct{ name, place string }

// statementData reads the example's data: the airports, and the routes by origin
// in the order in which a statement has them.
func statementData(t *testing.T) (map[string]airport, map[string][]route) {
	t.Helper()
	airports := make(map[string]airport)
	for _, row := range table(t, "statements/data/airports.csv") {
		place := row[2]
		if row[3] != "" {
			place += ", " + row[3]
		}
		airports[row[0]] = airport{row[1], place}
	}
	routes := make(map[string][]route)
	for _, row := range table(t, "statements/data/routes-2008.csv") {
		flights, err := strconv.Atoi(row[2])
		if err != nil {
			t.Fatal(err)
		}
		routes[row[0]] = append(routes[row[0]], route{row[1], flights})
	}
	for _, list := range routes {
		slices.SortFunc(list, func(a, b route) int {
			return cmp.Or(cmp.Compare(b.flights, a.flights), cmp.Compare(a.to, b.to))
		})
	}
	return airports, routes
}

func total(list []route) (flights int) {
	for _, r := range list {
		flights += r.flights
	}
	return flights
}

// The flow runs unchanged on every store, and its outputs are the same to the byte.
func TestStatements(t *testing.T) {
	s3, swift := servers.StartS3(t, nil), servers.StartSwift(t)
	swiftS3, private := swift.S3(), servers.StartS3(t, servers.NewCertificate(t))
	swift.Credentials(t)
	swift.Container(t, "by-s3")
	var first map[string]string
	for _, store := range []struct {
		name, url string
		s3        *servers.S3 // whose credentials are needed
	}{
		{name: "files"},
		{"S3", s3.Bucket(t, "bucket"), s3},
		{"S3 with a private CA", private.Bucket(t, "bucket"), private},
		{"Swift", swift.Container(t, "statements") + "/below/a/prefix", nil},
		{"S3 of Swift", swiftS3.URL("by-s3") + "&conditions=false&max_parts=1000", swiftS3},
	} {
		t.Run(store.name, func(t *testing.T) {
			if store.s3 != nil {
				store.s3.Credentials(t)
			}
			c := harness.Client(harness.Start(t, func(c *platform.Config) { c.StorageURL = store.url }))
			files := checkStatements(t, c)
			if first == nil {
				first = files
			}
			if !maps.Equal(files, first) {
				t.Error("the outputs differ from those in files")
			}
		})
	}
}

// checkStatements recomputes every statement from the CSV files, and the index. It
// gives the files.
func checkStatements(t *testing.T, c *starter.Client) map[string]string {
	t.Helper()
	run := succeeded(t, c, begin(t, c, app(t, "statements"), nil))
	airports, routes := statementData(t)
	if len(routes) != 303 {
		t.Fatalf("the data has %d origins, want 303", len(routes))
	}

	statements := download(t, c, run, "render", "statements")
	if len(statements) != len(routes) {
		t.Errorf("%d statements for %d airports", len(statements), len(routes))
	}
	index := []string{"airport,routes,departures"}
	departures := 0
	for _, origin := range slices.Sorted(maps.Keys(routes)) {
		list := routes[origin]
		checkStatement(t, statements[origin+".txt"], origin, list, airports)
		index = append(index, fmt.Sprintf("%s,%d,%d", origin, len(list), total(list)))
		departures += total(list)
	}
	have := download(t, c, run, "index", "index")["index"]
	if have != strings.Join(index, "\n")+"\n" {
		t.Errorf("the index is\n%s", have)
	}
	statements["index"] = have
	if n := output[int](t, run, "index", "statements"); n != len(routes) {
		t.Errorf("output statements is %d, want %d", n, len(routes))
	}
	if n := output[int](t, run, "index", "departures"); n != departures {
		t.Errorf("output departures is %d, want %d", n, departures)
	}
	if s, _ := run.Step("render"); s.Partitions != 20 || s.Done != 20 {
		t.Errorf("render has %d of %d partitions done, want 20 of 20", s.Done, s.Partitions)
	}
	checkReport(t, c, run)
	return statements
}

// checkStatement compares a statement with its routes, line by line.
func checkStatement(t *testing.T, text, origin string, list []route, airports map[string]airport) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	const head, foot = 7, 2
	if len(lines) != head+len(list)+foot {
		t.Errorf("%s: %d lines for %d routes:\n%s", origin, len(lines), len(list), text)
		return
	}
	for i, want := range []string{
		"STATEMENT OF DEPARTURES 2008", "", origin + "  " + airports[origin].name, "     " + airports[origin].place,
	} {
		if lines[i] != want {
			t.Errorf("%s: line %d is %q, want %q", origin, i+1, lines[i], want)
		}
	}
	for i, r := range list {
		name, flights := lastWord(t, lines[head+i])
		if name != strings.TrimSpace(r.to+"  "+airports[r.to].place) || flights != r.flights {
			t.Errorf("%s: line %q, want %s with %d flights", origin, lines[head+i], r.to, r.flights)
		}
	}
	words, flights := lastWord(t, lines[len(lines)-1])
	want := fmt.Sprintf("Total of %d routes", len(list))
	if len(list) == 1 {
		want = "Total of 1 route"
	}
	if words != want || flights != total(list) {
		t.Errorf("%s: %q with %d flights, want %q with %d", origin, words, flights, want, total(list))
	}
}

// lastWord splits a line before its last word, a number.
func lastWord(t *testing.T, line string) (before string, number int) {
	t.Helper()
	i := strings.LastIndexByte(line, ' ')
	number, err := strconv.Atoi(line[i+1:])
	if err != nil {
		t.Errorf("line %q: %v", line, err)
	}
	return strings.TrimSpace(line[:max(i, 0)]), number
}

// checkReport checks that on_exit knew how the run ended.
func checkReport(t *testing.T, c *starter.Client, run starter.Run) {
	t.Helper()
	var log strings.Builder
	for chunk, err := range c.Logs(t.Context(), run.Run, starter.LogOptions{Step: "report", Partition: starter.AllPartitions}) {
		if err != nil {
			t.Fatal(err)
		}
		log.Write(chunk.Data)
	}
	if want := run.Run + " has ended as succeeded\n"; log.String() != want {
		t.Errorf("the log of on_exit is %q, want %q", log.String(), want)
	}
}
