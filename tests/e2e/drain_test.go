package e2e

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	mesosapi "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/master"

	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/agent"
	"github.com/baas-batch/baas/embedded/mesos/mesostest"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/storage"
)

// patient counts up to 20, waits after 10, and saves where it is only when it is
// told to end.
const patient = `
name: patient
params: {ledger: {type: string}, gate: {type: string}}
steps:
  count:
    preemptible: PREEMPTIBLE
    with: {ledger: '${{ params.ledger }}', gate: '${{ params.gate }}'}
    outputs: {begins: list, sum: int}
    run: |
      cd "$BAAS_CHECKPOINT"
      n=0 sum=0 begins=
      if [ -e commit ]; then . "./$(cat commit)/state"; fi
      begins="${begins:+$begins, }$n"
      save() {
        mkdir "at-$n"
        echo "n=$n sum=$sum begins='$begins'" >"at-$n/state"
        echo "at-$n" >commit.new
        mv commit.new commit
        echo "saved $n" >>"$BAAS_INPUT_LEDGER"
        exit 143
      }
      trap save TERM
      while [ $n -lt 20 ]; do
        n=$((n + 1)) sum=$((sum + n))
        echo "count $n $BAAS_ATTEMPT" >>"$BAAS_INPUT_LEDGER"
        if [ $n = 10 ]; then
          echo "half $BAAS_ATTEMPT $$ $PPID $PWD" >>"$BAAS_INPUT_LEDGER"
          cat <"$BAAS_INPUT_GATE" & wait $!
        fi
      done
      echo "{\"begins\": [$begins], \"sum\": $sum}" >"$BAAS_OUTPUTS/outputs.json"
`

// placeOf finds the agent of a task by its working directory.
func placeOf(t *testing.T, p *platform.Platform, dir string) (here, other embeddedmesos.AgentStatus) {
	t.Helper()
	for _, a := range p.Cluster.Agents() {
		if strings.HasPrefix(dir, a.Dir+"/") {
			here = a
		} else {
			other = a
		}
	}
	if here.ID.Value == "" {
		t.Fatalf("no agent has %s", dir)
	}
	return here, other
}

// An agent is drained: its task is told to end, saves its checkpoint, and goes on
// from there on the other agent. No attempt is used up, and nothing is placed on the
// drained agent until it is used again.
func TestDrainedAgent(t *testing.T) {
	world := start(t, twoAgents)
	p, l, g := of(world), newLedger(t), newGate(t)
	r := run(t, p, map[string]string{"flow.yaml": strings.ReplaceAll(patient, "PREEMPTIBLE", "false")},
		map[string]string{"ledger": l.path, "gate": g.path})
	first := l.first(t, "half")
	drained, other := placeOf(t, world, first[3])
	mesostest.Operate(t, world.Cluster.MasterURL(), mesostest.Options{}, mesostest.Drain(drained.ID))
	last := succeeded(t, p, r, patience)

	resumed(t, l, last)
	equal(t, l.of(t, "saved"), [][]string{{"10"}})
	attempts := l.of(t, "count")
	equal(t, attempts[9], []string{"10", "1"})
	equal(t, attempts[10], []string{"11", "1"})
	s, _ := last.Step("count")
	equal(t, s.Retries, 0)

	tasks := operator(t, world, master.Call_GET_TASKS).GetTasks
	var reasons, agents []string
	for _, task := range append(tasks.CompletedTasks, tasks.Tasks...) {
		end := task.Statuses[len(task.Statuses)-1]
		agents = append(agents, task.AgentID.Value)
		if end.GetState() == mesosapi.TASK_KILLED && end.Reason != nil {
			reasons = append(reasons, end.GetReason().String())
		}
	}
	equal(t, reasons, []string{"REASON_AGENT_DRAINING"})
	if len(agents) != 2 || agents[0] == agents[1] {
		t.Errorf("the tasks ran on %v, want one on each of %s and %s", agents, drained.ID.Value, other.ID.Value)
	}
	for _, a := range operator(t, world, master.Call_GET_AGENTS).GetAgents.Agents {
		if a.AgentInfo.ID.Value == drained.ID.Value && a.DrainInfo.GetState() != mesosapi.DrainState_DRAINED {
			t.Errorf("the agent is %v", a.DrainInfo)
		}
	}
}

func operator(t *testing.T, p *platform.Platform, kind master.Call_Type) *master.Response {
	t.Helper()
	resp, err := mesostest.Operator(t.Context(), p.Cluster.MasterURL(), mesostest.Options{}, &master.Call{Type: kind})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// A preemptible step runs on revocable resources, is preempted, and goes on from its
// checkpoint without an attempt used up: first where the executor is told to end,
// then where its container is just killed, as Mesos itself does it.
func TestPreemptedStep(t *testing.T) {
	for name, gently := range map[string]bool{"told to end": true, "killed": false} {
		t.Run(name, func(t *testing.T) {
			world := start(t, func(c *platform.Config) {
				c.Mesos.Agents = []embeddedmesos.AgentConfig{{
					Resources: []mesosapi.Resource{agent.Scalar("cpus", 1), agent.Scalar("mem", 512), agent.Scalar("disk", 1024)},
					Revocable: []mesosapi.Resource{agent.Scalar("cpus", 4), agent.Scalar("mem", 512)},
				}}
			})
			p, l, g := of(world), newLedger(t), newGate(t)
			flow := strings.ReplaceAll(patient, "PREEMPTIBLE", "true")
			if !gently {
				flow = strings.Replace(counter, "    retry: {attempts: 2, backoff: 100ms}\n", "    preemptible: true\n", 1)
			}
			r := run(t, p, map[string]string{"flow.yaml": flow}, map[string]string{"ledger": l.path, "gate": g.path})
			l.first(t, "half")
			if !gently {
				savedCheckpoint(t, world)
			}
			only := world.Cluster.Agents()[0]
			tasks := operator(t, world, master.Call_GET_TASKS).GetTasks.Tasks
			if len(tasks) != 1 || revocable(tasks[0].Resources) != 2 {
				t.Fatalf("a preemptible task with revocable room uses %v", tasks)
			}
			if err := world.Cluster.Revoke(only.ID, nil, gently); err != nil {
				t.Fatal(err)
			}
			eventually(t, patience, "the task does not run again", func() bool { return len(l.of(t, "count")) > 10 })
			last := succeeded(t, p, r, patience)
			resumed(t, l, last)
			equal(t, l.of(t, "count")[10], []string{"11", "1"})
			s, _ := last.Step("count")
			equal(t, s.Retries, 0)
			after := operator(t, world, master.Call_GET_TASKS).GetTasks
			for _, task := range append(after.CompletedTasks, after.Tasks...) {
				end := task.Statuses[len(task.Statuses)-1]
				switch {
				case revocable(task.Resources) == 0:
					equal(t, end.GetState(), mesosapi.TASK_FINISHED)
				case gently:
					equal(t, end.GetState(), mesosapi.TASK_KILLED)
				default:
					equal(t, []any{end.GetState(), end.GetReason()}, []any{mesosapi.TASK_GONE, mesosapi.REASON_CONTAINER_PREEMPTED})
				}
			}
		})
	}
}

// revocable counts resources that may be taken back.
func revocable(list []mesosapi.Resource) (n int) {
	for _, r := range list {
		if r.Revocable != nil {
			n++
		}
	}
	return n
}

// savedCheckpoint waits until storage has the checkpoint that says at-10: what is
// killed without a word saves nothing any more.
func savedCheckpoint(t *testing.T, p *platform.Platform) {
	t.Helper()
	eventually(t, patience, "the checkpoint is not saved", func() bool {
		for info, err := range storage.All(t.Context(), p.Store, storage.ListOptions{Prefix: "runs/"}) {
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(info.Key, "/checkpoints/") {
				continue
			}
			packed, _, err := storage.GetBytes(t.Context(), p.Store, info.Key, 1<<20)
			if err != nil {
				continue // it is being replaced
			}
			z, err := zstd.NewReader(bytes.NewReader(packed))
			if err != nil {
				t.Fatal(err)
			}
			archive, err := io.ReadAll(z)
			z.Close()
			if err == nil && bytes.Contains(archive, []byte("at-10")) {
				return true
			}
		}
		return false
	})
}
