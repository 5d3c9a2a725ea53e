package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"

	"github.com/pipelined/pipelined/core/config"
)

// logger returns the logger that the flags ask for.
func (g *globals) logger(out io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(g.logLevel)); err != nil {
		return nil, usage(fmt.Errorf("--log-level %s: want debug, info, warn or error", g.logLevel))
	}
	options := &slog.HandlerOptions{Level: level}
	switch g.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(out, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(out, options)), nil
	}
	return nil, usage(fmt.Errorf("--log-format %s: want text or json", g.logFormat))
}

// printDiagnostics prints the problems of a configuration in the form that the
// flags ask for.
func (g *globals) printDiagnostics(out io.Writer, d config.Diagnostics) error {
	if g.logFormat == "json" {
		return d.RenderJSON(out)
	}
	width, color := 0, false
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		color = os.Getenv("NO_COLOR") == ""
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			width = w
		}
	}
	return d.Render(out, width, color)
}
