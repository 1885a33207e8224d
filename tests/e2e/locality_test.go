package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tasklet"
)

// near is a flow of which two tasks write a large file each, on two agents, and others
// read them.
const near = `
name: near
params: {ledger: {type: string}, write: {type: string}, read: {type: string}}
steps:
  write:
    for_each: [one, two]
    resources: {cpus: 0.6, mem: 32MB}
    with: {ledger: '${{ params.ledger }}', gate: '${{ params.write }}', item: '${{ item }}'}
    run: |
      echo "write $BAAS_INPUT_ITEM $PWD" >>"$BAAS_INPUT_LEDGER"
      read x <"$BAAS_INPUT_GATE"
      { echo "$BAAS_INPUT_ITEM"; head -c 9000000 /dev/zero; } >"$BAAS_OUTPUTS/data"
    outputs: {data: file}
  read:
    for_each: '${{ steps.write.outputs.data + steps.write.outputs.data + steps.write.outputs.data + steps.write.outputs.data }}'
    resources: {cpus: 0.05, mem: 32MB}
    with: {ledger: '${{ params.ledger }}', gate: '${{ params.read }}', data: '${{ item }}'}
    run: |
      echo "read $BAAS_PARTITION $(head -n 1 "$BAAS_INPUT_DATA") $PWD" >>"$BAAS_INPUT_LEDGER"
      read x <"$BAAS_INPUT_GATE"
`

// Tasks are placed where their large input is, if that agent is among those on offer
// at the moment.
func TestPlacedNearInputs(t *testing.T) {
	platform := start(t, twoAgents)
	p, l, write, read := of(platform), newLedger(t), newGate(t), newGate(t)
	r := run(t, p, map[string]string{"flow.yaml": near}, map[string]string{"ledger": l.path, "write": write.path, "read": read.path})
	agentOf := func(sandbox string) string {
		for _, a := range platform.Cluster.Agents() {
			if strings.HasPrefix(sandbox, a.Dir+string(filepath.Separator)) {
				return a.ID.Value
			}
		}
		t.Fatalf("no agent has %s", sandbox)
		return ""
	}
	eventually(t, patience, "the writers do not start", func() bool { return len(l.of(t, "write")) == 2 })
	wrote := make(map[string]string)
	for _, words := range l.of(t, "write") {
		wrote[words[0]] = agentOf(words[1])
	}
	if wrote["one"] == wrote["two"] {
		t.Fatalf("both write on %s", wrote["one"])
	}
	write.open(t)
	eventually(t, patience, "the readers do not start", func() bool { return len(l.of(t, "read")) == 8 })
	reads := make(map[int]string)
	for _, words := range l.of(t, "read") {
		reads[number(t, words[0])] = words[1]
	}
	view, err := p.runs().Mesos(t.Context(), starter.MesosOptions{What: api.InspectTasks})
	if err != nil {
		t.Fatal(err)
	}
	placed, there := 0, map[[2]string]bool{{"one", wrote["one"]}: true, {"two", wrote["two"]}: true}
	for _, near := range []bool{false, true} { // those that had to go elsewhere have brought their input there
		for _, task := range view.Tasks {
			id, err := tasklet.ParseTaskID(task.TaskID)
			if err != nil {
				t.Fatal(err)
			}
			at := [2]string{reads[id.First], task.AgentID}
			switch {
			case task.Near > 0 && near:
				placed++
				equal(t, there[at], true)
			case task.Near == 0 && !near:
				there[at] = true
			}
		}
	}
	if placed == 0 {
		t.Errorf("none of the readers was placed for its input: %+v", view.Tasks)
	}
	read.open(t)
	succeeded(t, p, r, patience)
}
