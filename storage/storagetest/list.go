package storagetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/baas-batch/baas/storage"
	"golang.org/x/sync/errgroup"
)

func (h Harness) testList(t *testing.T) {
	t.Run("Small", h.testListSmall)
	t.Run("Random", h.testListRandom)
	t.Run("Many", h.testListMany)
}

// keysOf lists page by page and checks each page by itself.
func keysOf(t *testing.T, s storage.Store, opts storage.ListOptions) ([]string, error) {
	var keys []string
	for {
		page, err := s.List(t.Context(), opts)
		if err != nil {
			return nil, err
		}
		if limit := storage.PageLimit(opts.Limit); len(page.Items) > limit {
			return nil, fmt.Errorf("a page of %d keys, the limit is %d", len(page.Items), limit)
		}
		for _, item := range page.Items {
			if item.ETag == "" || item.Modified.IsZero() {
				return nil, fmt.Errorf("listed without ETag or time: %+v", item)
			}
			keys = append(keys, item.Key)
		}
		if page.Next == "" {
			return keys, nil
		}
		if page.Next <= opts.After {
			return nil, fmt.Errorf("the page after %q ends at %q: no progress", opts.After, page.Next)
		}
		opts.After = page.Next
	}
}

// selected is what a listing of all must give.
func selected(all []string, opts storage.ListOptions) []string {
	var keys []string
	for _, key := range all {
		if strings.HasPrefix(key, opts.Prefix) && key > opts.After {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// wantKeys: the listing is these keys of the store's, in byte order.
func (h Harness) wantKeys(t *testing.T, s storage.Store, opts storage.ListOptions, all []string) {
	t.Helper()
	want := selected(all, opts)
	eventually(t, h.ListLag, func() error {
		got, err := keysOf(t, s, opts)
		if err != nil {
			return fmt.Errorf("listing %+v: %w", opts, err)
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("listing %+v:\n got %.40q\nwant %.40q", opts, head(got), head(want))
		}
		return nil
	})
}

func head(keys []string) []string { return keys[:min(len(keys), 50)] }

func (h Harness) testListSmall(t *testing.T) {
	s := h.New(t)
	h.wantKeys(t, s, storage.ListOptions{}, nil)
	// Byte order of keys is not the order of directories: "-" < "." < "/" < "0".
	keys := []string{
		"a", "a-b", "a.b", "a0", "aa/x", "b-/x", "b-a", "b/-", "b/a", "b/a-/y", "b/a0/y", "b/c/d/e", "b/c/d-e", "b/c-d",
		"b0", "B", "b c/x", "b%c/x", "é/x", "z/y/x/w/v",
	}
	for _, key := range keys {
		mustPut(t, s, key, []byte(key))
	}
	prefixes := []string{"", "a", "a-", "b", "b/", "b/c", "b/c/", "b/c/d", "b/c/d/e", "b/c/d/e/", "z/y", "z/y/x/w/v", "nothing", "no/thing/", "//", "../", "a/", "\xff", "é"}
	afters := append([]string{"", "A", "b/", "b/a/", "b/c/d", "b/c0", "zzz", "\xff", "é"}, keys...)
	for _, prefix := range prefixes {
		for _, after := range afters {
			h.wantKeys(t, s, storage.ListOptions{Prefix: prefix, After: after, Limit: 3}, keys)
		}
		h.wantKeys(t, s, storage.ListOptions{Prefix: prefix, Limit: 1}, keys)
		h.wantKeys(t, s, storage.ListOptions{Prefix: prefix}, keys)
	}
	page, err := s.List(t.Context(), storage.ListOptions{Prefix: "a", Limit: 2})
	if err != nil || len(page.Items) != 2 || page.Next == "" || page.Items[0].Size != 1 {
		t.Errorf("List with limit 2: %+v, %v; want 2 keys, the first of size 1, and more to come", page, err)
	}
}

// testListRandom: whatever the keys, the listing is the sorted keys.
func (h Harness) testListRandom(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	s := h.New(t)
	keys := randomKeys(rng, 150)
	for _, key := range keys {
		mustPut(t, s, key, nil)
	}
	for range 40 {
		opts := storage.ListOptions{Limit: 1 + rng.IntN(60)}
		if key := keys[rng.IntN(len(keys))]; rng.IntN(2) == 0 {
			opts.Prefix = strings.ToValidUTF8(key[:rng.IntN(len(key)+1)], "")
		}
		if key := keys[rng.IntN(len(keys))]; rng.IntN(2) == 0 {
			opts.After = strings.ToValidUTF8(key[:rng.IntN(len(key)+1)], "")
		}
		h.wantKeys(t, s, opts, keys)
	}
}

// randomKeys are valid and none is a directory of another.
func randomKeys(rng *rand.Rand, n int) []string {
	alphabet := []string{"a", "b", "-", "0", "é", " ", "/", "/", "+", "~"}
	var keys []string
	for len(keys) < n {
		var b strings.Builder
		for range 1 + rng.IntN(10) {
			b.WriteString(alphabet[rng.IntN(len(alphabet))])
		}
		key := b.String()
		nested := slices.ContainsFunc(keys, func(other string) bool {
			return key == other || strings.HasPrefix(key, other+"/") || strings.HasPrefix(other, key+"/")
		})
		if storage.CheckKey(key) == nil && !nested {
			keys = append(keys, key)
		}
	}
	return keys
}

func (h Harness) testListMany(t *testing.T) {
	s := h.New(t)
	keys := make([]string, h.ManyKeys)
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(16)
	for i := range keys {
		// One flat directory that is larger than pages, and many small ones.
		keys[i] = fmt.Sprintf("many/flat/%07d", i)
		if i%2 == 1 {
			keys[i] = fmt.Sprintf("many/tree/%d/%d/%d", i%7, i%101, i)
		}
		group.Go(func() error {
			_, err := s.Put(ctx, keys[i], strings.NewReader(""), storage.PutOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	middle := selected(keys, storage.ListOptions{})[len(keys)/2]
	for _, opts := range []storage.ListOptions{
		{},
		{Limit: storage.MaxPage * 5},
		{Limit: 777, Prefix: "many/flat/00"},
		{Prefix: "many/tree/3/"},
		{After: middle},
		{After: middle, Prefix: "many/t"},
	} {
		h.wantKeys(t, s, opts, keys)
	}
	count := 0
	for info, err := range storage.All(t.Context(), s, storage.ListOptions{Prefix: "many/"}) {
		if err != nil {
			t.Fatal(err)
		}
		if count++; info.Key == "" {
			t.Fatalf("key %d is empty", count)
		}
	}
	if count != len(keys) {
		t.Errorf("storage.All gave %d keys, want %d", count, len(keys))
	}
}
