package mesos

import (
	"cmp"
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
	values    map[string]string // see agentValues
	ports     []mesos.Value_Range
	at        time.Time
	window    window
}

// newOffer reads an offer. Only unreserved ports and scalars count, revocable ones apart:
// the executor's own resources must be described the same way on every agent.
func newOffer(o *mesos.Offer, now time.Time) *offer {
	out := &offer{
		id:     o.ID,
		role:   o.GetAllocationInfo().GetRole(),
		at:     now,
		agent:  Agent{ID: o.AgentID.Value, Hostname: o.Hostname, Endpoint: endpoint(o)},
		values: agentValues(o.Hostname, o.Attributes, o.Domain),
	}
	for i := range o.Resources {
		r := &o.Resources[i]
		out.ports = append(out.ports, portsOf(r)...)
		addPorts(&out.free, r)
		if !plain(r) {
			continue
		}
		addTo(&out.free, r)
	}
	for _, id := range o.ExecutorIDs {
		out.executors = append(out.executors, id.Value)
	}
	out.window = newWindow(o.Unavailability)
	return out
}

func addTo(v *placement.Vector, r *mesos.Resource) {
	value := placement.Milli(r.GetScalar().GetValue())
	if r.Revocable != nil {
		switch r.Name {
		case "cpus":
			v[placement.RevocableCPUs] += value
		case "mem":
			v[placement.RevocableMem] += value
		}
		return
	}
	switch r.Name {
	case "cpus":
		v[placement.CPUs] += value
	case "mem":
		v[placement.Mem] += value
	case "disk":
		v[placement.Disk] += value
	case "gpus":
		v[placement.GPUs] += value
	case networkResource:
		v[placement.Network] += value
	}
}

func plain(r *mesos.Resource) bool { return r.GetType() == mesos.SCALAR && unreserved(r) }

// endpoint is host:port of an agent's HTTP API, with https:// before it where it
// speaks TLS: then by the name that its certificate has.
func endpoint(o *mesos.Offer) string {
	address, scheme := o.GetURL().GetAddress(), ""
	host := address.GetIP()
	if o.GetURL().GetScheme() == "https" {
		host, scheme = address.GetHostname(), "https://"
	}
	if host == "" {
		host = cmp.Or(address.GetHostname(), address.GetIP())
	}
	if host == "" {
		return ""
	}
	return scheme + net.JoinHostPort(host, strconv.Itoa(int(address.GetPort())))
}

// scalars gives the resources of a task or executor, allocated to a role.
func scalars(v placement.Vector, role string) []mesos.Resource {
	var out []mesos.Resource
	for i, name := range [...]string{
		placement.CPUs: "cpus", placement.Mem: "mem", placement.Disk: "disk", placement.GPUs: "gpus", placement.Network: networkResource,
		placement.RevocableCPUs: "cpus", placement.RevocableMem: "mem",
	} {
		if v[i] <= 0 || name == "" {
			continue
		}
		r := mesos.Resource{
			Name:   name,
			Type:   mesos.SCALAR.Enum(),
			Scalar: &mesos.Value_Scalar{Value: float64(v[i]/1000) + float64(v[i]%1000)/1000},
		}
		if i == placement.RevocableCPUs || i == placement.RevocableMem {
			r.Revocable = &mesos.Resource_RevocableInfo{}
		}
		r.AllocationInfo = allocatedTo(role)
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
	v[placement.Ports] = int64(r.Ports) * 1000
	v[placement.Network] = placement.Milli(r.Network)
	return v
}

func resourcesOf(v placement.Vector) Resources {
	return Resources{
		CPUs:  float64(v[placement.CPUs]) / 1000,
		Mem:   v[placement.Mem] / 1000 * mb,
		Disk:  v[placement.Disk] / 1000 * mb,
		GPUs:  int(v[placement.GPUs] / 1000),
		Ports: int(v[placement.Ports] / 1000), Network: float64(v[placement.Network]) / 1000,
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

// take hands out all offers of an agent to a role: one ACCEPT cannot use others
// with them.
func (b *offerBook) take(agentID, role string) []*offer {
	offers := ofRole(b.byAgent[agentID], role)
	for _, o := range offers {
		b.remove(o.id.Value)
	}
	return offers
}

// agentLost forgets all offers of an agent.
func (b *offerBook) agentLost(agentID string) {
	for _, o := range slices.Clone(b.byAgent[agentID]) {
		b.remove(o.id.Value)
	}
}

func ofRole(offers []*offer, role string) (out []*offer) {
	for _, o := range offers {
		if o.role == role {
			out = append(out, o)
		}
	}
	return out
}

func (b *offerBook) free(agentID string) placement.Vector {
	var sum placement.Vector
	for _, o := range b.byAgent[agentID] {
		sum = sum.Add(o.free)
	}
	return sum
}

// expired takes out the offers received before a time.
func (b *offerBook) expired(before time.Time) (out []*offer) {
	for id, o := range b.byID {
		if o.at.Before(before) {
			out = append(out, o)
			b.remove(id)
		}
	}
	return out
}

// elsewhere takes out the offers to roles in which nothing waits, while tasks wait
// in others: these cannot use them.
func (b *offerBook) elsewhere(waiting map[string]int) (out []*offer) {
	if len(waiting) == 0 {
		return nil
	}
	for id, o := range b.byID {
		if waiting[o.role] == 0 {
			out = append(out, o)
			b.remove(id)
		}
	}
	return out
}

// of takes out the offers to a role.
func (b *offerBook) of(role string) (out []*offer) {
	for id, o := range b.byID {
		if o.role == role {
			out = append(out, o)
			b.remove(id)
		}
	}
	return out
}

func offerIDs(offers []*offer) []mesos.OfferID {
	ids := make([]mesos.OfferID, len(offers))
	for i, o := range offers {
		ids[i] = o.id
	}
	return ids
}
