// Package conformance checks that Mesos masters and agents behave as Mesos 1.11
// does, seen through the v1 APIs. It runs against a cluster of any kind, or else
// against the embedded one; what needs the hooks of the embedded one (killing a
// master) is skipped elsewhere.
//
// # Running against another cluster
//
//	CGO_ENABLED=0 BAAS_TEST_MESOS=http://master1:5050,http://master2:5050 go test -count=1 ./tests/conformance
//
// Without cgo (and so without -race) the test binary is static: it is also the
// executor, which agents of the same processor architecture fetch from this
// process over HTTP. They must be able to reach it; nothing here connects to an
// agent. Environment:
//
//	BAAS_TEST_MESOS              masters, one or all, in any order; the leading one is asked for
//	BAAS_TEST_MESOS_CREDENTIALS  file with principal and secret, if the master asks for
//	                             any: JSON {"principal": …, "secret": …}, or both in a line
//	BAAS_TEST_MESOS_USER         runs the executors, known to the agents; default: the user of the test
//	BAAS_TEST_MESOS_ROLE         role to subscribe with; default *
//	BAAS_TEST_MESOS_SERVE        host[:port] at which agents reach the test; default: the address
//	                             from which this machine reaches the first master, any free port
//
// # What the cluster must be like
//
//   - At rest: all masters up, all agents re-registered with the leading one, and
//     no other framework that takes what is free. At least one agent has 1 CPU and
//     512 MB unreserved for the role, beyond quota and with no GPUs (or a master
//     with --no-filter_gpu_resources). Several tests want the same agent again, and
//     tell offers that return in time from those that do not.
//   - Master flags: --authenticate_http_frameworks with credentials for
//     BAAS_TEST_MESOS_CREDENTIALS, or none; ACLs that let its principal register and
//     tear down frameworks in the role and those below it (below "conformance", if it
//     is *), run tasks as the user, view frameworks, tasks, executors and agents, set
//     and read quota, drain and reactivate agents, and change the maintenance
//     schedule, which the test puts back. --allocation_interval of at most 1 s,
//     --max_completed_frameworks of at least 20, no --offer_timeout below 1 min,
//     --min_allocatable_resources as it is by default. No TLS other than with
//     certificates that this machine trusts.
//   - Agent flags: run as root with --switch_user, the default containerizer
//     (mesos), --executor_registration_timeout as it is by default, no
//     --http_command_executor or --authenticate_http_executors needed, and no TLS on
//     the agent's own endpoint.
package conformance
