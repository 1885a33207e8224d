package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/file"
)

func open(t testing.TB) storage.Store {
	t.Helper()
	s, err := file.Open(t.TempDir(), file.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestCheckKey(t *testing.T) {
	for key, want := range map[string]string{
		"a":              "",
		"a/b c/ü+%2F?#&": "",
		".hidden":        "",
		"a/.baas":        "",
		strings.Repeat("k", storage.MaxComponentLength):     "",
		strings.Repeat("k", storage.MaxComponentLength+1):   "component of 255 bytes",
		strings.Repeat("k/", storage.MaxKeyLength/2) + "k":  "",
		strings.Repeat("k/", storage.MaxKeyLength/2) + "kk": "at most 1023",
		"":         "empty",
		"/a":       `starts with "/"`,
		"a/":       `ends with "/"`,
		"a//b":     `has "//"`,
		"a/../b":   `component ".."`,
		".":        `component "."`,
		".baas/x":  "reserved",
		".baasket": "reserved",
		"tab\t":    "control character U+0009 at byte 3",
		"bad\xff":  "not UTF-8",
	} {
		err := storage.CheckKey(key)
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", key, err)
		case want != "" && (!errors.Is(err, storage.ErrInvalidKey) || !strings.Contains(err.Error(), want)):
			t.Errorf("%.40q: %v; want ErrInvalidKey with %q", key, err, want)
		}
	}
}

func FuzzCheckKey(f *testing.F) {
	for _, key := range []string{"a/b", "..", "a/..", "\x00", ".baas", "a//b", "\u0085"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if storage.CheckKey(key) != nil {
			return
		}
		if key == "" || len(key) > storage.MaxKeyLength || !utf8.ValidString(key) || strings.ContainsAny(key, "\x00\n\r\x7f") {
			t.Fatalf("%q passed", key)
		}
		for _, component := range strings.Split(key, "/") {
			if component == "" || component == "." || component == ".." || len(component) > storage.MaxComponentLength {
				t.Fatalf("%q passed with component %q", key, component)
			}
		}
	})
}

func TestOpen(t *testing.T) {
	for rawURL, want := range map[string]string{
		"":                         "is empty",
		"/var/lib/baas":            `write it as "file:///var/lib/baas"`,
		"var/lib":                  "has no scheme",
		"nfs://host/dir":           `unknown scheme "nfs"; known are: file`,
		"nfs://me:hunter2@host":    "nfs://me:xxxxx@host",
		"nfs://me:hunter2@host:x/": "cannot be read",
		"%zz":                      "cannot be read",
	} {
		_, err := storage.Open(t.Context(), rawURL)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open %q: %v; want it to say %q, and no password", rawURL, err, want)
		}
	}
}

func TestRegisterTwicePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	storage.Register("file", func(context.Context, *url.URL) (storage.Store, error) { return nil, nil })
}

func TestCheckParts(t *testing.T) {
	capabilities := storage.Capabilities{MaxParts: 10}
	for _, c := range []struct {
		parts []storage.UploadPart
		ok    bool
	}{
		{[]storage.UploadPart{{Number: 1, ETag: "a"}}, true},
		{[]storage.UploadPart{{Number: 2, ETag: "a"}, {Number: 10, ETag: "a"}}, true},
		{nil, false},
		{[]storage.UploadPart{{Number: 0, ETag: "a"}}, false},
		{[]storage.UploadPart{{Number: 11, ETag: "a"}}, false},
		{[]storage.UploadPart{{Number: 1, ETag: `""`}}, false},
		{[]storage.UploadPart{{Number: 2, ETag: "a"}, {Number: 1, ETag: "a"}}, false},
		{[]storage.UploadPart{{Number: 2, ETag: "a"}, {Number: 2, ETag: "a"}}, false},
	} {
		err := storage.CheckParts(c.parts, capabilities)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, storage.ErrInvalidPart) {
			t.Errorf("%+v: %v, want success %v", c.parts, err, c.ok)
		}
	}
}

func TestBytesAndJSON(t *testing.T) {
	s, ctx := open(t), t.Context()
	if _, err := storage.PutBytes(ctx, s, "bytes", []byte("12345")); err != nil {
		t.Fatal(err)
	}
	if b, info, err := storage.GetBytes(ctx, s, "bytes", 5); err != nil || string(b) != "12345" || info.Size != 5 {
		t.Errorf("GetBytes: %q, %+v, %v", b, info, err)
	}
	if _, _, err := storage.GetBytes(ctx, s, "bytes", 4); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("GetBytes over its limit: %v", err)
	}
	if _, _, err := storage.GetBytes(ctx, s, "none", 4); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("GetBytes of nothing: %v", err)
	}

	type value struct{ A, B int }
	if _, err := storage.PutJSON(ctx, s, "json", value{1, 2}); err != nil {
		t.Fatal(err)
	}
	var got value
	if err := storage.GetJSON(ctx, s, "json", 100, &got); err != nil || got != (value{1, 2}) {
		t.Errorf("GetJSON: %+v, %v", got, err)
	}
	if err := storage.GetJSON(ctx, s, "json", 3, &got); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("GetJSON over its limit: %v", err)
	}
	if err := storage.GetJSON(ctx, s, "bytes", 100, &got); err == nil || !strings.Contains(err.Error(), `"bytes" as JSON`) {
		t.Errorf("GetJSON of another type: %v", err)
	}
	if _, err := storage.PutJSON(ctx, s, "channel", make(chan int)); err == nil {
		t.Error("PutJSON of a channel succeeded")
	}
}

func TestAll(t *testing.T) {
	s := open(t)
	for i := range 25 {
		if _, err := storage.PutBytes(t.Context(), s, fmt.Sprintf("k/%02d", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	var keys []string
	for info, err := range storage.All(t.Context(), s, storage.ListOptions{Prefix: "k/", After: "k/01", Limit: 10}) {
		if err != nil {
			t.Fatal(err)
		}
		if info.Key == "k/24" {
			break
		}
		keys = append(keys, info.Key)
	}
	if len(keys) != 22 || keys[0] != "k/02" || keys[21] != "k/23" {
		t.Errorf("keys: %q", keys)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	count := 0
	for _, err := range storage.All(ctx, s, storage.ListOptions{}) {
		count++
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after a cancel: %v", err)
		}
	}
	if count != 1 {
		t.Errorf("after a cancel: %d steps, want one with the error", count)
	}
}

func TestCopyVerified(t *testing.T) {
	s, ctx := open(t), t.Context()
	content := "0123456789"
	if _, err := storage.PutBytes(ctx, s, "key", []byte(content)); err != nil {
		t.Fatal(err)
	}
	digest := storage.NewDigest()
	io.WriteString(digest, content[2:7])
	good := storage.Content{Key: "key", Offset: 2, Size: 5, SHA256: digest.SHA256()}
	var b bytes.Buffer
	if err := storage.CopyVerified(ctx, &b, s, good); err != nil || b.String() != content[2:7] {
		t.Errorf("%q, %v", b.String(), err)
	}
	for name, change := range map[string]func(*storage.Content){
		"other bytes": func(c *storage.Content) { c.Offset = 3 },
		"cut short":   func(c *storage.Content) { c.Size = 20 },
		"other hash":  func(c *storage.Content) { c.SHA256 = strings.Repeat("0", 64) },
	} {
		bad := good
		change(&bad)
		if err := storage.CopyVerified(ctx, io.Discard, s, bad); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good.Key = "none"
	if err := storage.CopyVerified(ctx, io.Discard, s, good); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("no object: %v", err)
	}
}

func TestPutContent(t *testing.T) {
	s, ctx := open(t), t.Context()
	t.Setenv("TMPDIR", t.TempDir())
	pipe, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	go func() { io.WriteString(writer, "the content"); writer.Close() }()

	skipped := strings.NewReader("not the content")
	skipped.Seek(4, io.SeekStart)
	var first storage.Info
	for name, r := range map[string]io.Reader{
		"seeker":             strings.NewReader("the content"),
		"seeker in mid-file": skipped,
		"stream":             io.MultiReader(strings.NewReader("the "), strings.NewReader("content")),
		"pipe":               pipe,
	} {
		c, err := storage.PutContent(ctx, s, "bundles/", r)
		if err != nil || c.Size != 11 || c.Key != "bundles/"+c.SHA256 || c.SHA256 != sha256Of("the content") {
			t.Fatalf("%s: %+v, %v", name, c, err)
		}
		if err := storage.CopyVerified(ctx, io.Discard, s, c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		info, err := s.Stat(ctx, c.Key)
		if err != nil || first.Key != "" && info.ETag != first.ETag {
			t.Errorf("%s: stored again: %+v, %v", name, info, err)
		}
		first = info
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) != 0 {
		t.Errorf("spool files: %v, %v; want none left", left, err)
	}
}

// TestPutContentThatChanges: a file that is written to meanwhile is not stored
// under a hash that is not its own.
func TestPutContentThatChanges(t *testing.T) {
	s := open(t)
	r := &changing{strings.NewReader("before")}
	if _, err := storage.PutContent(t.Context(), s, "bundles", r); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("PutContent: %v", err)
	}
	if page, err := s.List(t.Context(), storage.ListOptions{}); err != nil || len(page.Items) != 0 {
		t.Errorf("stored: %+v, %v", page, err)
	}
}

// changing has other bytes after it was rewound.
type changing struct{ *strings.Reader }

func (c *changing) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekStart {
		c.Reader = strings.NewReader("after!")
	}
	return c.Reader.Seek(offset, whence)
}

func sha256Of(s string) string {
	r, digest := storage.HashReader(strings.NewReader(s))
	io.Copy(io.Discard, r)
	return digest.SHA256()
}
