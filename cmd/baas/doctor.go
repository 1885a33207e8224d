package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/cmd/baas/internal/cli"
	"github.com/baas-batch/baas/cmd/baas/internal/datadir"
	"github.com/baas-batch/baas/cmd/baas/internal/local"
	"github.com/baas-batch/baas/starter"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/file"
)

// checkTimeout bounds one check.
const checkTimeout = 10 * time.Second

// doctor checks one part after the other.
func (p parts) doctor(ctx context.Context, t cli.Target, o cli.EmbedOptions) []cli.Finding {
	findings := []cli.Finding{checkExecutor(o.Executor), checkDataDir(o.DataDir)}
	if t.Temporal.HostPort == "" {
		return append(findings, cli.Finding{
			Part: "platform", Level: cli.Note, Says: "none is configured, and none is up: `baas run` starts one for each run",
			Advice: "baas up, or name a Temporal with --address or TEMPORAL_ADDRESS",
		})
	}
	findings = append(findings, checkTemporal(ctx, t)...)
	if t.Mesos != "" {
		findings = append(findings, checkMesos(ctx, t))
	}
	return append(findings, checkStorage(ctx, t.Storage))
}

func checkExecutor(asked string) cli.Finding {
	f := cli.Finding{Part: "executor", Level: cli.Good}
	name, err := local.FindExecutor(asked)
	if err != nil {
		f.Level, f.Says, f.Advice = cli.Bad, err.Error(), local.BuildHint
		f.Says = strings.TrimSuffix(f.Says, "; "+local.BuildHint)
		return f
	}
	f.Says = name
	if info, err := os.Stat(name); err == nil {
		f.Says += fmt.Sprintf(", %.1f MB", float64(info.Size())/1e6)
	}
	return f
}

func checkDataDir(dir string) cli.Finding {
	f := cli.Finding{Part: "data", Level: cli.Good, Says: dir}
	state, err := datadir.Up(dir)
	switch {
	case err == nil:
		f.Says += fmt.Sprintf(", in use by `baas up`, process %d, since %s", state.PID, state.Started.Local().Format(time.RFC3339))
	case !errors.Is(err, fs.ErrNotExist):
		f.Level, f.Says, f.Advice = cli.Bad, fmt.Sprintf("%s: %v", dir, err), "name another directory with --data or BAAS_DATA"
		return f
	}
	existing := dir
	for {
		if _, err := os.Stat(existing); err == nil || existing == filepath.Dir(existing) {
			break
		}
		existing = filepath.Dir(existing)
	}
	probe, err := os.CreateTemp(existing, ".baas-doctor-*")
	if err != nil {
		f.Level, f.Says, f.Advice = cli.Bad, err.Error(), "make it writable, or name another directory with --data or BAAS_DATA"
		return f
	}
	_ = errors.Join(probe.Close(), os.Remove(probe.Name()))
	return f
}

func checkTemporal(ctx context.Context, t cli.Target) []cli.Finding {
	f := cli.Finding{Part: "temporal", Level: cli.Good}
	began := time.Now()
	c, err := dial(ctx, t)
	if err != nil {
		f.Level, f.Says = cli.Unreachable, err.Error()
		f.Advice = "start it, or name another with --address (this one comes from: " + t.Found + ")"
		return []cli.Finding{f}
	}
	defer c.Close()
	f.Says = fmt.Sprintf("%s, namespace %s, answers in %v", t.Temporal.HostPort, t.Temporal.Namespace, time.Since(began).Round(time.Millisecond))
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return []cli.Finding{f, checkAttributes(ctx, c, t.Temporal.Namespace), checkWorkers(ctx, c)}
}

func checkAttributes(ctx context.Context, c client.Client, namespace string) cli.Finding {
	f := cli.Finding{Part: "attributes", Level: cli.Good, Says: "all search attributes are there"}
	have, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		f.Level, f.Says = cli.Note, "search attributes cannot be listed: "+err.Error()
		return f
	}
	var missing []string
	for name, kind := range map[string]string{
		api.AttributeApp: "Keyword", api.AttributeOwner: "Keyword", api.AttributeStatus: "Keyword", api.AttributeOrderDate: "Datetime",
	} {
		if _, ok := have.CustomAttributes[name]; !ok {
			missing = append(missing, fmt.Sprintf("--name %s --type %s", name, kind))
		}
	}
	if len(missing) > 0 {
		f.Level, f.Says = cli.Bad, fmt.Sprintf("%d search attributes are missing", len(missing))
		f.Advice = "temporal operator search-attribute create " + strings.Join(missing, " ")
	}
	return f
}

func checkWorkers(ctx context.Context, c client.Client) cli.Finding {
	f := cli.Finding{Part: "workers", Level: cli.Good}
	queue, err := c.DescribeTaskQueue(ctx, api.TaskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		f.Level, f.Says = cli.Bad, err.Error()
		return f
	}
	names := map[string]bool{}
	for _, poller := range queue.GetPollers() {
		names[poller.GetIdentity()] = true
	}
	f.Says = fmt.Sprintf("serving task queue %s: %d", api.TaskQueue, len(names))
	if len(names) == 0 {
		f.Level, f.Advice = cli.Bad, "start one: baas worker, or baas up"
	}
	return f
}

// checkMesos asks the master for its agents (GET_AGENTS of the v1 operator API).
func checkMesos(ctx context.Context, t cli.Target) cli.Finding {
	f := cli.Finding{Part: "mesos", Level: cli.Good}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	master := t.Mesos
	agents, err := countAgents(ctx, t)
	switch {
	case err != nil:
		f.Level, f.Says, f.Advice = cli.Unreachable, fmt.Sprintf("%s: %v", master, err), "start the master, or see its log"
	case agents == 0:
		f.Level, f.Says, f.Advice = cli.Bad, master+" has no agent", "start an agent, or see why none registers"
	default:
		f.Says = fmt.Sprintf("%s, agents: %d", master, agents)
	}
	return f
}

func countAgents(ctx context.Context, t cli.Target) (int, error) {
	access, err := t.MesosAccess.Open()
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, t.Mesos+"/api/v1", strings.NewReader(`{"type":"GET_AGENTS"}`))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	if access.Principal != "" && access.Secret != "" {
		request.SetBasicAuth(access.Principal, access.Secret)
	}
	transport := &http.Transport{TLSClientConfig: access.TLS}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request) // follows no redirect
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("GET_AGENTS: %s", response.Status)
	}
	var answer struct {
		GetAgents struct {
			Agents []json.RawMessage `json:"agents"`
		} `json:"get_agents"`
	}
	err = json.NewDecoder(response.Body).Decode(&answer)
	return len(answer.GetAgents.Agents), err
}

// checkStorage writes, reads, fetches by a signed URL and deletes a small object.
func checkStorage(ctx context.Context, rawURL string) cli.Finding {
	f := cli.Finding{Part: "storage", Level: cli.Good, Says: redact(rawURL)}
	if rawURL == "" {
		f.Level, f.Says, f.Advice = cli.Note, "not configured: runs cannot be started, nor logs and outputs be read", "name it with --storage or BAAS_STORAGE"
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if err := tryStorage(ctx, rawURL); err != nil {
		f.Level, f.Says = cli.Bad, fmt.Sprintf("%s: %v", redact(rawURL), err)
		if errors.Is(err, starter.ErrUnreachable) {
			f.Level = cli.Unreachable
		}
		f.Advice = "see that the store is there and may be written to, and that its gateway runs (`baas up` or `baas worker`)"
	}
	return f
}

func tryStorage(ctx context.Context, rawURL string) error {
	store, err := openStore(ctx, rawURL)
	if err != nil {
		return err
	}
	defer store.Close()
	key := fmt.Sprintf("doctor/%d-%d", os.Getpid(), time.Now().UnixNano())
	content := []byte("a probe of `baas doctor`\n")
	if _, err := storage.PutBytes(ctx, store, key, content); err != nil {
		return err
	}
	defer store.Delete(context.WithoutCancel(ctx), key)
	signed, err := store.SignURL(ctx, key, storage.SignOptions{Method: http.MethodGet, Expires: time.Minute})
	if errors.Is(err, file.ErrNoGateway) {
		got, _, err := storage.GetBytes(ctx, store, key, 1<<10)
		return errors.Join(err, same(got, content))
	}
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, signed.URL, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("a signed URL: %w", errors.Unwrap(err)) // without the URL, which opens the object
	}
	defer response.Body.Close()
	got, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	return errors.Join(err, same(got, content))
}

func same(got, want []byte) error {
	if !bytes.Equal(got, want) {
		return errors.New("a signed URL gives other bytes than were stored")
	}
	return nil
}
