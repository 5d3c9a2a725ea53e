package wire

import (
	"errors"
	"fmt"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
)

func descriptionToPB(p *sdk.Plugin) *pb.DescribeResponse {
	out := &pb.DescribeResponse{
		Kind:        pb.Kind(p.Kind),
		Name:        p.Info.Name,
		Version:     p.Info.Version,
		Description: p.Info.Description,
		Config:      schemaToPB(p.Schema),
	}
	switch p.Kind {
	case sdk.KindSource:
		out.Capabilities = &pb.DescribeResponse_Source{Source: &pb.SourceCapabilities{Replayable: p.Source.Replayable}}
	case sdk.KindEncoder:
		out.Capabilities = &pb.DescribeResponse_Encoder{Encoder: &pb.EncoderCapabilities{
			Format: p.Encoder.Format, Decodes: p.Encoder.Decodes, Rebinds: p.Encoder.Rebinds,
		}}
	case sdk.KindTransport:
		out.Capabilities = &pb.DescribeResponse_Transport{Transport: &pb.TransportCapabilities{
			Input:           pb.TransportInput(p.Transport.Input),
			Formats:         p.Transport.Formats,
			MaxMessageBytes: uint32(p.Transport.MaxMessageBytes),
			Overlap:         p.Transport.Overlap,
			Binds:           p.Transport.Binds,
		}}
	}
	return out
}

func descriptionFromPB(res *pb.DescribeResponse) (Description, error) {
	out := Description{
		Kind: sdk.Kind(res.GetKind()),
		Info: sdk.Info{Name: res.GetName(), Version: res.GetVersion(), Description: res.GetDescription()},
	}
	if out.Info.Name == "" {
		return out, errors.New("no name")
	}
	var err error
	if out.Schema, err = schemaFromPB(res.GetConfig()); err != nil {
		return out, err
	}
	return out, out.setCapabilities(res)
}

func (d *Description) setCapabilities(res *pb.DescribeResponse) error {
	switch res.GetKind() {
	case pb.Kind_KIND_SOURCE:
		d.Source.Replayable = res.GetSource().GetReplayable()
	case pb.Kind_KIND_ENCODER:
		e := res.GetEncoder()
		d.Encoder = sdk.EncoderCapabilities{Format: e.GetFormat(), Decodes: e.GetDecodes(), Rebinds: e.GetRebinds()}
		if d.Encoder.Format == "" {
			return errors.New("an encoder without format")
		}
	case pb.Kind_KIND_TRANSPORT:
		t := res.GetTransport()
		d.Transport = sdk.TransportCapabilities{
			Input:           sdk.Input(t.GetInput()),
			Formats:         t.GetFormats(),
			MaxMessageBytes: int(min(t.GetMaxMessageBytes(), 1<<30)),
			Overlap:         t.GetOverlap(),
			Binds:           t.GetBinds(),
		}
		if in := t.GetInput(); in != pb.TransportInput_TRANSPORT_INPUT_ENCODED && in != pb.TransportInput_TRANSPORT_INPUT_ROWS {
			return fmt.Errorf("a transport with input %d", in)
		}
	case pb.Kind_KIND_EVALUATOR:
		d.Evaluator.Snapshots = res.GetEvaluator().GetSnapshots()
	default:
		return fmt.Errorf("unknown kind %d", res.GetKind())
	}
	return nil
}

func metricToPB(m sdk.Metric) *pb.Metric {
	return &pb.Metric{Name: m.Name, Type: pb.Metric_Type(m.Type), Value: m.Value, Labels: m.Labels, Help: m.Help}
}

func metricFromPB(m *pb.Metric) (sdk.Metric, error) {
	if t := m.GetType(); t != pb.Metric_TYPE_COUNTER && t != pb.Metric_TYPE_GAUGE {
		return sdk.Metric{}, fmt.Errorf("metric %s has unknown type %d", shorten(m.GetName()), t)
	}
	return sdk.Metric{
		Name:   m.GetName(),
		Type:   sdk.MetricType(m.GetType()),
		Value:  m.GetValue(),
		Labels: m.GetLabels(),
		Help:   m.GetHelp(),
	}, nil
}

func healthToPB(h sdk.Health) *pb.Health {
	return &pb.Health{State: pb.Health_State(h.State), Reason: cutText(h.Reason, maxFailureText), Code: h.Code}
}

func healthFromPB(h *pb.Health) (sdk.Health, error) {
	if s := h.GetState(); s < pb.Health_STATE_OK || s > pb.Health_STATE_FAILING {
		return sdk.Health{}, fmt.Errorf("health has unknown state %d", s)
	}
	return sdk.Health{
		State:  sdk.HealthState(h.GetState()),
		Reason: cutText(h.GetReason(), maxFailureText),
		Code:   h.GetCode(),
	}, nil
}
