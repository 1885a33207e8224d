package mesos

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler/calls"
)

// role is one role of the framework's.
type role struct {
	supply
	// joined: the master has taken the role as one of the framework's. Others are
	// asked for, one at a time, since a master refuses all of a call or nothing.
	joined  bool
	refused error     // why the master has not taken it
	again   time.Time // when it is asked for again
}

// supply is what the master has been told about our wish for a role's offers.
type supply struct {
	suppressed bool
	filtered   bool      // offers were declined since the last REVIVE
	newWork    bool      // tasks came since the last REVIVE
	revived    time.Time // last REVIVE
	busy       time.Time // last time that something waited or was launched
}

// refusedPause is how long after a refusal a role is asked for again.
const refusedPause = 30 * time.Second

// roleOf is the role in which an owner's tasks run.
func (c *Config) roleOf(owner string) string {
	switch {
	case c.Role == "":
		return c.Roles[0]
	case owner == "":
		return c.Role
	}
	return c.Role + "/" + owner
}

// checkRole applies the rules of Mesos' docs/roles.md.
func checkRole(name string) error {
	if name == "*" {
		return nil
	}
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == "." || part == ".." || part == "*":
			return fmt.Errorf("role %q: %q is no part of a role's name", name, part)
		case strings.HasPrefix(part, "-") || strings.ContainsAny(part, "\t\n\v\f\r \b\x7f"):
			return fmt.Errorf("role %q: a part starts with a dash or has a space in it", name)
		}
	}
	return nil
}

// checkRoles checks what the configuration says of roles, and gives those that the
// framework has from the start.
func (c *Config) checkRoles() ([]string, error) {
	switch {
	case c.Role != "" && len(c.Roles) > 0:
		return nil, errors.New("both a role for each owner and fixed roles")
	case len(c.Roles) > 1:
		return nil, fmt.Errorf("%d roles: one is supported", len(c.Roles))
	case c.Role == "*":
		return nil, errors.New(`role "*" has no roles below it: leave it out to run everything there`)
	case c.Role != "":
		return []string{c.Role}, checkRole(c.Role)
	case len(c.Roles) == 0:
		return []string{"*"}, nil
	}
	return c.Roles, checkRole(c.Roles[0])
}

// role gives what is known of a role. f.mu is held, here and below.
func (f *Framework) role(name string) *role {
	r := f.roles[name]
	if r == nil {
		r = &role{}
		f.roles[name] = r
	}
	return r
}

// joinedRoles are those that the master has taken, sorted.
func (f *Framework) joinedRoles() []string {
	names := slices.Clone(f.cfg.Roles)
	for name, r := range f.roles {
		if r.joined && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// resubscribe forgets the roles of owners that have neither tasks waiting nor
// running, and asks anew for those that the last master refused. It gives the
// roles to subscribe with.
func (f *Framework) resubscribe() []string {
	wanted := f.waitingIn()
	for owner := range f.table.held {
		wanted[f.cfg.roleOf(owner)]++
	}
	maps.DeleteFunc(f.roles, func(name string, r *role) bool {
		return !r.joined || wanted[name] == 0 && !slices.Contains(f.cfg.Roles, name)
	})
	return f.joinedRoles()
}

// rolesSubscribed notes that the master has taken these roles, and makes offers to all
// of them.
func (f *Framework) rolesSubscribed(names []string, now time.Time) {
	for _, name := range names {
		*f.role(name) = role{joined: true, supply: supply{busy: now}}
	}
	f.join(now)
}

// waitingIn counts the waiting tasks by role.
func (f *Framework) waitingIn() map[string]int {
	waiting := make(map[string]int)
	for rank, n := range f.queue.ranks {
		waiting[f.cfg.roleOf(rank.owner)] += n
	}
	return waiting
}

// join asks the master for one role that tasks wait for and the framework does not
// have yet (UPDATE_FRAMEWORK, which Mesos knows since 1.9).
func (f *Framework) join(now time.Time) {
	if f.cfg.Role == "" || f.session == nil || f.joining {
		return
	}
	var next string
	for name := range f.waitingIn() {
		if r := f.role(name); !r.joined && !now.Before(r.again) && (next == "" || name < next) {
			next = name
		}
	}
	if next == "" {
		return
	}
	s := f.session
	info := f.frameworkInfo(append(f.joinedRoles(), next))
	f.joining = true
	s.call(calls.UpdateFramework(*info, f.withSuppressed), func(err error) {
		now := time.Now()
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.session != s {
			return
		}
		f.joining = false
		r := f.role(next)
		var status *statusError
		switch {
		case err == nil:
			*r = role{joined: true, supply: supply{busy: now}}
		case errors.As(err, &status) && status.code < 500:
			f.log.Warn("the Mesos master does not let the framework have a role", "role", next, "error", err)
			r.refused, r.again = err, now.Add(refusedPause)
		default:
			r.again = now.Add(returnPause)
		}
		f.join(now)
	})
}

// withSuppressed repeats what is suppressed: the call would clear it.
func (f *Framework) withSuppressed(c *scheduler.Call_UpdateFramework) {
	for name, r := range f.roles {
		if r.joined && r.suppressed {
			c.SuppressedRoles = append(c.SuppressedRoles, name)
		}
	}
	slices.Sort(c.SuppressedRoles)
}

// busyRole notes that something was launched in a role or waits there.
func (f *Framework) busyRole(name string, now time.Time) { f.role(name).busy = now }

// balance returns offers that were of no use, and tells the master for which roles
// more are wanted.
func (f *Framework) balance(now time.Time) {
	waiting := f.waitingIn()
	f.declineAgain(now)
	unused := append(f.offers.expired(now.Add(-f.cfg.Timings.OfferHold)), f.offers.elsewhere(waiting)...)
	idle := f.idle(waiting, now)
	for _, name := range idle {
		unused = append(unused, f.offers.of(name)...)
	}
	for _, o := range unused {
		f.role(o.role).filtered = true
	}
	f.decline(f.session, offerIDs(unused), f.cfg.Timings.Refuse)
	f.join(now)
	f.suppress(idle)
	f.revive(now)
}

// idle are the roles that have wanted nothing for a while.
func (f *Framework) idle(waiting map[string]int, now time.Time) (names []string) {
	inUse := make(map[string]bool)
	for _, fl := range f.flights {
		inUse[fl.offers[0].role] = true
	}
	for name, r := range f.roles {
		if waiting[name] > 0 {
			r.busy = now
			continue
		}
		r.newWork = false
		if r.joined && !r.suppressed && !inUse[name] && now.Sub(r.busy) > f.cfg.Timings.OfferHold {
			names = append(names, name)
		}
	}
	return names
}

// suppress asks for no more offers to some roles.
func (f *Framework) suppress(roles []string) {
	if len(roles) == 0 {
		return
	}
	for _, name := range roles {
		f.role(name).suppressed = true
	}
	f.metrics.Suppresses.Add(1)
	f.tell(calls.SuppressWith(f.named(roles)), roles, func(r *role) {
		// The master may have taken it all the same: work that comes must be told.
		r.suppressed, r.filtered, r.busy = false, true, time.Now()
	})
}

// revive asks for offers to the roles in which tasks wait and whose offers the
// master holds back. It clears all filters of a role, so it is not made more often
// than Timings.Revive.
func (f *Framework) revive(now time.Time) {
	var roles []string
	for name := range f.waitingIn() {
		r := f.role(name)
		heldBack := r.suppressed || r.filtered && r.newWork
		if r.joined && heldBack && now.Sub(r.revived) >= f.cfg.Timings.Revive {
			r.supply = supply{revived: now, busy: now}
			roles = append(roles, name)
		}
	}
	if len(roles) > 0 {
		f.metrics.Revives.Add(1)
		f.tell(calls.ReviveWith(f.named(roles)), roles, func(r *role) { r.suppressed = true })
	}
}

// tell makes a call about roles. If it fails, failed puts each back to where the
// call is due again.
func (f *Framework) tell(call *scheduler.Call, roles []string, failed func(*role)) {
	s := f.session
	s.call(call, func(err error) {
		if err == nil {
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.session != s {
			return
		}
		for _, name := range roles {
			failed(f.role(name))
		}
	})
}

// named gives the roles to name in a call; none means all, which is the only one
// where owners have no roles of their own.
func (f *Framework) named(roles []string) []string {
	if f.cfg.Role == "" {
		return nil
	}
	slices.Sort(roles)
	return roles
}

// roleRefused: the master does not give the owner's role to this framework.
func (q *question) roleRefused() string {
	name := q.f.cfg.roleOf(q.w.Owner)
	r := q.f.roles[name]
	switch {
	case r == nil || r.joined || r.refused == nil:
		return ""
	}
	return fmt.Sprintf("the master does not let principal %q use role %s (register_frameworks in its --acls): %v",
		cmp.Or(q.f.access.Load().Principal, "none"), name, r.refused)
}

// roleAwaited: the master has not answered yet whether the framework may have the
// owner's role.
func (q *question) roleAwaited() string {
	name := q.f.cfg.roleOf(q.w.Owner)
	if r := q.f.roles[name]; q.f.cfg.Role == "" || r != nil && r.joined {
		return ""
	}
	return fmt.Sprintf("the master has yet to let the framework have role %s", name)
}

// allocatedTo says that resources are allocated to a role.
func allocatedTo(role string) *mesos.Resource_AllocationInfo {
	if role == "" {
		return nil
	}
	return &mesos.Resource_AllocationInfo{Role: &role}
}
