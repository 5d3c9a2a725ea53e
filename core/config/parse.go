package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Limits of what is parsed. The parser and the evaluation of expressions call
// themselves for each level of nesting and for each operator, and running out of
// stack ends a process.
const (
	maxNesting    = 64
	maxExpression = 1_000 // tokens of one expression, without those in brackets
	maxDirectives = 1_000 // %{ … } in a file
)

// parse returns the content of a file.
func (l *loader) parse(s source) (*hclsyntax.Body, bool) {
	before := l.errors()
	checkTokens(s.text, s.name, &l.report)
	if l.errors() > before {
		return nil, false
	}
	var file *hcl.File
	var problems hcl.Diagnostics
	crashed := guard(func() { file, problems = hclsyntax.ParseConfig(s.text, s.name, hcl.InitialPos) })
	if crashed {
		l.error(fileRange(s.name), "Cannot parse the file", "The parser fails on this file. Simplify it.")
		return nil, false
	}
	l.fromHCL(problems, fileRange(s.name))
	if problems.HasErrors() {
		return nil, false
	}
	body := file.Body.(*hclsyntax.Body)
	l.prepare(body)
	return body, true
}

// parseExpression parses the value of a -var option.
func parseExpression(text, name string, r *report) (hclsyntax.Expression, bool) {
	before := r.errors()
	checkTokens([]byte(text), name, r)
	if r.errors() > before {
		return nil, false
	}
	var expr hclsyntax.Expression
	var problems hcl.Diagnostics
	crashed := guard(func() { expr, problems = hclsyntax.ParseExpression([]byte(text), name, hcl.InitialPos) })
	r.fromHCL(problems, fileRange(name))
	return expr, !crashed && !problems.HasErrors()
}

// guard calls f and reports whether it panicked. A bug of a library on strange
// input must not end the process, and what it says may hold a secret.
func guard(f func()) (crashed bool) {
	defer func() {
		if recover() != nil {
			crashed = true
		}
	}()
	f()
	return false
}

// checkTokens reports what would be too deep or too long for the parser.
func checkTokens(text []byte, name string, r *report) {
	var tokens hclsyntax.Tokens
	if guard(func() { tokens, _ = hclsyntax.LexConfig(text, name, hcl.InitialPos) }) {
		r.error(fileRange(name), "Cannot parse the file", "The parser fails on this file. Simplify it.")
		return
	}
	directives := 0
	levels := []level{{}} // open brackets, outermost first
	for _, t := range tokens {
		here := &levels[len(levels)-1]
		here.count(t.Type)
		switch {
		case t.Type == hclsyntax.TokenNumberLit:
			checkNumber(t, r)
		case t.Type == hclsyntax.TokenTemplateControl:
			directives++
			fallthrough
		case opens(t.Type):
			levels = append(levels, level{open: t.Type})
		case closes(t.Type) && len(levels) > 1:
			levels = levels[:len(levels)-1]
		}
		switch {
		case len(levels) > maxNesting+1:
			r.error(t.Range, "Nested too deeply", "Blocks, brackets and templates may be nested %d deep.", maxNesting)
			return
		case here.tokens > maxExpression || directives > maxDirectives:
			r.error(t.Range, "Expression too long", "An expression may have %d parts. Split it into several locals.", maxExpression)
			return
		}
	}
}

// level is a bracket that is open, with the tokens since the last separator.
type level struct {
	open   hclsyntax.TokenType
	tokens int
}

func (l *level) count(t hclsyntax.TokenType) {
	switch t {
	case hclsyntax.TokenComma:
		l.tokens = 0
	case hclsyntax.TokenNewline:
		if l.open == 0 || l.open == hclsyntax.TokenOBrace {
			l.tokens = 0
		}
	case hclsyntax.TokenComment, hclsyntax.TokenStringLit, hclsyntax.TokenQuotedLit:
	default:
		l.tokens++
	}
}

func opens(t hclsyntax.TokenType) bool {
	switch t {
	case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen,
		hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc,
		hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
		return true
	}
	return false
}

func closes(t hclsyntax.TokenType) bool {
	switch t {
	case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen,
		hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
		return true
	}
	return false
}

// checkNumber refuses numbers that would take for ever to be written out.
func checkNumber(t hclsyntax.Token, r *report) {
	if value, err := strconv.ParseFloat(string(t.Bytes), 64); err != nil && (value > 1 || value < -1) {
		r.error(t.Range, "Number too large", "The largest number is about 1.8e308.")
	}
	if _, exponent, found := strings.Cut(strings.ToLower(string(t.Bytes)), "e"); found {
		if n, err := strconv.Atoi(exponent); err != nil || n < -400 {
			r.error(t.Range, "Number too small", "The smallest number above 0 is about 5e-324.")
		}
	}
	if len(t.Bytes) > maxExpression {
		r.error(t.Range, "Number too long", "A number may have %d digits.", maxExpression)
	}
}

// prepare looks through the expressions of a file before any of them is
// evaluated: it bounds loops and finds keys that stand twice.
func (l *loader) prepare(body *hclsyntax.Body) {
	_ = hclsyntax.VisitAll(body, func(n hclsyntax.Node) hcl.Diagnostics {
		switch n := n.(type) {
		case *hclsyntax.ForExpr:
			n.ValExpr = l.meter(n.ValExpr)
		case *hclsyntax.ObjectConsExpr:
			l.checkKeys(n)
		}
		return nil
	})
}

func (l *loader) meter(e hclsyntax.Expression) hclsyntax.Expression {
	return &metered{&hclsyntax.ParenthesesExpr{Expression: e, SrcRange: e.Range()}, &l.loops}
}

func (l *loader) checkKeys(object *hclsyntax.ObjectConsExpr) {
	seen := map[string]hcl.Range{}
	for _, item := range object.Items {
		key, ok := keyText(item.KeyExpr)
		if !ok {
			continue
		}
		at := item.KeyExpr.Range()
		if first, twice := seen[key]; twice {
			l.error(at, "Duplicate key", "The key %s stands twice; it is first given at %s.", quote(key), placeOf(first))
		}
		seen[key] = at
	}
}

// placeOf shows a second place in the text of a diagnostic.
func placeOf(r hcl.Range) string {
	return fmt.Sprintf("%s:%d:%d", r.Filename, r.Start.Line, r.Start.Column)
}

// maxTurns bounds the turns of all loops of a configuration together, and the
// bytes that they make.
const (
	maxTurns     = 100_000
	bytesForTurn = 100
)

// loops counts the turns of all loops.
type loops struct {
	turns    int
	reported bool // that the limit was reached
	refused  bool // there were turns beyond the limit
}

// metered is the value of a `for` expression. It ends the loop's work at the
// limit of turns. The parentheses make those who look for variables look inside.
type metered struct {
	*hclsyntax.ParenthesesExpr
	loops *loops
}

// Value evaluates the expression once more, unless there were too many turns.
func (m *metered) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	if m.loops.turns > maxTurns {
		m.loops.refused = true // reported by the turn that reached the limit
		return cty.DynamicVal, nil
	}
	m.loops.turns++
	value, problems := m.ParenthesesExpr.Value(ctx)
	m.loops.turns += valueSize(value) / bytesForTurn
	if m.loops.turns > maxTurns && !m.loops.reported {
		m.loops.reported = true
		problems = append(problems, &hcl.Diagnostic{
			Severity: hcl.DiagError,
			Summary:  "Too many turns of loops",
			Detail:   fmt.Sprintf("All loops of a configuration together may take %d turns. Loop over less.", maxTurns),
			Subject:  m.SrcRange.Ptr(),
		})
	}
	return value, problems
}
