package mesos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	mesosclient "github.com/mesos/mesos-go/api/v1/lib/client"
	"github.com/mesos/mesos-go/api/v1/lib/encoding"
	"github.com/mesos/mesos-go/api/v1/lib/encoding/framing"
	"github.com/mesos/mesos-go/api/v1/lib/httpcli"
	"github.com/mesos/mesos-go/api/v1/lib/master"
	mastercalls "github.com/mesos/mesos-go/api/v1/lib/master/calls"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
)

const (
	schedulerPath  = "/api/v1/scheduler"
	operatorPath   = "/api/v1"
	streamIDHeader = "Mesos-Stream-Id"
)

// statusError is an answer other than 200 and 202.
type statusError struct {
	code     int
	location string // base URL of the leading master, for a redirect
	details  string
}

func (e *statusError) Error() string {
	msg := fmt.Sprintf("status %d %s", e.code, http.StatusText(e.code))
	if e.location != "" {
		msg += " to " + e.location
	}
	if e.details != "" {
		msg += ": " + e.details
	}
	return msg
}

// client talks to exactly one master for one subscription. It is httpcli without
// httpsched: the latter follows redirects for SUBSCRIBE only, sends later calls
// to the old endpoint, and gives the stream up when any call fails.
type client struct {
	base      string
	scheduler *httpcli.Client
	operator  *httpcli.Client
	transport *http.Transport
	timeout   time.Duration // of every call but the event stream
	streamID  string
}

func newClient(cfg *Config, access *Access, base string) *client {
	// mesos-go's own transport dials IPv4 only.
	dialer := &net.Dialer{Timeout: cfg.Timings.Dial}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       access.TLS.Clone(),
		TLSHandshakeTimeout:   cfg.Timings.Dial,
		ResponseHeaderTimeout: cfg.Timings.Call,
		MaxIdleConnsPerHost:   2,
	}
	var way http.RoundTripper = transport
	if cfg.Transport != nil {
		way = cfg.Transport(transport)
	}
	opts := []httpcli.ConfigOpt{httpcli.RoundTripper(way)}
	if access.Principal != "" && access.Secret != "" {
		opts = append(opts, httpcli.BasicAuth(access.Principal, access.Secret))
	}
	do := httpcli.With(opts...) // follows no redirect
	c := &client{base: base, transport: transport, timeout: cfg.Timings.Call}
	c.scheduler = httpcli.New(httpcli.Endpoint(base+schedulerPath), httpcli.Do(do), httpcli.HandleResponse(c.response))
	c.operator = httpcli.New(httpcli.Endpoint(base+operatorPath), httpcli.Do(do))
	c.operator.With(httpcli.HandleResponse(c.operatorResponse))
	return c
}

func (c *client) close() { c.transport.CloseIdleConnections() }

// subscribe opens the event stream.
func (c *client) subscribe(ctx context.Context, call *scheduler.Call) (mesos.Response, error) {
	resp, err := c.scheduler.Send(mesosclient.RequestSingleton(call), mesosclient.ResponseClassAuto, httpcli.Context(ctx))
	if err != nil {
		return nil, err
	}
	if c.streamID == "" {
		resp.Close()
		return nil, fmt.Errorf("the answer to SUBSCRIBE has no %s", streamIDHeader)
	}
	return resp, nil
}

// send makes any other call. nil means that the master has taken it.
func (c *client) send(ctx context.Context, call *scheduler.Call) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, err := c.scheduler.Send(mesosclient.RequestSingleton(call), mesosclient.ResponseClassNoData,
		httpcli.Context(ctx), httpcli.Header(streamIDHeader, c.streamID))
	if resp != nil {
		resp.Close()
	}
	return err
}

// ask makes one call of the operator API that has no argument.
func (c *client) ask(ctx context.Context, call *master.Call) (*master.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, err := c.operator.Send(mesosclient.RequestSingleton(call), mesosclient.ResponseClassSingleton, httpcli.Context(ctx))
	if resp != nil {
		defer resp.Close()
	}
	if err != nil {
		return nil, err
	}
	var answer master.Response
	if err := resp.Decode(&answer); err != nil {
		return nil, err
	}
	return &answer, nil
}

// leader asks the master for the leading master; nil if it knows of none.
func (c *client) leader(ctx context.Context) (*mesos.MasterInfo, error) {
	answer, err := c.ask(ctx, mastercalls.GetMaster())
	return answer.GetGetMaster().GetMasterInfo(), err
}

// agents asks the master for its agents.
func (c *client) agents(ctx context.Context) ([]master.Response_GetAgents_Agent, error) {
	answer, err := c.ask(ctx, mastercalls.GetAgents())
	if err != nil {
		return nil, err
	}
	if answer.GetAgents == nil {
		return nil, fmt.Errorf("the answer to GET_AGENTS is of type %s", answer.GetType())
	}
	return answer.GetAgents.Agents, nil
}

// response handles answers of the scheduler API.
func (c *client) response(res *http.Response, class mesosclient.ResponseClass, err error) (mesos.Response, error) {
	if err := c.failure(res, err); err != nil {
		return nil, err
	}
	if class != mesosclient.ResponseClassAuto || res.StatusCode != http.StatusOK {
		// 202, or 200 with or without Content-Type: done, nothing to read.
		defer res.Body.Close()
		_, err := io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
		if class == mesosclient.ResponseClassAuto && err == nil {
			err = fmt.Errorf("the answer to SUBSCRIBE is status %d", res.StatusCode)
		}
		return nil, err
	}
	codec := httpcli.DefaultCodec
	if ct := res.Header.Get("Content-Type"); ct != codec.Type.ContentType() {
		res.Body.Close()
		return nil, fmt.Errorf("the answer to SUBSCRIBE is of type %q", ct)
	}
	c.streamID = res.Header.Get(streamIDHeader)
	source := encoding.Source(func() framing.Reader { return newRecordReader(res.Body) })
	return &httpcli.Response{Closer: res.Body, Header: res.Header, Decoder: codec.NewDecoder(source)}, nil
}

func (c *client) operatorResponse(res *http.Response, class mesosclient.ResponseClass, err error) (mesos.Response, error) {
	if err := c.failure(res, err); err != nil {
		return nil, err
	}
	return c.operator.HandleResponse(res, class, nil)
}

func (c *client) failure(res *http.Response, err error) error {
	if err != nil {
		return err
	}
	if res.StatusCode == http.StatusOK || res.StatusCode == http.StatusAccepted {
		return nil
	}
	defer res.Body.Close()
	details, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10)) // what cannot be read is not shown
	failure := &statusError{code: res.StatusCode, details: strings.TrimSpace(string(details))}
	if res.StatusCode == http.StatusTemporaryRedirect {
		failure.location = redirectTo(c.base, res.Header.Get("Location"))
	}
	return failure
}

// redirectTo gives the base URL that a Location names; Mesos sends
// "//host:port/path". It is "" if there is none, or if it would leave TLS.
func redirectTo(base, location string) string {
	from, err := url.Parse(base)
	if err != nil {
		return ""
	}
	to, err := from.Parse(location)
	if err != nil || location == "" || to.Host == "" || to.User != nil {
		return ""
	}
	if to.Scheme != from.Scheme && to.Scheme != "https" {
		return ""
	}
	return to.Scheme + "://" + to.Host
}

// notSent tells whether a call has certainly not been carried out: the master
// refused it, or no connection was made. A proxy's 502 or 504 tells nothing.
func notSent(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.code < 500 || status.code == http.StatusServiceUnavailable
	}
	var op *net.OpError
	return errors.Is(err, errSessionEnded) || errors.As(err, &op) && op.Op == "dial"
}
