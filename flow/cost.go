package flow

import (
	"math"

	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
)

// meter bounds the work of one evaluation. cel-go's own cost tracking takes time
// quadratic in the number of loop rounds, and cel-go's == and in go down into
// values uncounted, where a value that holds another many times over is soon
// endless.
type meter struct {
	left int64
}

// meterName is the variable through which the nodes of a program reach their
// meter; no expression can write it.
const meterName = "@meter"

const errCost = "takes too long"

// spend panics with cel-go's own error for this, which ends the evaluation.
func (m *meter) spend(cost uint64) {
	m.left -= int64(min(cost, math.MaxInt32))
	if m.left < 0 {
		panic(interpreter.EvalCancelledError{Cause: interpreter.CostLimitExceeded, Message: errCost})
	}
}

func meterOf(frame *interpreter.ExecutionFrame) *meter {
	if v, ok := frame.ResolveName(meterName); ok {
		if m, ok := v.(*meter); ok {
			return m
		}
	}
	return &meter{} // nothing may be spent
}

// charge puts the meter into a program: each variable that is read and each call
// costs 1 and the size of the text that it gives. Every round of a loop has one.
func charge(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	switch node := i.(type) {
	case *chargedAttribute, *chargedCall, *comparison, *libraryCall:
		return i, nil
	case interpreter.InterpretableAttribute:
		return &chargedAttribute{node}, nil
	case interpreter.InterpretableCall:
		switch node.Function() {
		case operators.Equals, operators.NotEquals, operators.In, operators.OldIn:
			return &comparison{node}, nil
		}
		if overloads := overloadsOf(node.Function()); len(overloads) > 0 {
			return &libraryCall{node, overloads}, nil
		}
		return &chargedCall{node}, nil
	}
	return i, nil
}

func textCost(v ref.Val) uint64 {
	switch v.(type) {
	case types.String, types.Bytes:
		return 1 + sizeOf(v)/8
	}
	return 1
}

type chargedAttribute struct {
	interpreter.InterpretableAttribute
}

// Eval implements interpreter.Interpretable.
func (c *chargedAttribute) Eval(vars interpreter.Activation) ref.Val {
	return c.Exec(interpreter.AsFrame(vars))
}

// Exec implements interpreter.InterpretableV2.
func (c *chargedAttribute) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	v := execute(c.InterpretableAttribute, frame)
	meterOf(frame).spend(textCost(v))
	return v
}

func execute(i interpreter.Interpretable, frame *interpreter.ExecutionFrame) ref.Val {
	if v2, ok := i.(interpreter.InterpretableV2); ok {
		return v2.Exec(frame)
	}
	return i.Eval(frame)
}

type chargedCall struct {
	interpreter.InterpretableCall
}

// Eval implements interpreter.Interpretable.
func (c *chargedCall) Eval(vars interpreter.Activation) ref.Val {
	return c.Exec(interpreter.AsFrame(vars))
}

// Exec implements interpreter.InterpretableV2.
func (c *chargedCall) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	v := execute(c.InterpretableCall, frame)
	cost := textCost(v)
	if list, ok := v.(traits.Lister); ok && sizeOf(list) > maxResult {
		cost = math.MaxInt32 // + makes a view, whose size can double for ever
	}
	meterOf(frame).spend(cost)
	return v
}

// arguments evaluates the arguments of a call; the second result is an error or
// nil.
func arguments(call interpreter.InterpretableCall, frame *interpreter.ExecutionFrame) ([]ref.Val, ref.Val) {
	args := make([]ref.Val, len(call.Args()))
	for i, arg := range call.Args() {
		args[i] = arg.Exec(frame)
		if types.IsUnknownOrError(args[i]) {
			return nil, args[i]
		}
		if many, ok := args[i].(manyValue); ok {
			return nil, many.refuse()
		}
	}
	return args, nil
}

// libraryCall runs a function of the platform's, and charges for what it reads
// before it does.
type libraryCall struct {
	interpreter.InterpretableCall
	overloads []function
}

// Eval implements interpreter.Interpretable.
func (c *libraryCall) Eval(vars interpreter.Activation) ref.Val {
	return c.Exec(interpreter.AsFrame(vars))
}

// Exec implements interpreter.InterpretableV2.
func (c *libraryCall) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	args, err := arguments(c, frame)
	if err != nil {
		return err
	}
	m := meterOf(frame)
	for _, arg := range args {
		m.spend(1 + sizeOf(arg)/8)
	}
	for i := range c.overloads {
		if f := &c.overloads[i]; f.takes(args) {
			v := f.call(args)
			m.spend(sizeOf(v) / 8)
			return v
		}
	}
	return types.NewErr("%s cannot be used with values of these types", c.Function())
}

// comparison replaces ==, != and in.
type comparison struct {
	interpreter.InterpretableCall
}

// Eval implements interpreter.Interpretable.
func (c *comparison) Eval(vars interpreter.Activation) ref.Val {
	return c.Exec(interpreter.AsFrame(vars))
}

// Exec implements interpreter.InterpretableV2.
func (c *comparison) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	args, err := arguments(c, frame)
	if err != nil {
		return err
	}
	m := meterOf(frame)
	switch c.Function() {
	case operators.Equals:
		return types.Bool(m.equal(args[0], args[1]))
	case operators.NotEquals:
		return types.Bool(!m.equal(args[0], args[1]))
	}
	return m.contains(args[1], args[0])
}

func (m *meter) contains(where, what ref.Val) ref.Val {
	switch where := where.(type) {
	case traits.Lister:
		for it := where.Iterator(); it.HasNext() == types.True; {
			if m.equal(what, it.Next()) {
				return types.True
			}
		}
		return types.False
	case traits.Mapper:
		_, found := where.Find(what)
		return types.Bool(found)
	}
	return types.NewErr("in: expected a list or a map")
}

func (m *meter) equal(a, b ref.Val) bool {
	m.spend(1)
	switch a := a.(type) {
	case traits.Lister:
		other, ok := b.(traits.Lister)
		return ok && m.equalLists(a, other)
	case traits.Mapper:
		other, ok := b.(traits.Mapper)
		return ok && m.equalMaps(a, other)
	}
	return types.Equal(a, b) == types.True
}

func (m *meter) equalLists(a, b traits.Lister) bool {
	if a.Size() != b.Size() {
		return false
	}
	x, y := a.Iterator(), b.Iterator()
	for x.HasNext() == types.True && y.HasNext() == types.True {
		if !m.equal(x.Next(), y.Next()) {
			return false
		}
	}
	return true
}

func (m *meter) equalMaps(a, b traits.Mapper) bool {
	if a.Size() != b.Size() {
		return false
	}
	for it := a.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		value, found := b.Find(key)
		if !found || !m.equal(a.Get(key), value) {
			return false
		}
	}
	return true
}
