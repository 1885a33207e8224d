package master

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// decodeJSON reads a call and, unlike mesos-go's decoder, insists on what the
// protobuf definition requires, as Mesos does.
func decodeJSON(body []byte, into message) (err error) {
	var tree any
	if err := json.Unmarshal(body, &tree); err != nil {
		return badRequest("Failed to parse body into JSON: %v", err)
	}
	if _, ok := tree.(map[string]any); !ok {
		return badRequest("Failed to convert JSON into Call protobuf: expecting a JSON object")
	}
	if err := json.Unmarshal(body, into); err != nil {
		return badRequest("Failed to convert JSON into Call protobuf: %v", err)
	}
	if missing := missingField(tree, reflect.TypeOf(into).Elem(), ""); missing != "" {
		return badRequest("Failed to convert JSON into Call protobuf: missing required field '%s'", missing)
	}
	return nil
}

// missingField answers the path of a required field of t that tree lacks.
func missingField(tree any, t reflect.Type, path string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t.Kind() == reflect.Slice:
		items, _ := tree.([]any)
		for i, item := range items {
			if missing := missingField(item, t.Elem(), fmt.Sprintf("%s[%d]", path, i)); missing != "" {
				return missing
			}
		}
		return ""
	case t.Kind() != reflect.Struct:
		return ""
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return ""
	}
	for i := range t.NumField() {
		field := t.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		tag := strings.Split(field.Tag.Get("protobuf"), ",")
		if name == "" || len(tag) < 3 {
			continue
		}
		at := strings.TrimPrefix(path+"."+name, ".")
		value, present := object[name]
		if !present || value == nil {
			if tag[2] == "req" {
				return at
			}
			continue
		}
		if missing := missingField(value, field.Type, at); missing != "" {
			return missing
		}
	}
	return ""
}
