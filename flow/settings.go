package flow

import (
	"fmt"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// settings are what a file's defaults, a tasklet and a step may each say about how
// a step runs. Nil means: not said here.
type settings struct {
	cpus, gpus         *float64
	mem, disk          *int64
	attempts           *int
	backoff, maxWait   *Duration
	factor             *float64
	on, never          []RetryRule
	timeout, grace     *Duration
	unreachableTimeout *Duration
	image              *string
	isolation, user    *string
	fetch              []Fetch  // nil: not said; empty: none
	vols               []Volume // the same
	volsNode           *yaml.Node
	atMostOnce         *bool
	preemptible        *bool
	preemptibleNode    *yaml.Node
	priority           *int
	constraints        []Constraint // nil: not said; empty: none
	ports              *int
	network            *float64
	limits             *yaml.Node
	maxCPUs            *float64
	maxMem             *int64
}

func (d *document) settingsFields(s *settings) []field {
	return []field{
		{"resources", func(n *yaml.Node) { d.resources(n, s) }},
		{"retry", func(n *yaml.Node) { d.retry(n, s) }},
		{"timeout", func(n *yaml.Node) { s.timeout = given(d.positiveDuration(n, "timeout")) }},
		{"grace", func(n *yaml.Node) { s.grace = given(d.duration(n, "grace")) }},
		{"unreachable_timeout", func(n *yaml.Node) { s.unreachableTimeout = given(d.positiveDuration(n, "unreachable_timeout")) }},
		{"image", func(n *yaml.Node) { s.image = d.image(n) }},
		{"isolation", func(n *yaml.Node) { s.isolation = given(d.oneOf(n, "isolation", []string{IsolationTask})) }},
		{"user", func(n *yaml.Node) { s.user = d.user(n) }},
		{"fetch", func(n *yaml.Node) { s.fetch = d.fetch(n) }},
		{"volumes", func(n *yaml.Node) { s.vols, s.volsNode = d.volumes(n), n }},
		{"at_most_once", func(n *yaml.Node) { s.atMostOnce = given(d.boolean(n, "at_most_once")) }},
		{"preemptible", func(n *yaml.Node) {
			s.preemptible, s.preemptibleNode = given(d.boolean(n, "preemptible")), n
		}},
		{"priority", func(n *yaml.Node) { v := d.priority(n); s.priority = &v }},
		{"constraints", func(n *yaml.Node) { s.constraints = d.constraints(n) }},
		{"limits", func(n *yaml.Node) { d.limits(n, s) }},
	}
}

func given[T any](v T, ok bool) *T {
	if !ok {
		return nil
	}
	return &v
}

func (d *document) resources(n *yaml.Node, s *settings) {
	d.fields(n, "resources", []field{
		{"cpus", func(n *yaml.Node) { s.cpus = given(d.number(n, "cpus", 0.01, 10_000)) }},
		{"mem", func(n *yaml.Node) { s.mem = given(d.size(n, "mem")) }},
		{"disk", func(n *yaml.Node) { s.disk = given(d.size(n, "disk")) }},
		{"gpus", func(n *yaml.Node) { s.gpus = given(d.number(n, "gpus", 0, 1000)) }},
		{"ports", func(n *yaml.Node) {
			if v, ok := d.whole(n, "ports", 0, 1000); ok {
				ports := int(v)
				s.ports = &ports
			}
		}},
		{"network", func(n *yaml.Node) { s.network = given(d.bandwidth(n, "network")) }},
	})
}

func (d *document) retry(n *yaml.Node, s *settings) {
	d.fields(n, "retry", []field{
		{"attempts", func(n *yaml.Node) {
			if v, ok := d.whole(n, "attempts", 1, MaxAttempts); ok {
				attempts := int(v)
				s.attempts = &attempts
			}
		}},
		{"backoff", func(n *yaml.Node) { s.backoff = given(d.duration(n, "backoff")) }},
		{"max_backoff", func(n *yaml.Node) { s.maxWait = given(d.duration(n, "max_backoff")) }},
		{"factor", func(n *yaml.Node) { s.factor = given(d.number(n, "factor", 1, 100)) }},
		{"on", func(n *yaml.Node) { s.on = d.retryRules(n, "on") }},
		{"never", func(n *yaml.Node) { s.never = d.retryRules(n, "never") }},
	})
}

var codeRange = regexp.MustCompile(`^(\d{1,3})(?:-(\d{1,3}))?$`)

func (d *document) retryRules(n *yaml.Node, what string) []RetryRule {
	rules := []RetryRule{}
	d.elements(n, what, true, func(e *yaml.Node) {
		if e.Kind != yaml.ScalarNode {
			d.expected(e, what, "an exit code, a range such as 64-78, or one of "+join(retryWordNames))
			return
		}
		if rule, ok := retryWords[e.Value]; ok {
			rules = append(rules, rule)
			return
		}
		m := codeRange.FindStringSubmatch(e.Value)
		if m == nil {
			d.node(e, fmt.Sprintf("%s: expected an exit code, a range such as 64-78, or one of %s, found %s", what, join(retryWordNames), describe(e)),
				didYouMean(e.Value, retryWordNames))
			return
		}
		from, _ := strconv.Atoi(m[1])
		to := from
		if m[2] != "" {
			to, _ = strconv.Atoi(m[2])
		}
		if from < 1 || to > 255 || from > to {
			d.node(e, fmt.Sprintf("%s: exit codes that fail are 1 to 255, found %s", what, e.Value), "")
			return
		}
		rules = append(rules, RetryRule{From: from, To: to})
	})
	return rules
}

var imagePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/:@-]*$`)

func (d *document) image(n *yaml.Node) *string {
	s, ok := d.text(n, "image")
	if ok && (len(s) > 512 || !imagePattern.MatchString(s)) {
		d.node(n, fmt.Sprintf("image: %q is not the name of an image", clip(s)), "such as debian:12 or registry.example.com/team/tool@sha256:…")
		return nil
	}
	return given(s, ok)
}

// over gives the settings with those of stronger put over them.
func (s settings) over(stronger settings) settings {
	pick(&s.cpus, stronger.cpus)
	pick(&s.gpus, stronger.gpus)
	pick(&s.mem, stronger.mem)
	pick(&s.disk, stronger.disk)
	pick(&s.attempts, stronger.attempts)
	pick(&s.backoff, stronger.backoff)
	pick(&s.maxWait, stronger.maxWait)
	pick(&s.factor, stronger.factor)
	pick(&s.timeout, stronger.timeout)
	pick(&s.grace, stronger.grace)
	pick(&s.unreachableTimeout, stronger.unreachableTimeout)
	pick(&s.image, stronger.image)
	pick(&s.isolation, stronger.isolation)
	pick(&s.user, stronger.user)
	if stronger.fetch != nil {
		s.fetch = stronger.fetch
	}
	if stronger.vols != nil {
		s.vols, s.volsNode = stronger.vols, stronger.volsNode
	}
	pick(&s.atMostOnce, stronger.atMostOnce)
	pick(&s.preemptible, stronger.preemptible)
	pick(&s.preemptibleNode, stronger.preemptibleNode)
	pick(&s.priority, stronger.priority)
	pick(&s.ports, stronger.ports)
	pick(&s.network, stronger.network)
	pick(&s.maxCPUs, stronger.maxCPUs)
	pick(&s.maxMem, stronger.maxMem)
	if stronger.limits != nil {
		s.limits = stronger.limits
	}
	if stronger.constraints != nil {
		s.constraints = stronger.constraints
	}
	if stronger.on != nil {
		s.on = stronger.on
	}
	if stronger.never != nil {
		s.never = stronger.never
	}
	return s
}

func pick[T any](weak **T, strong *T) {
	if strong != nil {
		*weak = strong
	}
}

func or[T any](v *T, fallback T) T {
	if v == nil {
		return fallback
	}
	return *v
}

// apply writes settings, and the platform's defaults where there are none, into a
// step.
func (s settings) apply(step *Step, priority int) {
	step.Resources = Resources{
		CPUs: or(s.cpus, DefaultCPUs), Mem: or(s.mem, DefaultMem), Disk: or(s.disk, 0), GPUs: or(s.gpus, 0),
		Ports: or(s.ports, 0), Network: or(s.network, 0),
	}
	if l := (Limits{CPUs: or(s.maxCPUs, 0), Mem: or(s.maxMem, 0)}); l != (Limits{}) {
		step.Limits = &l
	}
	if len(s.constraints) > 0 {
		step.Constraints = s.constraints
	}
	step.Retry = Retry{Attempts: or(s.attempts, 1), On: s.on, Never: s.never}
	if step.Retry.Attempts > 1 {
		step.Retry.Backoff = or(s.backoff, Duration(DefaultBackoff))
		step.Retry.Factor = or(s.factor, DefaultFactor)
		step.Retry.MaxBackoff = or(s.maxWait, max(Duration(DefaultMaxBackoff), step.Retry.Backoff))
	}
	step.Timeout = or(s.timeout, 0)
	step.Grace = or(s.grace, Duration(DefaultGrace))
	step.UnreachableTimeout = or(s.unreachableTimeout, Duration(DefaultUnreachableTimeout))
	step.Image = or(s.image, "")
	step.Isolation, step.User = or(s.isolation, ""), or(s.user, "")
	if len(s.fetch) > 0 {
		step.Fetch = s.fetch
	}
	if len(s.vols) > 0 {
		step.Volumes = s.vols
	}
	step.AtMostOnce = or(s.atMostOnce, false)
	step.Preemptible = or(s.preemptible, false)
	step.Priority = or(s.priority, priority)
}
