package executor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tasklet/tree"
)

func TestFromEnv(t *testing.T) {
	env := map[string]string{
		"MESOS_FRAMEWORK_ID": "f", "MESOS_EXECUTOR_ID": "e", "MESOS_DIRECTORY": "/host/dir", "MESOS_SANDBOX": "/mnt/sandbox",
		"MESOS_AGENT_ENDPOINT": "10.0.0.1:5051", "MESOS_CHECKPOINT": "1", "MESOS_RECOVERY_TIMEOUT": "15mins",
		"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "5secs", "MESOS_EXECUTOR_AUTHENTICATION_TOKEN": "t",
	}
	getenv := func(name string) string { return env[name] }
	c, err := FromEnv(getenv)
	if err != nil {
		t.Fatal(err)
	}
	if c.AgentURL != "http://10.0.0.1:5051/api/v1/executor" || c.Directory != "/host/dir" || c.Sandbox != "/mnt/sandbox" ||
		!c.Checkpoint || c.RecoveryTimeout != 15*time.Minute || c.ShutdownGrace != 5*time.Second || c.Token != "t" || c.Path == "" {
		t.Errorf("%+v", c)
	}
	env["LIBPROCESS_SSL_ENABLED"] = "true"
	delete(env, "MESOS_SANDBOX")
	if c, err = FromEnv(getenv); err != nil || !strings.HasPrefix(c.AgentURL, "https://") || c.Sandbox != "/host/dir" {
		t.Errorf("%+v, %v", c, err)
	}
	delete(env, "MESOS_FRAMEWORK_ID")
	env["MESOS_RECOVERY_TIMEOUT"], env[tasklet.EnvStorageCA] = "soon", "no certificate"
	_, err = FromEnv(getenv)
	for _, name := range []string{"MESOS_FRAMEWORK_ID", "MESOS_RECOVERY_TIMEOUT", tasklet.EnvStorageCA} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not in the error %v", name, err)
		}
	}
}

// A log has a file once there is something in it: that of one before.
func TestLogFileIsUsedAgain(t *testing.T) {
	dir := t.TempDir() + "/logs"
	path := func(name string) string { return filepath.Join(dir, name) }
	first := newLog(path("1"), minLog, nil)
	_, _ = first.Write([]byte("first"))
	silent := newLog(path("2"), minLog, first.left())
	if size, err := silent.finish(); size != 0 || err != nil || silent.left() != first {
		t.Fatalf("%d bytes, %v", size, err)
	}
	last := newLog(path("3"), minLog, silent.left())
	_, _ = last.Write([]byte("3"))
	if size, err := last.finish(); size != 1 || err != nil || last.left() != last {
		t.Fatalf("%d bytes, %v", size, err)
	}
	quiet := newLog(path("4"), minLog, last.left())
	quiet.show()
	if size, err := quiet.finish(); size != 0 || err != nil {
		t.Fatalf("%d bytes, %v", size, err)
	}
	found, err := os.ReadDir(dir)
	if err != nil || len(found) != 1 || found[0].Name() != "4" {
		t.Fatalf("%v, %v", found, err)
	}
	quiet.left().discard()
	if err := os.Remove(dir); err != nil {
		t.Error(err)
	}
}

func TestLogFile(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for i := range 300 {
		limit := int64(minLog + rnd.IntN(10_000))
		l := newLog(filepath.Join(t.TempDir(), "log"), limit, nil)
		limit = l.limit
		var want []byte
		for size := rnd.IntN(4 * int(limit)); len(want) < size; {
			chunk := make([]byte, rnd.IntN(1+rnd.IntN(3*int(limit))))
			for j := range chunk {
				chunk[j] = byte(rnd.IntN(256))
				if i%2 == 0 && rnd.IntN(80) == 0 {
					chunk[j] = '\n'
				}
			}
			want = append(want, chunk...)
			_, _ = l.Write(chunk)
		}
		size, err := l.finish()
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, size)
		if _, err := l.file.ReadAt(got, 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		_ = l.close()
		checkLog(t, got, want, limit)
	}
}

func checkLog(t *testing.T, got, want []byte, limit int64) {
	t.Helper()
	if int64(len(want)) <= limit {
		if !bytes.Equal(got, want) {
			t.Errorf("log of %d bytes below the limit of %d is changed", len(want), limit)
		}
		return
	}
	var left, head, tail int
	at := bytes.Index(got, []byte("\n[... "))
	end := bytes.Index(got, []byte(" bytes left out ...]\n"))
	if at < 0 || end < at {
		t.Fatalf("no mark in a log of %d bytes, limit %d", len(want), limit)
	}
	if _, err := fmt.Sscan(string(got[at+6:end]), &left); err != nil {
		t.Fatal(err)
	}
	head, tail = at, len(got)-end-len(" bytes left out ...]\n")
	if head+left+tail != len(want) || !bytes.HasPrefix(want, got[:head]) || !bytes.HasSuffix(want, got[len(got)-tail:]) {
		t.Errorf("limit %d: %d bytes became %d and %d with %d left out", limit, len(want), head, tail, left)
	}
	if min(head, tail) < int(limit/2)-seam || max(head, tail) > int(limit/2) {
		t.Errorf("limit %d: head of %d and tail of %d bytes", limit, head, tail)
	}
}

func TestFullDiskDoesNotStopTheCommand(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	l := &logFile{limit: minLog, file: full}
	defer l.close()
	if n, err := l.Write([]byte("x")); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := l.finish(); !tree.DiskFull(err) {
		t.Errorf("error %v", err)
	}
}

func TestValues(t *testing.T) {
	type file map[string]string
	out := func(typ tasklet.OutputType) []tasklet.Output { return []tasklet.Output{{Name: "v", Type: typ}} }
	optional := []tasklet.Output{{Name: "v", Type: tasklet.TypeInt, Optional: true}}
	for name, c := range map[string]struct {
		declared []tasklet.Output
		files    file
		want     string // JSON of v; "": none
		reason   string
	}{
		"string":             {out(tasklet.TypeString), file{"outputs.json": `{"v": "a\nb"}`}, `"a\nb"`, ""},
		"string from file":   {out(tasklet.TypeString), file{"v": "text \"q\"\n\n"}, `"text \"q\"\n"`, ""},
		"string not UTF-8":   {out(tasklet.TypeString), file{"v": "\xff"}, "", "not UTF-8"},
		"string is a number": {out(tasklet.TypeString), file{"outputs.json": `{"v": 1}`}, "", `output "v" is 1, not of type string`},
		"int":                {out(tasklet.TypeInt), file{"outputs.json": `{"v": -12}`}, "-12", ""},
		"int from file":      {out(tasklet.TypeInt), file{"v": " 42\n"}, "42", ""},
		"int is a fraction":  {out(tasklet.TypeInt), file{"outputs.json": `{"v": 1.5}`}, "", "not of type int"},
		"int too large":      {out(tasklet.TypeInt), file{"v": "92233720368547758080"}, "", "not of type int"},
		"float":              {out(tasklet.TypeFloat), file{"outputs.json": `{"v": 1e3}`}, "1e3", ""},
		"float is text":      {out(tasklet.TypeFloat), file{"v": "abc"}, "", `output "v" is "abc", not of type float`},
		"bool":               {out(tasklet.TypeBool), file{"v": "true\n"}, "true", ""},
		"bool is a string":   {out(tasklet.TypeBool), file{"outputs.json": `{"v": "true"}`}, "", "not of type bool"},
		"duration":           {out(tasklet.TypeDuration), file{"v": "1h30m\n"}, `"1h30m"`, ""},
		"duration is not":    {out(tasklet.TypeDuration), file{"outputs.json": `{"v": "soon"}`}, "", "not of type duration"},
		"list":               {out(tasklet.TypeList), file{"outputs.json": `{"v": [1, {"a": 2}]}`}, `[1,{"a":2}]`, ""},
		"list is a map":      {out(tasklet.TypeList), file{"outputs.json": `{"v": {}}`}, "", "not of type list"},
		"map from file":      {out(tasklet.TypeMap), file{"v": `{"k": "x y"}`}, `{"k":"x y"}`, ""},
		"outputs.json first": {out(tasklet.TypeInt), file{"outputs.json": `{"v": 1}`, "v": "2"}, "1", ""},
		"optional":           {optional, nil, "", ""},
		"optional null":      {optional, file{"outputs.json": `{"v": null}`}, "", ""},
		"optional but wrong": {optional, file{"v": "x"}, "", "not of type int"},
		"misspelt":           {out(tasklet.TypeInt), file{"outputs.json": `{"w": 1, "u": 2}`}, "", "(outputs.json has u, w)"},
		"no object":          {out(tasklet.TypeInt), file{"outputs.json": `[1]`}, "", "outputs.json is not a JSON object"},
		"too large":          {out(tasklet.TypeString), file{"outputs.json": `{"v": "` + strings.Repeat("x", 300<<10) + `"}`}, "", "at most 256 are allowed"},
		"far too large":      {out(tasklet.TypeString), file{"v": strings.Repeat("x", 300<<10)}, "", "has more than 256 KB"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for f, content := range c.files {
				if err := os.WriteFile(filepath.Join(dir, f), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := collectValues(c.declared, dir, user{})
			if c.reason != "" {
				if err == nil || !strings.Contains(err.Error(), c.reason) {
					t.Errorf("error %v, want %q", err, c.reason)
				}
				return
			}
			if err != nil || string(got["v"]) != c.want {
				t.Errorf("%s, %v, want %s", got["v"], err, c.want)
			}
		})
	}
}

func TestParseProgress(t *testing.T) {
	for text, want := range map[string]*tasklet.Progress{
		"3/10 reading files\n":          {Done: 3, Total: 10, Message: "reading files"},
		"1/2 a\n2/2 b\n":                {Done: 2, Total: 2, Message: "b"},
		"0.5":                           {Done: 0.5},
		"7 rows":                        {Done: 7, Message: "rows"},
		"1/2 \x1b[31mred":               {Done: 1, Total: 2, Message: "[31mred"},
		"1 " + strings.Repeat("é", 150): {Done: 1, Message: strings.Repeat("é", 100)},
		"":                              nil,
		"half":                          nil,
		"1/x":                           nil,
		"NaN/1":                         nil,
		"-1/1":                          nil,
	} {
		got, ok := parseProgress(text)
		if ok != (want != nil) || ok && got != *want {
			t.Errorf("%q: %+v, %v", text, got, ok)
		}
	}
}

func TestParseStat(t *testing.T) {
	line := "42 (a) b (c) Z 7 8 9 0 -1 4194560 1 2 3 4 150 50 5 6 20 0 1 0 12345 1000 30 " + strings.Repeat("0 ", 28)
	p, ok := parseStat(42, []byte(line))
	want := proc{procKey: procKey{42, 12345}, ppid: 7, session: 9, zombie: true, ticks: 200, rss: 30 * pageSize}
	if !ok || p != want {
		t.Errorf("%+v, want %+v", p, want)
	}
	if _, ok := parseStat(1, []byte("1 (x")); ok {
		t.Error("half a line was taken")
	}
}

func TestJoinedReadsPiecesAsOne(t *testing.T) {
	pieces := []string{"ab", "", "cdefg", "h", ""}
	sizes := make([]int64, len(pieces))
	for i, p := range pieces {
		sizes[i] = int64(len(p))
	}
	j := newJoined(sizes, func(i int) (io.ReaderAt, io.Closer, error) {
		return strings.NewReader(pieces[i]), io.NopCloser(nil), nil
	})
	defer j.close()
	whole := strings.Join(pieces, "")
	for from := range len(whole) + 1 {
		for to := from; to <= len(whole); to++ {
			got := make([]byte, to-from)
			if n, err := j.ReadAt(got, int64(from)); n != len(got) || err != nil || string(got) != whole[from:to] {
				t.Errorf("[%d:%d] is %q, %v", from, to, got[:n], err)
			}
		}
	}
	if n, err := j.ReadAt(make([]byte, 9), 0); n != 8 || err != io.EOF {
		t.Errorf("%d, %v", n, err)
	}
}

func TestStageNames(t *testing.T) {
	var files []tasklet.Source
	for _, n := range []string{"a", "a", "", "../../x", "1-a", "a"} {
		files = append(files, tasklet.Source{FileRef: tasklet.FileRef{Name: n, Key: "k/from-key"}})
	}
	got := strings.Join(stageNames(files), " ")
	if want := "00000-a 00001-a 00002-from-key 00003-file 00004-1-a 00005-a"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestInputText(t *testing.T) {
	d := dirs{inputs: "/in"}
	for _, c := range []struct {
		in   tasklet.Input
		want string
	}{
		{tasklet.Input{Value: json.RawMessage(`"é \"x\""`)}, `é "x"`},
		{tasklet.Input{Value: json.RawMessage(` { "a" : 1.10 } `)}, `{"a":1.10}`},
		{tasklet.Input{Value: json.RawMessage(`null`)}, `null`},
		{tasklet.Input{}, ``},
		{tasklet.Input{List: true}, `/in/name`},
	} {
		if got, err := inputText("name", c.in, d); err != nil || got != c.want {
			t.Errorf("%s, %v, want %s", got, err, c.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	cfg := Config{Path: "/bin", Lang: "C"}
	l := &tasklet.Launch{Run: "r", Env: map[string]string{"HOME": "/own", "BAAS_RUN": "forged", markerVariable: "forged"}}
	env, err := environment(cfg, l, tasklet.Partition{}, dirs{work: "/w", tmp: "/t"})
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(env, "\n") + "\n"
	for _, want := range []string{"HOME=/own\n", "BAAS_RUN=r\n", "TMPDIR=/t\n", "PATH=/bin\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if strings.Contains(got, "forged") {
		t.Errorf("forged:\n%s", got)
	}
	value := func(s string) tasklet.Input { return tasklet.Input{Value: json.RawMessage(s)} }
	for reason, inputs := range map[string]map[string]tasklet.Input{
		`inputs "a-b" and "a_b" share the variable`: {"a-b": value("1"), "a_b": value("2")},
		"holds a NUL byte":                          {"x": value(`"\u0000"`)},
		"pass it as a file":                         {"x": value(`"` + strings.Repeat("y", maxVariable) + `"`)},
		`input "x" is not JSON`:                     {"x": value("{")},
	} {
		_, err := environment(cfg, &tasklet.Launch{}, tasklet.Partition{Inputs: inputs}, dirs{})
		var bad *invalidError
		if !errors.As(err, &bad) || !strings.Contains(bad.reason, reason) {
			t.Errorf("error %v, want %q", err, reason)
		}
	}
}

func TestDirectoryName(t *testing.T) {
	for id, want := range map[string]string{"wf~run~act~0~1": "wf~run~act~0~1", "..": "_", ".x": "_x", "": "_", "a/../b c%d": "a_.._b_c_d"} {
		if got := directoryName(id); got != want {
			t.Errorf("%q: %q", id, got)
		}
	}
}

func TestRecentForgetsTheOldest(t *testing.T) {
	var r recent
	for i := range maxRecent + 2 {
		r.add(fmt.Sprint(i))
	}
	if r.has("0") || r.has("1") || !r.has("2") || !r.has(fmt.Sprint(maxRecent+1)) || len(r.set) != maxRecent {
		t.Errorf("%d remembered", len(r.set))
	}
}
