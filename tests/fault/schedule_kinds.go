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
		{"leader killed", 4, 100 * ms, 6 * sec, killWorker(true)},
		{"leader paused", 4, 200 * ms, 9 * sec, pauseWorker(true)},
		{"standby killed", 2, 100 * ms, 4 * sec, killWorker(false)},
		{"standby paused", 1, 200 * ms, 6 * sec, pauseWorker(false)},
		{"executors killed", 4, 0, 0, killExecutors},
		{"executors paused", 2, 100 * ms, 5 * sec, pauseExecutors},
		{"task killed", 4, 0, 0, killTask},
		{"run killed", 1, 0, 0, killRun},

		{"agent cut off for short", 2, 100 * ms, AgentLost, loseAgent},
		{"agent cut off for long", 4, AgentLost + sec, 9 * sec, loseAgent},
		{"agent restarted", 4, 10 * ms, AgentLost, killAgent},
		{"agent down for long", 2, AgentLost + sec, 8 * sec, killAgent},
		{"machine lost, back", 2, 500 * ms, 8 * sec, loseMachine(false)},
		{"machine lost, replaced", 2, 500 * ms, 6 * sec, loseMachine(true)},
		{"live agent marked gone", 1, 0, 0, markGone},

		{"master restarted", 3, 0, 0, restartMaster},
		{"master failed over", 3, 100 * ms, 4 * sec, failoverMaster},
		{"master deposed", 1, 100 * ms, 2 * sec, deposeMaster},
		{"no master leads", 2, 100 * ms, 5 * sec, withoutMaster},

		{"way to Mesos cut", 3, 50 * ms, 5 * sec, linkFault(toMasters, cut)},
		{"way to Mesos cut in mid-record", 3, 500 * ms, 3 * sec, linkFault(toMasters, cutWithin)},
		{"way to Mesos a black hole", 3, 200 * ms, 6 * sec, linkFault(toMasters, blackHole)},
		{"way to Mesos slow", 2, 500 * ms, 5 * sec, linkFault(toMasters, slow)},
		{"way to Temporal cut", 2, 50 * ms, 5 * sec, linkFault(toTemporal, cut)},
		{"way to Temporal a black hole", 2, 200 * ms, 8 * sec, linkFault(toTemporal, blackHole)},
		{"way to Temporal slow", 2, 500 * ms, 5 * sec, linkFault(toTemporal, slow)},
		{"way to storage cut", 2, 50 * ms, 5 * sec, linkFault(toStorage, cut)},
		{"way to storage cut in mid-body", 2, 500 * ms, 3 * sec, linkFault(toStorage, cutWithin)},
		{"way to storage a black hole", 2, 200 * ms, 6 * sec, linkFault(toStorage, blackHole)},
		{"way to storage slow", 2, 500 * ms, 5 * sec, linkFault(toStorage, slow)},

		{"updates dropped", 3, 500 * ms, 6 * sec, trick(updates, drop)},
		{"updates doubled", 2, 500 * ms, 6 * sec, trick(updates, double)},
		{"updates late and out of order", 3, 500 * ms, 6 * sec, trick(updates, late)},
		{"told updates dropped", 2, 500 * ms, 6 * sec, trick(toldUpdates, drop)},
		{"told updates doubled or late", 2, 500 * ms, 6 * sec, trick(toldUpdates, doubleLate)},
		{"offers and rescinds late", 1, 500 * ms, 4 * sec, trick(offers, late)},
		{"failures dropped", 1, 500 * ms, 6 * sec, trick(failures, drop)},
		{"framework messages lost", 1, 500 * ms, 6 * sec, trick(messages, drop)},
		{"framework messages doubled or late", 1, 500 * ms, 6 * sec, trick(messages, doubleLate)},
		{"calls not carried out, refused", 2, 200 * ms, 3 * sec, trick(calls, lose)},
		{"calls carried out, not answered", 2, 200 * ms, 3 * sec, trick(calls, cutOff)},
		{"calls late", 1, 500 * ms, 4 * sec, trick(calls, late)},
		{"calls answered, lost with their master", 2, 100 * ms, 800 * ms, loseCalls},
		{"master's clock wrong", 2, 2 * sec, 8 * sec, trick(times, wrong)},

		{"Temporal killed", 3, 100 * ms, 6 * sec, killTemporal},
		{"Temporal killed for long", 1, Heartbeat, Heartbeat + 4*sec, killTemporal},
		{"Temporal paused", 2, 200 * ms, 8 * sec, pauseTemporal},
		{"Temporal out of reach", 2, 500 * ms, Heartbeat + 3*sec, hideTemporal},

		{"gateway slow", 1, 500 * ms, 5 * sec, gatewayFault(slowGateway)},
		{"gateway unavailable", 2, 200 * ms, 5 * sec, gatewayFault(unavailable)},
		{"gateway full", 2, 200 * ms, 5 * sec, gatewayFault(full)},
		{"gateway resets in mid-body", 2, 500 * ms, 5 * sec, gatewayFault(breaking)},
		{"leader's store failing", 2, 200 * ms, 5 * sec, failStore},
		{"leader's store slow", 1, 500 * ms, 5 * sec, slowStore},

		{"executor cannot be fetched", 2, 500 * ms, 5 * sec, hideExecutor},
		{"disk of sandboxes full", 3, 200 * ms, 4 * sec, fillDisk},
	}
}
