package storage

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// Opener makes a Store from its URL.
type Opener func(ctx context.Context, u *url.URL) (Store, error)

var openers = struct {
	sync.RWMutex
	byScheme map[string]Opener
}{byScheme: map[string]Opener{}}

// Register makes a backend known under a URL scheme. Backends call it from
// init; a scheme that is registered twice panics.
func Register(scheme string, open Opener) {
	openers.Lock()
	defer openers.Unlock()
	if scheme != strings.ToLower(scheme) || scheme == "" || open == nil {
		panic(fmt.Sprintf("storage: Register(%q): want a lower-case scheme and an opener", scheme))
	}
	if _, taken := openers.byScheme[scheme]; taken {
		panic(fmt.Sprintf("storage: scheme %q is registered already", scheme))
	}
	openers.byScheme[scheme] = open
}

// Schemes gives the registered URL schemes, sorted.
func Schemes() []string {
	openers.RLock()
	defer openers.RUnlock()
	var schemes []string
	for scheme := range openers.byScheme {
		schemes = append(schemes, scheme)
	}
	slices.Sort(schemes)
	return schemes
}

// Open opens the store that rawURL names, such as file:///var/lib/baas/store.
// The backend's package must be linked in. Passwords in rawURL stay out of errors.
func Open(ctx context.Context, rawURL string) (Store, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	openers.RLock()
	open := openers.byScheme[u.Scheme]
	openers.RUnlock()
	if open == nil {
		return nil, fmt.Errorf("storage URL %q: unknown scheme %q; known are: %s",
			u.Redacted(), u.Scheme, strings.Join(Schemes(), ", "))
	}
	store, err := open(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("storage URL %q: %w", u.Redacted(), err)
	}
	return store, nil
}

func parseURL(rawURL string) (*url.URL, error) {
	const want = "want a URL such as file:///var/lib/baas/store or s3://bucket/prefix"
	if strings.TrimSpace(rawURL) == "" {
		return nil, errors.New("storage URL is empty: " + want)
	}
	if strings.HasPrefix(rawURL, "/") {
		return nil, fmt.Errorf("storage URL %q is a path: write it as %q", rawURL, (&url.URL{Scheme: "file", Path: rawURL}).String())
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		// url.Error repeats the whole URL, with its password.
		if parseErr, ok := errors.AsType[*url.Error](err); ok {
			err = parseErr.Err
		}
		return nil, fmt.Errorf("storage URL cannot be read (%w): %s", err, want)
	}
	if u.Scheme == "" {
		return nil, fmt.Errorf("storage URL %q has no scheme: %s", u.Redacted(), want)
	}
	return u, nil
}
