package flow

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/baas-batch/baas/tasklet"
)

const bindFlow = `
name: bind
params:
  month: {type: string, pattern: '\d{4}-\d{2}'}
  n: {type: int, default: 3}
  rate: {type: float, default: 1}
  dry: {type: bool, default: false, identity: false}
  wait: {type: duration, default: 90s}
  day: {type: date, required: false}
  at: {type: time, required: false}
  mode: {type: string, default: fast, choices: [fast, slow]}
  words: {type: list, default: [a]}
  opts: {type: map, default: {x: 1}}
  table: {type: file, default: accounts.csv}
  more: {type: files, required: false}
steps: {a: {run: x}}
`

func TestBind(t *testing.T) {
	f := mustParse(t, []byte(bindFlow), appOptions(t))
	f = roundTrip(t, f)
	table := tasklet.NewFileRef("k", 3, "aa", "accounts.csv")
	bound, err := f.Bind(map[string]any{"month": "2026-01", "table": table, "n": json.Number("4"), "rate": 2})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"month": "2026-01", "n": int64(4), "rate": 2.0, "dry": false, "wait": "1m30s", "mode": "fast", "words": []any{"a"},
		"opts":  map[string]any{"x": int64(1)},
		"table": map[string]any{"$type": "file", "key": "k", "size": int64(3), "sha256": "aa", "name": "accounts.csv"},
	}
	if !reflect.DeepEqual(bound, want) {
		t.Errorf("%#v\nwant %#v", bound, want)
	}
	again, err := f.Bind(roundTrip(t, bound))
	if err != nil || !reflect.DeepEqual(again, want) {
		t.Errorf("bound twice: %#v, %v", again, err)
	}
	if ref, ok := AsFile(bound["table"]); !ok || ref != table {
		t.Errorf("%+v, %t", ref, ok)
	}
	if refs, ok := AsFiles([]any{bound["table"], table}); !ok || len(refs) != 2 || refs[1] != table {
		t.Errorf("%+v, %t", refs, ok)
	}
	if _, ok := AsFiles([]any{"x"}); ok {
		t.Error("text was taken for a file")
	}
}

func TestBindReportsAll(t *testing.T) {
	f := mustParse(t, []byte(bindFlow), appOptions(t))
	_, err := f.Bind(map[string]any{
		"mnth": "x", "zzz": 1, "n": 2.5, "rate": "fast", "dry": "yes", "wait": "soon", "day": "2026-13-01", "at": "noon",
		"mode": "medium", "words": "a", "opts": []any{}, "more": []any{"x"},
	})
	var wrong *ParamError
	if !errors.As(err, &wrong) {
		t.Fatal(err)
	}
	want := `unknown parameter "mnth"; did you mean "month"?
unknown parameter "zzz"; the flow has month, n, rate, dry, wait, day, at, mode, words, opts, table and more
parameter "month" (string) is missing
parameter "n": expected a whole number, found number 2.5
parameter "rate": expected a number, found text "fast"
parameter "dry": expected true or false, found text "yes"
parameter "wait": expected a duration such as 90s, 1h30m or 2d, found "soon"
parameter "day": expected a date such as 2026-01-31, found "2026-13-01"
parameter "at": expected a time such as 2026-01-31T06:00:00Z, found "noon"
parameter "mode": text "medium" is not one of fast and slow
parameter "words": expected a list, found text "a"
parameter "opts": expected a map, found a list
parameter "table": its default file is not in storage
parameter "more": element 0: expected a file, found text "x"`
	if err.Error() != want {
		t.Errorf("%s\nwant\n%s", err, want)
	}
	if _, err := f.Bind(map[string]any{"month": "x2026-01x"}); err == nil || !strings.Contains(err.Error(), `"x2026-01x" does not match the pattern \d{4}-\d{2}`) {
		t.Errorf("a pattern matches the whole text: %v", err)
	}
}

func TestParseParams(t *testing.T) {
	f := mustParse(t, []byte(bindFlow), appOptions(t))
	got, err := f.ParseParams(map[string]string{
		"month": "2026-01", "n": "5", "rate": "1e3", "dry": "true", "wait": "2d", "words": "a, b,c", "opts": `{"y": [1.0, 2.5]}`,
		"table": "./t.csv", "more": "a.csv,b.csv",
	})
	want := map[string]any{
		"month": "2026-01", "n": int64(5), "rate": 1000.0, "dry": true, "wait": "48h0m0s", "words": []any{"a", "b", "c"},
		"opts": map[string]any{"y": []any{int64(1), 2.5}}, "table": "./t.csv", "more": []any{"a.csv", "b.csv"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%#v, %v; want %#v", got, err, want)
	}
	if got, err := f.ParseParams(map[string]string{"words": `["a,b", 1]`}); err != nil || !reflect.DeepEqual(got["words"], []any{"a,b", int64(1)}) {
		t.Errorf("%#v, %v", got, err)
	}
	_, err = f.ParseParams(map[string]string{"n": "5.5", "opts": "{", "dry": "maybe", "moth": "x", "table": "", "words": "[1"})
	wantErr := `parameter "dry": expected true or false, found text "maybe"
unknown parameter "moth"; did you mean "month"?
parameter "n": expected a whole number, found text "5.5"
parameter "opts": expected a map as JSON: unexpected EOF
parameter "table": expected the path of a file
parameter "words": expected a list as JSON: unexpected EOF`
	if err == nil || err.Error() != wantErr {
		t.Errorf("%v\nwant\n%s", err, wantErr)
	}
	if got := f.FileParams(); !reflect.DeepEqual(got, []string{"table", "more"}) {
		t.Errorf("file parameters %v", got)
	}
	if got := f.DefaultFiles(map[string]any{}); !reflect.DeepEqual(got, map[string]string{"table": "accounts.csv"}) {
		t.Errorf("default files %v", got)
	}
	if got := f.DefaultFiles(map[string]any{"table": "x"}); len(got) != 0 {
		t.Errorf("default files %v", got)
	}
}

func TestIdentityDigest(t *testing.T) {
	f := mustParse(t, []byte(bindFlow), appOptions(t))
	digest := func(change map[string]any) string {
		t.Helper()
		params := map[string]any{"month": "2026-01", "table": tasklet.NewFileRef("runs/1/t", 3, "aa", "t")}
		for k, v := range change {
			params[k] = v
		}
		bound, err := f.Bind(params)
		if err != nil {
			t.Fatal(err)
		}
		d := f.IdentityDigest(bound)
		if again := f.IdentityDigest(roundTrip(t, bound)); again != d || len(d) != 64 {
			t.Errorf("%s, and after JSON %s", d, again)
		}
		return d
	}
	same := digest(nil)
	for name, change := range map[string]map[string]any{
		"not identity":     {"dry": true},
		"default given":    {"n": 3},
		"other place":      {"table": tasklet.NewFileRef("runs/2/u", 3, "aa", "u")},
		"another spelling": {"wait": "1m30s"},
	} {
		if digest(change) != same {
			t.Errorf("%s changes the digest", name)
		}
	}
	for name, change := range map[string]map[string]any{
		"value":         {"n": 4},
		"content":       {"table": tasklet.NewFileRef("runs/1/t", 3, "bb", "t")},
		"more is given": {"day": "2026-01-01"},
	} {
		if digest(change) == same {
			t.Errorf("%s does not change the digest", name)
		}
	}
}
