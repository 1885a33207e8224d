package e2e

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/secrets"
)

// trove is a provider's directory with two secrets, what they look like, and a word
// that is no secret: it is wherever the run leaves a trace, and whoever finds it would
// have found the secrets.
type trove struct {
	dir, password, key, control string
}

func newTrove(t *testing.T) trove {
	t.Helper()
	random := make([]byte, 36)
	_, _ = rand.Read(random)
	v := trove{t.TempDir(), "pw-" + hex.EncodeToString(random[:12]), "", "control-" + hex.EncodeToString(random[12:18])}
	v.key = "-----BEGIN KEY-----\n" + hex.EncodeToString(random[12:]) + "\n-----END KEY-----"
	for name, text := range map[string]string{"bank/db/password": v.password, "bank/tls/key": v.key} {
		path := filepath.Join(v.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// keeper gives the secrets to flows that are run without registration.
func (v trove) keeper(t *testing.T, rules ...string) *secrets.Keeper {
	t.Helper()
	provider, err := secrets.Open("file://"+v.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := secrets.ParsePolicy(rules)
	if err != nil {
		t.Fatal(err)
	}
	return secrets.NewKeeper(provider, policy)
}

// holds looks for a text, as it stands and as base64 within something longer.
func holds(data []byte, text string) bool {
	for shift := range 3 {
		encoded := base64.StdEncoding.EncodeToString(append(make([]byte, shift), text...))
		// The part that does not depend on what stands around it.
		if bytes.Contains(data, []byte(encoded[4:len(encoded)-4])) {
			return true
		}
	}
	return bytes.Contains(data, []byte(text))
}

// absent looks for the secrets in what others may see, and tells whether the control
// is there.
func (v trove) absent(t *testing.T, where string, data []byte) (traced bool) {
	t.Helper()
	for name, text := range map[string]string{"password": v.password, "key": strings.Split(v.key, "\n")[1]} {
		if holds(data, text) {
			t.Errorf("%s has the %s", where, name)
		}
	}
	return holds(data, v.control)
}

// traced is absent for what must hold the control.
func (v trove) traced(t *testing.T, where string, data []byte) {
	t.Helper()
	if !v.absent(t, where, data) {
		t.Errorf("%s: nothing of the run was found in %d bytes", where, len(data))
	}
}

// absentBelow looks into every file of a tree, but for progress and exit status as the
// task has written them in its own directory, and gives those with the control by their
// paths below it.
func (v trove) absentBelow(t *testing.T, root string) (traced []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // a task's file went meanwhile
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if own, _ := filepath.Match("p-*/state/*", tail(path, 3)); own {
			return nil
		}
		data, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		if unzipped, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
			content, err := io.ReadAll(unzipped)
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
			data = append(data, content...)
		}
		if v.absent(t, path, data) {
			traced = append(traced, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return traced
}

// tail gives the last parts of a path.
func tail(path string, n int) string {
	parts := strings.Split(path, "/")
	return strings.Join(parts[max(0, len(parts)-n):], "/")
}

// histories gives the events of all workflows, as they are kept and as they are
// exported, and what Temporal tells of each workflow.
func histories(t *testing.T, p target) (all []byte) {
	t.Helper()
	list, err := p.client.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	add := func(message proto.Message) {
		binary, err := proto.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		text, err := protojson.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		all = append(append(all, binary...), text...)
	}
	for _, found := range list.Executions {
		add(found)
		id, run := found.Execution.WorkflowId, found.Execution.RunId
		described, err := p.client.DescribeWorkflowExecution(t.Context(), id, run)
		if err != nil {
			t.Fatal(err)
		}
		add(described)
		events := p.client.GetWorkflowHistory(t.Context(), id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for events.HasNext() {
			event, err := events.Next()
			if err != nil {
				t.Fatal(err)
			}
			add(event)
		}
	}
	return all
}

// operatorAnswer gives what the operator API of a master or an agent tells.
func operatorAnswer(t *testing.T, url, call string) []byte {
	t.Helper()
	resp, err := http.Post(url+"/api/v1", "application/json", strings.NewReader(`{"type": "`+call+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", call, resp.Status, err)
	}
	return data
}

// absentInMesos looks into the state of the master and of all agents.
func (v trove) absentInMesos(t *testing.T, p *platform.Platform) {
	t.Helper()
	for _, call := range []string{"GET_STATE", "GET_TASKS"} {
		v.traced(t, "master, "+call, operatorAnswer(t, p.Cluster.MasterURL(), call))
		var agents []byte // not each of them has had a task
		for _, a := range p.Cluster.Agents() {
			agents = append(agents, operatorAnswer(t, "http://"+a.Address, call)...)
		}
		v.traced(t, "agents, "+call, agents)
	}
	for _, call := range []string{"GET_EXECUTORS", "GET_FRAMEWORKS"} {
		v.absent(t, "master, "+call, operatorAnswer(t, p.Cluster.MasterURL(), call))
		for _, a := range p.Cluster.Agents() {
			v.absent(t, "agent, "+call, operatorAnswer(t, "http://"+a.Address, call))
		}
	}
}

// absentInProcesses looks into arguments and environment of all processes but those of
// one step, which must have the password, and gives the number of the run's others.
func (v trove) absentInProcesses(t *testing.T, step string) (others int) {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	own := 0
	for _, dir := range found {
		arguments, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // it may be gone
		environment, _ := os.ReadFile(filepath.Join(dir, "environ"))
		mine := bytes.Contains(environment, []byte("BAAS_APP="+v.control))
		if mine && bytes.Contains(environment, []byte("BAAS_STEP="+step+"\x00")) {
			if holds(environment, v.password) {
				own++
			}
			environment = nil
		} else if mine {
			others++
		}
		v.absent(t, dir, append(arguments, environment...))
	}
	if own == 0 {
		t.Errorf("no process of step %s with its secret was found", step)
	}
	return others
}

// matched wants a path for each pattern.
func matched(t *testing.T, paths, patterns []string) {
	t.Helper()
	for _, pattern := range patterns {
		hit := false
		for _, path := range paths {
			ok, err := filepath.Match(pattern, path)
			if err != nil {
				t.Fatal(err)
			}
			hit = hit || ok
		}
		if !hit {
			t.Errorf("nothing of the run was found in %s, but in:\n%s", pattern, strings.Join(paths, "\n"))
		}
	}
}
