package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	mesosapi "github.com/mesos/mesos-go/api/v1/lib"

	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/agent"
	"github.com/baas-batch/baas/platform"
)

// waiting is a flow of one step that tells where it runs, waits, and tells its end.
const waiting = `
name: waiting
params: {ledger: {type: string}, gate: {type: string}}
steps:
  work:
    for_each: {from: 1, to: %d}
    unreachable_timeout: 2s
    resources: {cpus: 0.1, mem: 32MB}
    with: {ledger: '${{ params.ledger }}', gate: '${{ params.gate }}', item: '${{ item }}'}
    run: |
      echo "start $BAAS_INPUT_ITEM $$ $PPID $BAAS_ATTEMPT $PWD" >>"$BAAS_INPUT_LEDGER"
      read x <"$BAAS_INPUT_GATE"
      echo "end $BAAS_INPUT_ITEM $$" >>"$BAAS_INPUT_LEDGER"
`

// twoAgents notices soon that an agent is lost.
func twoAgents(c *platform.Config) {
	half := embeddedmesos.AgentConfig{Resources: []mesosapi.Resource{agent.Scalar("cpus", 1), agent.Scalar("mem", 512), agent.Scalar("disk", 1024)}}
	c.Mesos.Agents = []embeddedmesos.AgentConfig{half, half}
	c.Mesos.Master.AgentPingTimeout = 500 * time.Millisecond
	c.Mesos.Master.MaxAgentPingTimeouts = 4
}

// An agent is lost for longer than the step waits: its task runs again on the other
// one. When the agent returns, the old task is killed and does not count.
func TestLostAgent(t *testing.T) {
	platform := start(t, twoAgents)
	p, l, g := of(platform), newLedger(t), newGate(t)
	r := run(t, p, map[string]string{"flow.yaml": fmt.Sprintf(waiting, 1)}, map[string]string{"ledger": l.path, "gate": g.path})
	first := l.first(t, "start")
	old := living(t, first[1])
	var lost, other embeddedmesos.AgentStatus
	for _, a := range platform.Cluster.Agents() {
		if strings.HasPrefix(first[4], a.Dir+"/") {
			lost = a
		} else {
			other = a
		}
	}
	if err := platform.Cluster.LoseAgent(lost.ID); err != nil {
		t.Fatalf("the task in %s: %v", first[4], err)
	}
	eventually(t, patience, "the task is not placed again", func() bool { return len(l.of(t, "start")) == 2 })
	second := l.of(t, "start")[1]
	if !strings.HasPrefix(second[4], other.Dir+"/") {
		t.Errorf("placed again in %s, not on the other agent in %s", second[4], other.Dir)
	}
	if !old.alive() {
		t.Error("the task on the lost agent is gone already")
	}
	if err := platform.Cluster.ReturnAgent(lost.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the old task lives on", func() bool { return !old.alive() })
	g.open(t)
	last := succeeded(t, p, r, patience)
	equal(t, len(l.of(t, "start")), 2)
	equal(t, l.of(t, "end"), [][]string{{"1", second[1]}})
	equal(t, []string{first[3], second[3]}, []string{"1", "1"})
	s, _ := last.Step("work")
	equal(t, s.Retries, 0)
}

// An executor is killed: its tasks run again and no retry is used up.
func TestKillExecutor(t *testing.T) {
	const tasks = 4
	p, l, g := of(start(t)), newLedger(t), newGate(t)
	r := run(t, p, map[string]string{"flow.yaml": fmt.Sprintf(waiting, tasks)}, map[string]string{"ledger": l.path, "gate": g.path})
	eventually(t, patience, "the tasks do not start", func() bool { return len(l.of(t, "start")) == tasks })
	var old []processID
	executor := living(t, l.of(t, "start")[0][2])
	for _, words := range l.of(t, "start") {
		equal(t, number(t, words[2]), executor.pid)
		old = append(old, living(t, words[1]))
	}
	executor.kill(t)
	eventually(t, patience, "the tasks do not start again", func() bool { return len(l.of(t, "start")) == 2*tasks })
	for _, task := range old {
		if task.alive() {
			t.Errorf("process %d has outlived its executor", task.pid)
		}
	}
	g.open(t)
	last := succeeded(t, p, r, patience)
	l.exactlyOnce(t, tasks, "end")
	for item, n := range l.count(t, "start") {
		if n != 2 {
			t.Errorf("task %s was started %d times", item, n)
		}
	}
	for _, words := range l.of(t, "start") {
		equal(t, words[3], "1") // the attempt
	}
	s, _ := last.Step("work")
	equal(t, s.Retries, 0)
}
