package executor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/baas-batch/baas/tasklet"
)

// maxValues bounds the output values of one partition together, in bytes of JSON.
const maxValues = 256 << 10

// outputError is a fault of the tasklet's: it ended well but left wrong outputs.
type outputError struct{ reason string }

func (e *outputError) Error() string { return e.reason }

func badOutput(format string, args ...any) error {
	return &outputError{fmt.Sprintf(format, args...)}
}

// collectValues reads the declared values, from outputs.json or else from a file
// of the output's name. Its errors are *outputErrors.
func collectValues(declared []tasklet.Output, dir string, u user) (map[string]json.RawMessage, error) {
	object, err := readOutputsFile(dir, u)
	if err != nil {
		return nil, err
	}
	values := map[string]json.RawMessage{}
	size := 0
	for _, o := range declared {
		if o.Type.IsFile() {
			continue
		}
		raw, found := object[o.Name]
		if found {
			raw, err = checkValue(o, raw)
		} else {
			raw, found, err = valueFromFile(o, dir, u)
		}
		switch {
		case err != nil:
			return nil, err
		case found:
			values[o.Name] = raw
			size += len(o.Name) + len(raw)
		case !o.Optional:
			return nil, badOutput("output %q is missing: neither %s nor a file of that name gives it%s",
				o.Name, tasklet.OutputsFile, others(object))
		}
	}
	if size > maxValues {
		return nil, badOutput("output values have %d KB together, at most %d are allowed: write large ones as files", size>>10, maxValues>>10)
	}
	return values, nil
}

// others helps to see a misspelt name.
func others(object map[string]json.RawMessage) string {
	if len(object) == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s has %s)", tasklet.OutputsFile,
		printable(strings.Join(slices.Sorted(maps.Keys(object)), ", "), 200))
}

func readOutputsFile(dir string, u user) (map[string]json.RawMessage, error) {
	data, err := readSmall(dir, tasklet.OutputsFile, u, 2*maxValues)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, badOutput("outputs: %v", err)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil {
		return nil, badOutput("%s is not a JSON object: %v", tasklet.OutputsFile, err)
	}
	// A null is no value.
	maps.DeleteFunc(object, func(_ string, v json.RawMessage) bool { return string(v) == "null" })
	return object, nil
}

// checkValue checks a JSON value against the declared type and gives it in its
// shortest form.
func checkValue(o tasklet.Output, raw json.RawMessage) (json.RawMessage, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		return nil, badOutput("output %q is not JSON: %v", o.Name, err)
	}
	raw = compact.Bytes()
	ok := false
	switch first := raw[0]; o.Type {
	case tasklet.TypeString:
		ok = first == '"'
	case tasklet.TypeInt:
		_, err := strconv.ParseInt(string(raw), 10, 64)
		ok = err == nil
	case tasklet.TypeFloat:
		_, err := strconv.ParseFloat(string(raw), 64)
		ok = err == nil // JSON knows no NaN
	case tasklet.TypeBool:
		ok = first == 't' || first == 'f'
	case tasklet.TypeDuration:
		var s string
		if json.Unmarshal(raw, &s) == nil {
			_, err := time.ParseDuration(s)
			ok = err == nil
		}
	case tasklet.TypeList, tasklet.TypeMap:
		ok = first == '[' && o.Type == tasklet.TypeList || first == '{' && o.Type == tasklet.TypeMap
		var v any
		if err := json.Unmarshal(raw, &v); ok && err != nil {
			return nil, badOutput("output %q cannot be read: %v", o.Name, err) // a number such as 1e999
		}
	default:
		return nil, badOutput("output %q has the unknown type %q", o.Name, o.Type)
	}
	if !ok {
		return nil, badOutput("output %q is %s, not of type %s", o.Name, printable(string(raw), 60), o.Type)
	}
	return raw, nil
}

// valueFromFile takes the text of a file as a value: strings and durations as
// they stand, without the last newline, the rest as JSON.
func valueFromFile(o tasklet.Output, dir string, u user) (raw json.RawMessage, found bool, err error) {
	data, err := readSmall(dir, o.Name, u, maxValues)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, badOutput("output %q: %v", o.Name, err)
	}
	switch o.Type {
	case tasklet.TypeString, tasklet.TypeDuration:
		text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
		if o.Type == tasklet.TypeDuration {
			text = strings.TrimSpace(text)
		}
		if !utf8.ValidString(text) {
			return nil, false, badOutput("output %q is not UTF-8 text: declare it as a file", o.Name)
		}
		data, err = json.Marshal(text)
	default:
		data = bytes.TrimSpace(data)
		if !json.Valid(data) {
			return nil, false, badOutput("output %q is %q, not of type %s", o.Name, printable(string(data), 60), o.Type)
		}
	}
	if err != nil {
		return nil, false, badOutput("output %q: %v", o.Name, err)
	}
	raw, err = checkValue(o, data)
	return raw, true, err
}
