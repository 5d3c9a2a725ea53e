package config

import (
	"bytes"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Format returns a pipeline file in the standard layout: indentation by two
// spaces, aligned equals signs. Its meaning stays the same. A file that cannot be
// parsed is not changed; name is its name in the diagnostics.
func Format(name string, text []byte) ([]byte, Diagnostics) {
	r := report{sources: map[string][]byte{}}
	if len(text) > maxFileBytes {
		r.error(fileRange(name), "Cannot read the file", "It is too large: the limit is %s.", formatSize(maxFileBytes))
		return nil, r.finish()
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	if !r.checkText(name, text) {
		return nil, r.finish()
	}
	checkTokens(text, name, &r)
	if r.errors() == 0 {
		var problems hcl.Diagnostics
		if guard(func() { _, problems = hclsyntax.ParseConfig(text, name, hcl.InitialPos) }) {
			r.error(fileRange(name), "Cannot parse the file", "The parser fails on this file. Simplify it.")
		}
		r.fromHCL(problems, fileRange(name))
	}
	if r.errors() > 0 {
		return nil, r.finish()
	}
	var out []byte
	if guard(func() { out = hclwrite.Format(text) }) {
		r.error(fileRange(name), "Cannot format the file", "The formatter fails on this file. Simplify it.")
		return nil, r.finish()
	}
	return out, r.finish()
}
