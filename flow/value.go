package flow

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Value is what a field of the file holds: a literal, one expression, text with
// expressions in it, or a list or map of values. Exactly one of its fields is set.
type Value struct {
	Literal json.RawMessage `json:"lit,omitempty"`
	Expr    *Expr           `json:"expr,omitempty"`
	Text    []Segment       `json:"text,omitempty"`
	List    []Value         `json:"list,omitempty"`
	Map     []Entry         `json:"map,omitempty"`
}

// Segment is a piece of text, or an expression whose value becomes text.
type Segment struct {
	Text string `json:"text,omitempty"`
	Expr *Expr  `json:"expr,omitempty"`
}

// Entry is one entry of a map.
type Entry struct {
	Name  string `json:"name"`
	Value Value  `json:"value"`
}

// Eval gives the value as decoded JSON would hold it, whole numbers as int64.
func (v Value) Eval(s Scope) (any, error) {
	switch {
	case v.Expr != nil:
		return v.Expr.Eval(s)
	case v.Text != nil:
		return evalText(v.Text, s)
	case v.List != nil:
		out := make([]any, len(v.List))
		for i, e := range v.List {
			value, err := e.Eval(s)
			if err != nil {
				return nil, err
			}
			out[i] = value
		}
		return out, nil
	case v.Map != nil:
		out := make(map[string]any, len(v.Map))
		for _, e := range v.Map {
			value, err := e.Value.Eval(s)
			if err != nil {
				return nil, err
			}
			out[e.Name] = value
		}
		return out, nil
	case v.Literal != nil:
		decoded, err := decodeJSON(v.Literal)
		return normal(decoded), err
	}
	return nil, errors.New("flow: the value is empty")
}

func evalText(segments []Segment, s Scope) (string, error) {
	var b strings.Builder
	for _, segment := range segments {
		if segment.Expr == nil {
			b.WriteString(segment.Text)
			continue
		}
		value, err := segment.Expr.Eval(s)
		if err != nil {
			return "", err
		}
		text, err := toText(value)
		if err != nil {
			return "", segment.Expr.wrap(err)
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

// toText is the form of a value inside other text.
func toText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int64, float64:
		return formatNumber(v), nil
	}
	return "", fmt.Errorf("%s cannot be part of a text", describeValue(v))
}

// Eval gives the binding's value, converted to its type: decoded JSON, whole
// numbers as int64 unless the type is float.
func (b Binding) Eval(s Scope) (any, error) {
	v, err := b.Value.Eval(s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.Name, err)
	}
	if v, err = b.Type.convert(v); err == nil {
		err = checkPattern(b.Pattern, v)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.Name, err)
	}
	return v, nil
}

// piece is a part of a scalar before it is checked: literal text, or the source
// of an expression and where it begins in the scalar.
type piece struct {
	text   string
	isExpr bool
	offset int // of the expression's first byte
}

// errTemplate is a broken ${{ }} at an offset of the scalar.
type errTemplate struct {
	offset  int
	message string
}

func (e *errTemplate) Error() string { return e.message }

const openMark, closeMark = "${{", "}}"

// split takes a scalar apart at its expressions. $${{ stands for ${{ as text.
func split(s string) ([]piece, *errTemplate) {
	var out []piece
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			out = append(out, piece{text: text.String()})
			text.Reset()
		}
	}
	for at := 0; at < len(s); {
		switch {
		case strings.HasPrefix(s[at:], "$"+openMark):
			text.WriteString(openMark)
			at += len(openMark) + 1
		case strings.HasPrefix(s[at:], openMark):
			begin := at + len(openMark)
			end := exprEnd(s, begin)
			if end < 0 {
				return nil, &errTemplate{at, "${{ is not closed by }}"}
			}
			source := s[begin:end]
			lead := len(source) - len(strings.TrimLeft(source, " \t\r\n"))
			source = strings.TrimSpace(source)
			if source == "" {
				return nil, &errTemplate{at, "there is no expression in ${{ }}"}
			}
			flush()
			out = append(out, piece{text: source, isExpr: true, offset: begin + lead})
			at = end + len(closeMark)
		default:
			text.WriteByte(s[at])
			at++
		}
	}
	flush()
	return out, nil
}

// exprEnd finds the }} that closes an expression: outside of quotes, and not the
// end of a map in it.
func exprEnd(s string, at int) int {
	depth := 0
	for at < len(s) {
		switch c := s[at]; {
		case c == '"' || c == '\'':
			at = quoteEnd(s, at)
			continue
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		case strings.HasPrefix(s[at:], closeMark):
			return at
		}
		at++
	}
	return -1
}

// quoteEnd gives the offset behind a string literal of CEL that begins at at.
func quoteEnd(s string, at int) int {
	quote := s[at : at+1]
	if triple := strings.Repeat(quote, 3); strings.HasPrefix(s[at:], triple) {
		quote = triple
	}
	raw := at > 0 && strings.ContainsRune("rR", rune(s[at-1]))
	for i := at + len(quote); i < len(s); i++ {
		switch {
		case s[i] == '\\' && !raw:
			i++
		case strings.HasPrefix(s[i:], quote):
			return i + len(quote)
		}
	}
	return len(s)
}
