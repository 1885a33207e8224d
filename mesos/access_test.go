package mesos

import (
	"net/http"
	"sync"
	"testing"

	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

// A call that is answered 401 ends the subscription, and the next one has the
// credentials as they are by then.
func TestCredentialsAreAskedForAgain(t *testing.T) {
	m := newScripted(t)
	var once sync.Once
	m.answer = func(w http.ResponseWriter, call *scheduler.Call) (answered bool) {
		if call.Type == scheduler.Call_RECONCILE {
			once.Do(func() {
				w.WriteHeader(http.StatusUnauthorized)
				answered = true
			})
		}
		return answered
	}
	var mu sync.Mutex
	secrets := []string{"first", "first", "second"} // New, and two subscriptions
	opened(t, m, func(cfg *Config) {
		cfg.Access = func() (Access, error) {
			mu.Lock()
			defer mu.Unlock()
			next := secrets[0]
			if len(secrets) > 1 {
				secrets = secrets[1:]
			}
			return Access{Principal: "batch", Secret: next}, nil
		}
	})
	get(t, m.streams, "second SUBSCRIBE").send(subscribedEvent())
	eventually(t, "a call with the new secret", func() bool {
		_, secret, _ := get(t, m.http, "call").BasicAuth()
		return secret == "second"
	})
}
