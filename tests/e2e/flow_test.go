package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/baas-batch/baas/api"
)

// everything uses the whole flow language but images and GPUs, which the embedded
// Mesos does not have.
const everything = `
name: everything
params:
  ledger: {type: string, identity: false}
  sales: {type: file}
  greeting: {type: string, pattern: '[a-z ]+'}
  rate: {type: float, default: 0.5}
  archive: {type: bool, default: false}
  nobody: {type: list, default: []}
defaults:
  env: {LEVEL: info}
  resources: {cpus: 0.1, mem: 32MB}
  retry: {backoff: 50ms}
steps:
  # Values and files between steps; a file of the app.
  make:
    run: ./make.sh
    env: {LEVEL: debug, WHO: 'for ${{ params.greeting }}'}
    with: {rate: '${{ params.rate }}', words: [one, 2, true], nested: {a: '${{ params.greeting }}'}}
    outputs: {doubled: float, names: list, text: file, note: {type: string, optional: true}}
  use:
    run: [./use.sh, an argument]
    with: {text: '${{ steps.make.outputs.text }}', first: '${{ steps.make.outputs.names[0] }}', doubled: '${{ steps.make.outputs.doubled }}'}
    outputs: {line: string}

  # A tasklet of the catalogue; one partition per file; outputs in order; a bound.
  split:
    tasklet: csv-split@1
    with: {file: '${{ params.sales }}', by: city, parts: 4}
  sums:
    for_each: '${{ steps.split.outputs.parts }}'
    parallel: 2
    with: {part: '${{ item }}', index: '${{ index }}', ledger: '${{ params.ledger }}'}
    run: |
      echo "sum-start $BAAS_INPUT_INDEX" >>"$BAAS_INPUT_LEDGER"
      awk -F, 'NR > 1 { s += $2 } END { print s + 0 }' "$BAAS_INPUT_PART" >"$BAAS_OUTPUTS/sum"
      awk -F, 'NR == 2 { print $1 }' "$BAAS_INPUT_PART" >"$BAAS_OUTPUTS/city"
      until [ $(grep -c sum-start "$BAAS_INPUT_LEDGER") -ge 2 ]; do sleep 0.1; done # two at a time
      sleep 0.5
      echo "sum-end $BAAS_INPUT_INDEX" >>"$BAAS_INPUT_LEDGER"
    outputs: {sum: int, city: string}
  total:
    with: {sums: '${{ steps.sums.outputs.sum }}', cities: '${{ steps.sums.outputs.city.join("+") }}', count: '${{ steps.sums.count }}'}
    run: 'echo "$BAAS_INPUT_SUMS of $BAAS_INPUT_CITIES in $BAAS_INPUT_COUNT" >"$BAAS_OUTPUTS/all"'
    outputs: {all: string}
  none:
    for_each: '${{ params.nobody }}'
    run: exit 1

  # A named exit status decides.
  check:
    run: echo holiday >"$BAAS_EXIT_STATUS"
  holiday:
    when: '${{ steps.check.exit_status == "holiday" }}'
    run: 'true'
  workday:
    when: '${{ steps.check.exit_status != "holiday" }}'
    run: exit 1
  afterwards: {needs: workday, run: 'true'}

  # Exit code 75 is tried again, 3 is not.
  flaky:
    retry: {attempts: 3, on: [75]}
    with: {ledger: '${{ params.ledger }}'}
    run: |
      echo "flaky $BAAS_ATTEMPT" >>"$BAAS_INPUT_LEDGER"
      [ $BAAS_ATTEMPT = 3 ] || exit 75
  broken:
    retry: {attempts: 5, never: [3]}
    with: {ledger: '${{ params.ledger }}'}
    run: |
      echo "broken $BAAS_ATTEMPT" >>"$BAAS_INPUT_LEDGER"
      [ $BAAS_ATTEMPT = 1 ] && exit 75
      exit 3
  downstream: {needs: [broken], run: 'true'}
  archive: {when: '${{ params.archive }}', run: 'true'}
on_exit:
  report:
    with:
      ledger: '${{ params.ledger }}'
      end: '${{ run.status }} ${{ run.failed_step }} ${{ steps.downstream.status }} ${{ steps.workday.status }}'
    run: echo "exit $BAAS_INPUT_END" >>"$BAAS_INPUT_LEDGER"
`

var everythingFiles = map[string]string{
	"flow.yaml": everything,
	"make.sh": `#!/bin/sh
set -e
[ "$LEVEL $WHO" = "debug for good day" ]
[ "$BAAS_INPUT_WORDS" = '["one",2,true]' ]
[ "$BAAS_INPUT_NESTED" = '{"a":"good day"}' ]
echo "{\"doubled\": $(echo "$BAAS_INPUT_RATE" | awk '{ print 2 * $1 }'), \"names\": [\"anna\", \"bert\"]}" >"$BAAS_OUTPUTS/outputs.json"
echo "a long text" >"$BAAS_OUTPUTS/text"
`,
	"use.sh": `#!/bin/sh
set -e
[ "$LEVEL" = info ]
echo "$1: $BAAS_INPUT_FIRST $BAAS_INPUT_DOUBLED $(cat "$BAAS_INPUT_TEXT")" >"$BAAS_OUTPUTS/line"
`,
}

// One flow with everything in it ends as failed, with all that could be done done.
func TestEverything(t *testing.T) {
	p, l := of(start(t)), newLedger(t)
	sales := filepath.Join(dir(t), "sales.csv")
	if err := os.WriteFile(sales, []byte("city,amount\noslo,1\nrome,20\nbern,300\noslo,2\nlima,4000\nrome,10\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := run(t, p, everythingFiles, map[string]string{"ledger": l.path, "sales": sales, "greeting": "good day"})
	last := ended(t, p, r, patience)

	equal(t, last.Status, api.StatusFailed)
	if !strings.Contains(last.Reason, "step broken: exit code 3 (attempt 2 of 5; the retry rules exclude it)") {
		t.Errorf("reason %q", last.Reason)
	}
	for _, s := range last.Steps {
		want := api.StatusSucceeded
		switch s.ID {
		case "workday", "archive":
			want = api.StatusSkipped
		case "broken":
			want = api.StatusFailed
		case "downstream":
			want = api.StatusBlocked
		}
		if s.Status != want {
			t.Errorf("step %s is %s, not %s: %s", s.ID, s.Status, want, s.Reason)
		}
	}
	equal(t, output(t, last, "use", "line"), "an argument: anna 1 a long text")
	equal(t, output(t, last, "sums", "sum"), []any{3.0, 30.0, 300.0, 4000.0})
	equal(t, output(t, last, "sums", "city"), []any{"oslo", "rome", "bern", "lima"})
	equal(t, output(t, last, "total", "all"), "[3,30,300,4000] of oslo+rome+bern+lima in 4")
	if s, _ := last.Step("make"); s.Outputs["note"] != nil {
		t.Errorf("an output that was not written: %s", s.Outputs["note"])
	}
	if s, _ := last.Step("check"); s.ExitStatus != "holiday" {
		t.Errorf("exit status %q", s.ExitStatus)
	}

	equal(t, l.of(t, "flaky"), [][]string{{"1"}, {"2"}, {"3"}})
	equal(t, l.of(t, "broken"), [][]string{{"1"}, {"2"}})
	equal(t, l.of(t, "exit"), [][]string{{"failed", "broken", "not", "run", "skipped"}})
	equal(t, mostAtOnce(l.lines(t), "sum-start", "sum-end"), 2)
	checkDownloads(t, p, last.Run)
}

// mostAtOnce is the highest number of entries that began and had not ended.
func mostAtOnce(lines [][]string, begin, end string) (most int) {
	now := 0
	for _, words := range lines {
		switch words[0] {
		case begin:
			now++
		case end:
			now--
		}
		most = max(most, now)
	}
	return most
}

// checkDownloads fetches the parts of the catalogue's tasklet.
func checkDownloads(t *testing.T, p target, id string) {
	t.Helper()
	last, err := p.runs().Describe(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, o := range last.Outputs() {
		if o.Step != "split" {
			continue
		}
		paths, err := p.runs().Download(t.Context(), o, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		for i, path := range paths {
			equal(t, filepath.Base(path), "part-00"+strconv.Itoa(i+1)+".csv")
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			equal(t, lines[0], "city,amount")
			rows = append(rows, lines[1:]...)
		}
	}
	slices.Sort(rows)
	equal(t, rows, []string{"bern,300", "lima,4000", "oslo,1", "oslo,2", "rome,10", "rome,20"})
}
