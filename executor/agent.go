package executor

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	mesosexec "github.com/mesos/mesos-go/api/v1/lib/executor"
	"github.com/mesos/mesos-go/api/v1/lib/executor/calls"
)

const (
	protobufType = "application/x-protobuf"
	// maxRecord bounds one event. mesos-go's own reader stops at 4 MiB, which a
	// LAUNCH with many signed URLs may pass.
	maxRecord = 64 << 20
)

// statusError is an answer of the agent other than success.
type statusError struct {
	code int
	body string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("agent answered %d: %s", e.code, e.body)
}

// agentClient speaks the executor API of one agent.
type agentClient struct {
	url       string
	token     string
	framework string
	executor  string
	http      *http.Client
	timeout   time.Duration
}

func newAgentClient(c Config) (*agentClient, error) {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 2,
		IdleConnTimeout:     60 * time.Second,
		// An agent that takes a connection and then says nothing is as good as away.
		ResponseHeaderTimeout: c.Tuning.CallTimeout,
		ReadBufferSize:        8 << 10,
	}
	if strings.HasPrefix(c.AgentURL, "https:") {
		// libprocess verifies nothing unless it is told to.
		tlsConfig := &tls.Config{InsecureSkipVerify: !c.VerifyTLS}
		if c.CAFile != "" {
			pem, err := os.ReadFile(c.CAFile)
			if err != nil {
				return nil, fmt.Errorf("certificate authorities of the agent: %w", err)
			}
			tlsConfig.RootCAs = x509.NewCertPool()
			tlsConfig.RootCAs.AppendCertsFromPEM(pem)
		}
		transport.TLSClientConfig = tlsConfig
	}
	return &agentClient{
		url: c.AgentURL, token: c.Token, framework: c.FrameworkID, executor: c.ExecutorID,
		http:    &http.Client{Transport: transport},
		timeout: c.Tuning.CallTimeout,
	}, nil
}

// subscribe opens the stream of events, which lives until ctx ends, the agent
// ends it, or it is closed.
func (a *agentClient) subscribe(ctx context.Context, tasks []mesos.TaskInfo, updates []mesosexec.Call_Update) (*eventStream, error) {
	resp, err := a.post(ctx, calls.Subscribe(tasks, updates))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp)
	}
	return &eventStream{body: resp.Body, r: bufio.NewReader(resp.Body)}, nil
}

func (a *agentClient) update(ctx context.Context, status mesos.TaskStatus) error {
	return a.call(ctx, calls.Update(status))
}

func (a *agentClient) message(ctx context.Context, data []byte) error {
	return a.call(ctx, calls.Message(data))
}

// call sends a call that is answered with 202 and no body.
func (a *agentClient) call(ctx context.Context, call *mesosexec.Call) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	resp, err := a.post(ctx, call)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return refusal(resp)
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10))
	return errors.Join(err, resp.Body.Close())
}

func (a *agentClient) post(ctx context.Context, call *mesosexec.Call) (*http.Response, error) {
	call.FrameworkID = mesos.FrameworkID{Value: a.framework}
	call.ExecutorID = mesos.ExecutorID{Value: a.executor}
	body, err := call.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", call.Type, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", protobufType)
	req.Header.Set("Accept", protobufType)
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", call.Type, err)
	}
	return resp, nil
}

func refusal(resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
	_ = resp.Body.Close()
	return &statusError{resp.StatusCode, strings.TrimSpace(string(body))}
}

// eventStream reads RecordIO: each record is its length in decimal, a newline,
// and so many bytes.
type eventStream struct {
	body io.ReadCloser
	r    *bufio.Reader
}

func (s *eventStream) next() (*mesosexec.Event, error) {
	line, err := s.r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
	if err != nil || n > maxRecord {
		return nil, fmt.Errorf("event stream: bad record length %.32q", line)
	}
	record := make([]byte, n)
	if _, err := io.ReadFull(s.r, record); err != nil {
		return nil, fmt.Errorf("event stream: %w", err)
	}
	event := new(mesosexec.Event)
	if err := event.Unmarshal(record); err != nil {
		return nil, fmt.Errorf("event stream: %w", err)
	}
	return event, nil
}

func (s *eventStream) close() { _ = s.body.Close() }

// withoutURL takes the URL out of an error of net/http: a signed URL is a secret.
func withoutURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
