package embedded

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"go.temporal.io/server/common/dynamicconfig"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/tests/syncbuf"
)

const (
	queue   = "test"
	release = "release"

	childDir = "BAAS_TEST_TEMPORAL_DIR" // set: the test binary is a server that waits to be killed
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(serveUntilKilled(dir))
	}
	os.Exit(m.Run())
}

func context30(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, config TemporalConfig) *Temporal {
	t.Helper()
	server, err := StartTemporal(context30(t), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return server
}

func dial(t *testing.T, server *Temporal) client.Client {
	t.Helper()
	c, err := client.DialContext(context30(t), server.ClientOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// greet waits for a signal and answers with its value.
func greet(ctx workflow.Context, name string) (string, error) {
	var word string
	workflow.GetSignalChannel(ctx, release).Receive(ctx, &word)
	return word + " " + name, nil
}

func startWorker(t *testing.T, c client.Client) {
	t.Helper()
	w := worker.New(c, queue, worker.Options{})
	w.RegisterWorkflow(greet)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
}

func TestRunsWorkflowInMemory(t *testing.T) {
	var log syncbuf.Buffer
	server := start(t, TemporalConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	c := dial(t, server)
	startWorker(t, c)
	ctx := context30(t)

	date := time.Date(2026, 3, 31, 0, 0, 0, 0, time.UTC)
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: "greet", TaskQueue: queue,
		TypedSearchAttributes: temporal.NewSearchAttributes(
			temporal.NewSearchAttributeKeyKeyword(api.AttributeApp).ValueSet("statements"),
			temporal.NewSearchAttributeKeyKeyword(api.AttributeOwner).ValueSet("billing"),
			temporal.NewSearchAttributeKeyKeyword(api.AttributeStatus).ValueSet("running"),
			temporal.NewSearchAttributeKeyTime(api.AttributeOrderDate).ValueSet(date),
		),
	}, greet, "world")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SignalWorkflow(ctx, "greet", "", release, "hello"); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := run.Get(ctx, &got); err != nil || got != "hello world" {
		t.Fatalf("got %q, %v", got, err)
	}

	// A range, because Temporal on SQLite finds no date by equality.
	query := "BaasApp='statements' AND BaasOwner='billing' AND BaasStatus='running'" +
		" AND BaasOrderDate>='2026-03-31T00:00:00Z' AND BaasOrderDate<'2026-04-01T00:00:00Z'"
	waitFor(t, "the workflow in a listing", func() bool {
		list, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: query})
		return err == nil && len(list.Executions) == 1
	})

	namespace, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: server.Namespace()})
	if err != nil || namespace.Config.WorkflowExecutionRetentionTtl.AsDuration() != Retention {
		t.Errorf("namespace %v, %v", namespace, err)
	}
	if err := server.Stop(); err != nil {
		t.Error(err)
	}
	if strings.Contains(log.String(), "component=temporal") { // the rest is the SDK's
		t.Errorf("a healthy server logs:\n%s", log.String())
	}
}

func TestServesWebUI(t *testing.T) {
	server := start(t, TemporalConfig{})
	for path, want := range map[string]string{
		"/":                          "<html",
		"/healthz":                   "OK",
		"/api/v1/namespaces/default": "default",
		"/namespaces/default/workflows/some-workflow/some-run/history": "<html",
	} {
		body := get(t, server.UIURL()+path)
		if !strings.Contains(body, want) {
			t.Errorf("GET %s does not contain %q", path, want)
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", url, response.Status, err)
	}
	return string(body)
}

func TestTakesFreePortsWhenPreferredAreTaken(t *testing.T) {
	taken := listen(t)
	takenUI := listen(t)
	server := start(t, TemporalConfig{Port: taken, UIPort: takenUI})
	dial(t, server)
	get(t, server.UIURL())
	for _, address := range []string{server.Address(), server.UIURL()} {
		if strings.HasSuffix(address, fmt.Sprint(":", taken)) || strings.HasSuffix(address, fmt.Sprint(":", takenUI)) {
			t.Errorf("%s uses a port that was taken", address)
		}
	}
}

func TestTakesPreferredPorts(t *testing.T) {
	first := start(t, TemporalConfig{})
	frontend, ui := first.ports.frontend, first.ui.port
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	second := start(t, TemporalConfig{Port: frontend, UIPort: ui})
	if second.Address() != first.Address() || second.ui.port != ui {
		t.Errorf("second server on %s and UI port %d, want %s and %d", second.Address(), second.ui.port, first.Address(), ui)
	}
}

func listen(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return portOf(l)
}

func TestPortTakenAfterTheChoiceIsAnErrorNotAnExit(t *testing.T) {
	config := TemporalConfig{NoUI: true}.withDefaults()
	db, err := openDatabase(config)
	if err != nil {
		t.Fatal(err)
	}
	p, err := choosePorts(config.Host, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.history = listen(t)
	log := newServerLog(config.Logger)
	options, err := serverOptions(config, p, db, log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = startServer(context30(t), options, log); !isAddressInUse(err) {
		t.Errorf("got %v, want address in use", err)
	}
}

func TestTwoAtATime(t *testing.T) {
	a, b := start(t, TemporalConfig{NoUI: true}), start(t, TemporalConfig{NoUI: true})
	ctx := context30(t)
	ca, cb := dial(t, a), dial(t, b)
	if _, err := ca.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "only-a", TaskQueue: queue}, greet, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := cb.DescribeWorkflowExecution(ctx, "only-a", ""); err == nil {
		t.Error("the second server knows the first one's workflow")
	}
}

func TestGoesOnAfterStop(t *testing.T) {
	// A directory with characters that mean something in a URI.
	dir := filepath.Join(t.TempDir(), "a b?c#d%41&e")
	config := TemporalConfig{DataDir: dir, NoUI: true}
	first := start(t, config)
	if _, err := dial(t, first).ExecuteWorkflow(context30(t), client.StartWorkflowOptions{ID: "greet", TaskQueue: queue}, greet, "world"); err != nil {
		t.Fatal(err)
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, databaseFile)); err != nil {
		t.Fatal(err)
	}
	finishGreeting(t, start(t, config))
}

// TestGoesOnAfterKill starts workflows on a server in another process, kills
// that process as soon as the last start was acknowledged, and ends all of them here.
func TestGoesOnAfterKill(t *testing.T) {
	dir := t.TempDir()
	const kills, each = 2, 20
	for n := range kills {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childDir+"="+dir)
		child.Stderr = os.Stderr
		stdout, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := child.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		address, err := bufio.NewReader(stdout).ReadString('\n')
		if err != nil {
			child.Process.Kill()
			child.Wait()
			t.Fatalf("the child says no address: %v", err)
		}
		c, err := client.DialContext(context30(t), client.Options{HostPort: strings.TrimSpace(address)})
		if err != nil {
			t.Fatal(err)
		}
		for i := range each {
			id := fmt.Sprintf("greet-%d", n*each+i)
			if _, err = c.ExecuteWorkflow(context30(t), client.StartWorkflowOptions{ID: id, TaskQueue: queue}, greet, id); err != nil {
				break
			}
		}
		child.Process.Kill()
		child.Wait()
		c.Close()
		if err != nil {
			t.Fatal(err)
		}
	}

	c := dial(t, start(t, TemporalConfig{DataDir: dir, NoUI: true}))
	startWorker(t, c)
	ctx := context30(t)
	for i := range kills * each {
		id := fmt.Sprintf("greet-%d", i)
		if err := c.SignalWorkflow(ctx, id, "", release, "hello"); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		var got string
		if err := c.GetWorkflow(ctx, id, "").Get(ctx, &got); err != nil || got != "hello "+id {
			t.Fatalf("%s: got %q, %v", id, got, err)
		}
	}
}

func serveUntilKilled(dir string) int {
	server, err := StartTemporal(context.Background(), TemporalConfig{DataDir: dir, NoUI: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(server.Address())
	// The parent kills this process; if the parent dies first, this ends too.
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 1
}

func finishGreeting(t *testing.T, server *Temporal) {
	t.Helper()
	c := dial(t, server)
	startWorker(t, c)
	ctx := context30(t)
	if err := c.SignalWorkflow(ctx, "greet", "", release, "hello"); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := c.GetWorkflow(ctx, "greet", "").Get(ctx, &got); err != nil || got != "hello world" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestUnfinishedDatabaseIsMadeAnew(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, databaseFile), []byte("half a header"), 0o600); err != nil {
		t.Fatal(err)
	}
	dial(t, start(t, TemporalConfig{DataDir: dir, NoUI: true}))
}

func TestDatabaseOfAnotherVersionIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, schemaFile), []byte("99/99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := StartTemporal(context30(t), TemporalConfig{DataDir: dir, NoUI: true})
	if err == nil || !strings.Contains(err.Error(), "99/99") {
		t.Errorf("got %v", err)
	}
}

// TestIsNotThrottled calls without the SDK, which hides throttling by trying again.
// Temporal's default is 10 listings per second.
func TestIsNotThrottled(t *testing.T) {
	server := start(t, TemporalConfig{NoUI: true})
	connection, err := grpc.NewClient(server.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	service := workflowservice.NewWorkflowServiceClient(connection)
	ctx := context30(t)
	var group sync.WaitGroup
	for range 200 {
		group.Go(func() {
			_, err := service.ListWorkflowExecutions(ctx, &workflowservice.ListWorkflowExecutionsRequest{
				Namespace: server.Namespace(), Query: "BaasApp='x'",
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// TestDynamicConfigIsKnown: Temporal ignores a misspelt key.
func TestDynamicConfigIsKnown(t *testing.T) {
	constrained := map[string]any{}
	for key, value := range dynamicConfig(map[string]any{"frontend.rps": 7}) {
		constrained[key] = []map[string]any{{"value": value}}
	}
	file, err := yaml.Marshal(constrained)
	if err != nil {
		t.Fatal(err)
	}
	result := dynamicconfig.LoadYamlFile(file)
	for _, problem := range append(result.Errors, result.Warnings...) {
		t.Error(problem)
	}
	if !bytes.Contains(file, []byte("value: 7")) {
		t.Error("an override is not in the configuration")
	}
}

// waitFor polls until the condition holds; a listing of Temporal has no event to wait for.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatalf("no %s after a minute", what)
		case <-ticker.C:
		}
	}
}
