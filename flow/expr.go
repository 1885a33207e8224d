package flow

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/env"
	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types/ref"
)

// Expr is one CEL expression. It evaluates only as part of a Flow that came from
// Parse or from JSON.
type Expr struct {
	Source string `json:"cel"`
	Type   Type   `json:"type"`           // of its value
	Item   Type   `json:"item,omitempty"` // of `item`, where there is one

	flow *Flow // whose declarations give params and outputs their types
}

// NotSetError tells that an expression read a parameter that was not given, or an
// output that a step does not have: the step was skipped, did not run, or left out
// an optional output.
type NotSetError struct {
	Param  string // when set, nothing else is
	Step   string
	Output string // empty when the step has no result at all
	Status string // of the step; empty when it has not ended
}

func (e *NotSetError) Error() string {
	if e.Param != "" {
		return fmt.Sprintf("params.%s is not set", e.Param)
	}
	what := fmt.Sprintf("steps.%s.outputs.%s is not set", e.Step, e.Output)
	if e.Output == "" {
		what = fmt.Sprintf("step %q has no result", e.Step)
	}
	switch e.Status {
	case "":
		return what + ": the step has not ended"
	case StatusSucceeded:
		return what + ": the step left it out"
	}
	return what + ": the step was " + strings.TrimPrefix(e.Status, "was ")
}

// Eval gives the expression's value as decoded JSON would hold it, whole numbers
// as int64. It takes bounded time and memory. The error wraps a *NotSetError when
// an output is missing.
func (e *Expr) Eval(s Scope) (any, error) {
	v, many, err := e.evalOrMany(s)
	if many != nil {
		return nil, e.wrap(errors.New(many.tooMany()))
	}
	return v, err
}

// evalOrMany is Eval, but for an expression that gives a Many.
func (e *Expr) evalOrMany(s Scope) (any, *manyValue, error) {
	result, err := e.run(s)
	if err != nil {
		return nil, nil, err
	}
	if many, ok := result.(manyValue); ok {
		return nil, &many, nil
	}
	budget := maxResult
	v, err := fromCEL(result, &budget)
	if err != nil {
		return nil, nil, e.wrap(err)
	}
	if v, err = e.Type.convertResult(v); err != nil && e.Type != Any {
		return nil, nil, e.wrap(err)
	}
	return v, nil, nil
}

// run gives the value as CEL has it.
func (e *Expr) run(s Scope) (ref.Val, error) {
	if e.flow == nil || e.flow.programs == nil {
		return nil, errors.New("flow: the expression is not part of a flow")
	}
	program, err := e.flow.programs.get(e.Source)
	if err != nil {
		return nil, e.wrap(err)
	}
	a := &activation{flow: e.flow, scope: s, item: e.Item, meter: meter{left: MaxEvaluationCost}}
	result, _, err := program.Eval(a)
	if err != nil {
		return nil, e.wrap(a.blame(err))
	}
	return result, nil
}

// blame puts an error of cel-go's into words, by what the expression had read.
func (a *activation) blame(err error) error {
	text := err.Error()
	switch {
	case a.missing != nil && strings.Contains(text, "no such key"):
		err = a.missing
	case a.many != nil && strings.Contains(text, "no such overload"):
		return errors.New(a.many.tooMany())
	}
	return tidy(err)
}

// EvalBool evaluates a condition, such as a step's When.
func (e *Expr) EvalBool(s Scope) (bool, error) {
	v, err := e.Eval(s)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, e.wrap(fmt.Errorf("expected true or false, found %s", describeValue(v)))
	}
	return b, nil
}

func (e *Expr) wrap(err error) error {
	return fmt.Errorf("${{ %s }}: %w", clip(e.Source), err)
}

// tidy puts cel-go's run-time errors into the words of the language.
func tidy(err error) error {
	var notSet *NotSetError
	switch text := err.Error(); {
	case errors.As(err, &notSet):
		return notSet
	case strings.Contains(text, errCost):
		return errors.New("the expression takes too long")
	case strings.HasPrefix(text, "internal error"):
		return errors.New("the expression cannot be evaluated")
	}
	return err
}

// programs are the compiled expressions of one flow. They are built when they are
// first needed, and safe for use by many goroutines.
type programs struct {
	mu       sync.Mutex
	bySource map[string]cel.Program
}

func (p *programs) get(source string) (cel.Program, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if program, ok := p.bySource[source]; ok {
		return program, nil
	}
	program, err := compile(source)
	if err != nil {
		return nil, err
	}
	p.bySource[source] = program
	return program, nil
}

// compile plans an expression without its types: those were checked when the file
// was read, and a stricter check of a later version must not stop a run.
func compile(source string) (cel.Program, error) {
	e, err := language()
	if err != nil {
		return nil, err
	}
	ast, issues := e.Parse(source)
	if issues.Err() != nil {
		return nil, issues.Err()
	}
	return e.Program(ast, cel.CustomDecoratorV2(charge))
}

// language is the immutable base of all environments: functions, no variables.
// Functions that read time zone files are left out, since two machines may differ
// in them.
var language = sync.OnceValues(func() (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.StdLib(cel.StdLibSubset(&env.LibrarySubset{ExcludeFunctions: excluded()})),
		cel.CustomTypeAdapter(adapter{}),
		cel.ParserRecursionLimit(64),
		cel.ParserExpressionSizeLimit(MaxExpression),
		cel.ExpressionNodeLimit(20_000),
		cel.DefaultUTCTimeZone(true),
	}
	return cel.NewCustomEnv(append(options, declarations()...)...)
})

func excluded() []*env.Function {
	zoned := map[string]string{
		overloads.TimeGetFullYear: overloads.TimestampToYearWithTz, overloads.TimeGetMonth: overloads.TimestampToMonthWithTz,
		overloads.TimeGetDayOfYear: overloads.TimestampToDayOfYearWithTz, overloads.TimeGetDayOfMonth: overloads.TimestampToDayOfMonthZeroBasedWithTz,
		overloads.TimeGetDate: overloads.TimestampToDayOfMonthOneBasedWithTz, overloads.TimeGetDayOfWeek: overloads.TimestampToDayOfWeekWithTz,
		overloads.TimeGetHours: overloads.TimestampToHoursWithTz, overloads.TimeGetMinutes: overloads.TimestampToMinutesWithTz,
		overloads.TimeGetSeconds: overloads.TimestampToSecondsWithTz, overloads.TimeGetMilliseconds: overloads.TimestampToMillisecondsWithTz,
	}
	out := []*env.Function{{Name: overloads.Matches}}
	for _, name := range sortedKeys(zoned) {
		out = append(out, &env.Function{Name: name, Overloads: []*env.Overload{{ID: zoned[name]}}})
	}
	return out
}
