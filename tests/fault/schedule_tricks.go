package fault

import (
	"math/rand/v2"
	"sync"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/embedded/mesos/link"
)

// trickClass is a class of messages in Mesos that one trick at a time is played on.
type trickClass string

const (
	updates     trickClass = "updates"      // from agents to the master
	toldUpdates trickClass = "told updates" // from the master to the leader
	offers      trickClass = "offers"       // and rescinds
	failures    trickClass = "failures"     // of agents and executors, as told to the leader
	messages    trickClass = "messages"     // of the framework and its executors
	calls       trickClass = "calls"        // of the leader
	times       trickClass = "times"        // since when agents are unreachable
)

// trickRule is what befalls messages of a class. With calls, drop is a call that is
// not carried out, cut one that is not answered.
type trickRule struct {
	chance    float64
	drop, cut bool
	copies    int
	late      time.Duration // at most
	skew      time.Duration
}

// The tricks.
func drop(r *rand.Rand) trickRule   { return trickRule{chance: 0.2 + 0.8*r.Float64(), drop: true} }
func double(r *rand.Rand) trickRule { return trickRule{chance: 0.8, copies: 1 + r.IntN(2)} }
func late(r *rand.Rand) trickRule {
	return trickRule{chance: 0.7, late: time.Duration(100+r.IntN(1500)) * ms}
}

func doubleLate(r *rand.Rand) trickRule {
	return trickRule{chance: 0.7, copies: 1, late: time.Duration(50+r.IntN(1000)) * ms}
}
func lose(r *rand.Rand) trickRule {
	return trickRule{chance: 0.2 + 0.6*r.Float64(), drop: true, cut: true}
}
func cutOff(r *rand.Rand) trickRule { return trickRule{chance: 0.2 + 0.6*r.Float64(), cut: true} }
func forget(r *rand.Rand) trickRule { return trickRule{chance: 0.3 + 0.7*r.Float64(), drop: true} }

func wrong(r *rand.Rand) trickRule {
	return trickRule{chance: 1, skew: time.Duration(1-2*r.IntN(2)) * time.Hour}
}

// tricks are a cluster's Faults, as the schedule of the moment wants them.
type tricks struct {
	mu     sync.Mutex
	rand   *rand.Rand
	rules  map[trickClass]trickRule
	played map[trickClass]int
}

func newTricks(seed uint64) *tricks {
	return &tricks{rand: rand.New(rand.NewPCG(seed, 2)), rules: map[trickClass]trickRule{}, played: map[trickClass]int{}}
}

// trick plays a trick on a class of messages.
func trick(class trickClass, way func(*rand.Rand) trickRule) func(*testbed, *injection) (effect, bool) {
	return func(s *testbed, in *injection) (effect, bool) {
		key := string(class)
		if s.busy[key] {
			return effect{}, false
		}
		if class == calls {
			s.doubt() // whether a task was launched
		}
		struck := since(func() int { return s.tricks.count(class) })
		s.tricks.set(class, way(in.rand))
		return effect{keys: []string{key}, end: func() { s.tricks.set(class, trickRule{}) }, struck: struck}, true
	}
}

func (t *tricks) set(class trickClass, rule trickRule) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rules[class] = rule
}

func (t *tricks) count(class trickClass) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.played[class]
}

// rule gives the rule for one message, if it is played on this one.
func (t *tricks) rule(class trickClass) (trickRule, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rule := t.rules[class]
	if rule.chance == 0 || t.rand.Float64() >= rule.chance {
		return trickRule{}, false
	}
	if rule.late > 0 {
		rule.late = time.Duration(t.rand.Int64N(int64(rule.late)))
	}
	t.played[class]++
	return rule, true
}

func (t *tricks) fate(class trickClass) link.Fate {
	rule, ok := t.rule(class)
	if !ok {
		return link.Fate{}
	}
	return link.Fate{Drop: rule.drop, Delay: rule.late, Copies: rule.copies}
}

func (t *tricks) faults() embeddedmesos.Faults {
	return embeddedmesos.Faults{
		Update:  func(link.StatusUpdate) link.Fate { return t.fate(updates) },
		Message: func(embeddedmesos.Message) link.Fate { return t.fate(messages) },
		Event:   t.event,
		Call: func(*scheduler.Call) link.CallFate {
			rule, _ := t.rule(calls)
			return link.CallFate{Delay: rule.late, Lose: rule.drop, Cut: rule.cut}
		},
	}
}

// event drops nothing that a master tells only once while it and the connection
// live, such as offers: then it would not be Mesos.
func (t *tricks) event(_ api.FrameworkID, e *scheduler.Event) link.Fate {
	switch e.Type {
	case scheduler.Event_UPDATE:
		t.misdate(e.Update)
		return t.fate(toldUpdates)
	case scheduler.Event_OFFERS, scheduler.Event_RESCIND:
		return t.fate(offers)
	case scheduler.Event_FAILURE:
		return t.fate(failures)
	}
	return link.Fate{}
}

// misdate tells of unreachable agents as a master would whose clock is wrong. The
// event is this message alone, the time in it is not.
func (t *tricks) misdate(u *scheduler.Event_Update) {
	if u.Status.UnreachableTime == nil {
		return
	}
	if rule, ok := t.rule(times); ok {
		u.Status.UnreachableTime = &api.TimeInfo{Nanoseconds: u.Status.UnreachableTime.Nanoseconds + rule.skew.Nanoseconds()}
	}
}
