package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/pipelined/pipelined/core/plugin"
	"github.com/pipelined/pipelined/sdk"
)

func newPlugin(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plugin",
		Short: "Show the installed plugins",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPluginList(g), newPluginDocs(g))
	return cmd
}

func newPluginList(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the installed plugins and where they are",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := g.plugins(slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			defer p.close()
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "KIND\tNAME\tVERSION\tWHERE\tPROBLEM")
			for _, e := range p.catalog.List() {
				version := ""
				if e.Problem == "" {
					if d, err := p.describe(cmd.Context(), e.Kind, e.Name); err != nil {
						e.Problem = err.Error()
					} else {
						version = d.Info.Version
					}
				}
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", e.Kind, printable(e.Name), printable(version), where(e), printable(e.Problem))
			}
			for _, problem := range p.catalog.Problems() {
				cmd.PrintErrln("not used:", printableLine(problem.Error()))
			}
			return table.Flush()
		},
	}
}

func where(e plugin.Entry) string {
	if e.Bundled {
		return "bundled"
	}
	return printableLine(e.Path)
}

func newPluginDocs(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "docs [KIND NAME]",
		Short:   "Print the reference of a plugin, or of all, as Markdown",
		Example: "  pipelined plugin docs source csv",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 && len(args) != 2 {
				return fmt.Errorf("want a kind and a name, or nothing for all plugins")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := g.plugins(slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			defer p.close()
			text, err := pluginDocs(cmd.Context(), p, args)
			if err != nil {
				return err
			}
			_, err = io.WriteString(cmd.OutOrStdout(), printableText(text))
			return err
		},
	}
}

// pluginDocs describes all plugins, or the one that args name by kind and name.
func pluginDocs(ctx context.Context, p *plugins, args []string) (string, error) {
	var out strings.Builder
	for _, e := range p.catalog.List() {
		if e.Problem != "" || len(args) == 2 && (e.Kind.String() != args[0] || e.Name != args[1]) {
			continue
		}
		d, err := p.describe(ctx, e.Kind, e.Name)
		if err != nil {
			return "", &exitError{exitUnavailable, err}
		}
		writePluginDocs(&out, d)
	}
	if len(args) == 2 {
		if out.Len() == 0 {
			return "", unknownPlugin(p, args[0], args[1])
		}
		return out.String(), nil
	}
	fmt.Fprintf(&out, "Every plugin process inherits these environment variables: %s.\n",
		strings.Join(plugin.InheritedVariables(), ", "))
	return out.String(), nil
}

func unknownPlugin(p *plugins, kind, name string) error {
	for _, k := range []sdk.Kind{sdk.KindSource, sdk.KindEncoder, sdk.KindTransport, sdk.KindEvaluator} {
		if k.String() == kind {
			_, err := p.catalog.Find(k, name)
			return usage(err)
		}
	}
	return usage(fmt.Errorf("unknown kind %q; kinds are source, encoder, transport and evaluator", kind))
}
