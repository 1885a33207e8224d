package masters

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
	"github.com/baas-batch/baas/mesos"
	"github.com/baas-batch/baas/tests/harness"
)

func two(cfg *embeddedmesos.Config) { cfg.Masters = 2 }

// The leader is found in ZooKeeper, and the next one as soon as ZooKeeper knows.
func TestZooKeeperFailover(t *testing.T) {
	z, c := harness.StartZooKeeper(t), cluster(t, two)
	e := z.HoldElection(c, "/test/mesos", "")
	urls := c.MasterURLs()
	s := subscribe(t, z.URL("/test/mesos"), nil)
	if sub := s.await(); sub.Master != urls[0] {
		t.Errorf("subscribed to %s, the leader is %s", sub.Master, urls[0])
	}
	e.Kill(0)
	killed := time.Now()
	<-s.closed
	var elected time.Time
	select {
	case <-e.Elected:
		elected = time.Now()
	case <-time.After(patience):
		t.Fatal("no master is elected")
	}
	if sub := s.await(); sub.Master != urls[1] || !sub.Repeated {
		t.Errorf("subscribed to %+v, the leader is %s", sub, urls[1])
	}
	t.Logf("elected %s after the kill, subscribed %s after that", elected.Sub(killed).Round(time.Millisecond), time.Since(elected).Round(time.Millisecond))
	// The backoff would be seconds by now.
	if took := time.Since(elected); took > 2*time.Second {
		t.Errorf("subscribed %s after the election", took)
	}
	s.warned("not subscribed")
}

// A master that has lost its node in ZooKeeper leads no longer, though it still
// serves: the subscription ends by itself.
func TestLeaderWithoutItsNode(t *testing.T) {
	z, c := harness.StartZooKeeper(t), cluster(t, nil)
	conn := z.Connect("")
	e := z.HoldElection(c, "/mesos", "")
	s := subscribe(t, z.URL("/mesos"), nil)
	s.await()
	node := e.Node(0)
	if err := conn.Delete("/mesos/"+node, -1); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-s.closed:
		if err == nil || !strings.Contains(err.Error(), "leads no longer") {
			t.Errorf("the subscription ends with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the subscription goes on")
	}
	s.warned("not subscribed")
	e.Contend(0)
	s.await()
}

// What stands between the framework and a leader is said once, and the framework
// goes on by itself when it is mended.
func TestZooKeeperTrouble(t *testing.T) {
	z, c := harness.StartZooKeeper(t), cluster(t, nil)
	z.Kill()
	s := subscribe(t, z.URL("/mesos"), nil)
	s.warned("ZooKeeper cannot be reached", "connection refused", z.Address()+"/mesos")
	z.Start()

	missing := subscribe(t, z.URL("/mesos"), nil)
	missing.warned("there is no node /mesos", "--zk")
	conn := z.Connect("")
	z.MakePath(conn, "/mesos", "")
	none := subscribe(t, z.URL("/mesos"), nil)
	none.warned("no master leads")

	z.HoldElection(c, "/mesos", "")
	for name, s := range map[string]*scheduler{"unreachable": s, "no path": missing, "no leader": none} {
		if sub := s.await(); sub.Master != c.MasterURL() {
			t.Errorf("%s: subscribed to %s", name, sub.Master)
		}
		if n := len(s.log.warnings()); n != 1 {
			t.Errorf("%s: %d warnings in the end:\n%s", name, n, s.log)
		}
		if !strings.Contains(s.log.String(), "master is back") {
			t.Errorf("%s: the end of the trouble is not said:\n%s", name, s.log)
		}
	}
}

// ZooKeeper's death is no reason to leave a master that serves; the master that it
// named last is asked again meanwhile.
func TestZooKeeperDies(t *testing.T) {
	z, c := harness.StartZooKeeper(t), cluster(t, nil)
	z.HoldElection(c, "/mesos", "")
	s := subscribe(t, z.URL("/mesos"), nil)
	s.await()
	z.Kill()
	if err := c.RestartMaster(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-s.closed
	s.await()
}

func TestZooKeeperUser(t *testing.T) {
	z, c := harness.StartZooKeeper(t), cluster(t, nil)
	z.HoldElection(c, "/secure/mesos", "mesos:s3cret")
	with := func(user string) string { return "zk://" + user + z.Address() + "/secure/mesos" }
	s := subscribe(t, with("mesos:s3cret@"), nil)
	s.await()
	if n := len(s.log.warnings()); n != 0 {
		t.Errorf("%d warnings", n)
	}
	wrong := subscribe(t, with("mesos:hidden@"), nil)
	wrong.warned(`does not let user \"mesos\" read /secure/mesos`)
	nobody := subscribe(t, with(""), nil)
	nobody.warned("does not let everybody read /secure/mesos", "zk://user:password@")
	for _, s := range []*scheduler{s, wrong, nobody} {
		if text := s.log.String(); strings.Contains(text, "s3cret") || strings.Contains(text, "hidden") {
			t.Errorf("the password is logged:\n%s", text)
		}
	}
}

// A list beside ZooKeeper serves while that is away, and a master that leads no
// longer sends to the one that does.
func TestZooKeeperAndList(t *testing.T) {
	z, c := harness.StartZooKeeper(t), cluster(t, two)
	dead := httptest.NewServer(nil)
	dead.Close()
	standby := c.MasterURLs()[1]
	list := z.URL("/mesos") + "," + dead.URL + "," + standby
	z.Kill()
	s := subscribe(t, list, nil)
	if sub := s.await(); sub.Master != c.MasterURL() {
		t.Errorf("subscribed to %s", sub.Master)
	}
	z.Start()
	e := z.HoldElection(c, "/mesos", "")
	e.Kill(0)
	if sub := s.await(); sub.Master != standby {
		t.Errorf("subscribed to %s, the leader is %s", sub.Master, standby)
	}
}

func TestTwoZooKeepers(t *testing.T) {
	_, err := mesos.New(mesos.Config{
		Masters: []string{"zk://a:2181/mesos", "zk://u:hidden@b:2181/mesos"}, FrameworkID: "f", User: "u",
	}, nil, held{})
	if err == nil || !strings.Contains(err.Error(), "two addresses of ZooKeeper") || strings.Contains(err.Error(), "hidden") {
		t.Errorf("error is %v", err)
	}
}
