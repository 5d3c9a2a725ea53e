package wire

import (
	"context"
	"time"

	"google.golang.org/grpc"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
)

// maxMetrics bounds what a plugin may report at once.
const maxMetrics = 10_000

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
	res, err := pb.NewPluginServiceClient(conn).Describe(ctx, &pb.DescribeRequest{})
	if err != nil {
		return Description{}, fromStatus(err)
	}
	d, err := descriptionFromPB(res)
	if err != nil {
		return Description{}, broken("its description: %w", err)
	}
	return d, nil
}

// Validate has a plugin check a configuration that fits its schema.
func Validate(ctx context.Context, conn grpc.ClientConnInterface, body sdk.Body) ([]sdk.Diagnostic, error) {
	res, err := pb.NewPluginServiceClient(conn).Validate(ctx, &pb.ValidateRequest{Config: bodyToPB(body)})
	if err != nil {
		return nil, fromStatus(err)
	}
	return diagnosticsFromPB(res.GetDiagnostics()), nil
}

// ConfigureArgs is what a plugin gets before any work.
type ConfigureArgs struct {
	Pipeline string
	Name     string // label of the plugin's block
	Asset    string
	StateDir string        // exists and belongs to this block alone
	Gather   time.Duration // how long a source gathers rows; 0 = each row goes at once
	Body     sdk.Body
	Regions  []*shm.Region // all that the process inherited, after Inherit
}

// Configure hands over the configuration, once. The plugin is open if there is no
// error and no diagnostic of severity error.
func Configure(ctx context.Context, conn grpc.ClientConnInterface, args ConfigureArgs) ([]sdk.Diagnostic, error) {
	req := &pb.ConfigureRequest{
		Config: bodyToPB(args.Body),
		Pipeline: &pb.PipelineSettings{
			Pipeline: args.Pipeline,
			Name:     args.Name,
			Asset:    args.Asset,
			StateDir: args.StateDir,
			GatherNs: int64(args.Gather),
		},
	}
	for _, r := range args.Regions {
		if r == nil {
			continue // where there is no shared memory
		}
		if err := checkRegion(r, r.Direction()); err != nil {
			return nil, err
		}
		req.Regions = append(req.Regions, &pb.Region{
			Number:    regionNumber(r),
			Fd:        uint32(r.FD()),
			Direction: pb.Direction(r.Direction()),
			SlotBytes: uint32(r.SlotBytes()),
			Slots:     uint32(r.Slots()),
		})
	}
	res, err := pb.NewPluginServiceClient(conn).Configure(ctx, req)
	if err != nil {
		return nil, fromStatus(err)
	}
	return diagnosticsFromPB(res.GetDiagnostics()), nil
}

// Metrics returns the plugin's own numbers.
func Metrics(ctx context.Context, conn grpc.ClientConnInterface) ([]sdk.Metric, error) {
	res, err := pb.NewPluginServiceClient(conn).Metrics(ctx, &pb.MetricsRequest{})
	if err != nil {
		return nil, fromStatus(err)
	}
	if n := len(res.GetMetrics()); n > maxMetrics {
		return nil, broken("it reports %d metrics, the limit is %d", n, maxMetrics)
	}
	var out []sdk.Metric
	for _, m := range res.GetMetrics() {
		metric, err := metricFromPB(m)
		if err != nil {
			return nil, broken("%w", err)
		}
		out = append(out, metric)
	}
	return out, nil
}
