package mesos

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/mesos/placement"
)

func executorOf(t *testing.T, change func(*Config), spec ExecutorSpec, task string) *executor {
	t.Helper()
	cfg := testConfig("m")
	cfg.ExecutorURI, cfg.ExecutorSHA256 = "http://files.example/baas-executor", "abc"
	cfg.ExecutorEnv = map[string]string{"B": "2", "A": "1", "C": "3"}
	if change != nil {
		change(&cfg)
	}
	cfg, err := cfg.prepare()
	if err != nil {
		t.Fatal(err)
	}
	x, err := newExecutors(&cfg).of(spec, task)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// Mesos refuses a task whose ExecutorInfo differs from that of the living executor
// of the same ID, and ignores some differences silently.
func TestExecutorIDStandsForAllOfIt(t *testing.T) {
	spec := ExecutorSpec{Owner: "billing", Image: "debian:12"}
	base := executorOf(t, nil, spec, "t1")
	want, err := base.info.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		again := executorOf(t, nil, spec, "t2")
		got, err := again.info.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if again.id != base.id || !bytes.Equal(got, want) {
			t.Fatalf("the same settings give another executor:\n%v\n%v", again.info, base.info)
		}
	}
	seen := map[string]string{base.id: "base"}
	for name, x := range map[string]*executor{
		"owner":       executorOf(t, nil, ExecutorSpec{Owner: "risk", Image: "debian:12"}, "t1"),
		"image":       executorOf(t, nil, ExecutorSpec{Owner: "billing"}, "t1"),
		"isolation":   executorOf(t, nil, ExecutorSpec{Owner: "billing", Image: "debian:12", Isolation: "task"}, "t1"),
		"other task":  executorOf(t, nil, ExecutorSpec{Owner: "billing", Image: "debian:12", Isolation: "task"}, "t2"),
		"URIs":        executorOf(t, nil, ExecutorSpec{Owner: "billing", Image: "debian:12", URIs: NewURIs(URI{URI: "http://x/y", Name: "y"})}, "t1"),
		"binary":      executorOf(t, func(c *Config) { c.ExecutorSHA256 = "def" }, spec, "t1"),
		"URI":         executorOf(t, func(c *Config) { c.ExecutorURI += "2" }, spec, "t1"),
		"command":     executorOf(t, func(c *Config) { c.ExecutorCommand = "./other" }, spec, "t1"),
		"arguments":   executorOf(t, func(c *Config) { c.ExecutorArgs = []string{"-v"} }, spec, "t1"),
		"environment": executorOf(t, func(c *Config) { c.ExecutorEnv = nil }, spec, "t1"),
		"resources":   executorOf(t, func(c *Config) { c.ExecutorResources = Resources{CPUs: 0.2, Mem: mb} }, spec, "t1"),
		"grace":       executorOf(t, func(c *Config) { c.ExecutorGrace = time.Minute }, spec, "t1"),
		"framework":   executorOf(t, func(c *Config) { c.FrameworkID = "other" }, spec, "t1"),
		"role":        executorOf(t, func(c *Config) { c.Roles = []string{"batch"} }, spec, "t1"),
	} {
		if other, ok := seen[x.id]; ok {
			t.Errorf("%s and %s share executor %s", name, other, x.id)
		}
		seen[x.id] = name
	}
}

func TestExecutorInfo(t *testing.T) {
	info := executorOf(t, nil, ExecutorSpec{Owner: "billing", Image: "debian:12"}, "t1").info
	c := info.Command
	if c.GetShell() || c.GetValue() != "./baas-executor" || strings.Join(c.Arguments, " ") != "baas-executor" {
		t.Errorf("command is %v", c)
	}
	if u := c.URIs[0]; u.Value != "http://files.example/baas-executor" || !u.GetExecutable() || !u.GetCache() || u.GetExtract() || u.GetOutputFile() != "baas-executor" {
		t.Errorf("URI is %v", u)
	}
	if info.GetContainer().GetMesos().GetImage().GetDocker().GetName() != "debian:12" || info.Container.GetType().String() != "MESOS" {
		t.Errorf("container is %v", info.Container)
	}
	if info.GetFrameworkID().GetValue() != testFramework || !strings.HasPrefix(info.ExecutorID.Value, "baas-") {
		t.Errorf("info is %v", info)
	}
	if plain := executorOf(t, nil, ExecutorSpec{Owner: "billing"}, "t1").info; plain.Container != nil {
		t.Errorf("container without an image: %v", plain.Container)
	}
}

// What a step has fetched comes beside the executor, into a directory of its own.
func TestFetchedURIs(t *testing.T) {
	spec := ExecutorSpec{Owner: "billing", URIs: NewURIs(
		URI{URI: "https://files.example/model?v=3", Name: "model", Cache: true},
		URI{URI: "https://files.example/tool", Name: "tool", Executable: true},
	)}
	uris := executorOf(t, nil, spec, "t1").info.Command.URIs
	if len(uris) != 3 || uris[0].GetOutputFile() != "baas-executor" {
		t.Fatalf("URIs %v", uris)
	}
	model, tool := uris[1], uris[2]
	if model.Value != "https://files.example/model?v=3" || model.GetOutputFile() != "fetched/model" || !model.GetCache() || model.GetExecutable() || model.GetExtract() {
		t.Errorf("%v", model)
	}
	if tool.GetOutputFile() != "fetched/tool" || tool.GetCache() || !tool.GetExecutable() || tool.GetExtract() {
		t.Errorf("%v", tool)
	}
	for _, name := range []string{"", "..", ".", "a/b", "/etc/x"} {
		if _, err := NewURIs(URI{URI: "http://x", Name: name}).uris(); err == nil {
			t.Errorf("name %q is taken", name)
		}
	}
}

func TestVolumes(t *testing.T) {
	spec := ExecutorSpec{Owner: "billing", Image: "debian:12", Volumes: NewVolumes(
		Volume{Host: "/data/reference", Path: "/reference"}, Volume{Host: "/scratch", Path: "/out", Write: true},
	)}
	x := executorOf(t, nil, spec, "t1")
	var got []string
	for _, v := range x.info.Container.Volumes {
		got = append(got, v.GetHostPath()+" "+v.GetContainerPath()+" "+v.GetMode().String())
	}
	if !slices.Equal(got, []string{"/data/reference /reference RO", "/scratch /out RW"}) {
		t.Errorf("volumes %q", got)
	}
	if x.id == executorOf(t, nil, ExecutorSpec{Owner: "billing", Image: "debian:12"}, "t1").id {
		t.Error("the ID does not stand for the volumes")
	}
	cfg, err := testConfig("m").prepare()
	if err != nil {
		t.Fatal(err)
	}
	spec.Image = ""
	if _, err := newExecutors(&cfg).of(spec, "t1"); err == nil {
		t.Error("volumes without an image are taken")
	}
}

func TestResourceArithmetic(t *testing.T) {
	v := Resources{CPUs: 0.1 + 0.2, Mem: mb + 1, Disk: 1, GPUs: 2}.vector()
	if v != (placement.Vector{300, 2000, 1000, 2000}) {
		t.Errorf("vector is %v; Mesos counts thousandths and whole MB, rounded up", v)
	}
	for _, r := range scalars(v, "role") {
		if r.Name == "cpus" && r.Scalar.Value != 0.3 {
			t.Errorf("cpus are %v", r.Scalar.Value)
		}
	}
}
