package wire

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
)

// pluginService answers what every plugin is asked.
type pluginService struct {
	pb.UnimplementedPluginServiceServer
	*Server
}

func (s pluginService) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	return descriptionToPB(&s.plugin), nil
}

func (s pluginService) Validate(_ context.Context, req *pb.ValidateRequest) (*pb.ValidateResponse, error) {
	body, err := bodyFromPB(req.GetConfig())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	diags, err := s.validate(body, false)
	if err != nil {
		return nil, toStatus(err)
	}
	return &pb.ValidateResponse{Diagnostics: diagnosticsToPB(diags)}, nil
}

// validate holds a body against the schema and then asks the plugin.
func (s pluginService) validate(body sdk.Body, secrets bool) (diags []sdk.Diagnostic, err error) {
	diags = checkBody(s.plugin.Schema, body, secrets)
	if len(diags) > 0 || s.plugin.Validate == nil {
		return diags, nil
	}
	err = guard(s.log.Logger, "Validate", func() error {
		diags = s.plugin.Validate(body)
		return nil
	})
	return diags, err
}

func (s pluginService) Configure(_ context.Context, req *pb.ConfigureRequest) (*pb.ConfigureResponse, error) {
	if err := s.configureOnce(); err != nil {
		return nil, err
	}
	body, err := bodyFromPB(req.GetConfig())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := s.openRegions(req.GetRegions()); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	diags, err := s.validate(body, true)
	if err != nil {
		return nil, toStatus(err)
	}
	if !hasError(diags) {
		if err := s.open(req.GetPipeline(), body); err != nil {
			diags = append(diags, sdk.Diagnostic{
				Severity: sdk.SeverityError,
				Summary:  "Plugin cannot be opened",
				Detail:   err.Error(),
			})
		}
	}
	return &pb.ConfigureResponse{Diagnostics: diagnosticsToPB(diags)}, nil
}

func (s pluginService) configureOnce() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.configured {
		return status.Error(codes.FailedPrecondition, "the plugin has been configured already")
	}
	s.mu.configured = true
	return nil
}

func hasError(diags []sdk.Diagnostic) bool {
	for _, d := range diags {
		if d.Severity != sdk.SeverityWarning {
			return true
		}
	}
	return false
}

func (s pluginService) open(p *pb.PipelineSettings, body sdk.Body) error {
	return guard(s.log.Logger, "Open", func() error {
		component, err := s.plugin.Open(sdk.Settings{
			Pipeline: p.GetPipeline(),
			Name:     p.GetName(),
			Asset:    p.GetAsset(),
			StateDir: p.GetStateDir(),
			Gather:   max(0, time.Duration(p.GetGatherNs())),
			Logger:   s.log.Logger,
			Health:   s.notices.health,
		}, body)
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.mu.component = component
		return nil
	})
}

func (s pluginService) Metrics(context.Context, *pb.MetricsRequest) (*pb.MetricsResponse, error) {
	s.mu.Lock()
	meter, ok := s.mu.component.(sdk.Meter)
	s.mu.Unlock()
	out := &pb.MetricsResponse{}
	if !ok {
		return out, nil
	}
	err := guard(s.log.Logger, "Metrics", func() error {
		for _, m := range meter.Metrics() {
			out.Metrics = append(out.Metrics, metricToPB(m))
		}
		return nil
	})
	if err != nil {
		return nil, toStatus(err)
	}
	return out, nil
}
