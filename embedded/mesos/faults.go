package mesos

import (
	"sync"

	api "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"github.com/baas-batch/baas/embedded/mesos/link"
)

// Faults decide, for tests, what becomes of each message. A function that is nil
// lets everything pass. Only one of them runs at a time, so they may share a
// seeded generator without a lock. They must not change what they see, nor call
// the Cluster: what is to happen at a message (KillAgent, say) belongs to another
// goroutine, that the function wakes.
type Faults struct {
	// Update sees every status update on its way from an agent to the master, also
	// each repetition. What gets lost the agent sends again after its
	// UpdateRetryMin, doubling to UpdateRetryMax.
	Update func(link.StatusUpdate) link.Fate
	// Event sees what the master sends to a scheduler, but for SUBSCRIBED,
	// HEARTBEAT and ERROR.
	Event func(api.FrameworkID, *scheduler.Event) link.Fate
	// Call sees what a scheduler asks of the master, but for SUBSCRIBE. Lose is a
	// master that dies after it has answered, Lose with Cut one that dies after it
	// has read the call, and Cut one that dies before its answer gets out.
	Call func(*scheduler.Call) link.CallFate
	// Message sees every framework message between master and agent.
	Message func(Message) link.Fate
}

// Message is a framework message.
type Message struct {
	Framework  api.FrameworkID
	Executor   api.ExecutorID
	Data       []byte
	ToExecutor bool // else from it
}

// serialised gives the same faults, one at a time.
func (f Faults) serialised() Faults {
	var one sync.Mutex
	return Faults{
		Update:  serial(&one, f.Update),
		Call:    serial(&one, f.Call),
		Message: serial(&one, f.Message),
		Event:   serialEvent(&one, f.Event),
	}
}

func serial[M, F any](one *sync.Mutex, decide func(M) F) func(M) F {
	if decide == nil {
		return nil
	}
	return func(m M) F {
		one.Lock()
		defer one.Unlock()
		return decide(m)
	}
}

func serialEvent(one *sync.Mutex, decide func(api.FrameworkID, *scheduler.Event) link.Fate) func(api.FrameworkID, *scheduler.Event) link.Fate {
	if decide == nil {
		return nil
	}
	return func(id api.FrameworkID, ev *scheduler.Event) link.Fate {
		one.Lock()
		defer one.Unlock()
		return decide(id, ev)
	}
}
