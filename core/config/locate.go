package config

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/pipelined/pipelined/sdk"
)

// locate finds the place that a path names. What the file leaves out is placed at
// the innermost block there is; at is the header of the body's own block.
func (l *loader) locate(body *hclsyntax.Body, at hcl.Range, d sdk.Diagnostic, s *scope) hcl.Range {
	for i, step := range d.Path {
		switch {
		case step.Block != "":
			b := nthBlock(body, step.Block, step.BlockIndex)
			if b == nil {
				return at
			}
			body, at = b.Body, headerRange(b)
		case step.Attribute != "":
			a := body.Attributes[step.Attribute]
			if a == nil {
				return at
			}
			expr := valueExpression(a.Expr, d.Path[i+1:])
			if d.Line > 0 {
				if place, ok := l.locateText(expr, d.Line, max(d.Column, 1), s); ok {
					return place
				}
			}
			return expr.Range()
		default:
			return at
		}
	}
	return at
}

func nthBlock(body *hclsyntax.Body, blockType string, n int) *hclsyntax.Block {
	for _, b := range body.Blocks {
		if b.Type == blockType {
			if n == 0 {
				return b
			}
			n--
		}
	}
	return nil
}

// locateValue is the place of an element inside the value of an attribute.
func locateValue(expr hclsyntax.Expression, path []sdk.Step) hcl.Range {
	return valueExpression(expr, path).Range()
}

// valueExpression follows indexes and keys into lists and maps as far as they are
// written out in the file.
func valueExpression(expr hclsyntax.Expression, path []sdk.Step) hclsyntax.Expression {
	for _, step := range path {
		next := elementExpression(expr, step)
		if next == nil {
			return expr
		}
		expr = next
	}
	return expr
}

func elementExpression(expr hclsyntax.Expression, step sdk.Step) hclsyntax.Expression {
	switch e := expr.(type) {
	case *hclsyntax.ParenthesesExpr:
		return elementExpression(e.Expression, step)
	case *hclsyntax.TupleConsExpr:
		if step.Index >= 1 && step.Index <= len(e.Exprs) {
			return e.Exprs[step.Index-1]
		}
	case *hclsyntax.ObjectConsExpr:
		for _, item := range e.Items {
			if key, ok := keyText(item.KeyExpr); ok && key == step.Key && step.Index == 0 {
				return item.ValueExpr
			}
		}
	}
	return nil
}

// keyText returns the key of an object item if it is written out.
func keyText(key hclsyntax.Expression) (string, bool) {
	if k, ok := key.(*hclsyntax.ObjectConsKeyExpr); ok {
		if word := hcl.ExprAsKeyword(k); word != "" {
			return word, true
		}
		key = k.Wrapped
	}
	return literalText(key)
}

// literalText returns the text of a quoted string without interpolations.
func literalText(expr hclsyntax.Expression) (string, bool) {
	t, ok := expr.(*hclsyntax.TemplateExpr)
	if !ok || !t.IsStringLiteral() {
		return "", false
	}
	v, problems := t.Value(nil)
	if problems.HasErrors() || !v.IsKnown() || v.IsNull() || v.Type() != cty.String {
		return "", false
	}
	return v.AsString(), true
}

// locateText finds a line and column, both from 1 and columns in runes, of the
// text that an expression gives: inside a quoted string or a heredoc, also behind
// interpolations, whose own text is placed at the interpolation.
func (l *loader) locateText(expr hclsyntax.Expression, line, column int, s *scope) (hcl.Range, bool) {
	t, ok := expr.(*hclsyntax.TemplateExpr)
	if !ok {
		return hcl.Range{}, false
	}
	src := l.sources[t.SrcRange.Filename]
	to := &textCursor{line: line, column: column}
	var end hcl.Range // behind the last part
	for _, part := range t.Parts {
		end = hcl.Range{Filename: part.Range().Filename, Start: part.Range().End, End: part.Range().End}
		literal, ok := part.(*hclsyntax.LiteralValueExpr)
		if ok && literal.Val.Type() == cty.String {
			if at, found := to.literal(src, literal, isHeredoc(src, t)); found {
				return at, true
			}
			continue
		}
		shown, problems := l.evalMode(part, s, conceal)
		if problems.HasErrors() || !shown.IsWhollyKnown() || shown.ContainsMarked() {
			return hcl.Range{}, false
		}
		shown, err := convert.Convert(shown, cty.String)
		if err != nil || shown.IsNull() {
			return hcl.Range{}, false
		}
		for _, c := range shown.AsString() {
			if to.step(c) {
				return part.Range(), true
			}
		}
	}
	return end, to.line == 1 && len(t.Parts) > 0
}

// isHeredoc reports whether a template is a heredoc: only quoted strings have
// escapes with a backslash.
func isHeredoc(src []byte, t *hclsyntax.TemplateExpr) bool {
	return strings.HasPrefix(string(t.SrcRange.SliceBytes(src)), "<<")
}

// textCursor counts down to a line and column of a text that it walks through.
type textCursor struct {
	line, column int
}

// step goes over a character and reports whether it was the one.
func (c *textCursor) step(r rune) bool {
	if c.line == 1 {
		c.column--
		if c.column == 0 {
			return true
		}
	}
	if r == '\n' {
		// A column behind the end of its line is placed at the end.
		if c.line == 1 {
			c.column = 0
			return true
		}
		c.line--
	}
	return false
}

// literal walks through a literal part of a template. White space that is in the
// file but not in the value is indentation that the template strips.
func (c *textCursor) literal(src []byte, part *hclsyntax.LiteralValueExpr, heredoc bool) (hcl.Range, bool) {
	raw := part.SrcRange.SliceBytes(src)
	rest := part.Val.AsString()
	pos := part.SrcRange.Start
	for len(raw) > 0 && rest != "" {
		r, size := decodeEscape(raw, heredoc)
		next := advance(pos, raw[:size])
		want, width := utf8.DecodeRuneInString(rest)
		if r == want || !unicode.IsSpace(r) {
			if c.step(r) {
				return hcl.Range{Filename: part.SrcRange.Filename, Start: pos, End: next}, true
			}
			rest = rest[width:]
		}
		pos, raw = next, raw[size:]
	}
	return hcl.Range{}, false
}

// decodeEscape reads one character of a literal: what it stands for, and the
// number of bytes that it takes in the file.
func decodeEscape(raw []byte, heredoc bool) (rune, int) {
	text := string(raw[:min(len(raw), 10)])
	if strings.HasPrefix(text, "$${") || strings.HasPrefix(text, "%%{") {
		return rune(text[0]), 2
	}
	if heredoc || text[0] != '\\' || len(text) < 2 {
		return utf8.DecodeRuneInString(text)
	}
	digits := map[byte]int{'u': 4, 'U': 8}[text[1]]
	if digits > 0 && len(text) >= 2+digits {
		n, err := strconv.ParseUint(text[2:2+digits], 16, 32)
		if err == nil {
			return rune(n), 2 + digits
		}
	}
	switch text[1] {
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	}
	return rune(text[1]), 2
}

// advance moves a position over text.
func advance(p hcl.Pos, text []byte) hcl.Pos {
	for _, r := range string(text) {
		p.Byte += utf8.RuneLen(r)
		p.Column++
		if r == '\n' {
			p.Line, p.Column = p.Line+1, 1
		}
	}
	return p
}
