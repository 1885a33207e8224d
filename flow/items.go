package flow

import (
	"errors"
	"fmt"
	"slices"

	"github.com/baas-batch/baas/tasklet"
)

// Items is what a for_each goes over. A range is not unfolded, and what is in
// storage is not read.
type Items struct {
	List []any `json:"list,omitempty"`
	From int64 `json:"from,omitempty"` // of a range, when List is nil
	N    int   `json:"n"`              // 0 with a Source
	// Source is where the items are, when that is neither here nor a range.
	Source *Source `json:"source,omitempty"`
}

// Source names something in storage that has the items. Exactly one field is set.
type Source struct {
	Lines   *tasklet.FileRef `json:"lines,omitempty"`   // of text lines
	Values  *tasklet.FileRef `json:"values,omitempty"`  // of one JSON value a line
	Files   *tasklet.FileRef `json:"files,omitempty"`   // a directory
	Objects string           `json:"objects,omitempty"` // a prefix below the owner's part of the store
	Outputs *Many            `json:"outputs,omitempty"`
}

// Len is the number of items.
func (i Items) Len() int { return i.N }

// At gives the item at an index from 0.
func (i Items) At(index int) any {
	if i.List != nil {
		return i.List[index]
	}
	return i.From + int64(index)
}

// Eval gives the items; more than MaxPartitions are an error. Elements that are null
// hold the place of an output that a partition does not have, and are left out.
func (e *ForEach) Eval(s Scope) (Items, error) {
	for _, source := range e.sources() {
		if v := *source.value; v != nil {
			return e.evalSource(s, source)
		}
	}
	if e.List == nil {
		return e.evalRange(s)
	}
	v, many, err := e.list(s)
	switch {
	case err != nil:
		return Items{}, fmt.Errorf("for_each: %w", err)
	case many != nil:
		return Items{Source: &Source{Outputs: &many.many}}, nil
	}
	if list, ok := v.([]any); ok && e.Item != Any {
		v = slices.DeleteFunc(slices.Clone(list), func(item any) bool { return item == nil })
	}
	converted, err := listOf(e.Item).convert(v)
	if err != nil {
		return Items{}, fmt.Errorf("for_each: %w", err)
	}
	list := converted.([]any)
	if len(list) > MaxPartitions {
		return Items{}, fmt.Errorf("for_each: %d items, at most %d are allowed", len(list), MaxPartitions)
	}
	return Items{List: list, N: len(list)}, nil
}

func (e *ForEach) list(s Scope) (any, *manyValue, error) {
	if e.List.Expr != nil {
		return e.List.Expr.evalOrMany(s)
	}
	v, err := e.List.Eval(s)
	return v, nil, err
}

func (e *ForEach) evalSource(s Scope, source source) (Items, error) {
	v, err := Binding{Name: "for_each: " + source.name, Type: source.want, Value: **source.value}.Eval(s)
	if err != nil {
		return Items{}, err
	}
	out := &Source{}
	if source.name == "objects" {
		if out.Objects = v.(string); out.Objects == "" {
			return Items{}, errors.New("for_each: objects: the text is empty")
		}
		return Items{Source: out}, nil
	}
	ref, ok := AsFile(v)
	if !ok {
		return Items{}, fmt.Errorf("for_each: %s: expected %s, found %s", source.name, article(source.want), describeValue(v))
	}
	switch source.name {
	case "lines":
		out.Lines = &ref
	case "values":
		out.Values = &ref
	case "files":
		out.Files = &ref
	}
	return Items{Source: out}, nil
}

func (e *ForEach) evalRange(s Scope) (Items, error) {
	if e.From == nil || e.To == nil {
		return Items{}, errors.New("flow: for_each has no items")
	}
	var ends [2]int64
	for i, end := range []*Value{e.From, e.To} {
		v, err := Binding{Name: "for_each", Type: Int, Value: *end}.Eval(s)
		if err != nil {
			return Items{}, err
		}
		ends[i] = v.(int64)
	}
	n := ends[1] - ends[0] + 1
	if n > MaxPartitions {
		return Items{}, fmt.Errorf("for_each: %d items, at most %d are allowed", n, MaxPartitions)
	}
	return Items{From: ends[0], N: int(max(n, 0))}, nil
}
