package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// globals are the options of every command.
type globals struct {
	pluginDirs []string
	logFormat  string
	logLevel   string
}

// execute runs the command line and returns the exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(longFlags(args))
	root.SetOut(stdout)
	root.SetErr(stderr)
	addStandardCommands(root)
	strictArgs(root)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[*exitError](err); !ok || e.cause != nil {
		if format, _ := root.PersistentFlags().GetString("log-format"); format == "json" {
			slog.New(slog.NewJSONHandler(stderr, nil)).Error(err.Error())
		} else {
			fmt.Fprintf(stderr, "pipelined: %s\n", printableText(err.Error()))
		}
	}
	return exitCode(err)
}

func newRoot() *cobra.Command {
	g := &globals{}
	root := &cobra.Command{
		Use:   "pipelined",
		Short: "Telemetry pipelines that lose nothing",
		Long: "pipelined reads pipeline files and runs their sources, encoders and transports\n" +
			"as plugin processes, from test stands and vehicles to where the data is needed.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.PersistentFlags().StringArrayVar(&g.pluginDirs, "plugin-dir", nil, "look for plugins in this directory first (may be repeated)")
	root.PersistentFlags().StringVar(&g.logFormat, "log-format", "text", "format of log lines and diagnostics: text or json")
	root.PersistentFlags().StringVar(&g.logLevel, "log-level", "info", "least level of log lines: debug, info, warn or error")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath()))
	})
	root.AddCommand(newRun(g), newStatus(), newValidate(g), newFmt(g), newPlugin(g), newBackup(g), newVersion())
	return root
}

// addStandardCommands adds help and completion, whose parents are known now. By
// default, they end well when they do not know their argument.
func addStandardCommands(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				topic, rest, err := root.Find(args)
				if err == nil && len(rest) > 0 {
					err = fmt.Errorf("unknown command %q for %q", rest[0], topic.CommandPath())
				}
				return err
			}
		case "completion":
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
}

// strictArgs makes wrong arguments usage errors for every command.
func strictArgs(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if err == nil {
				return nil
			}
			if len(args) > 0 {
				if names := cmd.SuggestionsFor(args[0]); len(names) > 0 {
					err = fmt.Errorf("%w; did you mean %q?", err, names[0])
				}
			}
			return usage(fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath()))
		}
	}
	for _, sub := range cmd.Commands() {
		strictArgs(sub)
	}
}

// longFlags accepts the flag of variables with one dash, as people write it.
func longFlags(args []string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		if arg == "-var" || strings.HasPrefix(arg, "-var=") {
			arg = "-" + arg
		}
		out[i] = arg
	}
	return out
}

func usage(err error) error { return &exitError{code: exitUsage, cause: err} }

// directories returns where plugins are looked for, the first match wins.
func (g *globals) directories() []string {
	dirs := append([]string(nil), g.pluginDirs...)
	dirs = append(dirs, filepath.SplitList(os.Getenv("PIPELINED_PLUGIN_PATH"))...)
	if home, err := os.UserHomeDir(); err == nil {
		dirs = append(dirs, filepath.Join(home, ".local", "share", "pipelined", "plugins"))
	}
	return append(dirs, "/usr/local/lib/pipelined/plugins", "/usr/lib/pipelined/plugins")
}

// defaultDataDir is where state is kept unless --data-dir says otherwise.
func defaultDataDir() (string, error) {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		first, _, _ := strings.Cut(dir, ":")
		return first, nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "pipelined"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", usage(fmt.Errorf("no home directory for the data directory; give one with --data-dir: %w", err))
	}
	return filepath.Join(home, ".local", "state", "pipelined"), nil
}
