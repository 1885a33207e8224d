package embedded

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// ports of the server's four services. Only the frontend's is for others; the
// rest listen on the loopback address.
type ports struct {
	frontend, history, matching, worker int
}

// choosePorts finds four free ports, the frontend's as preferred if it is free.
func choosePorts(host string, preferred int) (p ports, err error) {
	var held []net.Listener // until all are chosen, so that none is chosen twice
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for _, choice := range []struct {
		host string
		port int
		into *int
	}{
		{host, preferred, &p.frontend},
		{DefaultHost, 0, &p.history},
		{DefaultHost, 0, &p.matching},
		{DefaultHost, 0, &p.worker},
	} {
		l, err := listenPreferring(choice.host, choice.port)
		if err != nil {
			return ports{}, err
		}
		held = append(held, l)
		*choice.into = portOf(l)
	}
	return p, nil
}

// listenPreferring listens on the port, or on a free one when it is taken.
func listenPreferring(host string, port int) (net.Listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err == nil || port == 0 {
		return l, err
	}
	l, err2 := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err2 != nil {
		return nil, fmt.Errorf("%w; %w", err, err2)
	}
	return l, nil
}

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

func isAddressInUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

// reachableHost gives an address that clients on this machine can connect to.
func reachableHost(host string) string {
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return DefaultHost
	}
	return host
}
