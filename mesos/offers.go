package mesos

import (
	"net"
	"slices"
	"strconv"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/mesos/placement"
)

// offer is one offer in hand.
type offer struct {
	id        mesos.OfferID
	agent     Agent
	role      string
	free      placement.Vector
	executors []string
	at        time.Time
	// down says that the agent's maintenance window has begun.
	down bool
}

// newOffer reads an offer. Only unreserved, not revocable, plain scalars count:
// the executor's own resources must be described the same way on every agent.
func newOffer(o *mesos.Offer, now time.Time) *offer {
	out := &offer{
		id:    o.ID,
		role:  o.GetAllocationInfo().GetRole(),
		at:    now,
		agent: Agent{ID: o.AgentID.Value, Hostname: o.Hostname, Endpoint: endpoint(o)},
	}
	for i := range o.Resources {
		r := &o.Resources[i]
		if !plain(r) {
			continue
		}
		addTo(&out.free, r)
	}
	for _, id := range o.ExecutorIDs {
		out.executors = append(out.executors, id.Value)
	}
	if u := o.Unavailability; u != nil {
		out.down = !now.Before(time.Unix(0, u.Start.Nanoseconds))
	}
	return out
}

func addTo(v *placement.Vector, r *mesos.Resource) {
	value := placement.Milli(r.GetScalar().GetValue())
	switch r.Name {
	case "cpus":
		v[placement.CPUs] += value
	case "mem":
		v[placement.Mem] += value
	case "disk":
		v[placement.Disk] += value
	case "gpus":
		v[placement.GPUs] += value
	}
}

func plain(r *mesos.Resource) bool {
	return r.GetType() == mesos.SCALAR && len(r.Reservations) == 0 && r.Reservation == nil &&
		(r.Role == nil || *r.Role == "*") &&
		r.Revocable == nil && r.Shared == nil && r.Disk == nil && r.ProviderID == nil
}

func endpoint(o *mesos.Offer) string {
	address := o.GetURL().GetAddress()
	host := address.GetIP()
	if host == "" {
		host = address.GetHostname()
	}
	if host == "" {
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(int(address.GetPort())))
}

// scalars gives the resources of a task or executor, allocated to a role.
func scalars(v placement.Vector, role string) []mesos.Resource {
	var out []mesos.Resource
	for i, name := range [...]string{placement.CPUs: "cpus", placement.Mem: "mem", placement.Disk: "disk", placement.GPUs: "gpus"} {
		if v[i] <= 0 {
			continue
		}
		r := mesos.Resource{
			Name:   name,
			Type:   mesos.SCALAR.Enum(),
			Scalar: &mesos.Value_Scalar{Value: float64(v[i]/1000) + float64(v[i]%1000)/1000},
		}
		if role != "" {
			r.AllocationInfo = &mesos.Resource_AllocationInfo{Role: &role}
		}
		out = append(out, r)
	}
	return out
}

// vector rounds up to whole MB and thousandths of a CPU.
func (r Resources) vector() placement.Vector {
	var v placement.Vector
	v[placement.CPUs] = placement.Milli(r.CPUs)
	v[placement.Mem] = (r.Mem + mb - 1) / mb * 1000
	v[placement.Disk] = (r.Disk + mb - 1) / mb * 1000
	v[placement.GPUs] = int64(r.GPUs) * 1000
	return v
}

func resourcesOf(v placement.Vector) Resources {
	return Resources{
		CPUs: float64(v[placement.CPUs]) / 1000,
		Mem:  v[placement.Mem] / 1000 * mb,
		Disk: v[placement.Disk] / 1000 * mb,
		GPUs: int(v[placement.GPUs] / 1000),
	}
}

// offerBook holds the offers in hand.
type offerBook struct {
	byID    map[string]*offer
	byAgent map[string][]*offer
}

func newOfferBook() *offerBook {
	return &offerBook{byID: make(map[string]*offer), byAgent: make(map[string][]*offer)}
}

func (b *offerBook) add(o *offer) {
	b.byID[o.id.Value] = o
	b.byAgent[o.agent.ID] = append(b.byAgent[o.agent.ID], o)
}

// remove tells whether the offer was in hand.
func (b *offerBook) remove(id string) bool {
	o := b.byID[id]
	if o == nil {
		return false
	}
	delete(b.byID, id)
	rest := slices.DeleteFunc(b.byAgent[o.agent.ID], func(x *offer) bool { return x == o })
	if len(rest) == 0 {
		delete(b.byAgent, o.agent.ID)
	} else {
		b.byAgent[o.agent.ID] = rest
	}
	return true
}

// take hands out all offers of an agent.
func (b *offerBook) take(agentID string) []*offer {
	offers := b.byAgent[agentID]
	delete(b.byAgent, agentID)
	for _, o := range offers {
		delete(b.byID, o.id.Value)
	}
	return offers
}

func (b *offerBook) free(agentID string) placement.Vector {
	var sum placement.Vector
	for _, o := range b.byAgent[agentID] {
		sum = sum.Add(o.free)
	}
	return sum
}

// expired takes out the offers received before a time.
func (b *offerBook) expired(before time.Time) []mesos.OfferID {
	var ids []mesos.OfferID
	for id, o := range b.byID {
		if o.at.Before(before) {
			ids = append(ids, o.id)
			b.remove(id)
		}
	}
	return ids
}

func offerIDs(offers []*offer) []mesos.OfferID {
	ids := make([]mesos.OfferID, len(offers))
	for i, o := range offers {
		ids[i] = o.id
	}
	return ids
}
