package mesos

import (
	"crypto/tls"
	"fmt"
)

// Access is what lets a framework into Mesos; see Config.
type Access struct {
	Principal, Secret string
	TLS               *tls.Config
}

// renewAccess asks for what lets the framework in, before a subscription. If that
// cannot be had, what was had before is used: it may still do.
func (f *Framework) renewAccess() {
	access, err := f.cfg.Access()
	if err == nil {
		f.access.Store(&access)
		f.unread = ""
		return
	}
	if err.Error() != f.unread {
		f.unread = err.Error()
		f.log.Warn("what lets the framework into Mesos cannot be read again; what was read before is used", "error", err)
	}
}

// firstAccess is renewAccess for a framework that has none yet.
func (f *Framework) firstAccess() error {
	access, err := f.cfg.Access()
	if err != nil {
		return fmt.Errorf("mesos configuration: %w", err)
	}
	f.access.Store(&access)
	return nil
}
