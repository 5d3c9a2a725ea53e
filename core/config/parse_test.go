package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestBombs loads files that are large, and nested as deep or as long as they can
// be, with and without an end to it.
func TestBombs(t *testing.T) {
	if testing.Short() {
		t.Skip("large files take seconds under the race detector")
	}
	const size = maxFileBytes / 16
	fill := func(unit string) string { return strings.Repeat(unit, size/len(unit)) }
	half := func(open, end string) string {
		n := size / (len(open) + len(end))
		return strings.Repeat(open, n) + strings.Repeat(end, n)
	}
	for name, text := range map[string]string{
		"brackets":            "locals {\n a = " + fill("["),
		"closed brackets":     "locals {\n a = " + half("[", "]") + "\n}",
		"braces":              "locals {\n a = " + fill("{a="),
		"parentheses":         "locals {\n a = " + half("(", ")") + "\n}",
		"templates":           "locals {\n a = " + fill("\"${"),
		"closed templates":    "locals {\n a = " + half("\"${", "}\"") + "\n}",
		"directives":          "locals {\n a = \"" + fill("%{if true}") + "\"\n}",
		"loops":               "locals {\n a = " + fill("[for a in b : "),
		"calls":               "locals {\n a = " + half("upper(", ")") + "\n}",
		"not":                 "locals {\n a = " + fill("!") + "true\n}",
		"minus":               "locals {\n a = " + fill("-") + "1\n}",
		"conditions":          "locals {\n a = " + fill("true?1:") + "1\n}",
		"sum":                 "locals {\n a = " + fill("1+") + "1\n}",
		"steps":               "locals {\n a = path" + fill(".x") + "\n}",
		"indexes":             "locals {\n a = path" + fill("[path]") + "\n}",
		"splats":              "locals {\n a = path" + fill("[*]") + "\n}",
		"attribute splats":    "locals {\n a = path" + fill(".*") + "\n}",
		"long list":           "locals {\n a = [" + fill("1,") + "]\n}",
		"long object":         "locals {\n a = {" + fill("a=1,") + "}\n}",
		"long template":       "locals {\n a = \"" + fill("${1}") + "\"\n}",
		"long text":           "locals {\n a = \"" + fill("x") + "\"\n}",
		"long number":         "locals {\n a = " + fill("1") + "\n}",
		"long name":           "locals {\n " + fill("a") + " = 1\n}",
		"many arguments":      "locals {\n a = max(" + fill("1,") + "1)\n}",
		"blocks":              fill("a {\n"),
		"closed blocks":       half("a {\n", "}\n"),
		"many blocks":         fill("a {\n}\n"),
		"many pipelines":      fill("pipeline \"p\" {\n}\n"),
		"many labels":         "pipeline " + fill("\"a\" ") + "{\n}",
		"heredocs":            "locals {\n a = " + fill("<<A\n${") + "\n}",
		"lines":               fill("\n"),
		"one line":            fill("a "),
		"quotes":              fill("\""),
		"equals":              fill("="),
		"mixed closers":       "locals {\n a = " + fill("[}") + "\n}",
		"comment":             "/*" + fill("*"),
		"many locals":         "locals {\n" + numbered(20_000, "a%d = 1\n") + "}\n",
		"chain of locals":     "locals {\n a0 = 1\n" + chain(9_000) + "}\n",
		"doubling":            "locals {\n a0 = \"xxxxxxxx\"\n" + doubling(60) + "}\n",
		"nested loops":        "locals {\n a = " + strings.Repeat("[for a in range(1000) : ", 5) + "a" + strings.Repeat("]", 5) + "\n}",
		"nested object loops": "locals {\n a = " + strings.Repeat("{for a in range(1000) : a => ", 5) + "a" + strings.Repeat("}", 5) + "\n}",
		"loops in templates":  "locals {\n a = \"" + strings.Repeat("%{for a in range(1000)}", 5) + "x" + strings.Repeat("%{endfor}", 5) + "\"\n}",
		"escaping":            "locals {\n a = " + strings.Repeat("jsonencode(", 40) + "\"\\\"\"" + strings.Repeat(")", 40) + "\n}",
		"squaring":            "locals {\n a0 = 1e300\n" + squaring(30) + "b = \"${local.a29}\"\n}\n",
		"replacing":           "locals {\n a = replace(join(\"\", [for i in range(1000) : \"xxxxxxxxxxxxxxxxxxxx\"]), \"x\", join(\"\", [for i in range(1000) : \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"]))\n}\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, problems := loadText(t, text)
			assert.Nil(t, c) // none of them has a good pipeline
			checkPlaces(t, problems)
			assert.LessOrEqual(t, len(rendered(t, problems)), maxDiagnostics*(maxDetailBytes+2*maxSnippetBytes))
		})
	}
}

func numbered(n int, format string) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, format, i)
	}
	return out.String()
}

func chain(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, " a%d = local.a%d\n", i+1, i)
	}
	return out.String()
}

func doubling(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, " a%d = \"${local.a%d}${local.a%d}\"\n", i+1, i, i)
	}
	return out.String()
}

func squaring(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, " a%d = local.a%d * local.a%d\n", i+1, i, i)
	}
	return out.String()
}

// TestNestingThatIsAllowed stays below the limits.
func TestNestingThatIsAllowed(t *testing.T) {
	for name, expr := range map[string]string{
		"brackets":  strings.Repeat("[", 50) + strings.Repeat("]", 50),
		"operators": strings.Repeat("1 + ", 400) + "1",
		"list":      "[" + strings.Repeat("1,", 20_000) + "]",
		"template":  "\"" + strings.Repeat("${1}", 300) + "\"",
		"loops":     "[for a in range(100) : [for b in range(100) : a * b]]",
	} {
		c := mustLoad(t, "locals {\n  x = "+expr+"\n}\n"+goodText)
		assert.NotNil(t, c, name)
	}
}
