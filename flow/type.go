package flow

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/cel-go/cel"

	"github.com/baas-batch/baas/tasklet"
)

// Type of a parameter, an input, an output or an expression. Besides the
// constants there is list(T), which the outputs of a for_each step have.
type Type string

// The types. As plain JSON values: date is text YYYY-MM-DD, time is RFC 3339
// text, duration is text such as 1h30m0s, file and directory are a tasklet.FileRef.
const (
	String       Type = "string"
	Int          Type = "int" // within ±2^53, so that every JSON reader keeps it
	Float        Type = "float"
	Bool         Type = "bool"
	DurationType Type = "duration"
	Time         Type = "time"
	Date         Type = "date"
	File         Type = "file"
	Files        Type = "files"
	Directory    Type = "directory"
	List         Type = "list"
	Map          Type = "map"
	Any          Type = "any" // not known before the run
)

const maxInt = 1 << 53

var (
	paramTypes  = []string{"string", "int", "float", "bool", "duration", "time", "date", "file", "files", "directory", "list", "map"}
	outputTypes = []string{"string", "int", "float", "bool", "duration", "list", "map", "file", "files", "directory"}
)

var (
	fileCEL      = cel.ObjectType(fileObject)
	directoryCEL = cel.ObjectType(directoryObject)
)

// listOf gives list(t), under its shorter name where it has one.
func listOf(t Type) Type {
	switch t {
	case File:
		return Files
	case Any:
		return List
	}
	return "list(" + t + ")"
}

// Elem gives the type of a list's elements; false when t is not a list.
func (t Type) Elem() (Type, bool) {
	switch t {
	case List:
		return Any, true
	case Files:
		return File, true
	}
	if inner, ok := strings.CutPrefix(string(t), "list("); ok {
		return Type(strings.TrimSuffix(inner, ")")), true
	}
	return "", false
}

func (t Type) cel() *cel.Type {
	switch t {
	case String, Date:
		return cel.StringType
	case Int:
		return cel.IntType
	case Float:
		return cel.DoubleType
	case Bool:
		return cel.BoolType
	case DurationType:
		return cel.DurationType
	case Time:
		return cel.TimestampType
	case File:
		return fileCEL
	case Directory:
		return directoryCEL
	case Map:
		return cel.MapType(cel.StringType, cel.DynType)
	}
	if elem, ok := t.Elem(); ok {
		return cel.ListType(elem.cel())
	}
	return cel.DynType
}

func typeOfCEL(t *cel.Type) Type {
	switch t.Kind() {
	case cel.StringKind:
		return String
	case cel.IntKind, cel.UintKind:
		return Int
	case cel.DoubleKind:
		return Float
	case cel.BoolKind:
		return Bool
	case cel.DurationKind:
		return DurationType
	case cel.TimestampKind:
		return Time
	case cel.MapKind:
		return Map
	case cel.ListKind:
		return listOf(typeOfCEL(t.Parameters()[0]))
	case cel.StructKind:
		switch t.TypeName() {
		case fileObject:
			return File
		case directoryObject:
			return Directory
		}
	}
	return Any
}

// accepts tells whether a value of type v can be given where t is declared. Text
// that must be read as a date, time or duration is checked when it is read.
func (t Type) accepts(v Type) bool {
	if t == v || t == Any || v == Any {
		return true
	}
	switch t {
	case Float:
		return v == Int
	case Date, Time, DurationType:
		return v == String
	case String:
		return v == Date || v == Time || v == DurationType
	}
	elem, isList := t.Elem()
	velem, vIsList := v.Elem()
	return isList && vIsList && elem.accepts(velem)
}

var datePattern = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}$`)

// convert brings a plain value (of JSON, of a flow file or of an expression) into
// the normal form of t. It is stable: what it returned, written as JSON and read
// again, converts to the same.
func (t Type) convert(v any) (any, error) {
	v = plain(v)
	switch t {
	case Any:
		return normal(v), nil
	case String:
		if s, ok := v.(string); ok {
			return s, nil
		}
	case Int:
		if n, ok := wholeNumber(v); ok {
			return n, nil
		}
	case Float:
		if f, ok := floatNumber(v); ok {
			return f, nil
		}
	case Bool:
		if b, ok := v.(bool); ok {
			return b, nil
		}
	case DurationType, Time, Date:
		if s, ok := v.(string); ok {
			return t.convertText(s)
		}
	case File, Directory:
		if m, ok := v.(map[string]any); ok && m["$type"] == tasklet.FileRefTag && isDirectory(m) == (t == Directory) {
			if key, ok := m["key"].(string); !ok || key == "" {
				return nil, fmt.Errorf("expected %s, found one that has no key", article(t))
			}
			return normal(m), nil
		}
	case Map:
		if m, ok := v.(map[string]any); ok {
			return normal(m), nil
		}
	default:
		return t.convertList(v)
	}
	return nil, fmt.Errorf("expected %s, found %s", article(t), describeValue(v))
}

func (t Type) convertText(s string) (any, error) {
	switch t {
	case DurationType:
		d, err := ParseDuration(s)
		if err != nil {
			signed, goErr := time.ParseDuration(s) // an expression may compute a negative one
			if goErr != nil || len(s) > 64 {
				return nil, fmt.Errorf("%w, found %q", err, clip(s))
			}
			d = signed
		}
		return d.String(), nil
	case Time:
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return nil, fmt.Errorf("expected a time such as 2026-01-31T06:00:00Z, found %q", clip(s))
		}
		return at.UTC().Format(time.RFC3339Nano), nil
	}
	if _, err := time.Parse(time.DateOnly, s); err != nil || !datePattern.MatchString(s) {
		return nil, fmt.Errorf("expected a date such as 2026-01-31, found %q", clip(s))
	}
	return s, nil
}

func (t Type) convertList(v any) (any, error) {
	elem, ok := t.Elem()
	list, isList := v.([]any)
	if !ok || !isList {
		return nil, fmt.Errorf("expected %s, found %s", article(t), describeValue(v))
	}
	out := make([]any, len(list))
	for i, e := range list {
		if e == nil && elem != File && elem != Directory {
			continue // holds the place of an output that a partition does not have
		}
		converted, err := elem.convert(e)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		out[i] = converted
	}
	return out, nil
}

// convertResult is convert for what an expression gives: lists of files may have gaps
// too, until it is known what becomes of them.
func (t Type) convertResult(v any) (any, error) {
	elem, isType := t.Elem()
	list, isList := v.([]any)
	if !isType || !isList {
		return t.convert(v)
	}
	out := make([]any, len(list))
	for i, e := range list {
		if e == nil {
			continue
		}
		converted, err := elem.convertResult(e)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		out[i] = converted
	}
	return out, nil
}

// plain turns the Go forms that callers use into those of decoded JSON.
func plain(v any) any {
	switch v := v.(type) {
	case nil, bool, string, int64, float64, []any, map[string]any:
		return v
	case int:
		return int64(v)
	case Duration:
		return v.String()
	case time.Duration:
		return v.String()
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return v
	}
	decoded, err := decodeJSON(raw)
	if err != nil {
		return v
	}
	return decoded
}

// normal writes whole numbers as int64 and others as float64, all the way down.
func normal(v any) any {
	switch v := plain(v).(type) {
	case float64:
		if n, ok := wholeNumber(v); ok {
			return n
		}
		return v
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = normal(e)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v { //workflowcheck:ignore
			out[k] = normal(e)
		}
		return out
	default:
		return v
	}
}

func wholeNumber(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, -maxInt <= v && v <= maxInt
	case float64:
		return int64(v), v == math.Trunc(v) && math.Abs(v) <= maxInt
	}
	return 0, false
}

func floatNumber(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, !math.IsNaN(v) && !math.IsInf(v, 0)
	}
	return 0, false
}

// decodeJSON reads one JSON value with exact whole numbers.
func decodeJSON(raw []byte) (any, error) {
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if dec.More() {
		return nil, fmt.Errorf("more than one JSON value")
	}
	return numbers(v), nil
}

func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			return v.String()
		}
		return f
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for k := range v { //workflowcheck:ignore
			v[k] = numbers(v[k])
		}
	}
	return v
}

// isDirectory tells a reference to a directory from one to a file.
func isDirectory(ref map[string]any) bool { return ref["form"] != nil && ref["form"] != "" }

func article(t Type) string {
	switch t {
	case String:
		return "text"
	case Int:
		return "a whole number"
	case Float:
		return "a number"
	case Bool:
		return "true or false"
	case Files:
		return "a list of files"
	case Any:
		return "any value"
	}
	if elem, ok := t.Elem(); ok && elem != Any {
		return "a list (" + string(t) + ")"
	}
	return "a " + string(t)
}

func describeValue(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case string:
		return fmt.Sprintf("text %q", clip(v))
	case bool:
		return strconv.FormatBool(v)
	case int64, float64:
		return "number " + formatNumber(v)
	case []any:
		return "a list"
	case map[string]any:
		switch {
		case v["$type"] != tasklet.FileRefTag:
		case isDirectory(v):
			return "a directory"
		default:
			return "a file"
		}
		return "a map"
	}
	return fmt.Sprintf("%T", v)
}

func formatNumber(v any) string {
	if n, ok := v.(int64); ok {
		return strconv.FormatInt(n, 10)
	}
	return strconv.FormatFloat(v.(float64), 'g', -1, 64)
}

// clip shortens text of users for messages.
func clip(s string) string {
	const limit = 60
	runes := []rune(s)
	if len(runes) <= limit {
		return s
	}
	return string(runes[:limit]) + "…"
}

// oneLine is clip for an expression, which may have lines, outside of quotes.
func oneLine(s string) string { return clip(strings.Join(strings.Fields(s), " ")) }

// sortedKeys is how code that workflows call goes over a map.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
