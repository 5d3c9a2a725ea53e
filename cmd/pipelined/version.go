package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/pipelined/pipelined/sdk/wire"
)

// version is set when the binary is built.
var version = "0.1.0-dev"

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "pipelined %s (plugin protocol %d, %s, %s/%s)\n",
				version, wire.ProtocolVersion, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}
