package fault

import (
	"time"
)

// faultKind is one kind of fault that a schedule may hold.
type faultKind struct {
	name   string
	weight int
	// least and most bound how long it lasts; both 0: it is a moment.
	least, most time.Duration
	// deadly faults kill executors. A task that dies with its executor four times is
	// taken for the cause and stopped, so a schedule has three of them at most.
	deadly bool
	// begin injects the fault; false when there is nothing at the moment that it
	// could befall, or another fault is there already. It is asked again then.
	begin func(*testbed, *injection) (effect, bool)
}

const (
	ms  = time.Millisecond
	sec = time.Second
)

// faultKinds are all that a testbed knows how to do.
func faultKinds() []faultKind {
	return []faultKind{
		{"leader killed", 4, 100 * ms, 6 * sec, false, killWorker(true)},
		{"leader paused", 4, 200 * ms, 9 * sec, false, pauseWorker(true)},
		{"standby killed", 2, 100 * ms, 4 * sec, false, killWorker(false)},
		{"standby paused", 1, 200 * ms, 6 * sec, false, pauseWorker(false)},
		{"executors killed", 4, 0, 0, true, killExecutors},
		{"executors paused", 2, 100 * ms, 5 * sec, false, pauseExecutors},
		{"task killed", 4, 0, 0, false, killTask},
		{"run killed", 1, 0, 0, false, killRun},

		{"agent cut off for short", 2, 100 * ms, AgentLost, false, loseAgent},
		{"agent cut off for long", 4, AgentLost + sec, 9 * sec, false, loseAgent},
		{"agent restarted", 4, 10 * ms, AgentLost, false, killAgent},
		{"agent down for long", 2, AgentLost + sec, 8 * sec, false, killAgent},
		{"machine lost, back", 2, 500 * ms, 8 * sec, true, loseMachine(false)},
		{"machine lost, replaced", 2, 500 * ms, 6 * sec, true, loseMachine(true)},
		{"live agent marked gone", 1, 0, 0, true, markGone},

		{"master restarted", 3, 0, 0, false, restartMaster},
		{"master failed over", 3, 100 * ms, 4 * sec, false, failoverMaster},
		{"master deposed", 1, 100 * ms, 2 * sec, false, deposeMaster},
		{"no master leads", 2, 100 * ms, 5 * sec, false, withoutMaster},

		{"way to Mesos cut", 3, 50 * ms, 5 * sec, false, linkFault(toMasters, cut)},
		{"way to Mesos cut in mid-record", 3, 500 * ms, 3 * sec, false, linkFault(toMasters, cutWithin)},
		{"way to Mesos a black hole", 3, 200 * ms, 6 * sec, false, linkFault(toMasters, blackHole)},
		{"way to Mesos slow", 2, 500 * ms, 5 * sec, false, linkFault(toMasters, slow)},
		{"way to Temporal cut", 2, 50 * ms, 5 * sec, false, linkFault(toTemporal, cut)},
		{"way to Temporal a black hole", 2, 200 * ms, 8 * sec, false, linkFault(toTemporal, blackHole)},
		{"way to Temporal slow", 2, 500 * ms, 5 * sec, false, linkFault(toTemporal, slow)},
		{"way to storage cut", 2, 50 * ms, 5 * sec, false, linkFault(toStorage, cut)},
		{"way to storage cut in mid-body", 2, 500 * ms, 3 * sec, false, linkFault(toStorage, cutWithin)},
		{"way to storage a black hole", 2, 200 * ms, 6 * sec, false, linkFault(toStorage, blackHole)},
		{"way to storage slow", 2, 500 * ms, 5 * sec, false, linkFault(toStorage, slow)},

		{"updates dropped", 3, 500 * ms, 6 * sec, false, trick(updates, drop)},
		{"updates doubled", 2, 500 * ms, 6 * sec, false, trick(updates, double)},
		{"updates late and out of order", 3, 500 * ms, 6 * sec, false, trick(updates, late)},
		{"told updates dropped", 2, 500 * ms, 6 * sec, false, trick(toldUpdates, drop)},
		{"told updates doubled or late", 2, 500 * ms, 6 * sec, false, trick(toldUpdates, doubleLate)},
		{"offers and rescinds late", 1, 500 * ms, 4 * sec, false, trick(offers, late)},
		{"failures dropped", 1, 500 * ms, 6 * sec, false, trick(failures, drop)},
		{"framework messages lost", 1, 500 * ms, 6 * sec, false, trick(messages, drop)},
		{"framework messages doubled or late", 1, 500 * ms, 6 * sec, false, trick(messages, doubleLate)},
		{"calls not carried out, refused", 2, 200 * ms, 3 * sec, false, trick(calls, lose)},
		{"calls carried out, not answered", 2, 200 * ms, 3 * sec, false, trick(calls, cutOff)},
		{"calls late", 1, 500 * ms, 4 * sec, false, trick(calls, late)},
		{"calls answered, lost with their master", 2, 100 * ms, 800 * ms, false, loseCalls},
		{"master's clock wrong", 2, 2 * sec, 8 * sec, false, trick(times, wrong)},

		{"Temporal killed", 3, 100 * ms, 6 * sec, false, killTemporal},
		{"Temporal killed for long", 1, Heartbeat, Heartbeat + 4*sec, false, killTemporal},
		{"Temporal paused", 2, 200 * ms, 8 * sec, false, pauseTemporal},
		{"Temporal out of reach", 2, 500 * ms, Heartbeat + 3*sec, false, hideTemporal},

		{"gateway slow", 1, 500 * ms, 5 * sec, false, gatewayFault(slowGateway)},
		{"gateway unavailable", 2, 200 * ms, 5 * sec, false, gatewayFault(unavailable)},
		{"gateway full", 2, 200 * ms, 5 * sec, false, gatewayFault(full)},
		{"gateway resets in mid-body", 2, 500 * ms, 5 * sec, false, gatewayFault(breaking)},
		{"leader's store failing", 2, 200 * ms, 5 * sec, false, failStore},
		{"leader's store slow", 1, 500 * ms, 5 * sec, false, slowStore},

		{"executor cannot be fetched", 2, 500 * ms, 5 * sec, true, hideExecutor},
		{"disk of sandboxes full", 3, 200 * ms, 4 * sec, false, fillDisk},
	}
}
