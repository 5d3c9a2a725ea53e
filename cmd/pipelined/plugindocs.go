package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/wire"
)

// writePluginDocs renders a plugin's own description of itself as Markdown.
func writePluginDocs(out io.Writer, d wire.Description) {
	fmt.Fprintf(out, "# %s `%s`\n\nVersion %s. %s\n\n", d.Kind, d.Info.Name, d.Info.Version, d.Info.Description)
	for _, line := range capabilities(d) {
		fmt.Fprintf(out, "%s\n\n", line)
	}
	writeSchema(out, d.Schema, "")
}

func capabilities(d wire.Description) []string {
	var lines []string
	switch d.Kind {
	case sdk.KindSource:
		if d.Source.Replayable {
			lines = append(lines, "Can go on from where it was.")
		}
	case sdk.KindEncoder:
		lines = append(lines, fmt.Sprintf("Messages have the format `%s`.", d.Encoder.Format))
	case sdk.KindTransport:
		input := "Takes rows."
		if d.Transport.Input == sdk.InputEncoded {
			input = "Takes encoded messages"
			if len(d.Transport.Formats) > 0 {
				input += fmt.Sprintf(" of the format `%s`", strings.Join(d.Transport.Formats, "`, `"))
			}
			input += "."
		}
		lines = append(lines, input)
		if d.Transport.MaxMessageBytes > 0 {
			lines = append(lines, fmt.Sprintf("A message may have at most %d bytes.", d.Transport.MaxMessageBytes))
		}
	}
	return lines
}

// writeSchema prints a table of attributes, then every nested block under its path.
func writeSchema(out io.Writer, s sdk.Schema, path string) {
	if len(s.Attributes) > 0 {
		fmt.Fprintln(out, "| Attribute | Type | Default | Meaning |")
		fmt.Fprintln(out, "|---|---|---|---|")
		for _, a := range s.Attributes {
			fmt.Fprintf(out, "| `%s` | %s | %s | %s |\n", a.Name, typeOf(a), defaultOf(a), cell(a.Description))
		}
		fmt.Fprintln(out)
	}
	for _, g := range s.OneOf {
		rule := "At most one of `%s` may be given.\n\n"
		if g.Required {
			rule = "One of `%s` must be given, and no more.\n\n"
		}
		fmt.Fprintf(out, rule, strings.Join(g.Names, "`, `"))
	}
	for _, b := range s.Blocks {
		name := b.Type
		for _, label := range b.Labels {
			name += fmt.Sprintf(" \"%s\"", strings.ToUpper(label))
		}
		fmt.Fprintf(out, "## Block `%s%s`\n\n%s%s\n\n", path, name, occurrence(b), sentence(b.Description))
		writeSchema(out, b.Body, path+b.Type+" › ")
	}
}

func occurrence(b sdk.Block) string {
	switch {
	case b.Min > 0 && b.Max == 1:
		return "Required, once. "
	case b.Min > 0:
		return "Required, may be repeated. "
	case b.Max == 1:
		return "At most once. "
	}
	return "May be repeated. "
}

func sentence(text string) string {
	if text == "" || strings.HasSuffix(text, ".") {
		return text
	}
	return text + "."
}

var typeNames = map[sdk.ValueType]string{
	sdk.TypeString: "text", sdk.TypeInteger: "whole number", sdk.TypeNumber: "number", sdk.TypeBool: "bool",
	sdk.TypeDuration: "duration", sdk.TypeSize: "size", sdk.TypeTime: "time",
}

func typeOf(a sdk.Attribute) string {
	name := typeNames[a.Type]
	switch a.Collection {
	case sdk.List:
		name = "list of " + name
	case sdk.Map:
		name = "map of " + name
	}
	if a.Sensitive {
		name = "secret " + name
	}
	if len(a.Allowed) > 0 {
		name += ": `" + strings.Join(a.Allowed, "`, `") + "`"
	}
	if len(a.Keywords) > 0 {
		name += " or `" + strings.Join(a.Keywords, "`, `") + "`"
	}
	return cell(name)
}

func defaultOf(a sdk.Attribute) string {
	switch {
	case a.Required:
		return "required"
	case a.Default == nil:
		return ""
	}
	return cell("`" + config.FormatValue(a, *a.Default) + "`")
}

// cell makes text safe inside a Markdown table.
func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "|", "\\|"), "\n", " ")
}
