package config

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/pipelined/pipelined/sdk"
)

// bodySchema says what may stand in the body of a block.
type bodySchema struct {
	sdk.Schema
	scope *scope
	// host has the attributes and blocks that are the host's and not a plugin's:
	// no secrets are allowed in them. nil = all.
	host map[string]bool
	// elsewhere are attributes and blocks that the caller reads itself.
	elsewhere except
}

// except names attributes and blocks that are allowed but not decoded.
type except struct {
	attributes, blocks []string
}

// where is the block that a body belongs to.
type where struct {
	what string    // for messages: the source "csv" "in"
	at   hcl.Range // its header
}

func whereOf(b *hclsyntax.Block) where {
	what := "the " + cut(b.Type, maxQuote)
	for _, label := range b.Labels {
		what += " " + quote(label)
	}
	if len(b.Labels) == 0 {
		what += " block"
	}
	return where{what, headerRange(b)}
}

// decoded is the content of a body.
type decoded struct {
	body    sdk.Body
	shown   sdk.Body // without sensitive attributes and secrets
	secrets []string // texts in body that must not be printed
	ok      bool     // nothing was wrong
	// partial: a secret stands where the plugin expects none, so it cannot be
	// asked what it thinks of the body without being told.
	partial bool
}

// decode fills the struct that into points at, which holds the defaults, from a
// body of the host's own settings. It reports whether nothing was wrong.
func decode[T any](l *loader, body *hclsyntax.Body, into *T, s *scope, w where, elsewhere except) bool {
	d := l.decodeBody(body, bodySchema{Schema: sdk.SchemaOf(*into), scope: s, elsewhere: elsewhere}, w)
	return l.fill(d, into, w)
}

// fill copies a decoded body into a struct.
func (l *loader) fill(d decoded, into any, w where) bool {
	if err := sdk.Decode(d.body, into); err != nil {
		l.error(w.at, "Value out of range", "A value in %s is out of range: %s.", w.what, err)
		return false
	}
	return d.ok
}

// decodeBody checks a body against its schema. Everything that is wrong is
// reported; what is right is returned.
func (l *loader) decodeBody(body *hclsyntax.Body, s bodySchema, w where) decoded {
	before := l.errors()
	out := decoded{
		body:  sdk.Body{Attributes: map[string]sdk.Value{}},
		shown: sdk.Body{Attributes: map[string]sdk.Value{}},
		ok:    true,
	}
	present := map[string]hcl.Range{}
	for _, a := range sortedAttributes(body) {
		l.decodeAttribute(a, s, w, &out, present)
	}
	for _, b := range body.Blocks {
		l.decodeBlock(b, s, w, &out, present)
	}
	l.checkPresence(s.Schema, w, present)
	for _, a := range s.Attributes {
		if _, given := present[a.Name]; !given && a.Default != nil {
			out.body.Attributes[a.Name] = *a.Default
			out.shown.Attributes[a.Name] = *a.Default
		}
	}
	l.checkCounts(s.Schema, w, body)
	out.secrets = longestFirst(out.secrets)
	out.ok = out.ok && l.errors() == before
	return out
}

func (l *loader) decodeAttribute(a *hclsyntax.Attribute, s bodySchema, w where, out *decoded, present map[string]hcl.Range) {
	if slices.Contains(s.elsewhere.attributes, a.Name) {
		return
	}
	i := slices.IndexFunc(s.Attributes, func(known sdk.Attribute) bool { return known.Name == a.Name })
	if i < 0 {
		l.unknownAttribute(a, s, w)
		return
	}
	known := s.Attributes[i]
	if known.Sensitive {
		l.maskLiterals(a.Expr)
	}
	if known.Type == typePipeline {
		present[a.Name] = a.NameRange
		if name, ok := l.pipelineReference(a); ok {
			out.body.Attributes[a.Name] = sdk.Value{Kind: sdk.KindString, String: name}
		}
		return
	}
	v, ok := l.eval(a.Expr, s.scope)
	if !ok {
		present[a.Name] = a.NameRange
		out.ok = false // perhaps without an error here: what it refers to has one
		return
	}
	if v.known() && v.bare().IsNull() {
		return // as if it were left out
	}
	present[a.Name] = a.NameRange
	l.storeAttribute(a, known, v, s, out)
}

// storeAttribute converts a value and puts it where it belongs.
func (l *loader) storeAttribute(a *hclsyntax.Attribute, known sdk.Attribute, v value, s bodySchema, out *decoded) {
	secret := v.secret()
	if secret && (s.host == nil || s.host[a.Name]) {
		l.error(a.Expr.Range(), "Secret in a setting of the host",
			"The value of %s is shown in logs and in the status, so it cannot be a secret. Secrets belong in attributes of plugins.", quote(a.Name))
		return
	}
	out.partial = out.partial || secret && !known.Sensitive
	if !v.known() {
		return // missing, and that is allowed
	}
	c := converter{attribute: known, secret: secret || known.Sensitive}
	converted, problem := c.convert(v.bare())
	if problem != nil {
		l.error(locateValue(a.Expr, problem.path), "Invalid value", "The attribute %s does not fit. %s", quote(a.Name), problem.detail)
		return
	}
	out.body.Attributes[a.Name] = converted
	if secret || known.Sensitive {
		out.secrets = append(out.secrets, texts(v.real)...)
	} else {
		out.shown.Attributes[a.Name] = converted
	}
	l.checkSecrecy(a, known, v)
}

// checkSecrecy warns of secrets in the open.
func (l *loader) checkSecrecy(a *hclsyntax.Attribute, known sdk.Attribute, v value) {
	switch {
	case known.Sensitive && !v.secret() && len(texts(v.real)) > 0:
		l.warning(a.Expr.Range(), "Secret in the open",
			"The attribute %s is a secret, and this value can be read by whoever can read the file. Use secret::env(\"NAME\"), secret::file(\"PATH\") or secret::credential(\"NAME\").", quote(a.Name))
	case !known.Sensitive && v.secret():
		l.warning(a.Expr.Range(), "Secret where none is expected",
			"The plugin does not treat the attribute %s as a secret and may print its value. It checks this block only when it runs.", quote(a.Name))
	}
}

func (l *loader) unknownAttribute(a *hclsyntax.Attribute, s bodySchema, w where) {
	for _, b := range s.Blocks {
		if b.Type == a.Name {
			l.error(a.NameRange, "Block written as attribute", "In %s, %s is a block. Write it without the equals sign: %s {…}.", w.what, quote(a.Name), a.Name)
			return
		}
	}
	names := s.attributeNames()
	for _, known := range s.Attributes {
		if known.Sensitive && known.Name == suggest(a.Name, names) {
			l.maskLiterals(a.Expr)
		}
	}
	l.error(a.NameRange, "Unknown attribute", "%s has no attribute %s.%s %s", upperFirst(w.what), quote(a.Name),
		didYouMean(a.Name, names), s.allowed())
}

func (s bodySchema) attributeNames() []string {
	names := slices.Clone(s.elsewhere.attributes)
	for _, a := range s.Attributes {
		names = append(names, a.Name)
	}
	return names
}

func (s bodySchema) blockNames() []string {
	names := slices.Clone(s.elsewhere.blocks)
	for _, b := range s.Blocks {
		names = append(names, b.Type)
	}
	return names
}

// allowed lists what may stand in the body.
func (s bodySchema) allowed() string {
	attributes, blocks := s.attributeNames(), s.blockNames()
	switch {
	case len(attributes) > 0 && len(blocks) > 0:
		return fmt.Sprintf("Attributes: %s. Blocks: %s.", nameList(attributes), nameList(blocks))
	case len(attributes) > 0:
		return fmt.Sprintf("Attributes: %s.", nameList(attributes))
	case len(blocks) > 0:
		return fmt.Sprintf("Blocks: %s.", nameList(blocks))
	}
	return "It has neither attributes nor blocks."
}

func (l *loader) decodeBlock(b *hclsyntax.Block, s bodySchema, w where, out *decoded, present map[string]hcl.Range) {
	if slices.Contains(s.elsewhere.blocks, b.Type) {
		return
	}
	i := slices.IndexFunc(s.Blocks, func(known sdk.Block) bool { return known.Type == b.Type })
	if i < 0 {
		l.unknownBlock(b, s, w)
		return
	}
	known := s.Blocks[i]
	present[b.Type] = b.TypeRange
	inner := whereOf(b)
	inner.what += " in " + w.what
	if !l.checkLabels(b, known.Labels, inner) {
		return
	}
	host := map[string]bool{} // a plugin's block has nothing of the host
	if s.host == nil || s.host[b.Type] {
		host = nil
	}
	d := l.decodeBody(b.Body, bodySchema{Schema: known.Body, scope: s.scope, host: host}, inner)
	out.body.Blocks = append(out.body.Blocks, sdk.BlockBody{Type: b.Type, Labels: b.Labels, Body: d.body})
	out.shown.Blocks = append(out.shown.Blocks, sdk.BlockBody{Type: b.Type, Labels: b.Labels, Body: d.shown})
	out.secrets = append(out.secrets, d.secrets...)
	out.ok, out.partial = out.ok && d.ok, out.partial || d.partial
}

func (l *loader) unknownBlock(b *hclsyntax.Block, s bodySchema, w where) {
	for _, a := range s.Attributes {
		if a.Name == b.Type {
			l.error(headerRange(b), "Attribute written as block", "In %s, %s is an attribute. Write it with an equals sign: %s = …", w.what, quote(b.Type), b.Type)
			return
		}
	}
	l.error(headerRange(b), "Unknown block", "%s has no block %s.%s %s", upperFirst(w.what), quote(b.Type), didYouMean(b.Type, s.blockNames()), s.allowed())
}

// checkLabels compares the labels of a block with those it must have.
func (l *loader) checkLabels(b *hclsyntax.Block, want []string, w where) bool {
	if len(b.Labels) == len(want) {
		return true
	}
	form := b.Type
	for _, label := range want {
		form += fmt.Sprintf(" %q", "<"+label+">")
	}
	at := w.at
	if len(b.Labels) > len(want) {
		at = b.LabelRanges[len(want)]
	}
	l.error(at, "Wrong number of labels", "This block has %s; write %s {…}.", count(len(b.Labels), "label"), form)
	return false
}

// count is a number with its noun.
func count(n int, noun string) string {
	switch n {
	case 0:
		return "no " + noun + "s"
	case 1:
		return "one " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// checkPresence reports attributes that are missing and groups of which too many
// or none are given.
func (l *loader) checkPresence(s sdk.Schema, w where, present map[string]hcl.Range) {
	for _, a := range s.Attributes {
		if _, given := present[a.Name]; a.Required && !given {
			l.error(w.at, "Missing attribute", "%s needs an attribute %s: %s.%s", upperFirst(w.what), quote(a.Name),
				converter{attribute: a}.expected(), description(a.Description))
		}
	}
	for _, group := range s.OneOf {
		var given []string
		for _, name := range group.Names {
			if _, ok := present[name]; ok {
				given = append(given, name)
			}
		}
		switch {
		case len(given) > 1:
			slices.SortFunc(given, func(a, b string) int { return cmp.Compare(present[a].Start.Byte, present[b].Start.Byte) })
			l.error(present[given[1]], "Conflicting settings", "%s may have only one of %s.", upperFirst(w.what), nameList(group.Names))
		case len(given) == 0 && group.Required:
			l.error(w.at, "Missing setting", "%s needs one of %s.", upperFirst(w.what), nameList(group.Names))
		}
	}
}

func description(text string) string {
	if text == "" {
		return ""
	}
	return " " + upperFirst(text) + "."
}

// checkCounts reports blocks that stand too often or not often enough.
func (l *loader) checkCounts(s sdk.Schema, w where, body *hclsyntax.Body) {
	for _, known := range s.Blocks {
		n := 0
		var first hcl.Range
		for _, b := range body.Blocks {
			if b.Type != known.Type {
				continue
			}
			if n++; n == 1 {
				first = headerRange(b)
			}
			if known.Max > 0 && n == known.Max+1 {
				l.error(headerRange(b), "Too many blocks", "%s may have %s of type %s; the first is at %s.",
					upperFirst(w.what), count(known.Max, "block"), quote(b.Type), placeOf(first))
			}
		}
		if n < known.Min {
			l.error(w.at, "Missing block", "%s needs %s of type %s and has %s.%s", upperFirst(w.what),
				count(known.Min, "block"), quote(known.Type), count(n, "block"), description(known.Description))
		}
	}
}

// sortedAttributes returns the attributes of a body in the order of the file.
func sortedAttributes(body *hclsyntax.Body) []*hclsyntax.Attribute {
	var out []*hclsyntax.Attribute
	for _, a := range body.Attributes {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b *hclsyntax.Attribute) int {
		return cmp.Compare(a.SrcRange.Start.Byte, b.SrcRange.Start.Byte)
	})
	return out
}

// headerRange covers the type and the labels of a block.
func headerRange(b *hclsyntax.Block) hcl.Range {
	at := b.TypeRange
	if n := len(b.LabelRanges); n > 0 {
		at = hcl.RangeBetween(at, b.LabelRanges[n-1])
	}
	return at
}

// upperFirst makes the start of a sentence of ASCII text.
func upperFirst(text string) string {
	if text != "" && text[0] >= 'a' && text[0] <= 'z' {
		return string(text[0]-'a'+'A') + text[1:]
	}
	return text
}
