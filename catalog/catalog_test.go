package catalog

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/tasklet"
)

func TestFind(t *testing.T) {
	if err := Check(); err != nil {
		t.Fatal(err)
	}
	if got, want := (Catalog{}).Names(), []string{"checksum", "concat", "csv-split"}; !slices.Equal(got, want) {
		t.Errorf("names: %v, want %v", got, want)
	}
	for _, name := range (Catalog{}).Names() {
		found, err := Catalog{}.Find(name, "1")
		if err != nil || found.Description == "" || found.Ref() != name+"@1.0.0" {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
	}
	var unknown *flow.UnknownTaskletError
	if _, err := (Catalog{}).Find("nothing", "1"); !errors.As(err, &unknown) || len(unknown.Versions) != 0 {
		t.Errorf("unknown name: %v", err)
	}
	if _, err := (Catalog{}).Find("concat", "2"); !errors.As(err, &unknown) || !slices.Equal(unknown.Versions, []string{"1.0.0"}) {
		t.Errorf("unknown version: %v", err)
	}
}

func TestVersions(t *testing.T) {
	dir := fstest.MapFS{}
	for _, version := range []string{"1.2.0", "1.10.0", "2.0.0", "1.9.9"} {
		dir["t/x@"+version+".yaml"] = &fstest.MapFile{Data: []byte("name: x\nversion: " + version + "\nrun: 'true'\n")}
	}
	all, err := load(dir, "t")
	if err != nil {
		t.Fatal(err)
	}
	for ask, want := range map[string]string{"1": "1.10.0", "2": "2.0.0", "1.2.0": "1.2.0", "3": ""} {
		got, err := find(all["x"], "x", ask)
		if (err == nil) != (want != "") || err == nil && got.Version != want {
			t.Errorf("%s: %v, %v; want %s", ask, got, err, want)
		}
	}
	dir["t/wrong.yaml"] = &fstest.MapFile{Data: []byte("name: x\nversion: 1.0.0\nrun: 'true'\n")}
	if _, err := load(dir, "t"); err == nil {
		t.Error("a file with the wrong name was taken")
	}
}

// result is what a run of a tasklet left.
type result struct {
	exit    int
	log     string
	outputs string // directory
}

// run runs a tasklet of the catalogue as an executor does: with the environment
// contract of package tasklet and nothing else but PATH.
func run(t *testing.T, name string, values map[string]string, files map[string][]string) result {
	t.Helper()
	found, err := Catalog{}.Find(name, "1")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	inputs, outputs := filepath.Join(root, "inputs"), filepath.Join(root, "outputs")
	env := []string{"PATH=/usr/bin:/bin", tasklet.EnvInputs + "=" + inputs, tasklet.EnvOutputs + "=" + outputs}
	for _, dir := range []string{inputs, outputs} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, in := range found.Inputs {
		value, given := values[in.Name]
		switch contents := files[in.Name]; {
		case in.Type == flow.File:
			value = filepath.Join(inputs, in.Name)
			write(t, value, contents[0])
		case in.Type == flow.Files:
			value = filepath.Join(inputs, in.Name)
			if err := os.Mkdir(value, 0o700); err != nil {
				t.Fatal(err)
			}
			for i := 0; i+1 < len(contents); i += 2 {
				write(t, filepath.Join(value, fmt.Sprintf("%05d-%s", i/2, contents[i])), contents[i+1])
			}
		case !given && in.Default != nil:
			value = text(t, in.Default)
		}
		env = append(env, tasklet.InputVariable(in.Name)+"="+value)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", found.Shell)
	cmd.Env, cmd.Dir = env, root
	log, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), string(log), outputs}
}

func text(t *testing.T, raw json.RawMessage) string {
	t.Helper()
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// parts reads what csv-split wrote, in the order in which files become a list.
func parts(t *testing.T, r result) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(r.outputs, "parts", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, name := range names {
		out = append(out, read(t, name))
	}
	return out
}

func TestCSVSplit(t *testing.T) {
	for _, test := range []struct {
		name, file, by, separator string
		parts                     string
		want                      []string
	}{
		{"in turn", "k,v\na,1\nb,2\nc,3\na,4\n", "k", ",", "2", []string{"k,v\na,1\nc,3\na,4\n", "k,v\nb,2\n"}},
		{"fewer values than parts", "k,v\na,1\n", "k", ",", "9", []string{"k,v\na,1\n"}},
		{"header only", "k,v\n", "k", ",", "2", nil},
		{"last column, CRLF, no last line break", "v,k\r\n1,a\r\n2,b\r\n3,a", "k", ",", "2", []string{"v,k\n1,a\n3,a\n", "v,k\n2,b\n"}},
		{"byte order mark", "\ufeffk,v\na,1\n", "k", ",", "1", []string{"k,v\na,1\n"}},
		{"quotes", "k,v\n\"a\",1\na,\"x,y\"\n\"b\"\"c\",\"1\n2\"\n", "k", ",", "2", []string{"k,v\n\"a\",1\na,\"x,y\"\n", "k,v\n\"b\"\"c\",\"1\n2\"\n"}},
		{"separator in the key", "v,k\n1,\"a,b\"\n2,a\n3,\"a,b\"\n", "k", ",", "2", []string{"v,k\n1,\"a,b\"\n3,\"a,b\"\n", "v,k\n2,a\n"}},
		{"quoted name", "\"my \"\"k\"\"\",v\na,1\n", `my "k"`, ",", "1", []string{"\"my \"\"k\"\"\",v\na,1\n"}},
		{"empty key and empty lines", "k,v\n,1\n\n,2\na,3\n", "k", ",", "2", []string{"k,v\n,1\n,2\n", "k,v\na,3\n"}},
		{"semicolons", "k;v\na;1,5\nb;2\n", "k", ";", "2", []string{"k;v\na;1,5\n", "k;v\nb;2\n"}},
		{"tabs and bars", "k\tv\na|x\t1\n", "k", "\t", "1", []string{"k\tv\na|x\t1\n"}},
		{"bar", "k|v\na|1\nb|2\n", "v", "|", "2", []string{"k|v\na|1\n", "k|v\nb|2\n"}},
		{"dot", "k.v\na.1\nb.2\n", "v", ".", "2", []string{"k.v\na.1\n", "k.v\nb.2\n"}},
		{"names with regular expressions and backslashes", "a.*,v\\n\nx,\\1\ny,&\n", "v\\n", ",", "2", []string{"a.*,v\\n\nx,\\1\n", "a.*,v\\n\ny,&\n"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := run(t, "csv-split", map[string]string{"by": test.by, "parts": test.parts, "separator": test.separator}, map[string][]string{"file": {test.file}})
			if got := parts(t, r); r.exit != 0 || !reflect.DeepEqual(got, test.want) {
				t.Errorf("exit %d, %q, log %q; want %q", r.exit, got, r.log, test.want)
			}
		})
	}
}

func TestCSVSplitRefuses(t *testing.T) {
	for _, test := range []struct{ file, by, parts, log string }{
		{"k,v\na,1\n", "key", "2", "csv-split: there is no column \"key\"; the file has k, v\n"},
		{"", "k", "2", "csv-split: the file is empty\n"},
		{"k,v\na,\"1\nb,2\n", "k", "2", "csv-split: a quote is open at the end of the file\n"},
		{"v,k\n1,a\n2\n", "k", "2", "csv-split: line 3: the record has no field 2\n"},
		{"k\na\n", "k", "0", "csv-split: parts: expected 1 to 500, found 0\n"},
		{"k\na\n", "k", "501", "csv-split: parts: expected 1 to 500, found 501\n"},
	} {
		r := run(t, "csv-split", map[string]string{"by": test.by, "parts": test.parts}, map[string][]string{"file": {test.file}})
		if r.exit != 65 || r.log != test.log {
			t.Errorf("%q: exit %d, log %q; want 65, %q", test.file, r.exit, r.log, test.log)
		}
	}
}

// Against encoding/csv: no row lost, none twice, each value in one part.
func TestCSVSplitAgainstGo(t *testing.T) {
	values := []string{"a", "b,c", `d"e`, "f\ng", "", " h", `"`, "ü", `\`, "'"}
	var b strings.Builder
	w := csv.NewWriter(&b)
	var rows [][]string
	for i := range 500 {
		rows = append(rows, []string{fmt.Sprint(i), values[(i*7)%10], values[(i*3)%9] + fmt.Sprint(i%23)})
	}
	if err := w.WriteAll(append([][]string{{"id", "text", "key"}}, rows...)); err != nil {
		t.Fatal(err)
	}
	r := run(t, "csv-split", map[string]string{"by": "key", "parts": "17"}, map[string][]string{"file": {b.String()}})
	home := map[string]int{}
	var got [][]string
	for i, part := range parts(t, r) {
		records, err := csv.NewReader(strings.NewReader(part)).ReadAll()
		if err != nil || !slices.Equal(records[0], []string{"id", "text", "key"}) {
			t.Fatalf("part %d: %v, %v", i, records, err)
		}
		for _, record := range records[1:] {
			if at, ok := home[record[2]]; ok && at != i {
				t.Errorf("key %q is in parts %d and %d", record[2], at, i)
			}
			home[record[2]] = i
			got = append(got, record)
		}
	}
	byID := func(a, b []string) int { return strings.Compare(a[0], b[0]) }
	slices.SortFunc(got, byID)
	slices.SortFunc(rows, byID)
	if !reflect.DeepEqual(got, rows) {
		t.Errorf("%d rows came back, %d went in, or they differ", len(got), len(rows))
	}
}

func TestConcat(t *testing.T) {
	for _, test := range []struct {
		name   string
		header string
		files  []string // name, content, …
		want   string
	}{
		{"in order", "false", []string{"b", "2\n", "a", "1"}, "2\n1"},
		{"none", "false", nil, ""},
		{"bytes", "false", []string{"a", "\x00\xff\r\n", "-n", "x"}, "\x00\xff\r\nx"},
		{"header", "true", []string{"a", "k\n1\n", "b", "", "c", "k\n2", "d", "k\n", "e", "k\n3\n"}, "k\n1\n2\n3\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := run(t, "concat", map[string]string{"header": test.header}, map[string][]string{"files": test.files})
			if got := read(t, filepath.Join(r.outputs, "file")); r.exit != 0 || got != test.want {
				t.Errorf("exit %d, %q, log %q; want %q", r.exit, got, r.log, test.want)
			}
		})
	}
	r := run(t, "concat", map[string]string{"header": "true"}, map[string][]string{"files": {"a", "k\n1\n", "b", "z\n2\n"}})
	if want := "concat: 00001-b begins otherwise than 00000-a\n"; r.exit != 65 || r.log != want {
		t.Errorf("exit %d, log %q; want 65, %q", r.exit, r.log, want)
	}
}

func TestChecksum(t *testing.T) {
	const sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // FIPS 180-2, B.1
	files := map[string][]string{"file": {"abc"}}
	for _, expect := range []string{"", sum, strings.ToUpper(sum)} {
		r := run(t, "checksum", map[string]string{"expect": expect}, files)
		if want := `{"digest": "` + sum + `", "size": 3}` + "\n"; r.exit != 0 || read(t, filepath.Join(r.outputs, "outputs.json")) != want {
			t.Errorf("expect %q: exit %d, log %q", expect, r.exit, r.log)
		}
	}
	if r := run(t, "checksum", map[string]string{"expect": "00"}, files); r.exit != 65 || !strings.Contains(r.log, "expected 00") {
		t.Errorf("exit %d, log %q", r.exit, r.log)
	}
	if r := run(t, "checksum", map[string]string{"algorithm": "md5", "expect": "900150983cd24fb0d6963f7d28e17f72"}, files); r.exit != 0 {
		t.Errorf("md5: exit %d, log %q", r.exit, r.log)
	}
}
