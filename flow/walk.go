package flow

import "github.com/google/cel-go/common/ast"

// visitor is told of what an expression names, local variables of macros left out.
type visitor interface {
	ident(e ast.Expr, name string)
	// reference is params.x, run.x or steps.x.y.z; path holds what follows the root.
	reference(e ast.Expr, root string, path []ast.Expr)
	// namespace is the call of a function such as math.least.
	namespace(e ast.Expr)
	structure(e ast.Expr)
}

// walk visits an expression and all below it.
func walk(v visitor, e ast.Expr, locals map[string]bool) {
	switch e.Kind() {
	case ast.SelectKind:
		if root, path, ok := fieldPath(e); ok && !locals[root] && isRoot(root) {
			v.reference(e, root, path)
			return
		}
		walk(v, e.AsSelect().Operand(), locals)
	case ast.IdentKind:
		if name := e.AsIdent(); !locals[name] {
			v.ident(e, name)
		}
	case ast.CallKind:
		walkCall(v, e, locals)
	case ast.ListKind:
		for _, element := range e.AsList().Elements() {
			walk(v, element, locals)
		}
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			walk(v, entry.AsMapEntry().Key(), locals)
			walk(v, entry.AsMapEntry().Value(), locals)
		}
	case ast.StructKind:
		v.structure(e)
	case ast.ComprehensionKind:
		walkComprehension(v, e.AsComprehension(), locals)
	}
}

// walkCall visits x of x.f(), which may be the first half of a name, and the
// arguments.
func walkCall(v visitor, e ast.Expr, locals map[string]bool) {
	call := e.AsCall()
	if call.IsMemberFunction() {
		target := call.Target()
		if target.Kind() == ast.IdentKind && !locals[target.AsIdent()] && contained(namespaces, target.AsIdent()) {
			v.namespace(e)
		} else {
			walk(v, target, locals)
		}
	}
	for _, arg := range call.Args() {
		walk(v, arg, locals)
	}
}

// namespaces are first halves of names of functions, here and elsewhere in CEL.
var namespaces = []string{"base64", "lists", "math", "sets", "strings"}

func walkComprehension(v visitor, c ast.ComprehensionExpr, locals map[string]bool) {
	walk(v, c.IterRange(), locals)
	walk(v, c.AccuInit(), locals)
	inner := map[string]bool{c.AccuVar(): true, c.IterVar(): true, c.IterVar2(): true}
	for _, name := range sortedKeys(locals) {
		inner[name] = true
	}
	walk(v, c.LoopCondition(), inner)
	walk(v, c.LoopStep(), inner)
	walk(v, c.Result(), inner)
}

// fieldPath takes a.b.c apart.
func fieldPath(e ast.Expr) (root string, path []ast.Expr, ok bool) {
	for e.Kind() == ast.SelectKind {
		path = append([]ast.Expr{e}, path...)
		e = e.AsSelect().Operand()
	}
	if e.Kind() != ast.IdentKind {
		return "", nil, false
	}
	return e.AsIdent(), path, true
}

func isRoot(name string) bool { return name == "params" || name == "steps" || name == "run" }
