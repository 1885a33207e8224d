package mesos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// redirectError sends the next SUBSCRIBE to another master.
type redirectError struct{ to string }

func (e *redirectError) Error() string { return "the leading master is " + e.to }

// addresses are those of the masters, for people.
func (c *Config) addresses() string {
	all := c.Masters
	if c.zk != nil {
		all = append([]string{c.zk.String()}, all...)
	}
	return strings.Join(all, ",")
}

// findLeader asks the masters, the hinted one first and then the one that
// ZooKeeper names, until one knows the leader.
func (f *Framework) findLeader(ctx context.Context, hint string) (sighting, error) {
	candidates := f.cfg.Masters
	var errs []error
	var led sighting
	if f.detector != nil {
		var trouble error
		if led, trouble = f.detector.find(ctx); trouble != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.cfg.zk, trouble))
		}
		candidates = prepend(candidates, led.base)
	}
	candidates = prepend(candidates, hint)
	limit := len(candidates) + maxRedirects
	var asked []string
	for i := 0; i < len(candidates) && ctx.Err() == nil; i++ {
		base := candidates[i]
		if slices.Contains(asked, base) {
			continue
		}
		asked = append(asked, base)
		err := f.leads(ctx, base)
		var redirect *redirectError
		switch {
		case err == nil:
			return sighting{base: base, node: led.node}, nil
		case errors.As(err, &redirect) && len(asked) <= limit:
			candidates = slices.Insert(slices.Clone(candidates), i+1, redirect.to)
		}
		errs = append(errs, fmt.Errorf("%s: %w", base, err))
	}
	// Not wrapped: where a redirect has led nowhere there is none to follow.
	return sighting{}, fmt.Errorf("no leading master: %v", cause(ctx, errors.Join(errs...)))
}

func prepend(list []string, first string) []string {
	if first == "" {
		return list
	}
	return append([]string{first}, list...)
}

// leads tells by nil that a master leads, or may: who is not let in to the
// operator API learns from the answer to SUBSCRIBE.
func (f *Framework) leads(ctx context.Context, base string) error {
	c := newClient(&f.cfg, f.access.Load(), base)
	defer c.close()
	info, err := c.leader(ctx)
	var status *statusError
	switch {
	case err == nil && info == nil:
		return errors.New("it knows of no leading master")
	case err == nil:
		return nil
	case !errors.As(err, &status):
		return adviseTLS(err)
	case status.location != "":
		return &redirectError{status.location}
	case status.code >= 500 || status.code == http.StatusTemporaryRedirect || status.code == http.StatusTooManyRequests:
		return err
	}
	return nil
}
