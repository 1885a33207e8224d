package master

// bounded is a map that forgets its oldest entry when it is full, as Mesos does
// with completed frameworks and tasks.
type bounded[V any] struct {
	limit  int
	order  []string
	values map[string]V
}

func newBounded[V any](limit int) *bounded[V] {
	return &bounded[V]{limit: limit, values: map[string]V{}}
}

func (b *bounded[V]) put(key string, v V) {
	b.remove(key)
	if len(b.order) >= b.limit {
		b.remove(b.order[0])
	}
	b.order = append(b.order, key)
	b.values[key] = v
}

func (b *bounded[V]) get(key string) (V, bool) {
	v, ok := b.values[key]
	return v, ok
}

func (b *bounded[V]) has(key string) bool {
	_, ok := b.values[key]
	return ok
}

func (b *bounded[V]) remove(key string) {
	if !b.has(key) {
		return
	}
	delete(b.values, key)
	for i, k := range b.order {
		if k == key {
			b.order = append(b.order[:i], b.order[i+1:]...)
			return
		}
	}
}

// all lists the values, oldest first.
func (b *bounded[V]) all() []V {
	out := make([]V, 0, len(b.order))
	for _, k := range b.order {
		out = append(out, b.values[k])
	}
	return out
}
