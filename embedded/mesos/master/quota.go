package master

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	mastercalls "github.com/mesos/mesos-go/api/v1/lib/master"
	"github.com/mesos/mesos-go/api/v1/lib/quota"
)

// quotaOf is a role's quota, in thousandths.
type quotaOf struct {
	guarantees, limits map[string]int64
}

func amounts(scalars map[string]mesos.Value_Scalar) map[string]int64 {
	out := make(map[string]int64, len(scalars))
	for name, v := range scalars {
		out[name] = units(v.Value)
	}
	return out
}

// lineage gives a role and the roles above it, from the top: a, a/b, a/b/c.
func lineage(role string) []string {
	var out []string
	for i, c := range role {
		if c == '/' {
			out = append(out, role[:i])
		}
	}
	return append(out, role)
}

// within tells whether a role is another one or lies below it.
func within(role, other string) bool {
	return role == other || strings.HasPrefix(role, other+"/")
}

// updateQuota carries UPDATE_QUOTA out: all of its roles or none.
func (m *Master) updateQuota(call *mastercalls.Call_UpdateQuota) error {
	next := cloneConfigs(m.registry.content.Quotas)
	for _, c := range call.QuotaConfigs {
		if err := validateQuota(c); err != nil {
			return badRequest("Invalid QuotaConfig: %v", err)
		}
		next = slices.DeleteFunc(next, func(old quota.QuotaConfig) bool { return old.Role == c.Role })
		if len(c.Guarantees)+len(c.Limits) > 0 { // else the default again: none
			next = append(next, c)
		}
	}
	slices.SortFunc(next, func(a, b quota.QuotaConfig) int { return cmp.Compare(a.Role, b.Role) })
	if err := validateQuotaTree(next); err != nil {
		return badRequest("Invalid QuotaConfig: %v", err)
	}
	if !call.GetForce() {
		if err := m.checkCapacity(next); err != nil {
			return badRequest("%v: use 'force' to do it all the same", err)
		}
	}
	if err := m.registry.setQuotas(next); err != nil {
		return err
	}
	m.takeQuotas()
	for _, c := range call.QuotaConfigs { // what is offered beyond a new limit comes back
		for _, o := range m.offers {
			if within(o.role, c.Role) {
				m.rescind(o)
			}
		}
	}
	m.dirty = true
	m.allocate()
	return nil
}

// cloneConfigs keeps the caller's slice from being written to.
func cloneConfigs(list []quota.QuotaConfig) []quota.QuotaConfig { return slices.Clone(list) }

// takeQuotas reads the quotas from the registry.
func (m *Master) takeQuotas() {
	m.quotas = make(map[string]quotaOf)
	for _, c := range m.registry.content.Quotas {
		m.quotas[c.Role] = quotaOf{amounts(c.Guarantees), amounts(c.Limits)}
	}
	m.weights = make(map[string]float64)
	for _, w := range m.registry.content.Weights {
		m.weights[w.GetRole()] = w.Weight
	}
}

func validateQuota(c quota.QuotaConfig) error {
	if c.Role == "" || c.Role == mesos.DefaultRole {
		return fmt.Errorf("setting quota on the role '%s' is not supported", c.Role)
	}
	if err := validateRole(c.Role); err != nil {
		return err
	}
	for _, set := range []map[string]mesos.Value_Scalar{c.Guarantees, c.Limits} {
		for name, v := range set {
			if !(v.Value >= 0) {
				return fmt.Errorf("invalid scalar value %v of '%s'", v.Value, name)
			}
		}
	}
	for name, v := range c.Guarantees {
		if limit, has := c.Limits[name]; has && units(v.Value) > units(limit.Value) {
			return fmt.Errorf("guarantees for role '%s' exceed its limits: %s", c.Role, name)
		}
	}
	return nil
}

// validateQuotaTree: what roles are guaranteed fits into the guarantee of the role
// above them, and none has a higher limit than that (Mesos' docs/quota.md).
func validateQuotaTree(configs []quota.QuotaConfig) error {
	for _, parent := range configs {
		sums := map[string]int64{}
		for _, child := range configs {
			if child.Role == parent.Role || !within(child.Role, parent.Role) {
				continue
			}
			if between := func(c quota.QuotaConfig) bool {
				return c.Role != parent.Role && c.Role != child.Role && within(c.Role, parent.Role) && within(child.Role, c.Role)
			}; slices.ContainsFunc(configs, between) {
				continue
			}
			for name, v := range child.Guarantees {
				sums[name] += units(v.Value)
			}
			for name, v := range child.Limits {
				if limit, has := parent.Limits[name]; has && units(v.Value) > units(limit.Value) {
					return fmt.Errorf("the limit of role '%s' exceeds that of its parent '%s': %s", child.Role, parent.Role, name)
				}
			}
		}
		for name, sum := range sums {
			if sum > units(parent.Guarantees[name].Value) {
				return fmt.Errorf("the guarantees below role '%s' exceed its own: %s", parent.Role, name)
			}
		}
	}
	return nil
}

// checkCapacity compares what is guaranteed in all with what the agents have.
func (m *Master) checkCapacity(configs []quota.QuotaConfig) error {
	sums := map[string]int64{}
	for _, c := range configs {
		below := func(o quota.QuotaConfig) bool {
			return o.Role != c.Role && within(c.Role, o.Role) && len(o.Guarantees) > 0
		}
		if slices.ContainsFunc(configs, below) {
			continue // it is part of its parent's
		}
		for name, v := range c.Guarantees {
			sums[name] += units(v.Value)
		}
	}
	for name, sum := range sums {
		if sum > m.total.scalars[name] {
			return fmt.Errorf("not enough available cluster capacity to reasonably satisfy quota guarantees: %s", name)
		}
	}
	return nil
}

// setQuota carries the older SET_QUOTA out: a guarantee that is a limit as well.
func (m *Master) setQuota(request quota.QuotaRequest) error {
	role := request.GetRole()
	if _, has := m.quotas[role]; has {
		return badRequest("Failed to validate set quota request: Quota for role '%s' already exists", role)
	}
	c := quota.QuotaConfig{Role: role, Guarantees: map[string]mesos.Value_Scalar{}, Limits: map[string]mesos.Value_Scalar{}}
	for _, r := range request.Guarantee {
		if r.GetType() != mesos.SCALAR || r.Revocable != nil || len(r.Reservations) > 0 {
			return badRequest("Failed to validate set quota request: '%s' is no plain scalar", r.Name)
		}
		c.Guarantees[r.Name], c.Limits[r.Name] = *r.Scalar, *r.Scalar
	}
	return m.updateQuota(&mastercalls.Call_UpdateQuota{Force: request.Force, QuotaConfigs: []quota.QuotaConfig{c}})
}

func (m *Master) removeQuota(role string) error {
	if _, has := m.quotas[role]; !has {
		return badRequest("Failed to validate remove quota request: Role '%s' has no quota set", role)
	}
	return m.updateQuota(&mastercalls.Call_UpdateQuota{Force: ptr(true), QuotaConfigs: []quota.QuotaConfig{{Role: role}}})
}

func (m *Master) getQuota() *mastercalls.Response_GetQuota {
	out := &mastercalls.Response_GetQuota{}
	out.Status.Configs = cloneConfigs(m.registry.content.Quotas)
	for _, c := range m.registry.content.Quotas {
		held := newBag()
		for name, v := range c.Guarantees {
			held.scalars[name] = units(v.Value)
		}
		if !held.empty() {
			out.Status.Infos = append(out.Status.Infos, quota.QuotaInfo{Role: ptr(c.Role), Guarantee: held.resources("", false)})
		}
	}
	return out
}

// updateWeights carries UPDATE_WEIGHTS out: all of them or none.
func (m *Master) updateWeights(infos []mesos.WeightInfo) error {
	next := slices.Clone(m.registry.content.Weights)
	for _, w := range infos {
		if !(w.Weight > 0) {
			return badRequest("Invalid weight '%v' for role '%s': Weights must be positive", w.Weight, w.GetRole())
		}
		if err := validateRole(w.GetRole()); err != nil || w.GetRole() == "" {
			return badRequest("Invalid role '%s': %v", w.GetRole(), err)
		}
		next = slices.DeleteFunc(next, func(old mesos.WeightInfo) bool { return old.GetRole() == w.GetRole() })
		next = append(next, w)
	}
	slices.SortFunc(next, func(a, b mesos.WeightInfo) int { return cmp.Compare(a.GetRole(), b.GetRole()) })
	if err := m.registry.setWeights(next); err != nil {
		return err
	}
	m.takeQuotas()
	for _, w := range infos { // so that they take effect at once
		for _, o := range m.offers {
			if within(o.role, w.GetRole()) {
				m.rescind(o)
			}
		}
	}
	m.dirty = true
	return nil
}

func (m *Master) weight(role string) float64 {
	if w, has := m.weights[role]; has {
		return w
	}
	return 1
}

// getRoles lists the roles that anything is known of: frameworks, resources,
// weights, quota. A role's resources are those of all roles below it too.
func (m *Master) getRoles() *mastercalls.Response_GetRoles {
	members := map[string][]mesos.FrameworkID{mesos.DefaultRole: nil}
	for _, f := range m.frameworks {
		for _, role := range frameworkRoles(&f.info) {
			members[role] = append(members[role], mesos.FrameworkID{Value: f.id})
		}
	}
	tree := m.roleTree()
	for _, known := range [][]string{keys(tree.held), keys(m.quotas), keys(m.weights)} {
		for _, role := range known {
			if _, listed := members[role]; !listed {
				members[role] = nil
			}
		}
	}
	out := &mastercalls.Response_GetRoles{}
	for _, role := range slices.Sorted(slices.Values(keys(members))) {
		slices.SortFunc(members[role], func(a, b mesos.FrameworkID) int { return cmp.Compare(a.Value, b.Value) })
		out.Roles = append(out.Roles, mesos.Role{
			Name: role, Weight: m.weight(role), Frameworks: members[role], Resources: tree.of(role).resources("", false),
		})
	}
	return out
}
