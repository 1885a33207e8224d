package master

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// leadership is what a master knows of who leads.
type leadership struct {
	elected chan struct{} // closed once this master leads

	mu     sync.Mutex
	since  time.Time // of this master's election; zero for a standby
	leader string    // URL of the leading master; "" if there is none
}

// Elect makes a standby the leading master: it recovers the registry and then
// takes calls. A master that leads does so until its end, as in Mesos.
func (m *Master) Elect() {
	l := &m.leadership
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.since.IsZero() {
		return
	}
	l.since, l.leader = time.Now(), m.URL()
	close(l.elected)
}

// Follow tells a standby the URL of the leading master, "" if there is none.
func (m *Master) Follow(leader string) {
	l := &m.leadership
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() {
		l.leader = leader
	}
}

func (l *leadership) get() (leader string, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leader, l.since
}

// redirect answers what only the leading master may answer.
func redirect(w http.ResponseWriter, leader, path string) error {
	u, err := url.Parse(leader)
	if err != nil || u.Host == "" {
		return httpErrorf(http.StatusServiceUnavailable, "No leader elected")
	}
	w.Header().Set("Location", "//"+u.Host+path)
	return httpErrorf(http.StatusTemporaryRedirect, "")
}

// delegated is a request's target as Mesos' master sees it: libprocess puts the
// master's name before a path that does not have it.
func delegated(r *http.Request) string {
	target := r.URL.RequestURI()
	if strings.HasPrefix(target, "/master/") {
		return target
	}
	return "/master" + target
}

// serveRedirect is /redirect: the way to the leading master, whoever that is.
func (m *Master) serveRedirect(w http.ResponseWriter, _ *http.Request) {
	leader, _ := m.leadership.get()
	writeError(w, redirect(w, leader, ""))
}
