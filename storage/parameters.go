package storage

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Parameters gives the query parameters of a storage URL to those that read them,
// by name. One that nobody reads is refused, with the names that there are.
func Parameters[T any](u *url.URL, readers map[string]func(*T, string) error, into *T) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fmt.Errorf("its parameters cannot be read: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		read := readers[name]
		if read == nil {
			return fmt.Errorf("unknown parameter %q; known are: %s", name, strings.Join(slices.Sorted(maps.Keys(readers)), ", "))
		}
		if len(query[name]) > 1 {
			return fmt.Errorf("parameter %q is given %d times", name, len(query[name]))
		}
		if err := read(into, query[name][0]); err != nil {
			return fmt.Errorf("parameter %s: %w", name, err)
		}
	}
	return nil
}
