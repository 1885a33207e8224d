package flow

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"

	"github.com/baas-batch/baas/tasklet"
)

// ManyTag marks a Many inside JSON values.
const ManyTag = "many"

// Many stands for an output of a step with so many partitions that its list lies in
// storage: a step may go over it with for_each, and an expression may read its
// size, but no more.
type Many struct {
	Tag    string `json:"$type"` // ManyTag
	Output string `json:"output"`
	N      int    `json:"n"` // elements
	// Manifests hold a tasklet.Result for each partition, in order.
	Manifests []tasklet.LinesRef `json:"manifests"`
}

// NewMany sets the tag.
func NewMany(output string, n int, manifests []tasklet.LinesRef) Many {
	return Many{Tag: ManyTag, Output: output, N: n, Manifests: manifests}
}

// AsMany reads an output of a step with for_each that is no list.
func AsMany(v any) (Many, bool) {
	m, ok := plain(v).(map[string]any)
	if !ok || m["$type"] != ManyTag {
		return Many{}, false
	}
	var many Many
	err := json.Unmarshal(marshal(m), &many)
	return many, err == nil
}

// manyValue is a Many in an expression. It has a size; cel-go's calls for all else
// end the evaluation.
type manyValue struct {
	name string // as the expression reads it
	many Many
}

// tooMany is the error of an expression that wants more of a Many than its size.
func (m manyValue) tooMany() string {
	return fmt.Sprintf("%s has %s elements, too many for an expression: use for_each", m.name, thousands(m.many.N))
}

func (m manyValue) refuse() ref.Val {
	panic(interpreter.EvalCancelledError{Cause: interpreter.ContextCancelled, Message: m.tooMany()})
}

// Size implements traits.Sizer.
func (m manyValue) Size() ref.Val { return types.Int(m.many.N) }

// Get implements traits.Indexer.
func (m manyValue) Get(ref.Val) ref.Val { return m.refuse() }

// Iterator implements traits.Iterable.
func (m manyValue) Iterator() traits.Iterator { m.refuse(); return nil }

// Add implements traits.Adder.
func (m manyValue) Add(ref.Val) ref.Val { return m.refuse() }

// Equal implements ref.Val.
func (m manyValue) Equal(ref.Val) ref.Val { return m.refuse() }

// ConvertToType implements ref.Val.
func (m manyValue) ConvertToType(ref.Type) ref.Val { return m.refuse() }

// ConvertToNative implements ref.Val.
func (m manyValue) ConvertToNative(reflect.Type) (any, error) {
	return nil, fmt.Errorf("%s", m.tooMany())
}

// Type implements ref.Val.
func (m manyValue) Type() ref.Type { return types.ListType }

// Value implements ref.Val.
func (m manyValue) Value() any { return m.many }

// thousands writes a number as "1,000,000".
func thousands(n int) string {
	digits := strconv.Itoa(n)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}
