package wire

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
)

// ErrContract is wrapped by errors that say how a plugin broke the contract.
var ErrContract = errors.New("plugin breaks the contract")

// Description is what a plugin says about itself. Of the capabilities only those
// of its kind are set.
type Description struct {
	Kind      sdk.Kind
	Info      sdk.Info
	Schema    sdk.Schema
	Source    sdk.SourceCapabilities
	Encoder   sdk.EncoderCapabilities
	Transport sdk.TransportCapabilities
	Evaluator EvaluatorCapabilities
}

// EvaluatorCapabilities tells the host how to treat an evaluator.
type EvaluatorCapabilities struct {
	Snapshots bool // state survives by Snapshot and Restore
}

// Describe asks a plugin what it is.
func Describe(ctx context.Context, conn grpc.ClientConnInterface) (Description, error) {
	return Description{}, errors.ErrUnsupported
}

// Validate has a plugin check a configuration that fits its schema.
func Validate(ctx context.Context, conn grpc.ClientConnInterface, body sdk.Body) ([]sdk.Diagnostic, error) {
	return nil, errors.ErrUnsupported
}

// ConfigureArgs is what a plugin gets before any work.
type ConfigureArgs struct {
	Pipeline string
	Name     string // label of the plugin's block
	Asset    string
	StateDir string // exists and belongs to this block alone
	Body     sdk.Body
	Regions  []*shm.Region // all that the process inherited, after Inherit
}

// Configure hands over the configuration, once. The plugin is open if there is no
// error and no diagnostic of severity error.
func Configure(ctx context.Context, conn grpc.ClientConnInterface, args ConfigureArgs) ([]sdk.Diagnostic, error) {
	return nil, errors.ErrUnsupported
}

// Metrics returns the plugin's own numbers.
func Metrics(ctx context.Context, conn grpc.ClientConnInterface) ([]sdk.Metric, error) {
	return nil, errors.ErrUnsupported
}
