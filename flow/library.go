package flow

import (
	"cmp"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
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

// function is one that the platform adds to CEL's standard ones. cel-go's own
// extensions are not used: they make a result before anybody can bound it.
type function struct {
	name     string
	overload string
	global   bool // called as name(x), not x.name()
	args     []*cel.Type
	result   *cel.Type
	call     func([]ref.Val) ref.Val
}

var library = func() []function {
	text, num, float, truth := cel.StringType, cel.IntType, cel.DoubleType, cel.BoolType
	texts, list := cel.ListType(text), cel.ListType(cel.TypeParamType("T"))
	return []function{
		{"lowerAscii", "text_lower", false, []*cel.Type{text}, text, lower},
		{"upperAscii", "text_upper", false, []*cel.Type{text}, text, upper},
		{"trim", "text_trim", false, []*cel.Type{text}, text, trim},
		{"split", "text_split", false, []*cel.Type{text, text}, texts, splitText},
		{"join", "list_join", false, []*cel.Type{texts, text}, text, joinTexts},
		{"replace", "text_replace", false, []*cel.Type{text, text, text}, text, replace},
		{"matches", "text_matches", false, []*cel.Type{text, text}, truth, matches},
		{"indexOf", "text_index", false, []*cel.Type{text, text}, num, indexOf},
		{"lastIndexOf", "text_last_index", false, []*cel.Type{text, text}, num, lastIndexOf},
		{"substring", "text_from", false, []*cel.Type{text, num}, text, substring},
		{"substring", "text_from_to", false, []*cel.Type{text, num, num}, text, substring},
		{"flatten", "list_flatten", false, []*cel.Type{cel.ListType(list)}, list, flatten},
		{"distinct", "list_distinct", false, []*cel.Type{list}, list, distinct},
		{"sort", "list_sort", false, []*cel.Type{list}, list, sortList},
		{"reverse", "list_reverse", false, []*cel.Type{list}, list, reverse},
		{"slice", "list_slice", false, []*cel.Type{list, num, num}, list, slice},
		{"lists.range", "lists_range", true, []*cel.Type{num}, cel.ListType(num), listRange},
		{"math.least", "math_least_int", true, []*cel.Type{num, num}, num, least},
		{"math.least", "math_least_float", true, []*cel.Type{float, float}, float, least},
		{"math.greatest", "math_greatest_int", true, []*cel.Type{num, num}, num, greatest},
		{"math.greatest", "math_greatest_float", true, []*cel.Type{float, float}, float, greatest},
		{"math.abs", "math_abs_int", true, []*cel.Type{num}, num, absolute},
		{"math.abs", "math_abs_float", true, []*cel.Type{float}, float, absolute},
		{"math.ceil", "math_ceil", true, []*cel.Type{float}, float, rounding(math.Ceil)},
		{"math.floor", "math_floor", true, []*cel.Type{float}, float, rounding(math.Floor)},
		{"math.round", "math_round", true, []*cel.Type{float}, float, rounding(math.Round)},
	}
}()

// overloadsOf gives the functions of a name.
func overloadsOf(name string) []function {
	var out []function
	for _, f := range library {
		if f.name == name {
			out = append(out, f)
		}
	}
	return out
}

func declarations() []cel.EnvOption {
	var out []cel.EnvOption
	for _, f := range library {
		overload := cel.MemberOverload
		if f.global {
			overload = cel.Overload
		}
		binding := cel.FunctionBinding(func(args ...ref.Val) ref.Val { return f.call(args) })
		out = append(out, cel.Function(f.name, overload(f.overload, f.args, f.result, binding)))
	}
	return out
}

// takes tells whether values are of the kinds that the function takes.
func (f *function) takes(args []ref.Val) bool {
	if len(args) != len(f.args) {
		return false
	}
	for i, arg := range args {
		ok := false
		switch f.args[i].Kind() {
		case cel.StringKind:
			_, ok = arg.(types.String)
		case cel.IntKind:
			_, ok = arg.(types.Int)
		case cel.DoubleKind:
			_, ok = arg.(types.Double)
		case cel.ListKind:
			_, ok = arg.(traits.Lister)
		}
		if !ok {
			return false
		}
	}
	return true
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

func lower(a []ref.Val) ref.Val { return mapASCII(a[0], 'A', 'Z', 'a'-'A') }

func upper(a []ref.Val) ref.Val { return mapASCII(a[0], 'a', 'z', 'A'-'a') }

func trim(a []ref.Val) ref.Val { return types.String(strings.TrimSpace(str(a[0]))) }

func splitText(a []ref.Val) ref.Val {
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

func indexOf(a []ref.Val) ref.Val { return runeIndex(str(a[0]), strings.Index(str(a[0]), str(a[1]))) }

func lastIndexOf(a []ref.Val) ref.Val {
	return runeIndex(str(a[0]), strings.LastIndex(str(a[0]), str(a[1])))
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

func reverse(a []ref.Val) ref.Val {
	return withElements(a[0], func(e []ref.Val) ref.Val {
		slices.Reverse(e)
		return newList(e)
	})
}

func slice(a []ref.Val) ref.Val {
	from, to := int64(a[1].(types.Int)), int64(a[2].(types.Int))
	return withElements(a[0], func(e []ref.Val) ref.Val {
		if from < 0 || from > to || to > int64(len(e)) {
			return types.NewErr("slice(%d, %d) of a list of %d", from, to, len(e))
		}
		return newList(e[from:to])
	})
}

// sortable tells whether a value is plain, and so has an order and works as a map key.
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

func least(a []ref.Val) ref.Val {
	if a[0].(traits.Comparer).Compare(a[1]) == types.IntOne {
		return a[1]
	}
	return a[0]
}

func greatest(a []ref.Val) ref.Val {
	if a[0].(traits.Comparer).Compare(a[1]) == types.IntNegOne {
		return a[1]
	}
	return a[0]
}

func absolute(a []ref.Val) ref.Val {
	switch v := a[0].(type) {
	case types.Int:
		if v < 0 {
			return v.Negate()
		}
	case types.Double:
		return types.Double(math.Abs(float64(v)))
	}
	return a[0]
}

func rounding(f func(float64) float64) func([]ref.Val) ref.Val {
	return func(a []ref.Val) ref.Val { return types.Double(f(float64(a[0].(types.Double)))) }
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
