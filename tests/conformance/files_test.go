package conformance

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	api "github.com/mesos/mesos-go/api/v1/lib"

	"github.com/baas-batch/baas/embedded/mesos/mesostest"
)

const executorFile = "conformance-executor"

// fileServer is where agents fetch the executor: this test binary.
type fileServer struct {
	url     string
	fetched atomic.Int32
	server  *http.Server
	ended   chan struct{}
}

// startFileServer serves at host[:port]; "" is the address that this machine has
// towards a master.
func startFileServer(at, master string) (*fileServer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if at == "" {
		if at, err = addressTowards(master); err != nil {
			return nil, err
		}
	}
	if _, _, err := net.SplitHostPort(at); err != nil {
		at = net.JoinHostPort(at, "0")
	}
	listener, err := net.Listen("tcp", at)
	if err != nil {
		return nil, fmt.Errorf("serve the executor: %w", err)
	}
	host, _, _ := net.SplitHostPort(at) // as agents are to name it
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	s := &fileServer{url: "http://" + net.JoinHostPort(host, port), ended: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/"+executorFile, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			s.fetched.Add(1)
		}
		http.ServeFile(w, r, self)
	})
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: 30 * time.Second}
	go func() {
		defer close(s.ended)
		_ = s.server.Serve(listener) // ends with stop
	}()
	return s, nil
}

func (s *fileServer) stop() {
	s.server.Close()
	<-s.ended
}

// addressTowards finds the local address of packets to a master; it sends none.
func addressTowards(master string) (string, error) {
	u, err := url.Parse(master)
	if err != nil {
		return "", err
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	conn, err := net.Dial("udp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	return host, err
}

// executorCommand runs this test binary as an executor, fetched unless the agents
// are part of this process.
func executorCommand(fetch bool) (*api.CommandInfo, error) {
	command, err := mesostest.ExecutorCommand()
	if err != nil || !fetch {
		return command, err
	}
	path := "./" + executorFile
	yes := true
	command.Value, command.Arguments = &path, []string{filepath.Base(path)}
	command.URIs = []api.CommandInfo_URI{{Value: target.files.url + "/" + executorFile, Executable: &yes, Cache: &yes}}
	return command, nil
}
