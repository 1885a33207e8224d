package fault

import (
	"slices"
	"time"

	"github.com/baas-batch/baas/tests/harness/proxy"
)

// route finds the links of one part that a fault may befall; key names the part.
type route func(*testbed, *injection) (links []*proxy.Proxy, key string)

// toMasters are a worker's links to all masters, rather the leader's.
func toMasters(s *testbed, in *injection) ([]*proxy.Proxy, string) {
	i := s.linked(in)
	return s.Workers[i].Masters, name("masters of", i)
}

// toTemporal is a worker's link to Temporal.
func toTemporal(s *testbed, in *injection) ([]*proxy.Proxy, string) {
	i := s.linked(in)
	return []*proxy.Proxy{s.Workers[i].Temporal}, name("temporal of", i)
}

// toStorage is the link of all executors to the storage gateway.
func toStorage(s *testbed, _ *injection) ([]*proxy.Proxy, string) {
	return []*proxy.Proxy{s.StorageLink}, "storage"
}

// linked chooses a worker whose links are to fail: the leader three times of four.
func (s *testbed) linked(in *injection) int {
	if i, ok := s.leading(); ok && in.rand.IntN(4) > 0 {
		return i
	}
	return in.rand.IntN(len(s.Workers))
}

// The ways in which a link fails.
func cut(_ *injection, p *proxy.Proxy)       { p.Cut() }
func blackHole(_ *injection, p *proxy.Proxy) { p.BlackHole() }

func cutWithin(in *injection, p *proxy.Proxy) { p.CutAfter(in.rand.Int64N(6000)) }

func slow(in *injection, p *proxy.Proxy) {
	p.Delay(time.Duration(in.rand.IntN(300))*ms, time.Duration(in.rand.IntN(300))*ms)
}

// linkFault makes the links of a route fail in one way.
func linkFault(of route, way func(*injection, *proxy.Proxy)) func(*testbed, *injection) (effect, bool) {
	return func(s *testbed, in *injection) (effect, bool) {
		links, key := of(s, in)
		if s.busy[key] {
			return effect{}, false
		}
		s.doubt()
		struck := since(func() int { return befallen(links) })
		for _, p := range links {
			way(in, p)
		}
		return effect{keys: []string{key}, end: func() { heal(links) }, struck: struck}, true
	}
}

func heal(links []*proxy.Proxy) {
	for _, p := range links {
		p.Pass()
	}
}

// befallen counts what faults have done on links.
func befallen(links []*proxy.Proxy) (n int) {
	for _, p := range links {
		stats := p.Stats()
		n += stats.Cut + stats.Held + stats.Delayed
	}
	return n
}

// hideTemporal makes Temporal a black hole to all workers.
func hideTemporal(s *testbed, in *injection) (effect, bool) {
	var links []*proxy.Proxy
	var keys []string
	for i, v := range s.Workers {
		links, keys = append(links, v.Temporal), append(keys, name("temporal of", i))
	}
	if slices.ContainsFunc(keys, func(key string) bool { return s.busy[key] }) {
		return effect{}, false
	}
	struck := since(func() int { return befallen(links) })
	for _, p := range links {
		if in.rand.IntN(3) == 0 {
			p.Cut()
		} else {
			p.BlackHole()
		}
	}
	return effect{keys: keys, end: func() { heal(links) }, struck: struck}, true
}

// since counts from now on.
func since(count func() int) func() int {
	before := count()
	return func() int { return count() - before }
}

// The ways in which the storage gateway fails.
func slowGateway(in *injection) StorageFault {
	return StorageFault{Delay: time.Duration(100+in.rand.IntN(900)) * ms}
}

func unavailable(in *injection) StorageFault {
	return StorageFault{Status: 503, Every: 1 + in.rand.IntN(3)}
}

func full(in *injection) StorageFault {
	return StorageFault{Method: "PUT", Status: 507, Every: 1 + in.rand.IntN(3)}
}

func breaking(in *injection) StorageFault {
	return StorageFault{Break: true, Every: 1 + in.rand.IntN(3)}
}

func gatewayFault(way func(*injection) StorageFault) func(*testbed, *injection) (effect, bool) {
	return func(s *testbed, in *injection) (effect, bool) {
		if s.busy["gateway"] {
			return effect{}, false
		}
		struck := since(s.Gateway.Struck)
		s.Gateway.Set(way(in))
		return effect{keys: []string{"gateway"}, end: s.Gateway.Heal, struck: struck}, true
	}
}
