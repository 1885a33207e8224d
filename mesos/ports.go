package mesos

import (
	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/mesos/placement"
)

// networkResource is the scalar, in megabits per second, that agents announce
// their bandwidth by; Mesos has no resource of its own for it. The name is the one
// that Marathon's networkBandwidth uses.
const networkResource = "network_bandwidth"

// portsOf gives the ports of a resource that anybody may use.
func portsOf(r *mesos.Resource) []mesos.Value_Range {
	if r.Name != "ports" || r.GetType() != mesos.RANGES || r.Revocable != nil || !unreserved(r) {
		return nil
	}
	return r.GetRanges().GetRange()
}

func unreserved(r *mesos.Resource) bool {
	return len(r.Reservations) == 0 && r.Reservation == nil && (r.Role == nil || *r.Role == "*") &&
		r.Shared == nil && r.Disk == nil && r.ProviderID == nil
}

func countPorts(ranges []mesos.Value_Range) (n int64) {
	for _, r := range ranges {
		if r.End >= r.Begin {
			n += int64(r.End-r.Begin) + 1
		}
	}
	return n
}

// addPorts counts the ports of a resource.
func addPorts(v *placement.Vector, r *mesos.Resource) {
	v[placement.Ports] += countPorts(portsOf(r)) * 1000
}

// takePorts hands out the lowest ports; fewer than n if there are not as many.
func takePorts(ranges *[]mesos.Value_Range, n int) (ports []int) {
	for len(ports) < n && len(*ranges) > 0 {
		r := &(*ranges)[0]
		if r.Begin > r.End {
			*ranges = (*ranges)[1:]
			continue
		}
		ports = append(ports, int(r.Begin))
		r.Begin++
	}
	return ports
}

// assignPorts chooses the ports of a task that is about to be launched.
func (fl *flight) assignPorts(w *waiting) {
	w.Ports = nil
	if w.Resources.Ports == 0 {
		return
	}
	if fl.ports == nil {
		for _, o := range fl.offers {
			fl.ports = append(fl.ports, o.ports...)
		}
	}
	w.Ports = takePorts(&fl.ports, w.Resources.Ports)
}

// portResource describes the ports of a task, allocated to a role; none for none.
func portResource(ports []int, role string) []mesos.Resource {
	if len(ports) == 0 {
		return nil
	}
	r := mesos.Resource{Name: "ports", Type: mesos.RANGES.Enum(), Ranges: &mesos.Value_Ranges{}}
	for _, p := range ports {
		list := r.Ranges.Range
		if n := len(list); n > 0 && list[n-1].End+1 == uint64(p) {
			list[n-1].End++
			continue
		}
		r.Ranges.Range = append(list, mesos.Value_Range{Begin: uint64(p), End: uint64(p)})
	}
	r.AllocationInfo = allocatedTo(role)
	return []mesos.Resource{r}
}

// scalars describes the limits of a task; nil for none.
func (l Limits) scalars() map[string]mesos.Value_Scalar {
	out := make(map[string]mesos.Value_Scalar)
	if l.CPUs > 0 {
		out["cpus"] = mesos.Value_Scalar{Value: l.CPUs}
	}
	if l.Mem > 0 {
		out["mem"] = mesos.Value_Scalar{Value: float64((l.Mem + mb - 1) / mb)}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
