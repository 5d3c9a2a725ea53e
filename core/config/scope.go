package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// value is the result of an expression, twice: as it is, and as it is without
// any secret. Whatever a person may see is made from the second one alone.
type value struct {
	real  cty.Value
	shown cty.Value
}

// secret reports whether a secret went into the value.
func (v value) secret() bool {
	return !v.shown.IsWhollyKnown() || v.real.ContainsMarked() || v.shown.ContainsMarked()
}

// known reports whether the value can be used: with missing secrets allowed,
// some cannot.
func (v value) known() bool { return v.real.IsWhollyKnown() }

// bare is the value itself, without marks.
func (v value) bare() cty.Value {
	bare, _ := v.real.UnmarkDeep()
	return bare
}

// scope is what expressions can refer to. It is evaluated three times side by
// side, see secretMode.
type scope struct {
	parent   *scope
	contexts [blind + 1]*hcl.EvalContext
	names    map[string]struct{} // of this scope
	// groups are the names behind such as `var.` and `local.`; those with a problem
	// of their own have the value false.
	groups map[string]map[string]bool
}

func (l *loader) newScope() *scope {
	s := &scope{names: map[string]struct{}{}, groups: map[string]map[string]bool{}}
	for mode := range s.contexts {
		s.contexts[mode] = &hcl.EvalContext{
			Variables: map[string]cty.Value{},
			Functions: l.functions(secretMode(mode)),
		}
	}
	return s
}

func (s *scope) child() *scope {
	c := &scope{parent: s, names: map[string]struct{}{}, groups: map[string]map[string]bool{}}
	for mode, parent := range s.contexts {
		c.contexts[mode] = parent.NewChild()
		c.contexts[mode].Variables = map[string]cty.Value{}
	}
	return c
}

// set defines a name that is no secret.
func (s *scope) set(name string, v cty.Value) {
	s.names[name] = struct{}{}
	for _, c := range s.contexts {
		c.Variables[name] = v
	}
}

// setGroup defines what stands behind `name.`; broken names had a problem that is
// reported already.
func (s *scope) setGroup(name string, members map[string]value, broken []string) {
	s.names[name] = struct{}{}
	s.groups[name] = map[string]bool{}
	var values [blind + 1]map[string]cty.Value
	for mode := range values {
		values[mode] = map[string]cty.Value{}
	}
	for member, v := range members {
		s.groups[name][member] = true
		values[reveal][member] = v.real
		values[conceal][member] = v.shown
		values[blind][member] = v.shown
	}
	for _, member := range broken {
		s.groups[name][member] = false
	}
	for mode, c := range s.contexts {
		c.Variables[name] = cty.ObjectVal(values[mode])
	}
}

// find returns the scope that defines a name.
func (s *scope) find(name string) *scope {
	for ; s != nil; s = s.parent {
		if _, ok := s.names[name]; ok {
			return s
		}
	}
	return nil
}

func (s *scope) allNames() []string {
	var names []string
	for ; s != nil; s = s.parent {
		names = slices.AppendSeq(names, maps.Keys(s.names))
	}
	return names
}

// eval evaluates an expression and reports what is wrong with it.
//
// The text of a problem always comes from the evaluation in which secrets are
// not known. Where only the one with secrets fails, the text is not shown.
func (l *loader) eval(expr hclsyntax.Expression, s *scope) (value, bool) {
	if references, calls := l.checkReferences(expr, s), l.checkCalls(expr); !references || !calls {
		return value{}, false
	}
	l.loops.refused = false
	before := l.loops
	actual, problems := l.evalMode(expr, s, reveal)
	l.loops = before // both are one evaluation
	shown, shownProblems := l.evalMode(expr, s, conceal)
	switch {
	case before.turns > maxTurns && l.loops.refused:
		return value{}, false // reported by the expression that went beyond
	case !problems.HasErrors() && !shownProblems.HasErrors():
		v := value{actual, shown}
		return v, l.checkSize(expr, v)
	case !shownProblems.HasErrors():
		l.error(expr.Range(), "Invalid expression",
			"The value cannot be worked out. It depends on a secret, so what is wrong is not shown.")
		return value{}, false
	}
	if l.reportProblems(shownProblems, expr.Range()) {
		return value{}, false
	}
	// Only secrets are missing, and that is allowed.
	unknown, problems := l.evalMode(expr, s, blind)
	if problems.HasErrors() {
		l.fromHCL(problems, expr.Range())
		return value{}, false
	}
	return value{unknown, unknown}, true
}

func (l *loader) evalMode(expr hclsyntax.Expression, s *scope, mode secretMode) (v cty.Value, problems hcl.Diagnostics) {
	if guard(func() { v, problems = expr.Value(s.contexts[mode]) }) {
		return cty.DynamicVal, hcl.Diagnostics{{
			Severity: hcl.DiagError,
			Summary:  "Invalid expression",
			Detail:   "The evaluation fails on this expression. Simplify it.",
			Subject:  expr.Range().Ptr(),
		}}
	}
	return v, problems
}

// reportProblems reports problems of an evaluation without secrets, and says
// whether one of them is an error.
func (l *loader) reportProblems(problems hcl.Diagnostics, at hcl.Range) (failed bool) {
	for _, p := range problems {
		var lost *secretError
		if extra, ok := hcl.DiagnosticExtra[hclsyntax.FunctionCallDiagExtra](p); !ok || !errors.As(extra.FunctionCallError(), &lost) {
			l.fromHCL(hcl.Diagnostics{p}, at)
			failed = true
			continue
		}
		place := at
		if p.Subject != nil {
			place = *p.Subject
		}
		if l.options.AllowMissingSecrets {
			l.warning(place, "Missing secret", "%s. Running the pipeline needs it; the value was not checked.", upperFirst(lost.text))
			continue
		}
		l.error(place, "Missing secret", "%s.", upperFirst(lost.text))
		failed = true
	}
	return failed
}

// checkReferences reports names that nothing defines. Expressions that use
// something broken fail without another report.
func (l *loader) checkReferences(expr hclsyntax.Expression, s *scope) bool {
	ok := true
	for _, t := range expr.Variables() {
		root := t.RootName()
		found := s.find(root)
		if found == nil {
			l.error(t.SourceRange(), "Unknown name", "Nothing is called %s here.%s %s",
				quote(root), didYouMean(root, s.allNames()), listed("Known", s.allNames(), ""))
			ok = false
			continue
		}
		members, group := found.groups[root]
		if !group {
			continue
		}
		member, named := memberName(t)
		if !named {
			l.error(t.SourceRange(), "Incomplete name", "Write %s.NAME.", root)
			ok = false
			continue
		}
		intact, known := members[member]
		if !known {
			l.unknownMember(root, member, members, t.SourceRange())
		}
		ok = ok && known && intact
	}
	return ok
}

// checkCalls reports calls of functions that there are not.
func (l *loader) checkCalls(expr hclsyntax.Expression) bool {
	ok := true
	known := l.scope.contexts[reveal].Functions
	_ = hclsyntax.VisitAll(expr, func(n hclsyntax.Node) hcl.Diagnostics {
		call, is := n.(*hclsyntax.FunctionCallExpr)
		if !is {
			return nil
		}
		if _, found := known[call.Name]; !found {
			names := slices.Collect(maps.Keys(known))
			hint := didYouMean(call.Name, names)
			if hint == "" {
				hint = " " + listed("Functions", names, "")
			}
			l.error(call.NameRange, "Unknown function", "There is no function %s.%s", quote(call.Name), hint)
			ok = false
		}
		return nil
	})
	return ok
}

// unknownMember reports a name such as var.NAME that nothing defines.
func (l *loader) unknownMember(root, member string, members map[string]bool, at hcl.Range) {
	names := slices.Collect(maps.Keys(members))
	hint := ""
	switch root {
	case "var":
		hint = fmt.Sprintf(" Declare it with a block: variable %s {…}.", quote(member))
	case "local":
		hint = " Define it in a locals block."
	case "pipeline":
		hint = " Another pipeline can be named in the attribute until of a source only."
	}
	l.error(at, "Unknown name", "There is no %s.%s.%s %s%s", root, cut(member, maxQuote),
		didYouMean(member, names), listed("Known", names, "There are none."), hint)
}

// memberName returns the name behind a group such as var: .name or ["name"].
func memberName(t hcl.Traversal) (string, bool) {
	if len(t) < 2 {
		return "", false
	}
	switch step := t[1].(type) {
	case hcl.TraverseAttr:
		return step.Name, true
	case hcl.TraverseIndex:
		if step.Key.Type() == cty.String && step.Key.IsKnown() && !step.Key.IsNull() {
			return step.Key.AsString(), true
		}
	}
	return "", false
}

// checkSize refuses values with which later ones could grow without end.
func (l *loader) checkSize(expr hclsyntax.Expression, v value) bool {
	if err := checkValue(v.real); err != nil {
		l.error(expr.Range(), "Value too large", "%s.", upperFirst(err.Error()))
		return false
	}
	return true
}

var errNumberTooLarge = errors.New("the largest number is about 1.8e308")

// checkValue bounds the size of a value and of the numbers in it.
func checkValue(v cty.Value) error {
	if valueSize(v) > maxValueBytes {
		return errValueTooLarge
	}
	bare, _ := v.UnmarkDeep()
	return cty.Walk(bare, func(_ cty.Path, part cty.Value) (bool, error) {
		if part.Type() == cty.Number && !part.IsNull() && part.IsKnown() {
			if f, _ := part.AsBigFloat().Float64(); math.IsInf(f, 0) {
				return false, errNumberTooLarge
			}
		}
		return true, nil
	})
}
