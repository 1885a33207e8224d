package flow

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func parseStep(t *testing.T, lines string) (*Step, string) {
	t.Helper()
	f, err := Parse("f.yaml", []byte("name: f\nsteps:\n  s:\n    run: work\n"+lines+"\n"), Options{})
	var problems Problems
	if errors.As(err, &problems) {
		return nil, strings.ReplaceAll(problems.Error(), "f.yaml:", "")
	}
	if err != nil {
		t.Fatal(err)
	}
	s, _ := f.Step("s")
	return s, ""
}

func TestConstraints(t *testing.T) {
	s, problems := parseStep(t, `    constraints:
      - rack == r1
      - host != "old 1"
      - zone in [a, 'b c']
      - region not   in [x]
      - hostname like web-[0-9]+
      - os unlike ^old-
      - spread rack
      - spread over rack
      - group by zone
      - max 2 per host
      - unique host
      - rack==r1`)
	if problems != "" {
		t.Fatal(problems)
	}
	want := []Constraint{
		{"rack == r1", "rack", OpIs, []string{"r1"}, 0},
		{`host != "old 1"`, "host", OpNot, []string{"old 1"}, 0},
		{"zone in [a, 'b c']", "zone", OpIn, []string{"a", "b c"}, 0},
		{"region not   in [x]", "region", OpNotIn, []string{"x"}, 0},
		{"hostname like web-[0-9]+", "host", OpLike, []string{"web-[0-9]+"}, 0},
		{"os unlike ^old-", "os", OpUnlike, []string{"^old-"}, 0},
		{"spread rack", "rack", OpSpread, nil, 0},
		{"spread over rack", "rack", OpSpread, nil, 0},
		{"group by zone", "zone", OpGroupBy, nil, 0},
		{"max 2 per host", "host", OpMaxPer, nil, 2},
		{"unique host", "host", OpMaxPer, nil, 1},
		{"rack==r1", "rack", OpIs, []string{"r1"}, 0},
	}
	if !reflect.DeepEqual(s.Constraints, want) {
		t.Errorf("read\n%+v\nwant\n%+v", s.Constraints, want)
	}
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var again Step
	if err := json.Unmarshal(raw, &again); err != nil || !reflect.DeepEqual(again.Constraints, want) {
		t.Errorf("as JSON it comes back as %+v (%v)", again.Constraints, err)
	}
}

func TestPlacementSettings(t *testing.T) {
	f, err := Parse("f.yaml", []byte(`name: f
defaults: {constraints: [rack == r1], resources: {network: 100Mbps, mem: 1GB}, limits: {mem: 2GB}}
steps:
  inherits: {run: work}
  own: {run: work, constraints: spread zone, resources: {network: 1.5Gbps, ports: 3, cpus: 1}, limits: {cpus: 4}}
  none: {run: work, constraints: []}
`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := f.Steps[0], f.Steps[1], f.Steps[2]
	if len(a.Constraints) != 1 || a.Constraints[0].Text != "rack == r1" || a.Resources.Network != 100 || *a.Limits != (Limits{Mem: 2e9}) {
		t.Errorf("%+v", a)
	}
	if len(b.Constraints) != 1 || b.Constraints[0].Op != OpSpread || b.Resources.Network != 1500 || b.Resources.Ports != 3 || *b.Limits != (Limits{CPUs: 4, Mem: 2e9}) {
		t.Errorf("%+v", b)
	}
	if c.Constraints != nil {
		t.Errorf("%+v", c.Constraints)
	}
}

func TestPlacementProblems(t *testing.T) {
	const forms = "write it like 'rack == r1', 'zone in [a, b]', 'host unlike ^old-', 'spread rack', 'group by zone' or 'max 2 per host'"
	for _, c := range []struct{ lines, want string }{
		{"    constraints: rack = r1", `5:18: constraints: "rack = r1" is not understood; write 'rack == r1'`},
		{"    constraints: [rack =r1]", `5:19: constraints: "rack =r1" is not understood; write 'rack == r1'`},
		{"    constraints: [rack lik r1]", `5:19: constraints: "rack lik r1" is not understood; write 'rack like r1'`},
		{"    constraints: [spred rack]", `5:19: constraints: "spred rack" is not understood; did you mean "spread"?`},
		{"    constraints: [r1]", `5:19: constraints: "r1" is not understood; ` + forms},
		{"    constraints: [rack ==]", `5:19: constraints: "rack ==": there is nothing to compare with`},
		{"    constraints: ['zone in a']", `5:19: constraints: "zone in a": expected a list; such as zone in [a, b]`},
		{"    constraints: ['zone in [a, ]']", `5:19: constraints: "zone in [a, ]": the list has an empty place`},
		{"    constraints: ['host like (']", "5:19: constraints: \"(\" is no pattern: missing closing ): `(`; patterns are RE2, without look-around and back-references"},
		{"    constraints: ['host like (?!x)']", "5:19: constraints: \"(?!x)\" is no pattern: invalid or unsupported Perl syntax: `(?!`; patterns are RE2, without look-around and back-references"},
		{"    constraints: [max 0 per host]", `5:19: constraints: "max 0 per host" leaves no machine; max is at least 1`},
		{"    constraints: ['rack == ${{ params.x }}']", `5:19: constraints: ${{ }} cannot be part of a constraint; write the value itself`},
		{"    constraints: [rack == a, rack == b]", `5:30: constraints: rack cannot be "a" and "b" at once; write rack in [a, b]`},
		{"    constraints: {rack: r1}", `5:18: constraints: expected a list, found a map`},
		{"    constraints: [3]", `5:19: constraints: expected text, found number 3; put it in quotes: '3'`},
		{"    resources: {ports: -1}", `5:24: ports: expected a whole number from 0 to 1000, found number -1`},
		{"    resources: {network: 100}", `5:26: network: expected bits per second such as 100Mbps or 1Gbps, found number 100; with a unit: 100Mbps`},
		{"    resources: {network: 0Mbps}", `5:26: network: must be from 1kbps to 10000Gbps`},
		{"    limits: {mem: 1MB}", `5:13: limits: the memory is less than what step "s" asks for; a limit is at least what resources says`},
		{"    limits: {cpus: 0.1}", `5:13: limits: 0.1 CPUs are less than the 0.5 that step "s" asks for; a limit is at least what resources says`},
		{"    limits: {cpu: 1}", `5:14: limits: unknown field "cpu"; did you mean "cpus"?`},
	} {
		if _, got := parseStep(t, c.lines); got != c.want {
			t.Errorf("%s\n got: %s\nwant: %s", c.lines, got, c.want)
		}
	}
}
