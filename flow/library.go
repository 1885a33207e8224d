package flow

import (
	"cmp"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
)

// Bounds of what a function of an expression may make.
const (
	maxText    = 1 << 20 // bytes
	maxPattern = 1 << 10 // bytes of a regular expression
)

// functionNames are those that expressions can call, for suggestions.
var functionNames = []string{
	"all", "bool", "contains", "distinct", "double", "duration", "endsWith", "exists", "exists_one", "filter",
	"flatten", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours", "getMinutes",
	"getMonth", "getSeconds", "has", "indexOf", "int", "join", "lastIndexOf", "lists.range", "lowerAscii", "map",
	"matches", "math.abs", "math.ceil", "math.floor", "math.greatest", "math.least", "math.round", "replace",
	"reverse", "size", "slice", "sort", "split", "startsWith", "string", "substring", "timestamp", "trim", "upperAscii",
}

// functions are the platform's own, beside CEL's standard ones. cel-go's
// extensions of the same names make their result before its cost is counted; these
// refuse before.
func functions() []cel.EnvOption {
	text, num, texts := cel.StringType, cel.IntType, cel.ListType(cel.StringType)
	elem := cel.TypeParamType("T")
	list := cel.ListType(elem)
	return []cel.EnvOption{
		method("lowerAscii", "string_lower_ascii", []*cel.Type{text}, text, func(a []ref.Val) ref.Val { return mapASCII(a[0], 'A', 'Z', 'a'-'A') }),
		method("upperAscii", "string_upper_ascii", []*cel.Type{text}, text, func(a []ref.Val) ref.Val { return mapASCII(a[0], 'a', 'z', 'A'-'a') }),
		method("trim", "string_trim", []*cel.Type{text}, text, func(a []ref.Val) ref.Val {
			return types.String(strings.TrimSpace(str(a[0])))
		}),
		method("split", "string_split_string", []*cel.Type{text, text}, texts, split2),
		method("join", "list_join_string", []*cel.Type{texts, text}, text, joinTexts),
		method("replace", "string_replace_string_string", []*cel.Type{text, text, text}, text, replace),
		method("matches", "string_matches_bounded", []*cel.Type{text, text}, cel.BoolType, matches),
		method("indexOf", "string_index_of_string", []*cel.Type{text, text}, num, func(a []ref.Val) ref.Val {
			return runeIndex(str(a[0]), strings.Index(str(a[0]), str(a[1])))
		}),
		method("lastIndexOf", "string_last_index_of_string", []*cel.Type{text, text}, num, func(a []ref.Val) ref.Val {
			return runeIndex(str(a[0]), strings.LastIndex(str(a[0]), str(a[1])))
		}),
		cel.Function("substring",
			cel.MemberOverload("string_substring_int", []*cel.Type{text, num}, text, cel.FunctionBinding(vararg(substring))),
			cel.MemberOverload("string_substring_int_int", []*cel.Type{text, num, num}, text, cel.FunctionBinding(vararg(substring)))),
		cel.Function("lists.range", cel.Overload("lists_range", []*cel.Type{num}, cel.ListType(num), cel.FunctionBinding(vararg(listRange)))),
		method("flatten", "list_flatten", []*cel.Type{cel.ListType(list)}, list, flatten),
		method("distinct", "list_distinct", []*cel.Type{list}, list, distinct),
		method("sort", "list_sort", []*cel.Type{list}, list, sortList),
		method("reverse", "list_reverse", []*cel.Type{list}, list, func(a []ref.Val) ref.Val {
			return withElements(a[0], func(e []ref.Val) ref.Val { slices.Reverse(e); return newList(e) })
		}),
		method("slice", "list_slice", []*cel.Type{list, num, num}, list, func(a []ref.Val) ref.Val {
			from, to := int64(a[1].(types.Int)), int64(a[2].(types.Int))
			return withElements(a[0], func(e []ref.Val) ref.Val {
				if from < 0 || from > to || to > int64(len(e)) {
					return types.NewErr("slice(%d, %d) of a list of %d", from, to, len(e))
				}
				return newList(e[from:to])
			})
		}),
	}
}

func method(name, id string, args []*cel.Type, result *cel.Type, f func([]ref.Val) ref.Val) cel.EnvOption {
	return cel.Function(name, cel.MemberOverload(id, args, result, cel.FunctionBinding(vararg(f))))
}

func vararg(f func([]ref.Val) ref.Val) func(...ref.Val) ref.Val {
	return func(args ...ref.Val) ref.Val { return f(args) }
}

func str(v ref.Val) string { return string(v.(types.String)) }

func tooLong() ref.Val { return types.NewErr("the text would be longer than %d bytes", maxText) }

func mapASCII(v ref.Val, low, high, shift rune) ref.Val {
	return types.String(strings.Map(func(r rune) rune {
		if low <= r && r <= high {
			return r + shift
		}
		return r
	}, str(v)))
}

func split2(a []ref.Val) ref.Val {
	parts := strings.Split(str(a[0]), str(a[1]))
	values := make([]ref.Val, len(parts))
	for i, p := range parts {
		values[i] = types.String(p)
	}
	return newList(values)
}

func joinTexts(a []ref.Val) ref.Val {
	separator := str(a[1])
	return withElements(a[0], func(elements []ref.Val) ref.Val {
		size := len(separator) * len(elements)
		parts := make([]string, len(elements))
		for i, e := range elements {
			s, ok := e.(types.String)
			if !ok {
				return types.NewErr("join: element %d is not text", i)
			}
			if size += len(s); size > maxText {
				return tooLong()
			}
			parts[i] = string(s)
		}
		return types.String(strings.Join(parts, separator))
	})
}

func replace(a []ref.Val) ref.Val {
	s, old, with := str(a[0]), str(a[1]), str(a[2])
	if len(s)+strings.Count(s, old)*(len(with)-len(old)) > maxText {
		return tooLong()
	}
	return types.String(strings.ReplaceAll(s, old, with))
}

func matches(a []ref.Val) ref.Val {
	s, pattern := str(a[0]), str(a[1])
	if len(pattern) > maxPattern || len(s)*len(pattern) > 16*maxText {
		return types.NewErr("matches: text and pattern are too long")
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return types.NewErr("matches: %v", err)
	}
	return types.Bool(re.MatchString(s))
}

func runeIndex(s string, at int) ref.Val {
	if at < 0 {
		return types.Int(-1)
	}
	return types.Int(len([]rune(s[:at])))
}

func substring(a []ref.Val) ref.Val {
	runes := []rune(str(a[0]))
	from, to := int64(a[1].(types.Int)), int64(len(runes))
	if len(a) == 3 {
		to = int64(a[2].(types.Int))
	}
	if from < 0 || from > to || to > int64(len(runes)) {
		return types.NewErr("substring(%d, %d) of a text of %d characters", from, to, len(runes))
	}
	return types.String(string(runes[from:to]))
}

func listRange(a []ref.Val) ref.Val {
	n := int64(a[0].(types.Int))
	if n < 0 || n > MaxPartitions {
		return types.NewErr("lists.range(%d): from 0 to %d elements", n, MaxPartitions)
	}
	values := make([]ref.Val, n)
	for i := range values {
		values[i] = types.Int(i)
	}
	return newList(values)
}

func newList(values []ref.Val) ref.Val { return types.NewRefValList(adapter{}, values) }

// withElements hands over a copy of a list's elements, if they are not too many.
func withElements(v ref.Val, f func([]ref.Val) ref.Val) ref.Val {
	list, ok := v.(traits.Lister)
	if !ok {
		return types.NewErr("expected a list")
	}
	if sizeOf(v) > maxResult {
		return types.NewErr("the list is too long")
	}
	elements := []ref.Val{}
	for it := list.Iterator(); it.HasNext() == types.True; {
		elements = append(elements, it.Next())
	}
	return f(elements)
}

func flatten(a []ref.Val) ref.Val {
	return withElements(a[0], func(elements []ref.Val) ref.Val {
		var total uint64
		for _, e := range elements {
			if total += min(sizeOf(e), maxResult+1); total > maxResult {
				return types.NewErr("the list is too long")
			}
		}
		out := make([]ref.Val, 0, total)
		for _, e := range elements {
			if err := withElements(e, func(inner []ref.Val) ref.Val { out = append(out, inner...); return types.True }); types.IsError(err) {
				return err
			}
		}
		return newList(out)
	})
}

// sortable gives a scalar's kind and a function that orders two of the same kind.
func sortable(v ref.Val) bool {
	switch v.(type) {
	case types.String, types.Int, types.Double, types.Bool, types.Timestamp, types.Duration:
		return true
	}
	return false
}

func sortList(a []ref.Val) ref.Val {
	return withElements(a[0], func(elements []ref.Val) ref.Val {
		for _, e := range elements {
			if !sortable(e) || e.Type() != elements[0].Type() {
				return types.NewErr("sort: the elements must be plain values of one type")
			}
		}
		slices.SortStableFunc(elements, func(x, y ref.Val) int {
			order, _ := x.(traits.Comparer).Compare(y).(types.Int)
			return cmp.Compare(order, 0)
		})
		return newList(elements)
	})
}

func distinct(a []ref.Val) ref.Val {
	return withElements(a[0], func(elements []ref.Val) ref.Val {
		seen := map[ref.Val]bool{}
		out := []ref.Val{}
		for _, e := range elements {
			if !sortable(e) {
				return types.NewErr("distinct: the elements must be plain values")
			}
			key := e
			if at, ok := e.(types.Timestamp); ok {
				key = types.String(at.UTC().Format(time.RFC3339Nano)) // Go compares times with their zones
			}
			if !seen[key] {
				seen[key] = true
				out = append(out, e)
			}
		}
		return newList(out)
	})
}

// meter counts what each call of an evaluation handles, whatever the function.
type meter struct{}

// CallCost implements interpreter.ActualCostEstimator.
func (meter) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	size := sizeOf(result)
	cost := 1 + size/4
	if _, isList := result.(traits.Lister); isList && function == operators.Add {
		cost = 1 // + makes a view of its operands; macros add element by element
	}
	if size > maxResult {
		cost = math.MaxUint64 / 2
	}
	for _, arg := range args {
		if _, isList := arg.(traits.Lister); !isList || function != operators.Add {
			cost += min(sizeOf(arg), maxResult) / 4
		}
	}
	return &cost
}

// sizeOf gives the bytes of a text, or the number of elements.
func sizeOf(v ref.Val) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v))
	case types.Bytes:
		return uint64(len(v))
	case traits.Sizer:
		n, ok := v.Size().(types.Int)
		if !ok || n < 0 {
			return math.MaxUint64
		}
		return uint64(n)
	}
	return 1
}
