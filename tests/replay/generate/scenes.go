package main

import (
	"fmt"
	"strings"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/flow"
	"github.com/baas-batch/baas/tasklet"
)

const (
	launchQueue   = "baas-launch-replay"
	controlQueue  = "baas-control-replay"
	frameworkName = "replay"
	identity      = "k7q2m4xw5tza"
)

// scene is one history: a flow, and how its partitions end.
type scene struct {
	name      string
	source    string // of the flow
	invalid   string // Prepare's answer, when the flow is wrong
	relayed   bool   // started under another ID
	framework bool   // MesosFramework instead of a flow
	killAfter int    // cancel when that many tasks run
	counted   bool   // its events are only counted: the history is too large to be kept
	rangeSize int    // of the plan's settings
	items     int    // that ListItems finds
	killOne   bool   // kill partition 0 of step many, not the run, when killAfter tasks run
	outcome   func(in api.LaunchInput, p api.LaunchPartition) tasklet.Result
}

func (s scene) workflowIDs() []string {
	switch {
	case s.framework:
		return []string{api.FrameworkWorkflowID(frameworkName)}
	case s.relayed:
		return []string{"somebody-" + s.name, api.InstanceID(s.name, identity)}
	}
	return []string{api.InstanceID(s.name, identity)}
}

// plan is what Prepare answers with.
func (s scene) plan() (api.PrepareResult, error) {
	if s.framework || s.invalid != "" {
		return api.PrepareResult{}, nil
	}
	f, err := flow.Parse(s.name+".yaml", []byte("name: "+s.name+"\n"+s.source), flow.Options{})
	if err != nil {
		return api.PrepareResult{}, err
	}
	params, err := f.Bind(nil)
	if err != nil {
		return api.PrepareResult{}, err
	}
	return api.PrepareResult{
		Flow:     *f,
		Owner:    api.AdhocOwner,
		Params:   params,
		Identity: identity,
		Settings: api.Settings{
			LaunchQueue: launchQueue, ControlQueue: controlQueue, MaxPending: 100, RangeSize: s.rangeSize,
		},
	}, nil
}

func succeeds(outputs map[string]string) func(api.LaunchInput, api.LaunchPartition) tasklet.Result {
	return func(api.LaunchInput, api.LaunchPartition) tasklet.Result { return success(outputs) }
}

// failsUntil lets a step fail with exit code 3 before the given attempt.
func failsUntil(step string, attempt int) func(api.LaunchInput, api.LaunchPartition) tasklet.Result {
	return func(in api.LaunchInput, p api.LaunchPartition) tasklet.Result {
		if in.Step == step && in.Attempt < attempt && p.Index%2 == 0 {
			return tasklet.Result{Outcome: tasklet.Failed, ExitCode: 3}
		}
		return success(nil)
	}
}

var scenes = []scene{
	{name: "diamond", outcome: succeeds(map[string]string{"x": "7"}), source: `
steps:
  a: {run: ./x, outputs: {x: int}}
  b: {run: ./x, with: {x: '${{ steps.a.outputs.x }}'}, outputs: {x: int}}
  c: {run: ./x, with: {x: '${{ steps.a.outputs.x }}'}, outputs: {x: int}}
  d: {run: ./x, with: {b: '${{ steps.b.outputs.x }}', c: '${{ steps.c.outputs.x }}'}}
`},
	{name: "failure", outcome: failsUntil("bad", 99), source: `
steps:
  bad: {run: ./x}
  blocked: {run: ./x, needs: [bad]}
  good: {run: ./x}
on_exit: {report: {run: ./x, with: {status: '${{ run.status }}', reason: '${{ run.reason }}'}}}
`},
	{name: "skipped", outcome: succeeds(nil), source: `
steps:
  extra: {run: ./x, when: '${{ 1 > 2 }}'}
  next: {run: ./x, needs: [extra], with: {how: '${{ steps.extra.status }}'}}
`},
	{name: "retries", outcome: failsUntil("many", 3), source: `
steps:
  many: {run: ./x, for_each: {from: 1, to: 6}, retry: {attempts: 3, backoff: 100ms}}
  next: {run: ./x, needs: [many]}
`},
	{name: "bounded", outcome: succeeds(map[string]string{"n": "1"}), source: `
steps:
  many: {run: ./x, for_each: {from: 1, to: 12}, parallel: 2, outputs: {n: int}}
  sum: {run: ./x, with: {all: '${{ steps.many.outputs.n }}'}}
`},
	{name: "partitions", outcome: succeeds(nil), source: `
steps:
  many: {run: ./x, for_each: {from: 1, to: 2000}}
`},
	{name: "killed", killAfter: 3, source: `
steps:
  long: {run: ./x}
  many: {run: ./x, for_each: {from: 1, to: 5}, parallel: 2}
  next: {run: ./x, needs: [long]}
on_exit: {clean: {run: ./x, with: {status: '${{ run.status }}'}}}
`},
	{name: "relay", relayed: true, outcome: succeeds(map[string]string{"x": "7"}), source: `
steps: {a: {run: ./x, outputs: {x: int}}}
`},
	{name: "relay_kill", relayed: true, killAfter: 1, source: `
steps: {long: {run: ./x}}
`},
	{name: "invalid", invalid: "flow.yaml:3:1: two problems\nflow.yaml:4:1: at once"},
	{name: "framework", framework: true, killAfter: 1},
	{name: "ten_thousand", counted: true, outcome: succeeds(nil), source: `
steps: {many: {run: ./x, for_each: {from: 1, to: 10000}, with: {n: '${{ item }}'}}}
`},
	// More than one request of a worker could carry: launched over several workflow tasks.
	{name: "large_inputs", counted: true, outcome: succeeds(nil), source: `
params: {text: {type: string, default: '` + strings.Repeat("x", 1000) + `'}}
steps: {many: {run: ./x, for_each: {from: 1, to: 10000}, with: {n: '${{ params.text }}'}}}
`},
	{name: "ranges", rangeSize: 1000, outcome: succeeds(map[string]string{"n": "1"}), source: `
steps:
  many: {run: ./x, for_each: {from: 1, to: 10000}, parallel: 100, outputs: {n: int}}
  few: {run: ./x, for_each: [a, b], outputs: {n: int}, with: {text: '${{ item }}'}}
  sum: {run: ./x, with: {all: '${{ steps.few.outputs.n }}', n: '${{ size(steps.many.outputs.n) }}'}}
`},
	{name: "ranges_items", rangeSize: 1000, items: 2500, outcome: succeeds(map[string]string{"f": "1"}), source: `
steps:
  many: {run: ./x, for_each: {objects: in/}, with: {f: '${{ item }}'}, outputs: {f: int}}
  each: {run: ./x, for_each: '${{ steps.many.outputs.f }}', with: {f: '${{ item }}'}}
`},
	{name: "ranges_reduce", rangeSize: 1000, outcome: failsUntil("total", 2), source: `
steps:
  many: {run: ./x, for_each: {from: 1, to: 2500}, outputs: {n: {type: int, optional: true}, f: {type: file, optional: true}}}
  none: {run: ./x, for_each: [1], when: false}
  total: {reduce: many, run: ./x, retry: {attempts: 2, backoff: 100ms}}
  empty: {reduce: none, run: ./x, needs: [total]}
`},
	{name: "ranges_failure", rangeSize: 10, outcome: failsUntil("many", 99), source: `
steps:
  many: {run: ./x, for_each: {from: 0, to: 39}, parallel: 2, min_success: 80%, fail_fast: true}
  half: {run: ./x, for_each: {from: 0, to: 39}, parallel: 2, min_success: 50%}
  next: {run: ./x, needs: [half]}
`},
	{name: "ranges_killed", rangeSize: 10, killAfter: 2, source: `
steps:
  many: {run: ./x, for_each: {from: 0, to: 39}, parallel: 2}
  next: {run: ./x, needs: [many]}
`},
	{name: "ranges_kill_one", rangeSize: 10, killAfter: 2, killOne: true, source: `
steps:
  many: {run: ./x, for_each: {from: 0, to: 19}, min_success: 90%}
  next: {run: ./x, needs: [many]}
`},
	// Temporal suggests a new history at 4,096 events. The run goes on in one during the
	// backoff of its last step, and that second history is the one that is written.
	{name: "continued", rangeSize: 1000, outcome: failsUntil("last", 2), source: `
steps:
` + chain(700) + `
  last: {run: ./x, needs: [s699], retry: {attempts: 2, backoff: 2s}}
  after: {run: ./x, needs: [last]}
`},
}

// chain is steps s0, s1 and so on, each of which needs the one before.
func chain(n int) string {
	var b strings.Builder
	b.WriteString("  s0: {run: ./x}\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "  s%d: {run: ./x, needs: [s%d]}\n", i, i-1)
	}
	return b.String()
}
