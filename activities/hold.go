package activities

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
)

// heldState is the state of a task that waits for a person's word.
const heldState mesos.State = "HELD"

// maxHeldReason bounds HeldDetail.Reason, in bytes.
const maxHeldReason = 400

// hold keeps partitions of a lost pack that must run at most once (rule 9): whether
// and how far they ran, nobody here can know, so a person decides. They stay in the
// details, and so with every next leader, until ReleaseHeld, a kill, or a word from
// Mesos that the task lives or has a result after all.
func (e *entry) hold(p *pack, rest []int, why string, l *loss) {
	held := &api.HeldDetail{
		Since:  time.Now().UTC().Truncate(time.Second),
		Reason: cut("it was to run at most once and is lost, and nobody knows whether or how far it ran: "+why, maxHeldReason),
	}
	put(&e.losses, rest[0], l)
	for _, first := range rest {
		e.use(first, p.generation)
		q := &pack{
			first: first, members: e.members([]int{first}), attempt: p.attempt, generation: p.generation,
			phase: phaseHeld, state: heldState, held: held, agent: p.agent, executor: p.executor, logs: p.logs,
		}
		e.packs = append(e.packs, q)
		e.log().Error("a task is held for a person", "task", e.taskID(q), "agent", p.agent.Host, "reason", held.Reason,
			"then", e.releaseCommand(q))
	}
	e.changed()
}

func (e *entry) holding() bool {
	return slices.ContainsFunc(e.packs, func(p *pack) bool { return p.phase == phaseHeld })
}

// whyHeld says what is held, and what a person can do; nothing if nothing is.
func (e *entry) whyHeld() string {
	var first *pack
	more := -1
	for _, p := range e.packs {
		if p.phase != phaseHeld {
			continue
		}
		more++
		if first == nil || p.first < first.first {
			first = p
		}
	}
	if first == nil {
		return ""
	}
	text := "held for a person: " + first.held.Reason + "; to go on: " + e.releaseCommand(first)
	if more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// releaseCommand is what a person types. The prefix of the step's objects names run
// and step, also where only Temporal has the input.
func (e *entry) releaseCommand(p *pack) string {
	run, step := "RUN", "STEP"
	if words := strings.Split(e.prefix, "/"); len(words) > 3 {
		run, step = words[2], words[3]
	}
	return fmt.Sprintf("baas release %s/%s#%d --as never-ran|ran|failed --reason TEXT", run, step, p.first)
}
