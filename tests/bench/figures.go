package main

import (
	"cmp"
	"slices"
)

// value names what a side has measured.
type value struct{ side, key string }

// figure is what is reported: our value over the floor's, or where there is no floor
// our value by itself.
type figure struct {
	group string // for --only
	Name  string
	Unit  string // of both values
	ours  value
	floor value // empty: none
	Floor string
	// Goal is for the ratio, or without a floor for the value; 0: there is none.
	Goal float64
	// More tells that more is better: the goal is at least, else at most.
	More bool

	line *line // the curve that it is a point of, if it is
	at   int   // where
}

// The sides of the ratios; each is a process of its own.
const (
	ourSteps, bareSteps   = "steps: ours", "steps: Temporal"
	ourPartitions         = "partitions: ours"
	bareActivities        = "partitions: Temporal"
	bareForks             = "partitions: fork and exec"
	bareExecutors         = "partitions: Mesos"
	ourMillion            = "million: ours"
	ourFlows, bareFlows   = "flows: ours", "flows: Temporal"
	ourGap, bareGap       = "gap: ours", "gap: Temporal"
	leaderMemory          = "memory: leader"
	executorMemory        = "memory: executor"
	placementPass         = "placement: one pass"
	ourStorage, bareFiles = "storage: ours", "storage: files and HTTP"
	sharedAgents          = "sharing: trace"
	killNothing           = "kill: nothing"
	killLeader            = "kill: leader"
	killExecutor          = "kill: executor"
	killPlatform          = "kill: platform"
)

var figures = append([]figure{
	{"steps", "20 steps in a row", "s", value{ourSteps, "time"}, value{bareSteps, "time"}, "Temporal", 1.3, false, nil, 0},
	{"partitions", "no-op partitions", "/s", value{ourPartitions, "rate"}, value{bareActivities, "rate"}, "Temporal", 4, true, nil, 0},
	{"partitions", "no-op partitions", "/s", value{ourPartitions, "rate"}, value{bareForks, "rate"}, "fork and exec", 0.6, true, nil, 0},
	{"partitions", "no-op partitions", "/s", value{ourPartitions, "rate"}, value{bareExecutors, "rate"}, "Mesos", 20, true, nil, 0},
	{"million", "large step: partitions", "/s", value{ourMillion, "rate"}, value{ourPartitions, "rate"}, "small step", 0.8, true, nil, 0},
	{"million", "large step: events", "", value{ourMillion, "events"}, value{}, "", 10_000, false, nil, 0},
	{"million", "large step: memory, peak", "MB", value{ourMillion, "peak"}, value{}, "", 500, false, nil, 0},
	{"million", "large step: Go heap, peak", "MB", value{ourMillion, "heap"}, value{}, "", 0, false, nil, 0},
	{"flows", "steps of flows at once", "/s", value{ourFlows, "rate"}, value{bareFlows, "rate"}, "Temporal", 0.7, true, nil, 0},
	{"gap", "exit to next start, p50", "ms", value{ourGap, "p50"}, value{bareGap, "p50"}, "Temporal", 2, false, nil, 0},
	{"memory", "leader, waiting task", "KB", value{leaderMemory, "waiting"}, value{}, "", 2, false, nil, 0},
	{"memory", "leader, running task", "KB", value{leaderMemory, "running"}, value{}, "", 2, false, nil, 0},
	{"memory", "executor, idle", "MB", value{executorMemory, "idle"}, value{}, "", 12, false, nil, 0},
	{"memory", "executor, running task", "KB", value{executorMemory, "task"}, value{}, "", 64, false, nil, 0},
	{"placement", "placement, one pass", "s", value{placementPass, "time"}, value{}, "", 0.5, false, nil, 0},
	{"placement", "placement, above bound", "%", value{placementPass, "above"}, value{}, "", 5, false, nil, 0},
	{"storage", "put into the file store", "MB/s", value{ourStorage, "put"}, value{bareFiles, "put"}, "file copy", 0, true, nil, 0},
	{"storage", "get from the file store", "MB/s", value{ourStorage, "get"}, value{bareFiles, "get"}, "file copy", 0, true, nil, 0},
	{"storage", "upload by signed URL", "MB/s", value{ourStorage, "upload"}, value{bareFiles, "upload"}, "raw HTTP", 0, true, nil, 0},
	{"storage", "download by signed URL", "MB/s", value{ourStorage, "download"}, value{bareFiles, "download"}, "raw HTTP", 0, true, nil, 0},
	{"sharing", "sharing, peak: cost", "h", value{sharedAgents, "peak shared cost"}, value{sharedAgents, "peak own cost"}, "own machines", 0, false, nil, 0},
	{"sharing", "sharing, peak: utilisation", "%", value{sharedAgents, "peak shared used"}, value{sharedAgents, "peak own used"}, "own machines", 0, true, nil, 0},
	{"sharing", "sharing, peak: makespan", "h", value{sharedAgents, "peak shared makespan"}, value{sharedAgents, "peak own makespan"}, "own machines", 0, false, nil, 0},
	{"sharing", "sharing, 95 %: cost", "h", value{sharedAgents, "95 shared cost"}, value{sharedAgents, "95 own cost"}, "own machines", 0, false, nil, 0},
	{"sharing", "sharing, 95 %: utilisation", "%", value{sharedAgents, "95 shared used"}, value{sharedAgents, "95 own used"}, "own machines", 0, true, nil, 0},
	{"sharing", "sharing, 95 %: makespan", "h", value{sharedAgents, "95 shared makespan"}, value{sharedAgents, "95 own makespan"}, "own machines", 0, false, nil, 0},
	{kill, "leader killed", "s", value{killLeader, "time"}, value{killNothing, "time"}, "none killed", 0, false, nil, 0},
	{kill, "executor killed", "s", value{killExecutor, "time"}, value{killNothing, "time"}, "none killed", 0, false, nil, 0},
	{kill, "executor killed: again", "", value{killExecutor, "again"}, value{}, "", 0, false, nil, 0},
	{kill, "platform killed", "s", value{killPlatform, "time"}, value{killNothing, "time"}, "none killed", 0, false, nil, 0},
}, curveFigures()...)

// kill is the group in which something dies.
const kill = "kill"

// extras are groups that take long and are measured when asked for.
var extras = []string{"million", kill, curve}

// groups are what --only takes.
func groups() (names []string) {
	for _, f := range figures {
		if !slices.Contains(names, f.group) {
			names = append(names, f.group)
		}
	}
	return names
}

// sidesOf lists the sides of figures in the order in which a run measures them, each
// once: what two figures share is measured once.
func sidesOf(list []figure) (names []string) {
	for _, f := range list {
		for _, v := range []value{f.ours, f.floor} {
			if v.side != "" && !slices.Contains(names, v.side) {
				names = append(names, v.side)
			}
		}
	}
	return names
}

// met tells whether a value reaches the figure's goal.
func (f figure) met(v float64) bool {
	if f.More {
		return cmp.Compare(v, f.Goal) >= 0
	}
	return cmp.Compare(v, f.Goal) <= 0
}
