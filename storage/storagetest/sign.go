package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/internal/stream"
)

// signedFor is how long URLs live that are not to expire in a test.
const signedFor = time.Minute

func (h Harness) testSign(t *testing.T) {
	t.Run("Get", h.testSignedGet)
	t.Run("Range", h.testSignedRange)
	t.Run("Put", h.testSignedPut)
	t.Run("CutPut", h.testSignedCutPut)
	t.Run("Expiry", h.testSignedExpiry)
	t.Run("WrongMethod", h.testSignedWrongMethod)
	t.Run("Tampered", h.testSignedTampered)
	t.Run("Options", h.testSignOptions)
}

// answer is what matters of an HTTP response.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// request opens a signed URL as an executor does: no credentials but the URL.
func (h Harness) request(ctx context.Context, method string, u storage.Signed, header http.Header, body io.Reader, size int64) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, u.URL, body)
	if err != nil {
		return answer{}, err
	}
	for name, value := range u.Header {
		r.Header.Set(name, value)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	if body != nil {
		r.ContentLength = size
		if size == 0 {
			r.Body = http.NoBody
		}
	}
	response, err := h.Client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, b}, err
}

func (h Harness) do(t *testing.T, method string, u storage.Signed, header http.Header, content []byte) answer {
	t.Helper()
	var body io.Reader
	if method == http.MethodPut {
		body = bytes.NewReader(content)
	}
	a, err := h.request(t.Context(), method, u, header, body, int64(len(content)))
	if err != nil {
		t.Fatalf("%s of a signed URL: %v", method, err)
	}
	return a
}

func sign(t *testing.T, s storage.Store, key, method string, expires time.Duration) storage.Signed {
	t.Helper()
	u, err := s.SignURL(t.Context(), key, storage.SignOptions{Method: method, Expires: expires})
	if err != nil {
		t.Fatalf("SignURL %q: %v", key, err)
	}
	if method == http.MethodGet && len(u.Header) > 0 {
		t.Fatalf("SignURL for GET of %q wants the headers %v", key, u.Header)
	}
	return u
}

func (a answer) ok() bool { return a.status >= 200 && a.status < 300 }

// refused: the codes that stores choose differ.
func (a answer) refused() bool {
	return a.status >= 400 && a.status < 500 && a.status != http.StatusNotFound || a.status == http.StatusNotImplemented
}

func (h Harness) testSignedGet(t *testing.T) {
	s := h.New(t)
	for _, key := range oddKeys() {
		content := []byte("content of " + key)
		mustPut(t, s, key, content)
		a := h.do(t, http.MethodGet, sign(t, s, key, http.MethodGet, signedFor), nil, nil)
		if a.status != http.StatusOK || !bytes.Equal(a.body, content) {
			t.Errorf("GET %q: %d %s", key, a.status, summary(a.body))
		}
		if a.header.Get("Content-Length") != fmt.Sprint(len(content)) || a.header.Get("ETag") == "" {
			t.Errorf("GET %q: Content-Length %q, ETag %q", key, a.header.Get("Content-Length"), a.header.Get("ETag"))
		}
	}
	a := h.do(t, http.MethodGet, sign(t, s, "not/there", http.MethodGet, signedFor), nil, nil)
	if a.status != http.StatusNotFound {
		t.Errorf("GET of no object: %d, want 404", a.status)
	}
}

func (h Harness) testSignedRange(t *testing.T) {
	s := h.New(t)
	content := patternBytes(6, 50_000)
	mustPut(t, s, "ranges", content)
	u := sign(t, s, "ranges", http.MethodGet, signedFor)
	for header, want := range map[string][]byte{
		"bytes=0-0":         content[:1],
		"bytes=100-199":     content[100:200],
		"bytes=49990-":      content[49_990:],
		"bytes=49990-99999": content[49_990:],
		"bytes=-10":         content[49_990:],
	} {
		a := h.do(t, http.MethodGet, u, http.Header{"Range": {header}}, nil)
		if a.status != http.StatusPartialContent || !bytes.Equal(a.body, want) {
			t.Errorf("Range %s: %d, %s; want 206, %s", header, a.status, summary(a.body), summary(want))
		}
		if total := "/50000"; !strings.HasSuffix(a.header.Get("Content-Range"), total) {
			t.Errorf("Range %s: Content-Range %q, want one that ends in %s", header, a.header.Get("Content-Range"), total)
		}
	}
	a := h.do(t, http.MethodGet, u, http.Header{"Range": {"bytes=50000-"}}, nil)
	if a.status != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("Range beyond the end: %d, want 416", a.status)
	}
}

func (h Harness) testSignedPut(t *testing.T) {
	s := h.New(t)
	for _, key := range oddKeys() {
		a := h.do(t, http.MethodPut, sign(t, s, key, http.MethodPut, signedFor), nil, []byte("put "+key))
		if !a.ok() {
			t.Fatalf("PUT %q: %d %s", key, a.status, a.body)
		}
		wantContent(t, s, key, []byte("put "+key))
	}
	u := sign(t, s, "again", http.MethodPut, signedFor)
	for _, content := range [][]byte{[]byte("first"), nil, patternBytes(7, 3<<20)} {
		if a := h.do(t, http.MethodPut, u, nil, content); !a.ok() {
			t.Fatalf("PUT of %d bytes: %d %s", len(content), a.status, a.body)
		}
		wantContent(t, s, "again", content)
	}
}

// testSignedCutPut: a connection that ends in mid-body leaves nothing.
func (h Harness) testSignedCutPut(t *testing.T) {
	s := h.New(t)
	mustPut(t, s, "old", []byte("old content"))
	for _, key := range []string{"fresh/key", "old"} {
		u := sign(t, s, key, http.MethodPut, signedFor)
		cut := errors.New("cut")
		body := io.MultiReader(pattern(8, 1<<20), stream.ReadFunc(func([]byte) (int, error) { return 0, cut }))
		if a, err := h.request(t.Context(), http.MethodPut, u, nil, body, 2<<20); err == nil && a.ok() {
			t.Errorf("PUT of half a body: %d", a.status)
		}
	}
	late := 10 * time.Second // what is kept may come after the second try
	if !h.KeepsCutPuts {
		late = 0
		// The server may still be busy with what it got; afterwards as well as now:
		h.wantNothing(t, s, "fresh/key")
		wantContent(t, s, "old", []byte("old content"))
	}
	u := sign(t, s, "fresh/key", http.MethodPut, signedFor)
	eventually(t, late, func() error {
		if a := h.do(t, http.MethodPut, u, nil, []byte("second try")); !a.ok() {
			return fmt.Errorf("PUT after the cut one: %d %s", a.status, a.body)
		}
		if b, _, err := get(t.Context(), s, "fresh/key", 0, -1); err != nil || string(b) != "second try" {
			return fmt.Errorf("after the second try: %s, %v", summary(b), err)
		}
		return nil
	})
}

func (h Harness) testSignedExpiry(t *testing.T) { h.expires(t, h.New(t)) }

func (h Harness) expires(t *testing.T, s storage.Store) {
	t.Helper()
	mustPut(t, s, "key", []byte("content"))
	getURL := sign(t, s, "key", http.MethodGet, time.Second)
	putURL := sign(t, s, "key", http.MethodPut, time.Second)
	eventually(t, 20*time.Second, func() error {
		if a := h.do(t, http.MethodGet, getURL, nil, nil); !a.refused() || bytes.Contains(a.body, []byte("content")) {
			return fmt.Errorf("GET of a URL that lived 1 s: %d", a.status)
		}
		return nil
	})
	eventually(t, 20*time.Second, func() error {
		if a := h.do(t, http.MethodPut, putURL, nil, []byte("content")); !a.refused() {
			return fmt.Errorf("PUT to a URL that lived 1 s: %d", a.status)
		}
		return nil
	})
}

func (h Harness) testSignedWrongMethod(t *testing.T) {
	s := h.New(t)
	mustPut(t, s, "key", []byte("content"))
	getURL := sign(t, s, "key", http.MethodGet, signedFor)
	if a := h.do(t, http.MethodPut, getURL, nil, []byte("x")); !a.refused() {
		t.Errorf("PUT to a URL signed for GET: %d", a.status)
	}
	if a := h.do(t, http.MethodDelete, getURL, nil, nil); !a.refused() {
		t.Errorf("DELETE of a URL signed for GET: %d", a.status)
	}
	putURL := sign(t, s, "key", http.MethodPut, signedFor)
	for _, method := range []string{http.MethodGet, http.MethodDelete, http.MethodPost} {
		if a := h.do(t, method, putURL, nil, nil); !a.refused() || bytes.Contains(a.body, []byte("content")) {
			t.Errorf("%s of a URL signed for PUT: %d", method, a.status)
		}
	}
	wantContent(t, s, "key", []byte("content"))
}

// testSignedTampered: a URL opens its own object and nothing else.
func (h Harness) testSignedTampered(t *testing.T) {
	s := h.New(t)
	mustPut(t, s, "dir/key", []byte("content"))
	mustPut(t, s, "dir/sibling", []byte("secret"))
	for _, method := range []string{http.MethodGet, http.MethodPut} {
		good := sign(t, s, "dir/key", method, signedFor)
		for name, bad := range tamperings(t, good) {
			if a := h.do(t, method, bad, nil, []byte("forged")); a.ok() || bytes.Contains(a.body, []byte("secret")) {
				t.Errorf("%s with %s: %d\n%s", method, name, a.status, bad.URL)
			}
		}
	}
	wantContent(t, s, "dir/key", []byte("content"))
	wantContent(t, s, "dir/sibling", []byte("secret"))
	h.wantKeys(t, s, storage.ListOptions{}, []string{"dir/key", "dir/sibling"})
}

// tamperings changes each query parameter and the path of a good URL, and leaves out
// what must be sent with it.
func tamperings(t *testing.T, good storage.Signed) map[string]storage.Signed {
	t.Helper()
	u, err := url.Parse(good.URL)
	if err != nil {
		t.Fatal(err)
	}
	bad := map[string]storage.Signed{}
	for name, value := range good.Header {
		header := maps.Clone(good.Header)
		header[name] = altered(value)
		bad["altered header "+name] = storage.Signed{URL: good.URL, Header: header}
		header = maps.Clone(good.Header)
		delete(header, name)
		bad["no header "+name] = storage.Signed{URL: good.URL, Header: header}
	}
	for from, to := range map[string]string{"dir/key": "dir/sibling", "key": "key2", "/dir/key": "/dir"} {
		v := *u
		v.Path, v.RawPath = strings.TrimSuffix(u.Path, from)+to, ""
		bad["path "+to] = storage.Signed{URL: v.String(), Header: good.Header}
	}
	v := *u
	v.RawQuery = ""
	bad["no query"] = storage.Signed{URL: v.String(), Header: good.Header}
	for name, values := range u.Query() {
		if strings.EqualFold(name, "x-id") {
			continue // the S3 SDK's own note, which means nothing
		}
		query := u.Query()
		query.Set(name, altered(values[0]))
		v.RawQuery = query.Encode()
		bad["altered "+name] = storage.Signed{URL: v.String(), Header: good.Header}
		query.Del(name)
		v.RawQuery = query.Encode()
		bad["no "+name] = storage.Signed{URL: v.String(), Header: good.Header}
	}
	return bad
}

// altered changes one character near the start, where no encoding ignores bits.
func altered(value string) string {
	first := "1"
	if strings.HasPrefix(value, first) {
		first = "2"
	}
	return first + value[min(1, len(value)):]
}

func (h Harness) testSignOptions(t *testing.T) {
	s := h.New(t)
	for _, opts := range []storage.SignOptions{
		{Method: http.MethodGet},
		{Method: http.MethodGet, Expires: -time.Second},
		{Method: http.MethodGet, Expires: storage.MaxSignedTime + time.Second},
		{Method: http.MethodDelete, Expires: time.Minute},
		{Expires: time.Minute},
	} {
		if u, err := s.SignURL(t.Context(), "key", opts); err == nil {
			t.Errorf("SignURL with %+v gave %s", opts, u)
		}
	}
}
