package activities

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/file"
	_ "github.com/baas-batch/baas/storage/s3"
	"github.com/baas-batch/baas/storage/storagetest"
	_ "github.com/baas-batch/baas/storage/swift"
	"github.com/baas-batch/baas/tasklet"
	"github.com/baas-batch/baas/tests/servers"
)

// The URLs that a task gets open its own objects, each for what it is meant for, and
// nothing else, whatever the task makes of them or asks for; see also the suite in
// storage/storagetest, which changes each part of a single URL.
func TestURLsOpenTheirOwnObjectsOnly(t *testing.T) {
	t.Run("file", func(t *testing.T) {
		s, err := file.Open(t.TempDir(), file.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		g, err := file.NewGateway(s, file.GatewayOptions{})
		if err == nil {
			err = g.Start("127.0.0.1:0")
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = g.Stop(context.Background()) })
		if err := s.UseGateway(g.URL()); err != nil {
			t.Fatal(err)
		}
		newBurglar(t, s).breakIn()
	})
	t.Run("S3", func(t *testing.T) {
		s := servers.StartS3(t, nil)
		s.Credentials(t)
		newBurglar(t, storagetest.Open(t, s.Bucket(t, "bucket")+"&sse=AES256")).breakIn()
	})
	t.Run("Swift", func(t *testing.T) {
		s := servers.StartSwift(t)
		s.Credentials(t)
		b := newBurglar(t, storagetest.Open(t, s.Container(t, "container")))
		b.putTellsSize = true
		b.breakIn()
	})
}

// foreign is what no task of the test may read: it stands in all objects but its own.
const foreign = "somebody else's"

// loot is one URL of the task, with what it is for.
type loot struct {
	what   string
	method string
	key    string // of its object; of an upload that is not complete, of none
	part   bool
	storage.Signed
}

// burglar is a task that tries all its URLs for what they are not meant for.
type burglar struct {
	*rig
	store  storage.Store
	before map[string]string // content by key
	asked  int
	// putTellsSize: HEAD of a URL for PUT is answered, as Swift's documentation
	// ("Temporary URL middleware") says. It tells the size and the hash of what the
	// task has put itself.
	putTellsSize bool
}

const ownInput = "the task's own input"

func newBurglar(t *testing.T, s storage.Store) *burglar {
	b := &burglar{store: s, before: make(map[string]string), rig: newRig(t, func(c *Config) { c.Store = s })}
	step := api.StepPrefix("app", "app-1-00000001", "work")
	for _, key := range []string{
		"files/other", "bundles/other", "instances/app/1.json", "records/2026/01/02/run.json", "runs/other/run/step/secret",
		api.OutputKey(step, 1, 2, 1, "report"), api.LogKey(step, 1, 2, 1), api.CheckpointKey(step, 1, 1, 1),
		api.ResultKey(step, b.key.ActivityID, 1, 1),
	} {
		b.put(key, foreign+" "+key)
	}
	b.put("files/in", ownInput)
	b.put("bundles/b", ownInput)
	b.put(api.CheckpointKey(step, 0, 1, 1), ownInput)
	return b
}

func (b *burglar) put(key, content string) {
	b.Helper()
	if _, err := storage.PutBytes(b.Context(), b.store, key, []byte(content)); err != nil {
		b.Fatal(err)
	}
	b.before[key] = content
}

// launch places two tasks, on executors x1 and x2, and gives the launch of the first.
func (b *burglar) launch() (l tasklet.Launch) {
	in := input(0, 1)
	in.Attempt = 2
	bundle := tasklet.NewFileRef("bundles/b", int64(len(ownInput)), "", "b")
	in.Bundle = &bundle
	ref, _ := json.Marshal(tasklet.NewFileRef("files/in", int64(len(ownInput)), "", "in"))
	other, _ := json.Marshal(tasklet.NewFileRef("files/other", 1, "", "other"))
	in.Partitions[0].Inputs = map[string]json.RawMessage{"in": ref}
	in.Partitions[1].Inputs = map[string]json.RawMessage{"in": other}
	b.deliver(in, api.Details{}, 1)
	for i, executor := range []string{"x1", "x2"} {
		b.until("submit " + fmt.Sprint(i) + ".1")
		launch := b.h.Placed(b.Context(), mesos.Placement{
			Agent: mesos.Agent{ID: "a1"}, Executor: executor, Tasks: []mesos.Task{{ID: b.id(i, 1)}},
		})[0]
		if launch.Err != nil {
			b.Fatal(launch.Err)
		}
		if i == 0 {
			if err := json.Unmarshal(launch.Data, &l); err != nil {
				b.Fatal(err)
			}
		}
	}
	return l
}

// loot gives all URLs that the first task gets: with its launch, and one for a part.
func (b *burglar) loot() (all []loot, upload string) {
	l := b.launch()
	p := l.Partitions[0]
	get := func(what string, s *tasklet.Source) {
		all = append(all, loot{what, http.MethodGet, s.Key, false, storage.Signed{URL: s.URL}})
	}
	put := func(what string, t tasklet.Target) {
		all = append(all, loot{what, http.MethodPut, t.Key, false, storage.Signed{URL: t.URL, Header: t.Header}})
	}
	get("bundle", l.Bundle)
	get("input", &p.Inputs["in"].Files[0])
	get("restore", p.Restore)
	put("log", p.Log)
	put("checkpoint", p.Checkpoint)
	put("output", p.Outputs["report"])
	put("result", l.Result)
	begun := b.grantTo("x1", tasklet.Request{Role: tasklet.RoleOutput, Name: "report", Multipart: &tasklet.Multipart{Begin: true}})
	signed := b.grantTo("x1", tasklet.Request{Role: tasklet.RoleOutput, Name: "report", Multipart: &tasklet.Multipart{UploadID: begun.UploadID, Sign: []int{1}}})
	all = append(all, loot{"part", http.MethodPut, p.Outputs["report"].Key, true, storage.Signed{URL: signed.Parts[1], Header: signed.Header}})
	return all, begun.UploadID
}

// ask has an executor ask for something for a partition's task, and gives the answer;
// false if there is none.
func (b *burglar) ask(task int, agent, executor string, r tasklet.Request) (tasklet.Grant, bool) {
	b.Helper()
	b.asked++
	r.ID = fmt.Sprintf("ask-%d", b.asked)
	data, _ := json.Marshal(tasklet.Report{TaskID: b.id(task, 1), Request: &r})
	b.h.Message(mesos.Message{AgentID: agent, ExecutorID: executor, Data: data})
	b.settle()
	b.eventually("the end of an upload", func() bool { // which goes on beside the entry
		e, idle := b.h.entry(b.key), make(chan bool, 1)
		return e.post(func() { idle <- len(e.joining) == 0 }) && <-idle
	})
	return b.answerTo(r.ID)
}

func (b *burglar) grantTo(executor string, r tasklet.Request) tasklet.Grant {
	b.Helper()
	g, answered := b.ask(r.Partition, "a1", executor, r)
	if !answered || g.Error != "" {
		b.Fatalf("%+v is answered with %+v", r, g)
	}
	return g
}

func (b *burglar) breakIn() {
	all, own := b.loot()
	for _, one := range all {
		b.Run(one.what, func(t *testing.T) { b.crack(t, one) })
	}
	b.Run("requests", func(t *testing.T) { b.askForMore(t, own) })
	b.Run("expiry", b.comeLate)
}

// crack tries one URL in all ways, and looks what has changed.
func (b *burglar) crack(t *testing.T, one loot) {
	as := try{"the URL as it is", one.method, one.URL, one.Header, false}
	plain, err := as.do(t.Context())
	if err != nil || plain.status >= 300 || plain.etag == "" {
		t.Fatalf("%s: %d %s %v", as.what, plain.status, plain.body, err)
	}
	if one.method == http.MethodPut && !one.part {
		b.before[one.key] = forged // it is the object that the URL is for
	}
	for _, try := range one.tries(t) {
		a, err := try.do(t.Context())
		for range 5 { // a server with too much to do says so
			if err == nil && a.status != http.StatusServiceUnavailable {
				break
			}
			a, err = try.do(t.Context())
		}
		if err != nil {
			t.Errorf("%s: %v", try.what, err)
			continue
		}
		if bytes.Contains(a.body, []byte(foreign)) {
			t.Errorf("%s gives %d %s", try.what, a.status, a.body)
		}
		switch ok := a.status < 300; {
		case a.status >= 300 && a.status < 400, a.status >= 500 && a.status != http.StatusNotImplemented:
			t.Errorf("%s: %d %s", try.what, a.status, a.body)
		case !ok:
		case try.method == http.MethodHead && (one.method == http.MethodGet || b.putTellsSize):
		case try.method != one.method || try.strict:
			t.Errorf("%s: %d %s", try.what, a.status, a.body)
		case one.method == http.MethodGet && string(a.body) != b.before[one.key]:
			t.Errorf("%s gives %q", try.what, a.body)
		case one.part && a.etag != plain.etag:
			t.Errorf("%s has stored something else: ETag %q, not %q; %s", try.what, a.etag, plain.etag, a.body)
		case one.method == http.MethodPut && !one.part:
			if now, _, err := storage.GetBytes(t.Context(), b.store, one.key, 1<<20); err != nil || string(now) != forged {
				t.Errorf("%s has stored %q, %v", try.what, now, err)
			}
		}
	}
	b.unchanged(t)
}

// unchanged compares all objects.
func (b *burglar) unchanged(t *testing.T) {
	t.Helper()
	now := make(map[string]string)
	for info, err := range storage.All(t.Context(), b.store, storage.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		content, _, err := storage.GetBytes(t.Context(), b.store, info.Key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		now[info.Key] = string(content)
	}
	for key := range now {
		if _, known := b.before[key]; !known {
			t.Errorf("there is a new object %s: %q", key, now[key])
		}
	}
	for key, content := range b.before {
		if now[key] != content {
			t.Errorf("%s has become %q, was %q", key, now[key], content)
		}
	}
}

// try is one request.
type try struct {
	what   string
	method string
	url    string
	header map[string]string
	strict bool // may not succeed, even for the URL's own object
}

const forged = "forged content"

type answered struct {
	status int
	etag   string
	body   []byte
}

func (y try) do(ctx context.Context) (answered, error) {
	var body io.Reader
	if y.method != http.MethodGet && y.method != http.MethodHead {
		body = strings.NewReader(forged)
	}
	r, err := http.NewRequestWithContext(ctx, y.method, y.url, body)
	if err != nil {
		return answered{}, err
	}
	for name, value := range y.header {
		r.Header.Set(name, value)
	}
	response, err := http.DefaultTransport.RoundTrip(r) // redirects are not followed
	if err != nil {
		return answered{}, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return answered{response.StatusCode, response.Header.Get("ETag"), content}, err
}

// wanted are the objects that the task would like to have.
var wanted = []string{
	"files/other", "runs/other/run/step/secret",
	api.OutputKey(api.StepPrefix("app", "app-1-00000001", "work"), 1, 2, 1, "report"),
}

// tries are all that is made of a URL.
func (l loot) tries(t *testing.T) (all []try) {
	t.Helper()
	add := func(strict bool, method, u string, extra map[string]string, what string) {
		header := maps.Clone(l.Header)
		if header == nil {
			header = make(map[string]string)
		}
		maps.Copy(header, extra)
		all = append(all, try{fmt.Sprintf("%s with %s", method, what), method, u, header, strict})
	}
	for _, method := range []string{
		http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodPatch, "COPY",
	} {
		if method != l.method {
			add(true, method, l.URL, nil, "a URL for "+l.method)
		}
	}
	for _, path := range l.paths(t) {
		add(false, l.method, path, nil, "path "+path)
	}
	for _, extra := range []string{
		"partNumber=1&uploadId=x", "partNumber=2", "uploads", "versionId=null", "list-type=2&prefix=", "prefix=", "delimiter=/",
		"temp_url_prefix=", "temp_url_prefix=runs", "multipart-manifest=put", "multipart-manifest=get", "multipart-manifest=delete",
		"symlink=get", "format=json", "acl", "tagging", "delete", "select", "attributes", "policy", "upload=x", "part=2",
		"method=" + l.method, "method=DELETE", "method=GET", "X-Amz-Expires=604800", "temp_url_expires=4000000000", "expires=4000000000",
	} {
		add(false, l.method, l.URL+"&"+extra, nil, "parameters "+extra)
		add(false, l.method, strings.Replace(l.URL, "?", "?"+extra+"&", 1), nil, "first parameters "+extra)
	}
	place := l.URL[strings.Index(l.URL, "://")+3:]
	place = place[strings.Index(place, "/"):strings.Index(place, "?")]
	for _, key := range wanted {
		source := strings.Replace(place, escaped(l.key), escaped(key), 1)
		if source == place { // of a part in Swift, which has a name of its own
			source = place[:strings.Index(place, "/.baas")+1] + escaped(key)
		}
		inContainer := source[max(0, strings.Index(source, "/container/")):]
		for _, header := range []map[string]string{
			{"X-Amz-Copy-Source": source}, {"X-Copy-From": inContainer}, {"X-Object-Manifest": strings.TrimPrefix(inContainer, "/")},
			{"X-Symlink-Target": strings.TrimPrefix(inContainer, "/")}, {"X-Http-Method-Override": "GET"},
		} {
			add(false, l.method, l.URL, header, fmt.Sprint(header))
		}
	}
	return all
}

func escaped(key string) string { return (&url.URL{Path: key}).EscapedPath() }

// paths lead, or would like to lead, to other keys.
func (l loot) paths(t *testing.T) (all []string) {
	t.Helper()
	before, query, _ := strings.Cut(l.URL, "?")
	root := strings.TrimSuffix(before, escaped(l.key))
	if root == before { // of a part in Swift
		root = before[:strings.Index(before, "/.baas")+1]
	}
	own := strings.TrimPrefix(before, root)
	up := strings.Repeat("../", strings.Count(own, "/")+1)
	for _, key := range wanted {
		all = append(all, key, own+"/"+up+key, up+key, strings.ReplaceAll(own+"/"+up, "../", "%2e%2e/")+key,
			strings.ReplaceAll(own+"/"+up+key, "/", "%2f"), "/"+key, own+"%00"+key, own+"%3f/../"+key)
	}
	dir, last := own[:strings.LastIndex(own, "/")+1], own[strings.LastIndex(own, "/")+1:]
	all = append(all, "", dir, own+"/", own+"/x", own+"2", "/"+own, dir+"/"+last, dir+"./"+last, "x/../"+own, own+"%20",
		strings.ToUpper(own), ".baas/gateway.key", ".baas/parts/x", "../"+own)
	for i, path := range all {
		all[i] = root + path + "?" + query
	}
	return all
}

// askForMore has executors ask for what is not theirs.
func (b *burglar) askForMore(t *testing.T, own string) {
	out := tasklet.Request{Role: tasklet.RoleOutput, Name: "report"}
	other := out
	other.Partition, other.Multipart = 1, &tasklet.Multipart{Begin: true}
	upload := b.grantTo("x2", other).UploadID
	for what, c := range map[string]struct {
		task            int
		agent, executor string
		request         tasklet.Request
		silent          bool // there is no answer to who is not the task's executor
	}{
		"another partition":          {0, "a1", "x1", tasklet.Request{Role: tasklet.RoleOutput, Name: "report", Partition: 1}, false},
		"another partition's input":  {0, "a1", "x1", tasklet.Request{Role: tasklet.RoleInput, Name: "in", Partition: 1}, false},
		"another partition's ckpt":   {0, "a1", "x1", tasklet.Request{Role: tasklet.RoleRestore, Partition: 1}, false},
		"no such partition":          {0, "a1", "x1", tasklet.Request{Role: tasklet.RoleLog, Partition: -1}, false},
		"another task":               {1, "a1", "x1", tasklet.Request{Role: tasklet.RoleResult}, true},
		"another executor":           {0, "a1", "x2", out, true},
		"another agent":              {0, "a2", "x1", out, true},
		"no such task":               {7, "a1", "x1", out, false},
		"a name with slashes":        {0, "a1", "x1", tasklet.Request{Role: tasklet.RoleOutput, Name: "x/y"}, false},
		"a name that leads out":      {0, "a1", "x1", tasklet.Request{Role: tasklet.RoleOutput, Name: ".."}, false},
		"no name":                    {0, "a1", "x1", tasklet.Request{Role: tasklet.RoleOutput}, false},
		"a name with a zero byte":    {0, "a1", "x1", tasklet.Request{Role: tasklet.RoleOutput, Name: "x\x00"}, false},
		"no such role":               {0, "a1", "x1", tasklet.Request{Role: "files/other"}, false},
		"no such input":              {0, "a1", "x1", tasklet.Request{Role: tasklet.RoleInput, Name: "files/other"}, false},
		"no such file":               {0, "a1", "x1", tasklet.Request{Role: tasklet.RoleInput, Name: "in", File: 1}, false},
		"a file before the first":    {0, "a1", "x1", tasklet.Request{Role: tasklet.RoleInput, Name: "in", File: -1}, false},
		"completion of an upload":    {0, "a1", "x1", tasklet.Request{Role: tasklet.RoleOutput, Name: "report", Multipart: &tasklet.Multipart{UploadID: upload, Complete: []tasklet.Part{{Number: 1, ETag: "x"}}}}, false},
		"part 0":                     {0, "a1", "x1", tasklet.Request{Role: tasklet.RoleOutput, Name: "report", Multipart: &tasklet.Multipart{UploadID: own, Sign: []int{0}}}, false},
		"an upload that leads out":   {0, "a1", "x1", tasklet.Request{Role: tasklet.RoleOutput, Name: "report", Multipart: &tasklet.Multipart{UploadID: "../" + upload, Complete: []tasklet.Part{{Number: 1, ETag: "x"}}}}, false},
		"an upload into the input":   {0, "a1", "x1", tasklet.Request{Role: tasklet.RoleInput, Name: "in", Multipart: &tasklet.Multipart{Begin: true}}, false},
		"an upload of the bundle":    {0, "a1", "x1", tasklet.Request{Role: tasklet.RoleBundle, Multipart: &tasklet.Multipart{Begin: true}}, false},
		"an upload of a checkpoint":  {0, "a1", "x1", tasklet.Request{Role: tasklet.RoleRestore, Multipart: &tasklet.Multipart{Begin: true}}, false},
		"the end of another's input": {0, "a1", "x1", tasklet.Request{Role: tasklet.RoleInput, Name: "in", Multipart: &tasklet.Multipart{UploadID: upload, Abort: true}}, false},
	} {
		g, answered := b.ask(c.task, c.agent, c.executor, c.request)
		if answered == c.silent || answered && g.Error == "" || g.URL != "" || len(g.Parts) > 0 || g.Done {
			t.Errorf("%s: answered %t with %+v", what, answered, g)
		}
	}
	b.useAnothersUpload(t, upload)
	b.unchanged(t)
}

// useAnothersUpload: whatever is asked for with the ID of another task's upload, that
// one stays as it is.
func (b *burglar) useAnothersUpload(t *testing.T, upload string) {
	mine := tasklet.Request{Role: tasklet.RoleOutput, Name: "report", Multipart: &tasklet.Multipart{UploadID: upload, Sign: []int{1}}}
	if g, ok := b.ask(0, "a1", "x1", mine); ok && g.Error == "" {
		a, err := try{method: http.MethodPut, url: g.Parts[1], header: g.Header}.do(t.Context())
		if err != nil || a.status < 400 {
			t.Errorf("a part of another task's upload: %d %v", a.status, err)
		}
	}
	mine.Multipart = &tasklet.Multipart{UploadID: upload, Abort: true}
	b.ask(0, "a1", "x1", mine)
	uploads, err := b.store.ListUploads(t.Context(), "")
	if err != nil || !slices.ContainsFunc(uploads, func(u storage.Upload) bool { return u.ID == upload }) {
		t.Errorf("the other task's upload is gone: %v, %v", uploads, err)
	}
	theirs := mine
	theirs.Partition, theirs.Multipart = 1, &tasklet.Multipart{UploadID: upload, Sign: []int{1}}
	g := b.grantTo("x2", theirs)
	if a, err := (try{method: http.MethodPut, url: g.Parts[1], header: g.Header}).do(t.Context()); err != nil || a.status >= 300 {
		t.Errorf("its own part: %d %s %v", a.status, a.body, err)
	}
}

// comeLate uses URLs of each kind after their time.
func (b *burglar) comeLate(t *testing.T) {
	both := func() []try {
		in := b.grantTo("x1", tasklet.Request{Role: tasklet.RoleInput, Name: "in"})
		out := b.grantTo("x1", tasklet.Request{Role: tasklet.RoleOutput, Name: "report"})
		return []try{{method: http.MethodGet, url: in.URL}, {method: http.MethodPut, url: out.URL, header: out.Header}}
	}
	for _, y := range both() {
		if a, err := y.do(t.Context()); err != nil || a.status >= 300 {
			t.Fatalf("%s of a URL in its time: %d %v", y.method, a.status, err)
		}
	}
	b.h.cfg.URLLifetime = time.Second
	for _, y := range both() {
		deadline, pause := time.Now().Add(20*time.Second), time.NewTicker(100*time.Millisecond)
		defer pause.Stop()
		for {
			a, err := y.do(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if a.status == http.StatusForbidden || a.status == http.StatusUnauthorized {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s of a URL that was to live for a second: %d", y.method, a.status)
			}
			<-pause.C
		}
	}
}
