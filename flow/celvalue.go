package flow

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/baas-batch/baas/tasklet"
)

// adapter turns plain values into those of CEL. Maps go over their keys in order,
// and numbers that JSON cannot tell from whole ones are whole, so that a value
// means the same before and after a round trip.
type adapter struct{}

// NativeToValue implements types.Adapter.
func (a adapter) NativeToValue(v any) ref.Val {
	switch v := v.(type) {
	case ref.Val:
		return v
	case map[ref.Val]ref.Val:
		keys := make([]ref.Val, 0, len(v))
		for k := range v { //workflowcheck:ignore
			keys = append(keys, k)
		}
		slices.SortFunc(keys, compareKeys)
		return sortedMap{types.NewRefValMap(a, v), keys}
	case map[string]any:
		keys := make([]ref.Val, 0, len(v))
		for _, k := range sortedKeys(v) {
			keys = append(keys, types.String(k))
		}
		return sortedMap{types.NewStringInterfaceMap(a, v), keys}
	case []any:
		return types.NewDynamicList(a, v)
	case float64:
		if n, ok := wholeNumber(v); ok {
			return types.Int(n)
		}
		return types.Double(v)
	case tasklet.FileRef, *tasklet.FileRef, json.RawMessage:
		return a.NativeToValue(plain(v))
	}
	return types.DefaultTypeAdapter.NativeToValue(v)
}

func compareKeys(a, b ref.Val) int {
	if c := cmp.Compare(a.Type().TypeName(), b.Type().TypeName()); c != 0 {
		return c
	}
	if comparer, ok := a.(traits.Comparer); ok {
		if c, ok := comparer.Compare(b).(types.Int); ok {
			return int(c)
		}
	}
	return 0
}

// sortedMap is a map of CEL whose keys come in order; cel-go's come in Go's.
type sortedMap struct {
	traits.Mapper
	keys []ref.Val
}

// Iterator implements traits.Iterable.
func (m sortedMap) Iterator() traits.Iterator {
	return types.NewRefValList(adapter{}, m.keys).Iterator()
}

// record is an object whose fields are looked up one by one: params, run, steps
// and what is below. The type check lets nothing but field access reach it.
type record struct {
	find func(field string) (ref.Val, bool)
}

// Find implements traits.Mapper.
func (r record) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	return r.find(string(name))
}

// Get implements traits.Indexer.
func (r record) Get(key ref.Val) ref.Val {
	if v, ok := r.Find(key); ok {
		return v
	}
	return types.NewErr("no such field: %v", key)
}

// Contains implements traits.Container.
func (r record) Contains(key ref.Val) ref.Val {
	_, ok := r.Find(key)
	return types.Bool(ok)
}

// Size implements traits.Sizer.
func (r record) Size() ref.Val { return types.IntZero }

// Iterator implements traits.Iterable.
func (r record) Iterator() traits.Iterator {
	return types.NewRefValList(adapter{}, nil).Iterator()
}

// ConvertToNative implements ref.Val.
func (r record) ConvertToNative(reflect.Type) (any, error) {
	return nil, fmt.Errorf("an object cannot be used as a value")
}

// ConvertToType implements ref.Val.
func (r record) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return types.MapType
	}
	return types.NewErr("an object cannot be used as a value")
}

// Equal implements ref.Val.
func (r record) Equal(ref.Val) ref.Val { return types.False }

// Type implements ref.Val.
func (r record) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (r record) Value() any { return r }

// toCEL turns a plain value of declared type t into CEL's. A value that does not
// fit becomes CEL's error.
func (t Type) toCEL(v any) ref.Val {
	v = plain(v)
	if v == nil {
		return types.NullValue
	}
	switch t {
	case String, Date, Bool, Int, File, Directory, Map, Any, List, Files:
		return adapter{}.NativeToValue(v)
	case Float:
		if f, ok := floatNumber(v); ok {
			return types.Double(f)
		}
	case DurationType:
		if s, ok := v.(string); ok {
			return durationToCEL(s)
		}
	case Time:
		if s, ok := v.(string); ok {
			at, err := time.Parse(time.RFC3339Nano, s)
			if err != nil {
				return types.WrapErr(err)
			}
			return types.Timestamp{Time: at}
		}
	default:
		elem, isType := t.Elem()
		list, isList := v.([]any)
		if isType && isList {
			values := make([]ref.Val, len(list))
			for i, e := range list {
				values[i] = elem.toCEL(e)
			}
			return types.NewRefValList(adapter{}, values)
		}
	}
	return types.NewErr("expected %s, found %s", article(t), describeValue(v))
}

func durationToCEL(s string) ref.Val {
	normalised, err := DurationType.convertText(s)
	if err != nil {
		return types.WrapErr(err)
	}
	d, err := time.ParseDuration(normalised.(string))
	if err != nil {
		return types.WrapErr(err)
	}
	return types.Duration{Duration: d}
}

// maxResult bounds the lists, maps and other values that one expression gives.
const maxResult = MaxPartitions + MaxPartitions/10

// fromCEL turns the result of an expression into a plain value.
func fromCEL(v ref.Val, budget *int) (any, error) {
	if *budget--; *budget < 0 {
		return nil, fmt.Errorf("the result is too large")
	}
	switch v := v.(type) {
	case types.Null:
		return nil, nil
	case types.String:
		return string(v), nil
	case types.Bool:
		return bool(v), nil
	case types.Int:
		if _, ok := wholeNumber(int64(v)); !ok {
			return nil, fmt.Errorf("%d is beyond ±2^53", int64(v))
		}
		return int64(v), nil
	case types.Double:
		if _, ok := floatNumber(float64(v)); !ok {
			return nil, fmt.Errorf("%v is not a number", float64(v))
		}
		return float64(v), nil
	case types.Duration:
		return v.Duration.String(), nil
	case types.Timestamp:
		return v.UTC().Format(time.RFC3339Nano), nil
	case record:
		return nil, fmt.Errorf("an object cannot be used as a value")
	case manyValue:
		return nil, errors.New(v.tooMany())
	case traits.Lister:
		return listFromCEL(v, budget)
	case traits.Mapper:
		return mapFromCEL(v, budget)
	}
	return nil, fmt.Errorf("a value of type %s cannot be used here", v.Type().TypeName())
}

func listFromCEL(list traits.Lister, budget *int) (any, error) {
	out := []any{}
	for it := list.Iterator(); it.HasNext() == types.True; {
		e, err := fromCEL(it.Next(), budget)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

func mapFromCEL(m traits.Mapper, budget *int) (any, error) {
	out := map[string]any{}
	for it := m.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		name, ok := key.(types.String)
		if !ok {
			return nil, fmt.Errorf("the keys of a map must be text")
		}
		e, err := fromCEL(m.Get(key), budget)
		if err != nil {
			return nil, err
		}
		out[string(name)] = e
	}
	return out, nil
}
