package main

import (
	"context"
	"fmt"
	"os"

	"github.com/pipelined/pipelined/sdk/serve"
)

// pluginVerb begins the arguments of a process that is a bundled plugin.
const pluginVerb = "plugin-process"

func main() {
	if len(os.Args) > 1 && os.Args[1] == pluginVerb {
		servePlugin(os.Args[2:])
	}
	os.Exit(execute(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// servePlugin turns the process into the bundled plugin that args name. It does
// not return.
func servePlugin(args []string) {
	if len(args) == 2 {
		for _, p := range bundled() {
			if p.Kind.String() == args[0] && p.Info.Name == args[1] {
				serve.Main(p)
			}
		}
	}
	fmt.Fprintf(os.Stderr, "%s takes the kind and name of a bundled plugin; it is for the host, not for people\n", pluginVerb)
	os.Exit(exitUsage)
}
