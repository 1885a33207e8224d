package storagetest

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/baas-batch/baas/storage"
)

func (h Harness) testMultipart(t *testing.T) {
	t.Run("OutOfOrder", h.testPartsOutOfOrder)
	t.Run("OnePart", h.testOnePart)
	t.Run("SentAgain", h.testPartSentAgain)
	t.Run("Replaces", h.testUploadReplaces)
	t.Run("Repeated", h.testRepeatedComplete)
	t.Run("BadParts", h.testBadParts)
	t.Run("Abort", h.testAbort)
	t.Run("Unknown", h.testUnknownUpload)
	t.Run("ListUploads", h.testListUploads)
	t.Run("SignedParts", h.testSignedParts)
}

func create(t *testing.T, s storage.Store, key string) string {
	t.Helper()
	id, err := s.CreateUpload(t.Context(), key)
	if err != nil || id == "" {
		t.Fatalf("CreateUpload %q: %q, %v", key, id, err)
	}
	return id
}

func signPart(t *testing.T, s storage.Store, key, id string, part int) storage.Signed {
	t.Helper()
	u, err := s.SignPart(t.Context(), key, id, part, storage.SignOptions{Expires: signedFor})
	if err != nil {
		t.Fatalf("SignPart %d of %q: %v", part, key, err)
	}
	return u
}

func (h Harness) sendPart(t *testing.T, s storage.Store, key, id string, part int, content []byte) storage.UploadPart {
	t.Helper()
	a := h.do(t, http.MethodPut, signPart(t, s, key, id, part), nil, content)
	etag := a.header.Get("ETag")
	if !a.ok() || etag == "" {
		t.Fatalf("PUT of part %d of %q: %d, ETag %q, %s", part, key, a.status, etag, a.body)
	}
	return storage.UploadPart{Number: part, ETag: etag}
}

func complete(t *testing.T, s storage.Store, key, id string, parts ...storage.UploadPart) storage.Info {
	t.Helper()
	info, err := s.CompleteUpload(t.Context(), key, id, parts)
	if err != nil {
		t.Fatalf("CompleteUpload %q: %v", key, err)
	}
	return info
}

// partSize suits any store: S3 wants 5 MiB, a file has no wish.
func partSize(s storage.Store) int64 { return max(s.Capabilities().MinPartSize, 100_000) }

func (h Harness) testPartsOutOfOrder(t *testing.T) {
	s, key := h.New(t), "dir/out of order+"
	id := create(t, s, key)
	content := patternBytes(10, 2*partSize(s)+10)
	parts := map[int]storage.UploadPart{}
	for _, n := range []int{3, 1, 2} {
		piece := content[int64(n-1)*partSize(s) : min(int64(n)*partSize(s), int64(len(content)))]
		parts[n] = h.sendPart(t, s, key, id, n, piece)
		h.wantNothing(t, s, key)
	}
	info := complete(t, s, key, id, parts[1], parts[2], parts[3])
	if info.Key != key || info.Size != int64(len(content)) {
		t.Errorf("CompleteUpload: %+v, want %d bytes of %q", info, len(content), key)
	}
	wantContent(t, s, key, content)
	h.wantNoUploads(t, s)
	h.wantKeys(t, s, storage.ListOptions{}, []string{key})
}

func (h Harness) testOnePart(t *testing.T) {
	s := h.New(t)
	for _, content := range [][]byte{[]byte("short"), nil} {
		id := create(t, s, "one")
		// Not the first number: gaps are allowed.
		part := h.sendPart(t, s, "one", id, 7, content)
		info := complete(t, s, "one", id, part)
		wantContent(t, s, "one", content)
		if stat, err := s.Stat(t.Context(), "one"); err != nil || stat.ETag != info.ETag {
			t.Errorf("Stat: %+v, %v; CompleteUpload said %+v", stat, err, info)
		}
	}
}

func (h Harness) testPartSentAgain(t *testing.T) {
	s, ctx := h.New(t), t.Context()
	id := create(t, s, "key")
	first := h.sendPart(t, s, "key", id, 1, patternBytes(11, partSize(s)))
	again := patternBytes(12, partSize(s))
	second := h.sendPart(t, s, "key", id, 1, again)
	last := h.sendPart(t, s, "key", id, 2, []byte("end"))
	if same := h.sendPart(t, s, "key", id, 2, []byte("end")); same != last {
		t.Errorf("the same part sent twice has ETags %q and %q: a repeated answer would not fit", last.ETag, same.ETag)
	}
	if _, err := s.CompleteUpload(ctx, "key", id, []storage.UploadPart{first, last}); err == nil {
		t.Error("CompleteUpload took the ETag of a part that was sent again since")
	}
	h.wantNothing(t, s, "key")
	complete(t, s, "key", id, second, last)
	wantContent(t, s, "key", append(again, "end"...))
}

func (h Harness) testUploadReplaces(t *testing.T) {
	s := h.New(t)
	before := mustPut(t, s, "key", []byte("old content"))
	id := create(t, s, "key")
	part := h.sendPart(t, s, "key", id, 1, []byte("new content"))
	wantContent(t, s, "key", []byte("old content"))
	if info := complete(t, s, "key", id, part); info.ETag == before.ETag {
		t.Errorf("the ETag stayed %q", info.ETag)
	}
	wantContent(t, s, "key", []byte("new content"))
}

func (h Harness) testRepeatedComplete(t *testing.T) {
	s := h.New(t)
	id := create(t, s, "key")
	parts := []storage.UploadPart{
		h.sendPart(t, s, "key", id, 1, patternBytes(13, partSize(s))),
		h.sendPart(t, s, "key", id, 2, []byte("end")),
	}
	for range 3 {
		info := complete(t, s, "key", id, parts...)
		if info.Size != partSize(s)+3 {
			t.Errorf("CompleteUpload: %+v, want size %d", info, partSize(s)+3)
		}
	}
	// A late abort, such as a sweep's, does not take the object away.
	if err := s.AbortUpload(t.Context(), "key", id); err != nil {
		t.Errorf("AbortUpload after CompleteUpload: %v", err)
	}
	wantContent(t, s, "key", append(patternBytes(13, partSize(s)), "end"...))
}

func (h Harness) testBadParts(t *testing.T) {
	s, ctx := h.New(t), t.Context()
	id := create(t, s, "key")
	one := h.sendPart(t, s, "key", id, 1, patternBytes(14, partSize(s)))
	two := h.sendPart(t, s, "key", id, 2, []byte("two"))
	for name, parts := range map[string][]storage.UploadPart{
		"missing part":  {one, {Number: 3, ETag: two.ETag}},
		"wrong ETag":    {{Number: 1, ETag: two.ETag}, two},
		"forged ETag":   {one, {Number: 2, ETag: `"../../x"`}},
		"no ETag":       {one, {Number: 2}},
		"descending":    {two, one},
		"twice":         {one, one},
		"no part":       {},
		"number 0":      {{Number: 0, ETag: one.ETag}},
		"number beyond": {one, {Number: s.Capabilities().MaxParts + 1, ETag: two.ETag}},
	} {
		_, err := s.CompleteUpload(ctx, "key", id, parts)
		wantError(t, name, err, storage.ErrInvalidPart)
		h.wantNothing(t, s, "key")
	}
	for _, number := range []int{-1, 0, s.Capabilities().MaxParts + 1} {
		if _, err := s.SignPart(ctx, "key", id, number, storage.SignOptions{Expires: signedFor}); err == nil {
			t.Errorf("SignPart signed part %d", number)
		}
	}
	complete(t, s, "key", id, one, two) // none of that did harm
}

func (h Harness) testAbort(t *testing.T) {
	s, ctx := h.New(t), t.Context()
	id := create(t, s, "key")
	part := h.sendPart(t, s, "key", id, 1, []byte("content"))
	for range 2 {
		if err := s.AbortUpload(ctx, "key", id); err != nil {
			t.Fatalf("AbortUpload: %v", err)
		}
	}
	_, err := s.CompleteUpload(ctx, "key", id, []storage.UploadPart{part})
	wantError(t, "CompleteUpload after AbortUpload", err, storage.ErrNotExist)
	h.wantNothing(t, s, "key")
	h.wantNoUploads(t, s)
}

func (h Harness) testUnknownUpload(t *testing.T) {
	s, ctx := h.New(t), t.Context()
	id := create(t, s, "key")
	part := h.sendPart(t, s, "key", id, 1, []byte("content"))
	for _, unknown := range []string{altered(id), "", "../uploads/" + id, "x"} {
		_, err := s.CompleteUpload(ctx, "key", unknown, []storage.UploadPart{part})
		wantError(t, "CompleteUpload of upload "+unknown, err, storage.ErrNotExist)
		if err := s.AbortUpload(ctx, "key", unknown); err != nil {
			t.Errorf("AbortUpload of upload %q: %v", unknown, err)
		}
	}
	_, err := s.CompleteUpload(ctx, "other", id, []storage.UploadPart{part})
	wantError(t, "CompleteUpload under another key", err, storage.ErrNotExist)
	if err := s.AbortUpload(ctx, "other", id); err != nil {
		t.Errorf("AbortUpload under another key: %v", err)
	}
	h.wantNothing(t, s, "other")
	complete(t, s, "key", id, part) // it was not touched
}

func (h Harness) testListUploads(t *testing.T) {
	s, ctx := h.New(t), t.Context()
	h.wantNoUploads(t, s)
	ids := map[string]string{}
	keys := []string{"a/one", "a/two", "b/three", "b/done", "b/aborted"}
	for _, key := range keys {
		ids[key] = create(t, s, key)
	}
	done := h.sendPart(t, s, "b/done", ids["b/done"], 1, []byte("x"))
	complete(t, s, "b/done", ids["b/done"], done)
	if err := s.AbortUpload(ctx, "b/aborted", ids["b/aborted"]); err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string][]string{"": keys[:3], "a/": keys[:2], "b/three": keys[2:3], "c": nil} {
		uploads, err := s.ListUploads(ctx, prefix)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, u := range uploads {
			got = append(got, u.Key)
			if u.ID != ids[u.Key] || u.Created.IsZero() {
				t.Errorf("ListUploads: %+v, want ID %q and a time", u, ids[u.Key])
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("ListUploads %q: %q, want %q", prefix, got, want)
		}
	}
}

// testSignedParts: a part's URL opens that part of that upload only.
func (h Harness) testSignedParts(t *testing.T) {
	s := h.New(t)
	id := create(t, s, "dir/key")
	other := create(t, s, "dir/key")
	part := h.sendPart(t, s, "dir/key", id, 1, []byte("content"))
	good := signPart(t, s, "dir/key", id, 1)
	for name, bad := range tamperings(t, good) {
		if a := h.do(t, http.MethodPut, bad, nil, []byte("forged")); a.ok() {
			t.Errorf("PUT with %s: %d", name, a.status)
		}
	}
	if bad := (storage.Signed{URL: strings.Replace(good.URL, id, other, 1), Header: good.Header}); bad.URL != good.URL {
		if a := h.do(t, http.MethodPut, bad, nil, []byte("forged")); a.ok() {
			t.Errorf("PUT to another upload: %d", a.status)
		}
	}
	if a := h.do(t, http.MethodGet, good, nil, nil); a.ok() || bytes.Contains(a.body, []byte("content")) {
		t.Errorf("GET of a part's URL: %d", a.status)
	}
	h.wantNothing(t, s, "dir/key")
	complete(t, s, "dir/key", id, part)
	wantContent(t, s, "dir/key", []byte("content"))
	// A sending that is repeated does no harm. Whether another one is refused or
	// vanishes is the store's affair; it is never taken for the content.
	h.do(t, http.MethodPut, good, nil, []byte("content"))
	wantContent(t, s, "dir/key", []byte("content"))
	h.do(t, http.MethodPut, good, nil, []byte("too late"))
	if !h.PartsStayOpen {
		wantContent(t, s, "dir/key", []byte("content"))
	} else if b, _, err := get(t.Context(), s, "dir/key", 0, -1); err == nil {
		t.Errorf("a part was replaced after CompleteUpload, and Get gave %s", summary(b))
	}
}
