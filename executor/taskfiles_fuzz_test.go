package executor

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/baas-batch/baas/tasklet"
)

// FuzzProgress: what a task writes as its progress becomes numbers that JSON
// holds and one short line, or nothing.
func FuzzProgress(f *testing.F) {
	for _, text := range []string{"3/10 reading\n", "1/2 a\n2/2 b\n", "0x1p-2", "1e308/1e309 x", "NaN", "1_0/2", "1 \xff\x00\x1b[31m", "1 " + strings.Repeat("é", 300), "-0/-0", "/", "1/ 2"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		checkLine(t, printable(text, 256), 256)
		p, ok := parseProgress(text)
		if !ok {
			return
		}
		for _, n := range []float64{p.Done, p.Total} {
			if n < 0 || math.IsNaN(n) || math.IsInf(n, 0) {
				t.Errorf("%q gives %v", text, n)
			}
		}
		checkLine(t, p.Message, maxMessage)
		raw, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var back tasklet.Progress
		if err := json.Unmarshal(raw, &back); err != nil || back != p {
			t.Errorf("%+v became %+v, %v", p, back, err)
		}
	})
}

func checkLine(t *testing.T, line string, limit int) {
	t.Helper()
	if len(line) > limit || !utf8.ValidString(line) || strings.ContainsFunc(line, unicode.IsControl) {
		t.Errorf("%q is not a line of at most %d bytes", line, limit)
	}
}

var outputTypes = []tasklet.OutputType{
	tasklet.TypeString, tasklet.TypeInt, tasklet.TypeFloat, tasklet.TypeBool, tasklet.TypeDuration, tasklet.TypeList, tasklet.TypeMap,
}

// FuzzValues: what a task leaves as an output value is taken as a value of the
// declared type that everybody after the executor can read, or the task is
// blamed in a short sentence.
func FuzzValues(f *testing.F) {
	for i, text := range []string{`{"v": "a\nb"}`, `{"v": -12}`, `{"v": 1e3}`, `{"v": true}`, `{"v": "1h30m"}`, `{"v": [1, {"a": 2}]}`, `{"v": {"k": "x y"}}`} {
		f.Add([]byte(text), []byte(nil), byte(i))
		f.Add([]byte(nil), []byte(strings.TrimSuffix(strings.TrimPrefix(text, `{"v": `), "}")), byte(i))
	}
	f.Add([]byte(`{"v": 1e999}`), []byte("1e999"), byte(2))
	f.Add([]byte(`{"v": [1e999]}`), []byte("[[-1E+999]]"), byte(5))
	f.Add([]byte("{\"v\": \"\xff\"}"), []byte("\"\xff\""), byte(5))
	f.Add([]byte(strings.Repeat("[", 300)), []byte(strings.Repeat("[", 200)+strings.Repeat("]", 200)), byte(5))
	f.Add([]byte(`{"v": null, "v": 1, "w": {}}`), []byte("\r\n"), byte(1))
	f.Add([]byte(`{"v": "\ud800"}`), []byte("\xef\xbb\xbf1"), byte(0))
	f.Fuzz(func(t *testing.T, object, file []byte, kind byte) {
		dir, err := os.MkdirTemp("", "outputs")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		for name, content := range map[string][]byte{tasklet.OutputsFile: object, "v": file} {
			if len(content) > 0 {
				if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		declared := tasklet.Output{Name: "v", Type: outputTypes[int(kind)%len(outputTypes)]}
		values, err := collectValues([]tasklet.Output{declared}, dir, user{})
		var blamed *outputError
		switch {
		case errors.As(err, &blamed):
			checkLine(t, printable(err.Error(), 500), 500)
		case err != nil:
			t.Errorf("the platform is blamed: %v", err)
		default:
			checkTaken(t, declared.Type, values["v"])
		}
	})
}

func checkTaken(t *testing.T, typ tasklet.OutputType, raw json.RawMessage) {
	t.Helper()
	if len(raw) > maxValues || !utf8.Valid(raw) {
		t.Errorf("%d bytes are taken: %.100q", len(raw), raw)
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%.100q is taken: %v", raw, err)
	}
	ok := false
	switch typ {
	case tasklet.TypeString:
		_, ok = v.(string)
	case tasklet.TypeInt:
		_, err := strconv.ParseInt(string(raw), 10, 64)
		ok = err == nil
	case tasklet.TypeFloat:
		_, ok = v.(float64)
	case tasklet.TypeBool:
		_, ok = v.(bool)
	case tasklet.TypeDuration:
		text, _ := v.(string)
		_, err := time.ParseDuration(text)
		ok = err == nil
	case tasklet.TypeList:
		_, ok = v.([]any)
	case tasklet.TypeMap:
		_, ok = v.(map[string]any)
	}
	if !ok {
		t.Errorf("%.100q is taken as %s", raw, typ)
	}
}

// FuzzCommit: the name in a commit file is that of a directory beside it, never
// a way out.
func FuzzCommit(f *testing.F) {
	for _, text := range []string{"c1\n", "c1/", "../x", "commit", ".hidden", "a/b", "a\x00b", strings.Repeat("x", 600), "/"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		dir, err := os.MkdirTemp("", "commit")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		if err := os.WriteFile(filepath.Join(dir, tasklet.CommitFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, ok := (&checkpoint{dir: dir}).committed()
		if !ok {
			return
		}
		checkName(t, c.name)
		if c.name == tasklet.CommitFile || len(text) <= 512 && !strings.Contains(string(text), c.name) {
			t.Errorf("%q commits %q", text, c.name)
		}
	})
}
