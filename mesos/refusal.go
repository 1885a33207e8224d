package mesos

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

// streamError reads an ERROR event; Mesos tells the cases apart by text only
// (src/master/master.cpp).
func streamError(e *scheduler.Event) error {
	message := e.GetError().GetMessage()
	switch {
	case strings.Contains(message, "has been removed"):
		return ErrFrameworkRemoved
	case strings.Contains(message, "failed over"):
		return errFailedOver
	}
	return fmt.Errorf("the master reports: %s", message)
}

// refusedBy says what to mend where SUBSCRIBE is answered with an ERROR event.
func (s *session) refusedBy(err error) error {
	advice := "see the framework's roles and principal, and the master's --acls and --roles"
	if strings.Contains(err.Error(), "ot authorized to use role") {
		advice = fmt.Sprintf("let principal %q use the roles %s in register_frameworks of the master's --acls, or name other roles",
			s.f.access.Load().Principal, strings.Join(s.roles, ", "))
	}
	return fmt.Errorf("%w: %s: %w: %s", ErrRefused, s.master, err, advice)
}

// subscribeError says what to do about a refused SUBSCRIBE.
func (f *Framework) subscribeError(base string, roles []string, err error) error {
	var status *statusError
	if !errors.As(err, &status) {
		return fmt.Errorf("subscribe to %s: %w", base, adviseTLS(err))
	}
	access := f.access.Load()
	switch status.code {
	case http.StatusTemporaryRedirect:
		if status.location != "" {
			return &redirectError{status.location}
		}
	case http.StatusUnauthorized:
		if access.Principal == "" || access.Secret == "" {
			return fmt.Errorf("%w: %s lets nobody in without credentials: set a principal and secret of the master's --credentials (%w)",
				ErrRefused, base, status)
		}
		return fmt.Errorf("%w: %s does not accept the credentials of principal %q: set principal and secret as in the master's --credentials (%w)",
			ErrRefused, base, access.Principal, status)
	case http.StatusForbidden:
		return fmt.Errorf("%w: %s does not let principal %q register with roles %v as user %q: change register_frameworks and run_tasks in its --acls (%w)",
			ErrRefused, base, access.Principal, roles, f.cfg.User, status)
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusUnsupportedMediaType:
		return fmt.Errorf("%w: %s: principal %q, roles %v: %w", ErrRefused, base, access.Principal, roles, status)
	}
	return fmt.Errorf("subscribe to %s: %w", base, status)
}

// adviseTLS adds to an error of TLS what to mend.
func adviseTLS(err error) error {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var refused *net.OpError
	advice := ""
	switch {
	case errors.As(err, &authority):
		advice = "its certificate is not signed by an authority that is trusted here: name the file of its CA's certificate"
	case errors.As(err, &host):
		advice = "its certificate names other hosts: address it by one of them"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		advice = "its certificate is not valid now: have it renewed, or set the clocks"
	case errors.Is(err, http.ErrSchemeMismatch):
		advice = "it does not speak TLS: address it with http://"
	case errors.As(err, &refused) && refused.Op == "remote error":
		advice = adviseAlert(refused.Err.Error())
	}
	if advice == "" {
		return err
	}
	return fmt.Errorf("%s (%w)", advice, err)
}

// adviseAlert goes by the text of the alert with which the other end has refused our
// certificate, since crypto/tls gives alerts no type.
func adviseAlert(text string) string {
	switch text {
	case "tls: certificate required":
		return "it wants a client certificate: name one, with its key"
	case "tls: bad certificate", "tls: unknown certificate", "tls: unknown certificate authority", "tls: unsupported certificate":
		return "it wants another client certificate: name one that its CA has signed, with its key"
	case "tls: expired certificate":
		return "the client certificate is not valid now: have it renewed, or set the clocks"
	}
	return ""
}
