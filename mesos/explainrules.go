package mesos

import (
	"fmt"
	"strings"

	"github.com/baas-batch/baas/mesos/placement"
)

// rule finds out which agents the task's constraints exclude.
func (q *question) rule() {
	if q.w.rules == nil {
		return
	}
	rules := q.f.ruling(q.now).make(q.w)
	offered := make([]placement.Agent, len(q.open))
	for i, a := range q.open {
		offered[i] = placement.Agent{ID: a.ID, Values: a.values}
	}
	excluded, admitted := rules.Excluded(offered)
	q.barred = make(map[*agentRecord]bool)
	for i, a := range q.open {
		if !admitted[i] {
			q.barred[a] = true
		}
	}
	for i, n := range excluded {
		if n == 0 {
			continue
		}
		text := fmt.Sprintf("constraint %s excludes %s of %s", clip(q.w.rules.texts[i], 60), thousands(n), agents(q.agents))
		if len(q.exclusions) > 0 {
			text = fmt.Sprintf("%s %s", clip(q.w.rules.texts[i], 60), thousands(n))
		}
		if u := rules.Unknown; u != nil && u[i] > 0 && rules.Constraints[i].Op == placement.MaxPer {
			text += fmt.Sprintf(" (%s run on agents whose %s is not known)", thousands(u[i]), rules.Constraints[i].Key)
		}
		q.exclusions = append(q.exclusions, text)
	}
}

// ruledOut: no agent is left by the constraints, or none that is large enough.
func (q *question) ruledOut() string {
	if q.w.rules == nil || q.agents == 0 {
		return ""
	}
	if len(q.large) > 0 || len(q.exclusions) == 0 {
		return ""
	}
	why := strings.Join(q.exclusions, ", ")
	if len(q.barred) < q.agents {
		why += fmt.Sprintf("; of the rest none is large enough (%s)", q.shortageOfRest())
	} else if len(q.exclusions) > 1 {
		why = "no agent meets all its constraints: " + why
	}
	return strings.Join(append([]string{why}, q.wouldDo()...), "; ")
}

// shortageOfRest names the first resource that the agents which the constraints
// leave have too little of.
func (q *question) shortageOfRest() string {
	var most placement.Vector
	for _, a := range q.open {
		if !q.barred[a] {
			most = most.Max(a.capacity())
		}
	}
	whole := q.w.whole()
	for i := range whole {
		if whole[i] > most[i] {
			return fmt.Sprintf("it needs %s, the largest has %s", withUnit(i, whole[i]), amount(i, most[i]))
		}
	}
	return "none has all that it needs"
}
