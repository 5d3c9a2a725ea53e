package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newValidate(g *globals) *cobra.Command {
	o := &struct{ loadOptions }{}
	cmd := &cobra.Command{
		Use:   "validate PATH",
		Short: "Check the pipeline files of a file or directory",
		Long: "Validate checks everything that can be checked without running: syntax, blocks and\n" +
			"attributes, every plugin's own settings. It shows all problems at once. Secrets may be\n" +
			"missing; nothing outside this machine is reached.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			logger, err := g.logger(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			dataDir, err := o.resolveDataDir()
			if err != nil {
				return err
			}
			plugins, err := g.plugins(logger)
			if err != nil {
				return err
			}
			defer plugins.close()
			c, err := o.load(cmd, g, plugins, args[0], dataDir, true)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, no problems\n", args[0], plural(len(c.Pipelines), "pipeline"))
			return nil
		},
	}
	o.register(cmd)
	return cmd
}
