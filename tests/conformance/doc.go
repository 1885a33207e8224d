// Package conformance checks that a Mesos master and its agents behave as Mesos
// 1.12 does, seen through the v1 APIs. It runs against the master whose URL is in
// BAAS_TEST_MESOS, whose agents must be able to start this test binary (so they
// run on this machine), or else against the embedded cluster. Credentials, as
// principal:secret, are taken from BAAS_TEST_MESOS_CREDENTIALS.
package conformance
