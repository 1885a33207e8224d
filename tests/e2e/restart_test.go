package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	mesosapi "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/api"
	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/agent"
	"github.com/baas-batch/baas/platform"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/tests/harness"
	"github.com/baas-batch/baas/worker"
)

// lasting is a flow of one step that notes its process in a ledger, and which of
// those noted before it are still alive, and then waits for a file.
const lasting = `
name: lasting
params: {ledger: {type: string}, gate: {type: string}}
steps:
  work:
    %s
    resources: {cpus: 0.1, mem: 32MB}
    with: {ledger: '${{ params.ledger }}', gate: '${{ params.gate }}'}
    run: |
      beside=
      for pid in $(cut -d ' ' -f 2 "$BAAS_INPUT_LEDGER"); do
        if [ -d /proc/$pid ]; then beside="$beside $pid"; fi
      done
      echo "start $$ $PWD$beside" >>"$BAAS_INPUT_LEDGER"
      while [ ! -e "$BAAS_INPUT_GATE" ]; do sleep 0.1; done
`

// stage is an embedded Temporal, an embedded Mesos with two agents, a worker, and
// a run whose task has started on one of them.
type stage struct {
	*testing.T
	platform     *platform.Platform
	worker       *worker.Worker
	options      starter.StartOptions
	ledger, gate string
	first        starter.Started
	old          harness.Proc
	lost         mesosapi.AgentID
}

func newStage(t *testing.T, settings string) *stage {
	t.Helper()
	s := &stage{T: t, platform: harness.Start(t, func(c *platform.Config) {
		one := embeddedmesos.AgentConfig{Resources: []mesosapi.Resource{agent.Scalar("cpus", 1), agent.Scalar("mem", 512), agent.Scalar("disk", 1024)}}
		c.Mesos.Agents = []embeddedmesos.AgentConfig{one, one}
		c.Mesos.Master.AgentPingTimeout = 500 * time.Millisecond
		c.Mesos.Master.MaxAgentPingTimeouts = 3
		c.NoWorker = true
	})}
	s.lead()
	t.Cleanup(func() { s.worker.Stop() })
	dir := harness.Dir(t)
	s.ledger, s.gate = filepath.Join(dir, "ledger"), filepath.Join(dir, "gate")
	file := filepath.Join(dir, "flow.yaml")
	for name, text := range map[string]string{s.ledger: "", file: fmt.Sprintf(lasting, settings)} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(s.ledger, 0o666); err != nil { // tasks are other users
		t.Fatal(err)
	}
	s.options = starter.StartOptions{File: file, Args: map[string]string{"ledger": s.ledger, "gate": s.gate}}
	s.first = s.start()
	line := s.starts(1)[0]
	pid, err := strconv.Atoi(line[1])
	if err != nil {
		t.Fatal(err)
	}
	var alive bool
	if s.old, alive = harness.LookUp(pid); !alive {
		t.Fatalf("process %d has gone", pid)
	}
	for _, a := range s.platform.Cluster.Agents() {
		if strings.HasPrefix(line[2], a.Dir+"/") {
			s.lost = a.ID
		}
	}
	return s
}

// lead gives the platform a worker, which will lead.
func (s *stage) lead() {
	s.Helper()
	w, err := worker.Start(s.Context(), s.platform.WorkerConfig())
	if err != nil {
		s.Fatal(err)
	}
	s.worker = w
}

func (s *stage) start() starter.Started {
	s.Helper()
	run, err := harness.Client(s.platform).Start(s.Context(), s.options)
	if err != nil {
		s.Fatal(err)
	}
	return run
}

// starts waits for the given number of started tasks, and gives their lines.
func (s *stage) starts(n int) (lines [][]string) {
	s.Helper()
	harness.Eventually(s, fmt.Sprintf("%d tasks start", n), func() bool {
		lines = s.lines()
		return len(lines) == n
	})
	return lines
}

func (s *stage) lines() (lines [][]string) {
	s.Helper()
	data, err := os.ReadFile(s.ledger)
	if err != nil {
		s.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.HasSuffix(line, "\n") {
			lines = append(lines, strings.Fields(line))
		}
	}
	return lines
}

// details waits until those of a run's only activity please.
func (s *stage) details(run, what string, please func(api.Details) bool) (d api.Details) {
	s.Helper()
	harness.Eventually(s, what, func() bool {
		now, err := harness.Client(s.platform).Describe(s.Context(), run)
		if err != nil || len(now.Activities) != 1 {
			return false
		}
		d = now.Activities[0].Details
		return please(d)
	})
	return d
}

// loseAndRestart loses the task's agent, terminates its run, and starts another.
func (s *stage) loseAndRestart(meanwhile func()) starter.Started {
	s.Helper()
	if err := s.platform.Cluster.LoseAgent(s.lost); err != nil {
		s.Fatal(err)
	}
	s.details(s.first.Run, "the task is unreachable", func(d api.Details) bool {
		return len(d.Tasks) == 1 && d.Tasks[0].UnreachableSince != nil
	})
	if err := s.platform.Client.TerminateWorkflow(s.Context(), s.first.Instance, "", "by the test"); err != nil {
		s.Fatal(err)
	}
	meanwhile()
	return s.start()
}

func (s *stage) returnAgent() {
	s.Helper()
	if err := s.platform.Cluster.ReturnAgent(s.lost); err != nil {
		s.Fatal(err)
	}
}

func (s *stage) succeeds(run starter.Started) {
	s.Helper()
	if err := os.WriteFile(s.gate, nil, 0o644); err != nil {
		s.Fatal(err)
	}
	last, err := harness.Client(s.platform).Wait(s.Context(), run.Run)
	if err != nil || last.Status != api.StatusSucceeded {
		s.Fatalf("%s %s, %v", last.Status, last.Reason, err)
	}
}

// A run is terminated while its agent is lost, and started again: nothing is
// placed beside the old task, whoever leads.
func TestRestartedRunWaitsForOldTasks(t *testing.T) {
	for name, c := range map[string]struct {
		settings, words string
		change          bool // of the leader
	}{
		"same leader":  {"unreachable_timeout: 1h", "does not answer: until", false},
		"next leader":  {"unreachable_timeout: 1h", "does not answer: until", true},
		"at most once": {"{unreachable_timeout: 1s, at_most_once: true}", "at_most_once waits until", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they mostly wait for agents to be missed
			s := newStage(t, strings.Trim(strings.ReplaceAll(c.settings, ", ", "\n    "), "{}"))
			second := s.loseAndRestart(func() {
				if c.change {
					s.worker.Stop()
					s.lead()
				}
			})
			d := s.details(second.Run, "the reason is told", func(d api.Details) bool { return strings.Contains(d.Reason, c.words) })
			if !strings.Contains(d.Reason, s.first.Run) || len(d.Tasks) > 0 {
				t.Errorf("the details are %+v", d)
			}
			if n := len(s.lines()); n != 1 || !s.old.Alive() {
				t.Fatalf("%d tasks, the old one alive: %v", n, s.old.Alive())
			}
			s.returnAgent()
			if line := s.starts(2)[1]; len(line) > 3 {
				t.Errorf("started beside the old process: %v", line)
			}
			if s.old.Alive() {
				t.Error("the old task lives on")
			}
			s.succeeds(second)
		})
	}
}

// The old task's agent stays away for longer than the step waits.
func TestRestartedRunGivesOldTasksUp(t *testing.T) {
	s := newStage(t, "unreachable_timeout: 4s")
	second := s.loseAndRestart(func() {})
	s.starts(2)
	if !s.old.Alive() {
		t.Error("the old task has gone before its agent was back")
	}
	s.returnAgent()
	harness.Eventually(t, "the old task is killed", func() bool { return !s.old.Alive() })
	s.succeeds(second)
	if n := len(s.lines()); n != 2 {
		t.Errorf("%d tasks were started", n)
	}
}
