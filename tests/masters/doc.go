// Package masters tests how the framework finds the leading Mesos master and is let
// in, on a real ZooKeeper and with real TLS: what is said of each refusal, too.
package masters
