package master

import (
	"slices"
	"strings"
)

// mayUse tells whether a principal may use all of these roles.
func (m *Master) mayUse(principal string, roles []string) bool {
	allowed, bound := m.cfg.Roles[principal]
	if !bound {
		return true
	}
	return !slices.ContainsFunc(roles, func(role string) bool {
		return !slices.ContainsFunc(allowed, func(a string) bool {
			return role == a || strings.HasPrefix(role, a+"/")
		})
	})
}

func notAuthorized(roles []string) string {
	return "Not authorized to use roles '{ " + strings.Join(roles, ", ") + " }'"
}
