package flow

import (
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
)

// checker checks the expressions of one file against what the file declares.
type checker struct {
	flow   *Flow
	base   *cel.Env
	envs   map[Type]*cel.Env // by the type of `item`; "" for none
	onExit map[string]bool   // IDs of the steps of on_exit
	ids    []string          // of all steps, those of on_exit last
	isStep map[string]bool
	known  map[question]answer
}

// question is an expression in its place, answer what its check gives: aliases and
// defaults ask the same many times.
type question struct {
	source string
	site   site
}

type answer struct {
	expr   *Expr
	reads  []string
	faults []fault
}

// site tells where an expression stands, and so what it may read.
type site struct {
	onExit bool
	item   Type // of the step's partitions; "" where there is no item
}

// fault is a mistake in an expression, at a byte of its source.
type fault struct {
	offset        int
	message, hint string
}

func newChecker(f *Flow) (*checker, error) {
	base, err := language()
	if err != nil {
		return nil, err
	}
	c := &checker{flow: f, envs: map[Type]*cel.Env{}, onExit: map[string]bool{}, isStep: map[string]bool{}, known: map[question]answer{}}
	for i := range f.Steps {
		c.ids = append(c.ids, f.Steps[i].ID)
	}
	for i := range f.OnExit {
		c.ids = append(c.ids, f.OnExit[i].ID)
		c.onExit[f.OnExit[i].ID] = true
	}
	for _, id := range c.ids {
		c.isStep[id] = true
	}
	c.base, err = base.Extend(
		cel.CustomTypeProvider(&declared{Provider: base.CELTypeProvider(), flow: f}),
		cel.Variable("params", cel.ObjectType(paramsObject)),
		cel.Variable("steps", cel.ObjectType(stepsObject)),
		cel.Variable("run", cel.ObjectType(runObject)),
	)
	return c, err
}

func (c *checker) env(item Type) (*cel.Env, error) {
	if e, ok := c.envs[item]; ok {
		return e, nil
	}
	e := c.base
	if item != "" {
		var err error
		e, err = c.base.Extend(cel.Variable("item", item.cel()), cel.Variable("index", cel.IntType))
		if err != nil {
			return nil, err
		}
	}
	c.envs[item] = e
	return e, nil
}

// check type-checks an expression. It gives the steps that the expression reads.
func (c *checker) check(source string, at site) (expr *Expr, reads []string, faults []fault) {
	a, ok := c.known[question{source, at}]
	if !ok {
		a.expr, a.reads, a.faults = c.checkAnew(source, at)
		c.known[question{source, at}] = a
	}
	if a.expr != nil {
		own := *a.expr
		return &own, a.reads, a.faults
	}
	return nil, a.reads, a.faults
}

func (c *checker) checkAnew(source string, at site) (expr *Expr, reads []string, faults []fault) {
	whole := func(message string) []fault { return []fault{{0, message, ""}} }
	env, err := c.env(at.item)
	if err != nil {
		return nil, nil, whole(err.Error())
	}
	if n := len([]rune(source)); n > MaxExpression {
		return nil, nil, whole(fmt.Sprintf("the expression has %d characters, at most %d are allowed", n, MaxExpression))
	}
	var parsed *cel.Ast
	var issues *cel.Issues
	if err := safely(func() error { parsed, issues = env.Parse(source); return nil }); err != nil {
		return nil, nil, whole("the expression cannot be read")
	}
	if issues.Err() != nil {
		return nil, nil, syntaxFaults(source, issues)
	}
	w := &referenceWalk{c: c, at: at, source: source, info: parsed.NativeRep().SourceInfo()}
	walk(w, parsed.NativeRep().Expr(), nil)
	if len(w.faults) > 0 {
		return nil, w.reads, w.faults
	}
	var checked *cel.Ast
	if err := safely(func() error { checked, issues = env.Check(parsed); return nil }); err != nil {
		return nil, w.reads, whole("the expression cannot be checked")
	}
	if issues.Err() != nil {
		return nil, w.reads, c.typeFaults(source, issues, at)
	}
	return &Expr{Source: source, Type: typeOfCEL(checked.OutputType()), Item: at.item}, w.reads, nil
}

// referenceWalk finds what an expression reads of params, steps and run, and
// reports names that are not there with better suggestions than a type checker has.
type referenceWalk struct {
	c      *checker
	at     site
	source string
	info   *ast.SourceInfo
	reads  []string
	faults []fault
}

func (w *referenceWalk) fault(id int64, message, hint string) {
	offset := 0
	if r, ok := w.info.GetOffsetRange(id); ok {
		offset = byteOffset(w.source, int(r.Start))
	}
	w.faults = append(w.faults, fault{offset, message, hint})
}

// namespace checks the first half of a name such as math.least.
func (w *referenceWalk) namespace(e ast.Expr) {
	name := e.AsCall().Target().AsIdent() + "." + e.AsCall().FunctionName()
	if !contained(functionNames, name) {
		w.unknown(e, fmt.Sprintf("unknown function %q", name), name, functionNames)
	}
}

func (w *referenceWalk) structure(e ast.Expr) {
	w.fault(e.ID(), fmt.Sprintf("there is no type %q to make", clip(e.AsStruct().TypeName())), "")
}

func (w *referenceWalk) ident(e ast.Expr, name string) {
	switch {
	case name == "params":
		w.fault(e.ID(), "params cannot be used as a whole", "write params.<name>")
	case name == "steps":
		w.fault(e.ID(), "steps cannot be used as a whole", "write steps.<id>.outputs.<name>")
	case name == "run":
		w.fault(e.ID(), "run cannot be used as a whole", "write run.<name>, such as run.id")
	case (name == "item" || name == "index") && w.at.item == "":
		hint := "it is known in `with` and `env` of a step with for_each"
		w.fault(e.ID(), fmt.Sprintf("there is no %q here", name), hint)
	}
}

// reference checks params.x, run.x and steps.x.y.z.
func (w *referenceWalk) reference(e ast.Expr, root string, path []ast.Expr) {
	name := path[0].AsSelect().FieldName()
	switch root {
	case "params":
		if _, ok := w.c.flow.Param(name); !ok {
			w.unknown(path[0], fmt.Sprintf("unknown parameter %q", name), name, w.c.paramNames())
		}
	case "run":
		w.runField(path[0], name)
	case "steps":
		w.step(e, name, path)
	}
}

func (w *referenceWalk) unknown(e ast.Expr, message, name string, names []string) {
	w.fault(e.ID(), message, didYouMean(name, names))
}

var (
	runFields     = []string{"app", "date", "id", "owner"}
	runEndFields  = []string{"failed_step", "reason", "status"}
	stepFields    = []string{"count", "exit_status", "outputs", "status"}
	fileFields    = []string{"key", "name", "sha256", "size"}
	dirFields     = []string{"key", "name", "sha256"}
	variableNames = []string{"index", "item", "params", "run", "steps"}
)

func (w *referenceWalk) runField(e ast.Expr, name string) {
	switch {
	case contained(runFields, name):
	case contained(runEndFields, name):
		if !w.at.onExit {
			w.fault(e.ID(), fmt.Sprintf("run.%s is known in on_exit only", name), "")
		}
	default:
		w.unknown(e, fmt.Sprintf("unknown field run.%s", name), name, append(runFields, runEndFields...))
	}
}

func (w *referenceWalk) step(e ast.Expr, id string, path []ast.Expr) {
	step, ok := w.c.flow.Step(id)
	switch {
	case !ok:
		w.unknown(path[0], fmt.Sprintf("unknown step %q", id), id, w.c.stepNames(w.at.onExit))
		return
	case w.c.onExit[id] && !w.at.onExit:
		w.fault(path[0].ID(), fmt.Sprintf("step %q of on_exit runs after this one", id), "")
		return
	}
	w.reads = append(w.reads, id)
	if len(path) < 2 {
		w.fault(e.ID(), fmt.Sprintf("steps.%s cannot be used as a whole", id), "write steps."+id+".outputs.<name>")
		return
	}
	field := path[1].AsSelect().FieldName()
	switch {
	case !contained(stepFields, field):
		hint := didYouMean(field, stepFields)
		if _, isOutput := step.OutputType(field); isOutput {
			hint = fmt.Sprintf("write steps.%s.outputs.%s", id, field)
		}
		w.fault(path[1].ID(), fmt.Sprintf("unknown field steps.%s.%s", id, field), hint)
	case field == "outputs" && len(path) < 3:
		w.fault(path[1].ID(), fmt.Sprintf("steps.%s.outputs cannot be used as a whole", id), "write steps."+id+".outputs.<name>")
	case field == "outputs":
		name := path[2].AsSelect().FieldName()
		if _, ok := step.OutputType(name); !ok {
			w.unknownOutput(path[2], step, name)
		}
	}
}

func (w *referenceWalk) unknownOutput(e ast.Expr, step *Step, name string) {
	names := make([]string, len(step.Outputs))
	for i, o := range step.Outputs {
		names[i] = o.Name
	}
	hint := didYouMean(name, names)
	switch {
	case hint != "":
	case len(names) == 0:
		hint = "the step declares no outputs"
	default:
		hint = "the step has " + join(names)
	}
	w.fault(e.ID(), fmt.Sprintf("step %q has no output %q", step.ID, name), hint)
}

func (c *checker) paramNames() []string {
	names := make([]string, len(c.flow.Params))
	for i, p := range c.flow.Params {
		names[i] = p.Name
	}
	return names
}

// stepNames lists the steps that one of on_exit, or one of the others, may name.
func (c *checker) stepNames(onExit bool) []string {
	if onExit {
		return c.ids
	}
	return c.ids[:len(c.flow.Steps)]
}

func contained(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// Names of CEL object types. They begin with @, which no name in an expression can.
const (
	fileObject      = "@file"
	directoryObject = "@directory"
	paramsObject    = "@params"
	runObject       = "@run"
	stepsObject     = "@steps"
	stepObject      = "@step:"    // and the step's ID
	outputsObject   = "@outputs:" // and the step's ID
)

// declared tells CEL's type checker the fields of params, steps, run and files.
type declared struct {
	types.Provider
	flow *Flow
}

// FindStructType implements types.Provider.
func (p *declared) FindStructType(name string) (*types.Type, bool) {
	if !strings.HasPrefix(name, "@") {
		return nil, false
	}
	return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
}

// FindStructFieldNames implements types.Provider.
func (p *declared) FindStructFieldNames(string) ([]string, bool) { return nil, false }

// FindStructFieldType implements types.Provider.
func (p *declared) FindStructFieldType(object, name string) (*types.FieldType, bool) {
	t, ok := p.fieldType(object, name)
	return &types.FieldType{Type: t}, ok
}

func (p *declared) fieldType(object, name string) (*cel.Type, bool) {
	switch object {
	case paramsObject:
		param, ok := p.flow.Param(name)
		if !ok {
			return nil, false
		}
		return param.Type.cel(), true
	case runObject:
		return cel.StringType, true
	case fileObject:
		if name == "size" {
			return cel.IntType, true
		}
		return cel.StringType, contained(fileFields, name)
	case directoryObject:
		return cel.StringType, contained(dirFields, name)
	case stepsObject:
		return cel.ObjectType(stepObject + name), true
	}
	if id, ok := strings.CutPrefix(object, outputsObject); ok {
		step, ok := p.flow.Step(id)
		if !ok {
			return nil, false
		}
		t, ok := step.OutputType(name)
		return t.cel(), ok
	}
	switch id := strings.TrimPrefix(object, stepObject); name {
	case "outputs":
		return cel.ObjectType(outputsObject + id), true
	case "count":
		return cel.IntType, true
	}
	return cel.StringType, true
}
