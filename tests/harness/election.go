package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	embeddedmesos "github.com/baas-batch/baas/embedded/mesos"
)

// Election has the masters of an embedded cluster contend for leadership in
// ZooKeeper as those of Mesos do: each has an ephemeral node json.info_NNNNNNNNNN,
// and the one with the smallest number leads. Masters that die leave their node
// behind until their session times out, after 2 s.
type Election struct {
	t       testing.TB
	cluster *embeddedmesos.Cluster
	address string // of ZooKeeper
	path    string
	user    string
	conn    *zk.Conn // of the one who counts
	stop    context.CancelFunc
	done    chan struct{}

	// Elected is told the index of each master that is elected.
	Elected chan int

	mu         sync.Mutex
	contenders []*contender
}

// infoPrefix begins the names of the masters' nodes.
const infoPrefix = "json.info_"

// contender is one master's session.
type contender struct {
	conn *zk.Conn
	node string // without the path

	mu   sync.Mutex
	down bool
	nets []net.Conn
}

var errDown = errors.New("the master is down")

// HoldElection has all masters of a cluster contend at a path, which is made as a
// user ("name:password") who alone may read it then, or for everybody (""). The one
// that leads already has the first node. It ends with the test.
func (z *ZooKeeper) HoldElection(cluster *embeddedmesos.Cluster, path, user string) *Election {
	z.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	e := &Election{
		t: z.t, cluster: cluster, address: z.address, path: path, user: user,
		conn: z.Connect(user), stop: stop, done: make(chan struct{}),
		Elected: make(chan int, 16),
	}
	z.t.Cleanup(e.end)
	z.MakePath(e.conn, path, user)
	n := len(cluster.MasterURLs())
	e.contenders = make([]*contender, n)
	leader := max(cluster.Leader(), 0)
	for i := range n {
		e.Contend((leader + i) % n)
	}
	go e.watch(ctx)
	return e
}

// Contend gives a master a node, the last in line.
func (e *Election) Contend(index int) {
	e.t.Helper()
	c, err := contend(e.address, e.path, e.cluster.MasterURLs()[index], e.user)
	if err != nil {
		e.t.Fatal(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if old := e.contenders[index]; old != nil {
		old.conn.Close()
	}
	e.contenders[index] = c
}

// Node is the name of a master's node.
func (e *Election) Node(index int) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.contenders[index].node
}

// Kill kills a master as kill -9 does. Its node goes when its session has timed out.
func (e *Election) Kill(index int) {
	e.t.Helper()
	e.mu.Lock()
	c := e.contenders[index]
	e.mu.Unlock()
	c.cut()
	if err := e.cluster.KillMaster(index); err != nil {
		e.t.Fatal(err)
	}
}

func (e *Election) end() {
	e.stop()
	e.conn.Close()
	<-e.done
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.contenders {
		if c != nil {
			c.conn.Close()
		}
	}
}

// watch elects who is first in line, whenever nobody leads.
func (e *Election) watch(ctx context.Context) {
	defer close(e.done)
	for ctx.Err() == nil {
		nodes, _, changed, err := e.conn.ChildrenW(e.path)
		if err != nil {
			time.Sleep(zkTick / 5)
			continue
		}
		index := e.first(nodes)
		if index >= 0 && e.cluster.Leader() < 0 && e.cluster.ElectMaster(ctx, index) == nil {
			e.Elected <- index
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// first is the index of the master that is first in line, -1 if none is.
func (e *Election) first(nodes []string) int {
	slices.Sort(nodes)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range nodes {
		if strings.HasPrefix(n, infoPrefix) {
			return slices.IndexFunc(e.contenders, func(c *contender) bool { return c != nil && c.node == n })
		}
	}
	return -1
}

func contend(address, path, master, user string) (*contender, error) {
	info, err := masterInfo(master)
	if err != nil {
		return nil, err
	}
	c := &contender{}
	c.conn = dialZK(address, c.dial)
	if user != "" {
		err = c.conn.AddAuth("digest", []byte(user))
	}
	created := ""
	if err == nil {
		created, err = c.conn.Create(path+"/"+infoPrefix, info, zk.FlagEphemeral|zk.FlagSequence, aclOf(user))
	}
	if err != nil {
		c.conn.Close()
		return nil, fmt.Errorf("publish %s: %w", master, err)
	}
	c.node = strings.TrimPrefix(created, path+"/")
	return c, nil
}

// masterInfo is what a Mesos master writes of itself.
func masterInfo(master string) ([]byte, error) {
	u, err := url.Parse(master)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"address":      map[string]any{"hostname": u.Hostname(), "ip": u.Hostname(), "port": port},
		"capabilities": []any{map[string]any{"type": "AGENT_UPDATE"}, map[string]any{"type": "AGENT_DRAINING"}, map[string]any{"type": "QUOTA_V2"}},
		"hostname":     u.Hostname(), "id": master, "ip": 16777343, "pid": "master@" + u.Host, "port": port, "version": "1.12.0",
	})
}

func (c *contender) dial(network, address string, timeout time.Duration) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return nil, errDown
	}
	conn, err := net.DialTimeout(network, address, timeout)
	if err == nil {
		c.nets = append(c.nets, conn)
	}
	return conn, err
}

// cut ends the contender's connection without ending its session.
func (c *contender) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = true
	for _, conn := range c.nets {
		conn.Close()
	}
}
