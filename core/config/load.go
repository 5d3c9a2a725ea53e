package config

import (
	"context"
	"errors"
	"time"
)

// Options belong to Load.
type Options struct {
	// Variables are values for variable blocks, as given with -var.
	Variables map[string]string
	// DataDir is `data_dir` of the files.
	DataDir string
	// Schemas knows the plugins; required.
	Schemas SchemaProvider
	// Validator asks plugins to check their blocks; nil leaves that out.
	Validator PluginValidator
	// AllowMissingSecrets makes a secret that cannot be read a warning: for
	// checking a file on a machine that does not have the secrets.
	AllowMissingSecrets bool
	// LookupEnv reads environment variables; nil = os.LookupEnv.
	LookupEnv func(name string) (string, bool)
	// Now is the time that timestamp() returns; zero = the time of the call.
	Now time.Time
}

// Load reads a pipeline file, or all `*.hcl` files of a directory that are
// neither hidden nor tests (`*.test.hcl`). The configuration is nil if one of the
// diagnostics is an error.
func Load(ctx context.Context, path string, o Options) (*Config, Diagnostics) {
	panic(errors.ErrUnsupported)
}
