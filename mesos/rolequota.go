package mesos

import (
	"context"
	"fmt"
	"strings"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	mastercalls "github.com/mesos/mesos-go/api/v1/lib/master/calls"
	quotapb "github.com/mesos/mesos-go/api/v1/lib/quota"

	"github.com/baas-batch/baas/mesos/placement"
)

// quota is a role's limit and what the role, with those below it, holds.
type quota struct {
	role  string
	limit map[int]int64 // thousandths, by dimension; what is not limited is missing
	used  placement.Vector
}

// limited are the resources that BAAS asks for and Mesos can limit.
var limited = map[string]int{
	"cpus": placement.CPUs, "mem": placement.Mem, "disk": placement.Disk, "gpus": placement.GPUs,
	networkResource: placement.Network,
}

// quotas asks the master which roles are limited and what they hold.
func (c *client) quotas(ctx context.Context) ([]quota, error) {
	limits, err := c.ask(ctx, mastercalls.GetQuota())
	if err != nil {
		return nil, fmt.Errorf("GET_QUOTA: %w", err)
	}
	roles, err := c.ask(ctx, mastercalls.GetRoles())
	if err != nil {
		return nil, fmt.Errorf("GET_ROLES: %w", err)
	}
	return newQuotas(limits.GetGetQuota().GetStatus().Configs, roles.GetGetRoles().GetRoles()), nil
}

func newQuotas(configs []quotapb.QuotaConfig, roles []mesos.Role) (out []quota) {
	for _, c := range configs {
		q := quota{role: c.Role, limit: make(map[int]int64)}
		for name, limit := range c.Limits {
			if dimension, known := limited[name]; known {
				q.limit[dimension] = placement.Milli(limit.Value)
			}
		}
		if len(q.limit) == 0 {
			continue
		}
		// Some versions of Mesos tell of a role with all below it, some without.
		var below placement.Vector
		for i := range roles {
			switch held := quotaSum(roles[i].Resources); {
			case roles[i].Name == c.Role:
				q.used = q.used.Max(held)
			case strings.HasPrefix(roles[i].Name, c.Role+"/"):
				below = below.Add(held)
			}
		}
		q.used = q.used.Max(below)
		out = append(out, q)
	}
	return out
}

// quotaSum adds up what counts against a quota: not what can be taken back.
func quotaSum(resources []mesos.Resource) (sum placement.Vector) {
	for i := range resources {
		if r := &resources[i]; r.Revocable == nil && r.GetType() == mesos.SCALAR {
			addTo(&sum, r)
		}
	}
	return sum
}

// quotas are those that matter to this framework; none where the master does not
// tell. Role "*" cannot have one.
func (s *session) quotas(ctx context.Context) []quota {
	if s.f.cfg.roleOf("") == "*" {
		return nil
	}
	out, err := s.client.quotas(ctx)
	if err != nil {
		s.f.log.Debug("the master does not tell of quota", "error", err)
	}
	return out
}

// applies tells whether what a role takes counts for the quota.
func (q *quota) applies(role string) bool {
	return role == q.role || strings.HasPrefix(role, q.role+"/")
}

// overQuota: the role of the task's owner, or one above it, may not hold more.
func (q *question) overQuota() string {
	role, need := q.f.cfg.roleOf(q.w.Owner), q.w.whole()
	// An executor that lives on any agent needs no second one.
	for _, a := range q.f.table.agents {
		if x := a.executors[q.w.executor.id]; x != nil && x.started && x.stopping.IsZero() {
			need = q.w.need
			break
		}
	}
	for i := range q.f.quotas {
		l := &q.f.quotas[i]
		if !l.applies(role) {
			continue
		}
		used := l.used
		if l.role == role {
			used = used.Max(q.f.table.held[q.w.Owner]) // news that is newer than the survey
		}
		for d := range need {
			limit, has := l.limit[d]
			if !has || need[d] <= limit-used[d] {
				continue
			}
			return fmt.Sprintf("the quota of role %s is used up: it may hold %s and holds %s, and the task needs %s",
				l.role, withUnit(d, limit), amount(d, used[d]), amount(d, need[d]))
		}
	}
	return ""
}
