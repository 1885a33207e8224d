package flow

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"github.com/baas-batch/baas/tasklet"
)

// ParamError tells all that is wrong with the parameters of a run.
type ParamError struct {
	Messages []string // sorted by parameter
}

func (e *ParamError) Error() string { return strings.Join(e.Messages, "\n") }

func regexpReason(err error) string {
	var reason *syntax.Error
	if errors.As(err, &reason) {
		return reason.Code.String()
	}
	return err.Error()
}

// check brings a value into the parameter's type and checks pattern and choices.
func (p *Param) check(v any) (any, error) {
	v, err := p.Type.convert(v)
	if err != nil {
		return nil, err
	}
	if err := checkPattern(p.Pattern, v); err != nil {
		return nil, err
	}
	if len(p.Choices) == 0 {
		return v, nil
	}
	words := make([]string, len(p.Choices))
	for i, choice := range p.Choices {
		if string(choice) == string(marshal(v)) {
			return v, nil
		}
		words[i] = strings.Trim(string(choice), `"`)
	}
	return nil, fmt.Errorf("%s is not one of %s", describeValue(v), join(words))
}

func checkPattern(pattern string, v any) error {
	text, ok := v.(string)
	if pattern == "" || !ok {
		return nil
	}
	re, err := regexp.Compile(`^(?:` + pattern + `)$`)
	if err != nil {
		return fmt.Errorf("pattern %q: %s", pattern, regexpReason(err))
	}
	if !re.MatchString(text) {
		return fmt.Errorf("%q does not match the pattern %s", clip(text), pattern)
	}
	return nil
}

// Bind checks the parameters of a run, from whatever side they come, and fills in
// defaults. Values are plain JSON values; that of a file or directory is a tasklet.FileRef. The
// error is a *ParamError that names all mistakes.
func (f *Flow) Bind(params map[string]any) (map[string]any, error) {
	bound := map[string]any{}
	var wrong []string
	for _, name := range sortedKeys(params) {
		if _, ok := f.Param(name); !ok {
			wrong = append(wrong, f.unknownParam(name))
		}
	}
	for i := range f.Params {
		p := &f.Params[i]
		v, given := params[p.Name]
		switch {
		case given && v != nil:
			value, err := p.check(v)
			if err != nil {
				wrong = append(wrong, fmt.Sprintf("parameter %q: %s", p.Name, err))
				continue
			}
			bound[p.Name] = value
		case p.Type == File && p.Default != nil:
			wrong = append(wrong, fmt.Sprintf("parameter %q: its default file is not in storage", p.Name))
		case p.Default != nil:
			v, err := decodeJSON(p.Default)
			if err != nil {
				return nil, fmt.Errorf("parameter %q: default: %w", p.Name, err)
			}
			if bound[p.Name], err = p.Type.convert(v); err != nil {
				return nil, fmt.Errorf("parameter %q: default: %w", p.Name, err)
			}
		case p.Required:
			wrong = append(wrong, fmt.Sprintf("parameter %q (%s) is missing", p.Name, p.Type))
		}
	}
	if len(wrong) > 0 {
		return nil, &ParamError{wrong}
	}
	return bound, nil
}

func (f *Flow) unknownParam(name string) string {
	names := make([]string, len(f.Params))
	for i, p := range f.Params {
		names[i] = p.Name
	}
	message := fmt.Sprintf("unknown parameter %q", clip(name))
	hint := didYouMean(name, names)
	switch {
	case hint != "":
	case len(names) == 0:
		hint = "the flow has none"
	default:
		hint = "the flow has " + join(names)
	}
	return message + "; " + hint
}

// ParseParams turns the words of a command line into values of the parameters'
// types: a list is JSON or words between commas, a map is JSON. The value of a
// file stays a path (of files: a list of paths); the caller stores the file and
// puts a tasklet.FileRef in its place before Bind. The error is a *ParamError.
func (f *Flow) ParseParams(args map[string]string) (map[string]any, error) {
	values := map[string]any{}
	var wrong []string
	for _, name := range sortedKeys(args) {
		p, ok := f.Param(name)
		if !ok {
			wrong = append(wrong, f.unknownParam(name))
			continue
		}
		v, err := p.parse(args[name])
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("parameter %q: %s", name, err))
			continue
		}
		values[name] = v
	}
	if len(wrong) > 0 {
		return nil, &ParamError{wrong}
	}
	return values, nil
}

func (p *Param) parse(word string) (any, error) {
	switch p.Type {
	case File, Directory:
		if word == "" {
			return nil, fmt.Errorf("expected the path of %s", article(p.Type))
		}
		return word, nil
	case Files:
		return splitWords(word), nil
	case List:
		if !strings.HasPrefix(strings.TrimSpace(word), "[") {
			return p.check(splitWords(word))
		}
		fallthrough
	case Map:
		v, err := decodeJSON([]byte(word))
		if err != nil {
			return nil, fmt.Errorf("expected a %s as JSON: %w", p.Type, err)
		}
		return p.check(v)
	case Int:
		if n, err := strconv.ParseInt(word, 10, 64); err == nil {
			return p.check(n)
		}
	case Float:
		if x, err := strconv.ParseFloat(word, 64); err == nil {
			return p.check(x)
		}
	case Bool:
		if b, err := strconv.ParseBool(word); err == nil {
			return b, nil
		}
	}
	return p.check(word)
}

func splitWords(word string) []any {
	out := []any{}
	for _, w := range strings.Split(word, ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}

// FileParams names the parameters whose values are files or directories, in file
// order.
func (f *Flow) FileParams() []string {
	var names []string
	for _, p := range f.Params {
		if p.Type == File || p.Type == Files || p.Type == Directory {
			names = append(names, p.Name)
		}
	}
	return names
}

// DefaultFiles gives, by parameter, the paths in the app's directory of the files
// that stand in for file parameters that are not given. The caller stores them.
func (f *Flow) DefaultFiles(given map[string]any) map[string]string {
	out := map[string]string{}
	for _, p := range f.Params {
		if v, ok := given[p.Name]; p.Type != File || p.Default == nil || ok && v != nil {
			continue
		}
		var name string
		if json.Unmarshal(p.Default, &name) == nil {
			if clean, ok := appPath(name); ok {
				out[p.Name] = clean
			}
		}
	}
	return out
}

// IdentityDigest is a digest over the identity parameters as Bind returned them:
// 64 hexadecimal digits. A file counts by its content, not by where it is stored.
func (f *Flow) IdentityDigest(bound map[string]any) string {
	identity := map[string]any{}
	for _, p := range f.Params {
		if v, ok := bound[p.Name]; ok && p.Identity {
			identity[p.Name] = byContent(v)
		}
	}
	raw := marshal(identity) // encoding/json sorts keys
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

func byContent(v any) any {
	switch v := normal(v).(type) {
	case map[string]any:
		if v["$type"] == tasklet.FileRefTag {
			return map[string]any{"$type": tasklet.FileRefTag, "sha256": v["sha256"], "size": v["size"]}
		}
		out := make(map[string]any, len(v))
		for _, k := range sortedKeys(v) {
			out[k] = byContent(v[k])
		}
		return out
	case []any:
		out := slices.Clone(v)
		for i := range out {
			out[i] = byContent(out[i])
		}
		return out
	default:
		return v
	}
}

// AsFile reads a value of type file.
func AsFile(v any) (tasklet.FileRef, bool) {
	m, ok := plain(v).(map[string]any)
	if !ok || m["$type"] != tasklet.FileRefTag {
		return tasklet.FileRef{}, false
	}
	var ref tasklet.FileRef
	err := json.Unmarshal(marshal(m), &ref)
	return ref, err == nil && ref.Key != ""
}

// AsFiles reads a value of type files; false when one element is none.
func AsFiles(v any) ([]tasklet.FileRef, bool) {
	list, ok := plain(v).([]any)
	if !ok {
		return nil, false
	}
	out := make([]tasklet.FileRef, len(list))
	for i, e := range list {
		if out[i], ok = AsFile(e); !ok {
			return nil, false
		}
	}
	return out, true
}
