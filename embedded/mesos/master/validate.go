package master

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// maxIDLength is the longest ID that Mesos takes: it becomes a directory name.
const maxIDLength = 255

// validateID applies Mesos' rules for the IDs of tasks, executors and frameworks.
func validateID(id string) error {
	switch {
	case id == "":
		return errors.New("ID must not be empty")
	case len(id) > maxIDLength:
		return fmt.Errorf("ID must not be greater than %d characters", maxIDLength)
	case id == "." || id == "..":
		return fmt.Errorf("'%s' is disallowed", id)
	case strings.ContainsFunc(id, func(r rune) bool { return r == '/' || r == '\\' || (r < 0x80 && unicode.IsControl(r)) }):
		return fmt.Errorf("'%s' contains invalid characters", id)
	}
	return nil
}

// validateRole applies the rules of Mesos' docs/roles.md.
func validateRole(role string) error {
	if role == mesos.DefaultRole {
		return nil
	}
	for _, part := range strings.Split(role, "/") {
		switch {
		case part == "":
			return fmt.Errorf("role '%s' is empty, starts or ends with a slash, or has two in a row", role)
		case part == "." || part == ".." || part == "*":
			return fmt.Errorf("role '%s' cannot include '%s' as a component", role, part)
		case strings.HasPrefix(part, "-"):
			return fmt.Errorf("role component '%s' is invalid because it starts with a dash", part)
		case strings.ContainsAny(part, "\t\n\v\f\r \x7f"):
			return fmt.Errorf("role component '%s' is invalid because it contains backspace or whitespace", part)
		}
	}
	return nil
}

// validateFramework checks what Mesos checks of a FrameworkInfo at SUBSCRIBE.
func validateFramework(info *mesos.FrameworkInfo) error {
	roles := frameworkRoles(info)
	if hasCapability(info, mesos.FrameworkInfo_Capability_MULTI_ROLE) {
		if info.Role != nil {
			return errors.New("'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable")
		}
		sorted := slices.Sorted(slices.Values(roles))
		if len(slices.Compact(sorted)) < len(roles) {
			return errors.New("'FrameworkInfo.roles' contains duplicate items")
		}
	} else if len(info.Roles) > 0 {
		return errors.New("'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable")
	}
	for _, role := range roles {
		if err := validateRole(role); err != nil {
			return fmt.Errorf("FrameworkInfo contains an invalid role: %w", err)
		}
	}
	if id := info.GetID().GetValue(); id != "" {
		if err := validateID(id); err != nil {
			return fmt.Errorf("FrameworkInfo has an invalid ID: %w", err)
		}
	}
	// Mesos holds durations as 64-bit nanoseconds.
	if t := info.GetFailoverTimeout(); math.IsNaN(t) || math.Abs(t)*1e9 > math.MaxInt64 {
		return fmt.Errorf("the framework failover_timeout (%v) is invalid", t)
	}
	return nil
}

// validateUpdate refuses a change of what cannot change; user and checkpoint
// are silently kept at SUBSCRIBE (keepImmutable).
func validateUpdate(old, next *mesos.FrameworkInfo) error {
	switch {
	case (old.Principal == nil) != (next.Principal == nil) || old.GetPrincipal() != next.GetPrincipal():
		return errors.New("changing framework's principal is not allowed")
	case old.User != next.User:
		return fmt.Errorf("updating 'FrameworkInfo.user' is unsupported; attempted to update from '%s' to '%s'", old.User, next.User)
	case old.GetCheckpoint() != next.GetCheckpoint():
		return errors.New("updating 'FrameworkInfo.checkpoint' is unsupported")
	}
	return nil
}

func keepImmutable(old, next *mesos.FrameworkInfo) {
	next.User = old.User
	if old.GetCheckpoint() != next.GetCheckpoint() {
		next.Checkpoint = old.Checkpoint
	}
}

func validateSuppressed(roles, suppressed []string) error {
	for _, s := range suppressed {
		if !slices.Contains(roles, s) {
			return fmt.Errorf("suppressed role '%s' is not contained in the set of roles", s)
		}
	}
	return nil
}

// frameworkRoles are the roles that a framework subscribes with.
func frameworkRoles(info *mesos.FrameworkInfo) []string {
	if hasCapability(info, mesos.FrameworkInfo_Capability_MULTI_ROLE) {
		return info.Roles
	}
	return []string{info.GetRole()}
}

func hasCapability(info *mesos.FrameworkInfo, want mesos.FrameworkInfo_Capability_Type) bool {
	return slices.ContainsFunc(info.Capabilities, func(c mesos.FrameworkInfo_Capability) bool { return c.Type == want })
}

// validateResources checks the form of resources that a framework names.
func validateResources(resources []mesos.Resource) error {
	for i := range resources {
		r := &resources[i]
		if err := r.Validate(); err != nil {
			return fmt.Errorf("invalid resource '%s': %w", r.Name, err)
		}
		if r.GetType() != mesos.SCALAR {
			continue
		}
		if v := r.GetScalar().GetValue(); math.IsNaN(v) || math.IsInf(v, 0) || (v != 0 && units(v) <= 0) {
			return fmt.Errorf("invalid scalar resource '%s': value <= 0", r.Name)
		}
	}
	return nil
}

func validateCommand(c *mesos.CommandInfo) error {
	for _, v := range c.GetEnvironment().GetVariables() {
		switch v.GetType() {
		case mesos.Environment_Variable_VALUE:
			if v.Value == nil || v.Secret != nil {
				return fmt.Errorf("environment variable '%s' of type 'VALUE' must have a value and no secret set", v.Name)
			}
		case mesos.Environment_Variable_SECRET:
			if v.Value != nil || v.Secret == nil {
				return fmt.Errorf("environment variable '%s' of type 'SECRET' must have a secret and no value set", v.Name)
			}
		default:
			return errors.New("environment variable of type 'UNKNOWN' is not allowed")
		}
	}
	return nil
}

// sameExecutor compares what Mesos compares of two executors with one ID: all
// but labels and the grace period; URIs and variables in any order.
func sameExecutor(a, b *mesos.ExecutorInfo) bool {
	return a.Type == b.Type && a.ExecutorID == b.ExecutorID && bytes.Equal(a.Data, b.Data) &&
		sameResources(a.Resources, b.Resources) &&
		sameCommand(a.Command, b.Command) &&
		a.GetFrameworkID().GetValue() == b.GetFrameworkID().GetValue() &&
		a.GetName() == b.GetName() && a.GetSource() == b.GetSource() &&
		a.Container.Equal(b.Container) && a.Discovery.Equal(b.Discovery)
}

func sameResources(a, b []mesos.Resource) bool {
	role := func(rs []mesos.Resource) string {
		if len(rs) == 0 {
			return ""
		}
		return rs[0].GetAllocationInfo().GetRole()
	}
	x, okX := bagOf(a, "")
	y, okY := bagOf(b, "")
	return okX && okY && x.equal(y) && role(a) == role(b)
}

func sameCommand(a, b *mesos.CommandInfo) bool {
	return sameMembers(a.GetURIs(), b.GetURIs(), func(x, y mesos.CommandInfo_URI) bool {
		return x.Value == y.Value && x.GetExecutable() == y.GetExecutable() &&
			x.GetExtract() == y.GetExtract() && x.GetOutputFile() == y.GetOutputFile()
	}) &&
		slices.Equal(a.GetArguments(), b.GetArguments()) &&
		sameMembers(a.GetEnvironment().GetVariables(), b.GetEnvironment().GetVariables(),
			func(x, y mesos.Environment_Variable) bool {
				return x.Name == y.Name && x.GetType() == y.GetType() && x.GetValue() == y.GetValue() && x.Secret.Equal(y.Secret)
			}) &&
		a.GetValue() == b.GetValue() && a.GetUser() == b.GetUser() && a.GetShell() == b.GetShell()
}

func sameMembers[T any](a, b []T, same func(T, T) bool) bool {
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		if !slices.ContainsFunc(b, func(y T) bool { return same(x, y) }) {
			return false
		}
	}
	return true
}
