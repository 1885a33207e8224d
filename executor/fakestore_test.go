package executor

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baas-batch/baas/tasklet"
)

// testStore serves objects under signed URLs, and plays the leader that signs.
type testStore struct {
	t      testing.TB
	server *httptest.Server
	addr   string

	mu       sync.Mutex
	epoch    int // URLs of earlier epochs are refused
	objects  map[string][]byte
	uploads  map[string]map[int][]byte
	keys     map[string]string // key by role and name, from launches
	packs    map[string]bool   // tasks with segments
	puts     map[string]int    // by key
	silent   bool              // the leader answers nothing
	denied   map[tasklet.Role]string
	partSize int64
	// intercept may answer a request itself.
	intercept func(w http.ResponseWriter, r *http.Request) bool
	changed   chan struct{}
}

func newTestStore(t testing.TB) *testStore {
	s := &testStore{
		t: t, objects: map[string][]byte{}, uploads: map[string]map[int][]byte{},
		keys: map[string]string{}, packs: map[string]bool{}, puts: map[string]int{}, denied: map[tasklet.Role]string{},
		partSize: 1 << 20, changed: make(chan struct{}),
	}
	s.server = httptest.NewServer(s)
	s.addr = s.server.Listener.Addr().String()
	t.Cleanup(func() { s.server.Close() })
	return s
}

// stop closes the port; start opens it again.
func (s *testStore) stop() { s.server.Close() }

func (s *testStore) start() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: s}}
	s.server.Start()
}

func (s *testStore) url(key string) string {
	return fmt.Sprintf("http://%s/o/%s?sig=%d", s.addr, key, s.epoch)
}

// sign gives a URL; expire makes all URLs given so far worthless.
func (s *testStore) sign(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url(key)
}

func (s *testStore) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
}

func (s *testStore) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *testStore) put(key string, data []byte) tasklet.Source {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[key] = data
	sum := sha256.Sum256(data)
	ref := tasklet.NewFileRef(key, int64(len(data)), hex.EncodeToString(sum[:]), key[strings.LastIndexByte(key, '/')+1:])
	return tasklet.Source{FileRef: ref, URL: s.url(key)}
}

func (s *testStore) target(key string) tasklet.Target {
	s.mu.Lock()
	defer s.mu.Unlock()
	return tasklet.Target{Key: key, URL: s.url(key), Header: s.signed()}
}

// signed are the headers that must come with a PUT.
func (s *testStore) signed() map[string]string {
	return map[string]string{"X-Signed": strconv.Itoa(s.epoch)}
}

func (s *testStore) get(key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.objects[key]
	return data, ok
}

// waitPuts waits until an object was stored so many times.
func (s *testStore) waitPuts(key string, times int) {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		n, changed := s.puts[key], s.changed
		s.mu.Unlock()
		if n >= times {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			s.t.Fatalf("%s was stored %d times, not %d", key, n, times)
		}
	}
}

func (s *testStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	intercept, epoch := s.intercept, strconv.Itoa(s.epoch)
	s.mu.Unlock()
	if intercept != nil && intercept(w, r) {
		return
	}
	if r.URL.Query().Get("sig") != epoch || r.Method == http.MethodPut && r.Header.Get("X-Signed") != epoch {
		http.Error(w, "expired", http.StatusForbidden)
		return
	}
	kind, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case r.Method == http.MethodPut && kind == "o":
		s.servePut(w, r, func(data []byte) {
			s.objects[rest] = data
			s.puts[rest]++
		})
	case r.Method == http.MethodPut && kind == "u":
		upload, n, _ := strings.Cut(rest, "/")
		number, _ := strconv.Atoi(n)
		s.mu.Lock()
		known := s.uploads[upload] != nil
		s.mu.Unlock()
		if !known {
			http.NotFound(w, r)
			return
		}
		s.servePut(w, r, func(data []byte) { s.uploads[upload][number] = data })
	default:
		data, ok := s.get(rest)
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}

func (s *testStore) servePut(w http.ResponseWriter, r *http.Request, keep func([]byte)) {
	data, err := io.ReadAll(r.Body)
	if err != nil || int64(len(data)) != r.ContentLength {
		http.Error(w, "body is not whole", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	keep(data)
	close(s.changed)
	s.changed = make(chan struct{})
	w.Header().Set("ETag", fmt.Sprintf("%x", md5.Sum(data)))
}

// answer is the leader's answer to a report.
func (s *testStore) answer(r tasklet.Report) *tasklet.Order {
	if r.Request == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent {
		return nil
	}
	g := &tasklet.Grant{ID: r.Request.ID, Header: s.signed()}
	key := s.keys[roleKey(r.TaskID, r.Request.Partition, r.Request.Role, r.Request.Name, r.Request.File)]
	if key == "" && s.packs[r.TaskID] {
		key = packKey(r.TaskID, *r.Request)
	}
	switch {
	case s.denied[r.Request.Role] != "":
		g.Error = s.denied[r.Request.Role]
	case r.Request.Multipart != nil:
		s.multipart(g, key, r.Request.Multipart)
	case key == "":
		g.Error = "nothing of that kind"
	default:
		g.Key, g.URL = key, s.url(key)
	}
	return &tasklet.Order{TaskID: r.TaskID, Grant: g}
}

func (s *testStore) multipart(g *tasklet.Grant, key string, m *tasklet.Multipart) {
	switch {
	case m.Begin:
		g.UploadID, g.PartSize = fmt.Sprintf("up%d", len(s.uploads)), s.partSize
		s.uploads[g.UploadID] = map[int][]byte{}
	case len(m.Sign) > 0:
		if s.uploads[m.UploadID] == nil {
			g.Error = "no such upload"
			return
		}
		g.Parts = map[int]string{}
		for _, n := range m.Sign {
			g.Parts[n] = fmt.Sprintf("http://%s/u/%s/%d?sig=%d", s.addr, m.UploadID, n, s.epoch)
		}
	case m.Abort:
		delete(s.uploads, m.UploadID)
		g.Done = true
	default:
		var whole []byte
		for i, p := range m.Complete {
			part := s.uploads[m.UploadID][p.Number]
			if p.Number != i+1 || p.ETag != fmt.Sprintf("%x", md5.Sum(part)) {
				g.Error = "parts do not match"
				return
			}
			whole = append(whole, part...)
		}
		s.objects[key] = whole
		s.puts[key]++
		g.Done = true
	}
}

// packKey is where a task with segments may store what it asks for; "" for nothing.
func packKey(task string, r tasklet.Request) string {
	switch r.Role {
	case tasklet.RoleSegment:
		return segmentKey(task, r.File)
	case tasklet.RoleLog, tasklet.RoleCheckpoint, tasklet.RoleOutput:
		return fmt.Sprintf("%s/%d/%s.%s", task, r.Partition, r.Role, r.Name)
	}
	return ""
}

func segmentKey(task string, number int) string { return fmt.Sprintf("%s/segments/%d", task, number) }

func roleKey(task string, partition int, role tasklet.Role, name string, file int) string {
	return fmt.Sprint(task, partition, role, name, file)
}

// know makes the leader know a task's objects.
func (s *testStore) know(l *tasklet.Launch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.packs[l.TaskID] = l.Segments != nil
	s.keys[roleKey(l.TaskID, l.Partitions[0].Index, tasklet.RoleResult, "", 0)] = l.Result.Key
	for _, p := range l.Partitions {
		if l.Bundle != nil {
			s.keys[roleKey(l.TaskID, p.Index, tasklet.RoleBundle, "", 0)] = l.Bundle.Key
		}
		s.keys[roleKey(l.TaskID, p.Index, tasklet.RoleLog, "", 0)] = p.Log.Key
		s.keys[roleKey(l.TaskID, p.Index, tasklet.RoleCheckpoint, "", 0)] = p.Checkpoint.Key
		if p.Restore != nil {
			s.keys[roleKey(l.TaskID, p.Index, tasklet.RoleRestore, "", 0)] = p.Restore.Key
		}
		for name, target := range p.Outputs {
			s.keys[roleKey(l.TaskID, p.Index, tasklet.RoleOutput, name, 0)] = target.Key
		}
		for name, in := range p.Inputs {
			for i, f := range slices.All(in.Files) {
				s.keys[roleKey(l.TaskID, p.Index, tasklet.RoleInput, name, i)] = f.Key
			}
		}
	}
}
