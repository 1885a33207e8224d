package remote

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/baas-batch/baas/storage"
)

func TestNames(t *testing.T) {
	for prefix, want := range map[string]string{"": "a/b", "p/q": "p/q/a/b"} {
		n := Names{Prefix: prefix}
		name, err := n.Object(t.Context(), "a/b")
		if err != nil || name != want || n.Of("a/b") != want {
			t.Errorf("prefix %q: %q, %v", prefix, name, err)
		}
		if key, ours := n.Key(name); key != "a/b" || !ours {
			t.Errorf("prefix %q: %q is %q, ours %t", prefix, name, key, ours)
		}
		for _, reserved := range []string{n.Of(storage.ReservedPrefix), n.Of(storage.ReservedPrefix + "/x")} {
			if key, ours := n.Key(reserved); ours {
				t.Errorf("prefix %q: %q is the key %q", prefix, reserved, key)
			}
		}
	}
	n := Names{Prefix: "p"}
	for _, other := range []string{"p", "px", "q/a", ""} {
		if key, ours := n.Key(other); ours {
			t.Errorf("%q is the key %q", other, key)
		}
	}
	long := strings.Repeat("k/", storage.MaxKeyLength/2) + "k"
	for _, key := range []string{"", "../x", long} {
		if name, err := n.Object(t.Context(), key); !errors.Is(err, storage.ErrInvalidKey) {
			t.Errorf("%.20q: %.20q, %v", key, name, err)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Object(cancelled, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("after a cancel: %v", err)
	}
}

func TestPlace(t *testing.T) {
	for rawURL, want := range map[string]string{
		"s3://bucket":            "bucket, ",
		"s3://bucket/":           "bucket, ",
		"s3://bucket/a/b/":       "bucket, a/b",
		"s3:///a":                "want PLACE",
		"s3://bucket:80/":        "want PLACE",
		"s3://me:secret@bucket/": "credentials do not belong into the URL: ELSEWHERE",
		"s3://bucket/a//b":       "prefix: invalid key",
	} {
		u, err := url.Parse(rawURL)
		if err != nil {
			t.Fatal(err)
		}
		bucket, prefix, err := Place(u, "PLACE", "ELSEWHERE")
		got := bucket + ", " + prefix
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, want) || strings.Contains(got, "secret") {
			t.Errorf("%s: %s, want %s", rawURL, got, want)
		}
	}
}

func TestPartSize(t *testing.T) {
	for v, want := range map[string]int64{"5": 5 << 20, "6": 6 << 20, "4": 0, "": 0, "8MB": 0, "-1": 0, "7": 7 << 20, "8": 0, "99999999999999999999": 0} {
		if got, err := PartSize(v, 5<<20-1, 7<<20); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v", v, got, err)
		}
	}
}
