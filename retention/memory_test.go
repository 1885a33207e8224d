package retention

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/baas-batch/baas/storage"
)

// memory is as much of a store as a sweep uses: thousands of histories want a fast one.
type memory struct {
	storage.Store
	mu      sync.Mutex
	keys    []string // sorted
	content map[string][]byte
}

func (m *memory) Put(_ context.Context, key string, r io.Reader, _ storage.PutOptions) (storage.Info, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return storage.Info{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i, found := slices.BinarySearch(m.keys, key); !found {
		m.keys = slices.Insert(m.keys, i, key)
	}
	m.content[key] = b
	return storage.Info{Key: key, Size: int64(len(b))}, nil
}

func (m *memory) Get(_ context.Context, key string, _, _ int64) (io.ReadCloser, storage.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.content[key]
	if !ok {
		return nil, storage.Info{}, storage.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(b)), storage.Info{Key: key, Size: int64(len(b))}, nil
}

func (m *memory) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i, found := slices.BinarySearch(m.keys, key); found {
		m.keys = slices.Delete(m.keys, i, i+1)
		delete(m.content, key)
	}
	return nil
}

func (m *memory) List(_ context.Context, o storage.ListOptions) (page storage.Page, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, found := slices.BinarySearch(m.keys, max(o.Prefix, o.After))
	if found && m.keys[i] == o.After {
		i++
	}
	for ; i < len(m.keys) && strings.HasPrefix(m.keys[i], o.Prefix); i++ {
		if len(page.Items) == storage.PageLimit(o.Limit) {
			page.Next = page.Items[len(page.Items)-1].Key
			break
		}
		page.Items = append(page.Items, storage.Info{Key: m.keys[i], Size: int64(len(m.content[m.keys[i]]))})
	}
	return page, nil
}
