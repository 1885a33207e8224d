package master

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// bag is an amount of unreserved resources. Mesos counts scalars in thousandths
// (see Value.Scalar in mesos.proto), and so does a bag, which makes sums exact.
// The helpers of mesos-go are not used: their ContainsAll does not subtract, so
// that two entries of one name are each found in the same amount.
type bag struct {
	scalars map[string]int64
	ranges  map[string][]span // sorted, disjoint, not adjacent
	sets    map[string]map[string]bool
}

// revocableMark stands after the name of a revocable scalar, as Mesos prints it:
// for a bag it is another resource.
const revocableMark = "{REV}"

// nameOf is the name of a resource in a bag.
func nameOf(r *mesos.Resource) string {
	if r.Revocable != nil {
		return r.Name + revocableMark
	}
	return r.Name
}

// dropRevocable leaves out what may be taken back.
func (b bag) dropRevocable() {
	for name := range b.scalars {
		if strings.HasSuffix(name, revocableMark) {
			delete(b.scalars, name)
		}
	}
}

// mixed names a resource of which b has both the revocable kind and the other, "" if
// there is none.
func (b bag) mixed() string {
	for name := range b.scalars {
		if plain, is := strings.CutSuffix(name, revocableMark); is && b.scalars[plain] > 0 {
			return plain
		}
	}
	return ""
}

// span is a range of numbers, both ends included.
type span struct{ begin, end uint64 }

// unitsPerScalar is the precision of a scalar resource.
const unitsPerScalar = 1000

func newBag() bag {
	return bag{
		scalars: map[string]int64{},
		ranges:  map[string][]span{},
		sets:    map[string]map[string]bool{},
	}
}

// bagOf sums up resources, which must be valid. It reports false if one of them
// is none that this master ever offers: reserved, shared, a volume, revocable ports,
// or allocated to another role than the given one ("" means any).
func bagOf(resources []mesos.Resource, role string) (bag, bool) {
	b := newBag()
	for i := range resources {
		r := &resources[i]
		if !plain(r) || (role != "" && r.AllocationInfo != nil && r.AllocationInfo.GetRole() != role) {
			return bag{}, false
		}
		switch r.GetType() {
		case mesos.SCALAR:
			b.scalars[nameOf(r)] += units(r.GetScalar().GetValue())
		case mesos.RANGES:
			for _, rg := range r.GetRanges().GetRange() {
				b.ranges[r.Name] = unite(b.ranges[r.Name], []span{{rg.Begin, rg.End}})
			}
		case mesos.SET:
			b.addItems(r.Name, r.GetSet().GetItem())
		}
	}
	b.trim()
	return b, true
}

func plain(r *mesos.Resource) bool {
	return r.ProviderID == nil && (r.Role == nil || r.GetRole() == mesos.DefaultRole) &&
		r.Reservation == nil && len(r.Reservations) == 0 && r.Disk == nil &&
		(r.Revocable == nil || r.GetType() == mesos.SCALAR) && r.Shared == nil
}

func units(v float64) int64 { return int64(math.Round(v * unitsPerScalar)) }

func (b bag) addItems(name string, items []string) {
	if b.sets[name] == nil {
		b.sets[name] = make(map[string]bool, len(items))
	}
	for _, item := range items {
		b.sets[name][item] = true
	}
}

// trim drops what has become nothing, so that an empty bag has empty maps.
func (b bag) trim() {
	for name, v := range b.scalars {
		if v <= 0 {
			delete(b.scalars, name)
		}
	}
	for name, v := range b.ranges {
		if len(v) == 0 {
			delete(b.ranges, name)
		}
	}
	for name, v := range b.sets {
		if len(v) == 0 {
			delete(b.sets, name)
		}
	}
}

func (b bag) empty() bool { return len(b.scalars)+len(b.ranges)+len(b.sets) == 0 }

func (b bag) clone() bag {
	c := newBag()
	c.add(b)
	return c
}

func (b bag) add(o bag) {
	for name, v := range o.scalars {
		b.scalars[name] += v
	}
	for name, v := range o.ranges {
		b.ranges[name] = unite(b.ranges[name], v)
	}
	for name, items := range o.sets {
		b.addItems(name, keys(items))
	}
}

func (b bag) sub(o bag) {
	for name, v := range o.scalars {
		b.scalars[name] -= v
	}
	for name, v := range o.ranges {
		b.ranges[name] = without(b.ranges[name], v)
	}
	for name, items := range o.sets {
		for item := range items {
			delete(b.sets[name], item)
		}
	}
	b.trim()
}

func (b bag) contains(o bag) bool {
	for name, v := range o.scalars {
		if b.scalars[name] < v {
			return false
		}
	}
	for name, v := range o.ranges {
		if len(without(v, b.ranges[name])) > 0 {
			return false
		}
	}
	for name, items := range o.sets {
		for item := range items {
			if !b.sets[name][item] {
				return false
			}
		}
	}
	return true
}

// overlaps tells whether both hold a same port or set item.
func (b bag) overlaps(o bag) bool {
	for name, v := range o.ranges {
		if total(without(v, b.ranges[name])) < total(v) {
			return true
		}
	}
	for name, items := range o.sets {
		for item := range items {
			if b.sets[name][item] {
				return true
			}
		}
	}
	return false
}

func (b bag) equal(o bag) bool { return b.contains(o) && o.contains(b) }

// share is the largest part that b has of any scalar in all (the dominant share of DRF).
func (b bag) share(all bag) float64 {
	var most float64
	for name, v := range b.scalars {
		if sum := all.scalars[name]; sum > 0 {
			most = max(most, float64(v)/float64(sum))
		}
	}
	return most
}

// resources renders the bag for the wire. With a role, each resource says that
// it is allocated to it; with starRole, it names the role "*" as clients without
// RESERVATION_REFINEMENT expect.
func (b bag) resources(role string, starRole bool) []mesos.Resource {
	var out []mesos.Resource
	add := func(name string, kind mesos.Value_Type) *mesos.Resource {
		plain, taken := strings.CutSuffix(name, revocableMark)
		out = append(out, mesos.Resource{Name: plain, Type: kind.Enum()})
		r := &out[len(out)-1]
		if taken {
			r.Revocable = &mesos.Resource_RevocableInfo{}
		}
		if role != "" {
			r.AllocationInfo = &mesos.Resource_AllocationInfo{Role: ptr(role)}
		}
		if starRole {
			r.Role = ptr(mesos.DefaultRole)
		}
		return r
	}
	for _, name := range sortedNames(b.scalars) {
		v := float64(b.scalars[name]) / unitsPerScalar
		add(name, mesos.SCALAR).Scalar = &mesos.Value_Scalar{Value: v}
	}
	for _, name := range sortedNames(b.ranges) {
		rs := &mesos.Value_Ranges{}
		for _, s := range b.ranges[name] {
			rs.Range = append(rs.Range, mesos.Value_Range{Begin: s.begin, End: s.end})
		}
		add(name, mesos.RANGES).Ranges = rs
	}
	for _, name := range sortedNames(b.sets) {
		items := keys(b.sets[name])
		sort.Strings(items)
		add(name, mesos.SET).Set = &mesos.Value_Set{Item: items}
	}
	return out
}

func (b bag) String() string {
	var parts []string
	for _, r := range b.resources("", false) {
		switch r.GetType() {
		case mesos.SCALAR:
			parts = append(parts, nameOf(&r)+":"+strconv.FormatFloat(r.Scalar.Value, 'f', -1, 64))
		case mesos.RANGES:
			var spans []string
			for _, s := range b.ranges[r.Name] {
				spans = append(spans, fmt.Sprintf("%d-%d", s.begin, s.end))
			}
			parts = append(parts, r.Name+":["+strings.Join(spans, ", ")+"]")
		case mesos.SET:
			parts = append(parts, r.Name+":{"+strings.Join(r.Set.Item, ", ")+"}")
		}
	}
	if len(parts) == 0 {
		return "{}"
	}
	return strings.Join(parts, "; ")
}

// sortedNames puts the usual resources first, in the order in which Mesos lists them.
func sortedNames[V any](m map[string]V) []string {
	usual := []string{"cpus", "mem", "disk", "gpus", "ports"}
	rank := func(name string) int {
		if i := slices.Index(usual, strings.TrimSuffix(name, revocableMark)); i >= 0 {
			return i
		}
		return len(usual)
	}
	names := keys(m)
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	return names
}

func unite(a, b []span) []span {
	all := append(slices.Clone(a), b...)
	slices.SortFunc(all, func(x, y span) int { return cmp.Compare(x.begin, y.begin) })
	var out []span
	for _, s := range all {
		if n := len(out); n > 0 && s.begin <= out[n-1].end+1 {
			out[n-1].end = max(out[n-1].end, s.end)
		} else {
			out = append(out, s)
		}
	}
	return out
}

func without(a, b []span) []span {
	rest := slices.Clone(a)
	for _, cut := range b {
		var next []span
		for _, s := range rest {
			if cut.end < s.begin || cut.begin > s.end {
				next = append(next, s)
				continue
			}
			if s.begin < cut.begin {
				next = append(next, span{s.begin, cut.begin - 1})
			}
			if cut.end < s.end {
				next = append(next, span{cut.end + 1, s.end})
			}
		}
		rest = next
	}
	return rest
}

func total(spans []span) (n uint64) {
	for _, s := range spans {
		n += s.end - s.begin + 1
	}
	return n
}

func keys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	return out
}

func ptr[T any](v T) *T { return &v }
