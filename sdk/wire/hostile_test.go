package wire

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
)

// lie is a stream's handler that gives credit, waits for an item of work if there
// is one to wait for, says what it is told to, and stays until the host goes.
func lie[Req, Res any](stream grpc.BidiStreamingServer[Req, Res], credit *Res, isWork func(*Req) bool, lies []*Res) error {
	if credit != nil {
		if err := stream.Send(credit); err != nil {
			return err
		}
	}
	for isWork != nil {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		if isWork(req) {
			break
		}
	}
	for _, m := range lies {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return nil
}

var freely = &pb.Credit{Batches: 1000, Bytes: 1 << 30}

type sourceLiar struct {
	pb.UnimplementedSourceServiceServer
	discover *pb.DiscoverResponse
	lies     []*pb.RunResponse
}

func (l sourceLiar) Discover(context.Context, *pb.DiscoverRequest) (*pb.DiscoverResponse, error) {
	return l.discover, nil
}

func (l sourceLiar) Run(stream runStream) error { return lie(stream, nil, nil, l.lies) }

func say(parts ...any) []*pb.RunResponse {
	var out []*pb.RunResponse
	for _, part := range parts {
		switch m := part.(type) {
		case *pb.FlowAnnouncement:
			out = append(out, &pb.RunResponse{Response: &pb.RunResponse_Flow{Flow: m}})
		case *pb.SourceBatch:
			out = append(out, &pb.RunResponse{Response: &pb.RunResponse_Batch{Batch: m}})
		case *pb.Finished:
			out = append(out, &pb.RunResponse{Response: &pb.RunResponse_Finished{Finished: m}})
		case *pb.Progress:
			out = append(out, &pb.RunResponse{Response: &pb.RunResponse_Progress{Progress: m}})
		case *pb.Dropped:
			out = append(out, &pb.RunResponse{Response: &pb.RunResponse_Dropped{Dropped: m}})
		case *pb.AckWanted:
			out = append(out, &pb.RunResponse{Response: &pb.RunResponse_AckWanted{AckWanted: m}})
		default:
			out = append(out, &pb.RunResponse{})
		}
	}
	return out
}

// spoiledFlow makes an announcement and lets change spoil it.
func spoiledFlow(change func(*pb.FlowAnnouncement)) *pb.FlowAnnouncement {
	a, err := announcement(1, &rpmFlow)
	if err != nil {
		panic(err)
	}
	change(a)
	return a
}

func spoiledBatch(change func(*pb.SourceBatch)) *pb.SourceBatch {
	b := rpmBatch(1, 1, 2, 3)
	out := &pb.SourceBatch{Batch: batchToPB(&b, inlinePayload(b.Payload))}
	change(out)
	return out
}

func refingerprint(a *pb.FlowAnnouncement) {
	var f sdk.Flow
	f.Name = a.Flow.Name
	for _, c := range a.Flow.Channels {
		f.Channels = append(f.Channels, channelFromPB(c))
	}
	p := f.Fingerprint()
	a.Fingerprint = p[:]
}

func TestSourceLies(t *testing.T) {
	honest := spoiledFlow(func(*pb.FlowAnnouncement) {})
	good := spoiledBatch(func(*pb.SourceBatch) {})
	flow := func(change func(*pb.FlowAnnouncement)) []any { return []any{spoiledFlow(change)} }
	batch := func(change func(*pb.SourceBatch)) []any { return []any{honest, spoiledBatch(change)} }
	for name, tc := range map[string]struct {
		say  []any
		want string
	}{
		"nothing":         {[]any{nil}, "does not belong to a source"},
		"number":          {flow(func(a *pb.FlowAnnouncement) { a.Number = 2 }), "number 2, want 1"},
		"twice":           {[]any{honest, honest}, "number 1, want 2"},
		"fingerprint":     {flow(func(a *pb.FlowAnnouncement) { a.Fingerprint[0]++ }), "fingerprint"},
		"no fingerprint":  {flow(func(a *pb.FlowAnnouncement) { a.Fingerprint = nil }), "fingerprint"},
		"no flow":         {flow(func(a *pb.FlowAnnouncement) { a.Flow = nil }), "no name"},
		"channel twice":   {flow(func(a *pb.FlowAnnouncement) { a.Flow.Channels = append(a.Flow.Channels, a.Flow.Channels[0]) }), "two channels"},
		"channel type":    {flow(func(a *pb.FlowAnnouncement) { a.Flow.Channels[0].Type = 257 }), "unknown type 257"},
		"unknown flow":    {[]any{good}, "flow 1 was not announced"},
		"flow 0":          {batch(func(b *pb.SourceBatch) { b.Batch.Flow = 0 }), "flow 0 was not announced"},
		"no batch":        {batch(func(b *pb.SourceBatch) { b.Batch = nil }), "was not announced"},
		"hole":            {batch(func(b *pb.SourceBatch) { b.Batch.Sequence = 2 }), "batch 2 follows batch 0"},
		"again":           {[]any{honest, good, good}, "batch 1 follows batch 1"},
		"count":           {batch(func(b *pb.SourceBatch) { b.Batch.Count = 4 }), "3 rows, its header says 4"},
		"min":             {batch(func(b *pb.SourceBatch) { b.Batch.MinTimeNs-- }), "its header says"},
		"max":             {batch(func(b *pb.SourceBatch) { b.Batch.MaxTimeNs++ }), "its header says"},
		"format":          {batch(func(b *pb.SourceBatch) { b.Batch.Format = "x" }), `format "x"`},
		"no payload":      {batch(func(b *pb.SourceBatch) { b.Batch.Payload = nil }), "without payload"},
		"short":           {batch(func(b *pb.SourceBatch) { b.Batch.Payload = inlinePayload([]byte("short")) }), "flow batch of 5 bytes"},
		"slot, no region": {batch(func(b *pb.SourceBatch) { b.Batch.Payload = place{slot: 1}.ref(9) }), "without region"},
		"position":        {batch(func(b *pb.SourceBatch) { b.Position = make([]byte, sdk.MaxPositionBytes+1) }), "position of 4097 bytes"},
		"too large":       {batch(func(b *pb.SourceBatch) { b.Batch.Payload = inlinePayload(make([]byte, sdk.MaxPayloadBytes+1)) }), "the limit is 4194304"},
		"after its end":   {[]any{honest, &pb.Finished{}, good}, "after it said that it had finished"},
		"wrong end":       {[]any{honest, good, &pb.Finished{LastSequence: 2}}, "finished after batch 2, the last one was 1"},
		"two ends":        {[]any{&pb.Finished{}, &pb.Finished{}}, "finished twice"},
		"progress":        {[]any{&pb.Progress{Flow: 1}}, "flow 1 was not announced"},
		"dropped":         {[]any{&pb.Dropped{Flow: 1}}, "flow 1 was not announced"},
		"dropped of none": {[]any{&pb.Dropped{Flow: 0, Rows: 1}, &pb.Dropped{Flow: 2}}, "flow 2 was not announced"},
		"ack of no batch": {[]any{&pb.AckWanted{Sequence: 1}}, "wants batch 1 acknowledged"},
		"a long name":     {flow(func(a *pb.FlowAnnouncement) { a.Flow.Name = strings.Repeat("n", 17<<10); refingerprint(a) }), "17408 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := connect(t, func(r grpc.ServiceRegistrar) {
				pb.RegisterSourceServiceServer(r, sourceLiar{lies: say(tc.say...)})
			})
			s, err := OpenSource(deadline(t), conn, SourceStart{})
			require.NoError(t, err)
			require.ErrorContains(t, untilError(t, s.Recv), tc.want)
			_, err = s.Recv()
			require.ErrorIs(t, err, ErrContract)
		})
	}
}

// untilError returns the contract error that comes after any number of events.
func untilError[Event any](t *testing.T, recv func() (Event, error)) error {
	t.Helper()
	for {
		if _, err := recv(); err != nil {
			require.ErrorIs(t, err, ErrContract)
			return err
		}
	}
}

func TestSlotsThatDoNotExist(t *testing.T) {
	for name, ref := range map[string]*pb.SlotRef{
		"number": {Slot: 2, Length: 1},
		"huge":   {Slot: 1 << 31, Length: 1},
		"length": {Slot: 0, Length: 4097},
		"most":   {Slot: 1, Length: 1<<32 - 1},
	} {
		t.Run(name, func(t *testing.T) {
			region := newRegion(t, shm.ToHost, 4096, 2)
			conn := connect(t, func(r grpc.ServiceRegistrar) {
				pb.RegisterSourceServiceServer(r, sourceLiar{lies: say(spoiledFlow(func(*pb.FlowAnnouncement) {}),
					spoiledBatch(func(b *pb.SourceBatch) { b.Batch.Payload = &pb.Payload{Form: &pb.Payload_Slot{Slot: ref}} }))})
			})
			s, err := OpenSource(deadline(t), conn, SourceStart{Region: region})
			require.NoError(t, err)
			require.ErrorContains(t, untilError(t, s.Recv), "slot")
		})
	}
}

func TestDiscoverLies(t *testing.T) {
	conn := connect(t, func(r grpc.ServiceRegistrar) {
		pb.RegisterSourceServiceServer(r, sourceLiar{discover: &pb.DiscoverResponse{Flows: []*pb.Flow{{Name: "f"}}}})
	})
	_, err := Discover(deadline(t), conn)
	require.ErrorIs(t, err, ErrContract)
	require.ErrorContains(t, err, "no channels")
}

type encoderLiar struct {
	pb.UnimplementedEncoderServiceServer
	encode []*pb.EncodeResponse
	decode []*pb.DecodeResponse
	rebind []*pb.RebindResponse
}

func (l encoderLiar) Encode(stream grpc.BidiStreamingServer[pb.EncodeRequest, pb.EncodeResponse]) error {
	credit := &pb.EncodeResponse{Response: &pb.EncodeResponse_Credit{Credit: freely}}
	return lie(stream, credit, func(r *pb.EncodeRequest) bool { return r.GetBatch() != nil }, l.encode)
}

func (l encoderLiar) Decode(stream grpc.BidiStreamingServer[pb.DecodeRequest, pb.DecodeResponse]) error {
	credit := &pb.DecodeResponse{Response: &pb.DecodeResponse_Credit{Credit: freely}}
	return lie(stream, credit, func(r *pb.DecodeRequest) bool { return r.GetBatch() != nil }, l.decode)
}

func (l encoderLiar) Rebind(stream grpc.BidiStreamingServer[pb.RebindRequest, pb.RebindResponse]) error {
	credit := &pb.RebindResponse{Response: &pb.RebindResponse_Credit{Credit: freely}}
	return lie(stream, credit, func(r *pb.RebindRequest) bool { return r.GetBatch() != nil }, l.rebind)
}

func encoded(change func(*pb.EncodedBatch)) *pb.EncodeResponse {
	b := &pb.EncodedBatch{Batch: &pb.Batch{
		Sequence: 1, Flow: 1, Count: 3, MinTimeNs: 1000, MaxTimeNs: 3000, Format: toyFormat,
		Payload: inlinePayload(toyBody(bindingA, 1, 2, 3)),
	}}
	change(b)
	return &pb.EncodeResponse{Response: &pb.EncodeResponse_Encoded{Encoded: b}}
}

func TestEncoderLies(t *testing.T) {
	same := func(*pb.EncodedBatch) {}
	for name, tc := range map[string]struct {
		lies []*pb.EncodeResponse
		want string
	}{
		"nothing":         {[]*pb.EncodeResponse{{}}, "does not belong to an encoder"},
		"out of order":    {[]*pb.EncodeResponse{encoded(func(e *pb.EncodedBatch) { e.Batch.Sequence = 2 })}, "answered batch 2, batch 1 was due"},
		"no head":         {[]*pb.EncodeResponse{encoded(func(e *pb.EncodedBatch) { e.Batch = nil })}, "answered batch 0, batch 1 was due"},
		"twice":           {[]*pb.EncodeResponse{encoded(same), encoded(same)}, "answered batch 1, nothing was due"},
		"fewer":           {[]*pb.EncodeResponse{encoded(func(e *pb.EncodedBatch) { e.Batch.Count = 2 })}, "answered with 2 messages and 0 refused"},
		"more":            {[]*pb.EncodeResponse{encoded(func(e *pb.EncodedBatch) { e.Refused = []*pb.RefusedRow{{}} })}, "answered with 3 messages and 1 refused"},
		"absurd count":    {[]*pb.EncodeResponse{encoded(func(e *pb.EncodedBatch) { e.Batch.Count = 1<<32 - 1 })}, "answered with"},
		"refused outside": {[]*pb.EncodeResponse{encoded(func(e *pb.EncodedBatch) { e.Batch.Count = 2; e.Refused = []*pb.RefusedRow{{Row: 3}} })}, "refused row 3 of 3"},
		"refused twice":   {[]*pb.EncodeResponse{encoded(func(e *pb.EncodedBatch) { e.Batch.Count = 1; e.Refused = []*pb.RefusedRow{{Row: 1}, {Row: 1}} })}, "out of order"},
		"messages":        {[]*pb.EncodeResponse{encoded(func(e *pb.EncodedBatch) { e.Batch.Payload = inlinePayload(toyBody(bindingA, 1, 2)) })}, "2 messages, its header says 3"},
		"lengths":         {[]*pb.EncodeResponse{encoded(func(e *pb.EncodedBatch) { e.Batch.Payload = inlinePayload([]byte{9, 0, 0, 0}) })}, "batch 1"},
		"no payload":      {[]*pb.EncodeResponse{encoded(func(e *pb.EncodedBatch) { e.Batch.Payload = nil })}, "without payload"},
		"no format":       {[]*pb.EncodeResponse{encoded(func(e *pb.EncodedBatch) { e.Batch.Format = "" })}, "without format"},
		"stamps":          {[]*pb.EncodeResponse{encoded(func(e *pb.EncodedBatch) { e.Batch.MaxTimeNs = 3001 })}, "answered with 1000 to 3001"},
		"stamps turned":   {[]*pb.EncodeResponse{encoded(func(e *pb.EncodedBatch) { e.Batch.MinTimeNs, e.Batch.MaxTimeNs = 3000, 1000 })}, "stamps from 3000 to 1000"},
		"release":         {[]*pb.EncodeResponse{{Response: &pb.EncodeResponse_Release{Release: &pb.Release{Slots: []uint32{0}}}}}, "without region"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := connect(t, func(r grpc.ServiceRegistrar) { pb.RegisterEncoderServiceServer(r, encoderLiar{encode: tc.lies}) })
			s, err := OpenEncoder(deadline(t), conn, StreamRegions{})
			require.NoError(t, err)
			require.NoError(t, s.Announce(1, &rpmFlow))
			meanwhile(t, func() error { return s.Send(t.Context(), rpmBatch(1, 1, 2, 3)) })
			require.ErrorContains(t, untilError(t, s.Recv), tc.want)
		})
	}
}

// TestLyingReleases: slots that the host did not send must not come back.
func TestLyingReleases(t *testing.T) {
	for name, slots := range map[string][]uint32{"free": {1}, "outside": {2}, "twice": {0, 0}} {
		t.Run(name, func(t *testing.T) {
			conn := connect(t, func(r grpc.ServiceRegistrar) {
				release := &pb.EncodeResponse{Response: &pb.EncodeResponse_Release{Release: &pb.Release{Slots: slots}}}
				pb.RegisterEncoderServiceServer(r, encoderLiar{encode: []*pb.EncodeResponse{release}})
			})
			s, err := OpenEncoder(deadline(t), conn, StreamRegions{In: newRegion(t, shm.ToPlugin, 64<<10, 2)})
			require.NoError(t, err)
			require.NoError(t, s.Announce(1, &rpmFlow))
			meanwhile(t, func() error { return s.Send(t.Context(), rpmBatch(1, numbers(1000)...)) })
			require.ErrorContains(t, untilError(t, s.Recv), "released")
		})
	}
}

func TestRecodeLies(t *testing.T) {
	rows := rpmBatch(1, 1, 2, 3)
	decoded := func(change func(*pb.DecodedBatch)) []*pb.DecodeResponse {
		d := &pb.DecodedBatch{Batch: batchToPB(&rows, inlinePayload(rows.Payload))}
		change(d)
		return []*pb.DecodeResponse{{Response: &pb.DecodeResponse_Decoded{Decoded: d}}}
	}
	for name, tc := range map[string]struct {
		lies []*pb.DecodeResponse
		want string
	}{
		"nothing":  {[]*pb.DecodeResponse{{}}, "answered batch 0, batch 1 was due"},
		"sequence": {decoded(func(d *pb.DecodedBatch) { d.Batch.Sequence = 7 }), "answered batch 7"},
		"count":    {decoded(func(d *pb.DecodedBatch) { d.Batch.Count = 2 }), "one row for each message"},
		"payload":  {decoded(func(d *pb.DecodedBatch) { d.Batch.Payload = inlinePayload([]byte("junk")) }), "flow batch of 4 bytes"},
	} {
		t.Run("decode "+name, func(t *testing.T) {
			conn := connect(t, func(r grpc.ServiceRegistrar) { pb.RegisterEncoderServiceServer(r, encoderLiar{decode: tc.lies}) })
			d, err := OpenDecoder(deadline(t), conn, StreamRegions{})
			require.NoError(t, err)
			require.NoError(t, d.Announce(1, &rpmFlow))
			_, err = d.Decode(deadline(t), Batch{Flow: 1, Count: 3, Format: toyFormat, Payload: toyBody(bindingA, 1, 2, 3)})
			require.ErrorIs(t, err, ErrContract)
			require.ErrorContains(t, err, tc.want)
		})
	}
	body := toyBody(bindingA, 1, 2, 3)
	rebound := func(change func(*pb.ReboundBatch)) []*pb.RebindResponse {
		b := Batch{Sequence: 1, Count: 3, Format: toyFormat}
		r := &pb.ReboundBatch{Batch: batchToPB(&b, inlinePayload(body))}
		change(r)
		return []*pb.RebindResponse{{Response: &pb.RebindResponse_Rebound{Rebound: r}}}
	}
	for name, lies := range map[string][]*pb.RebindResponse{
		"nothing":  {{}},
		"length":   rebound(func(r *pb.ReboundBatch) { r.Batch.Payload = inlinePayload(body[1:]) }),
		"messages": rebound(func(r *pb.ReboundBatch) { r.Batch.Payload = inlinePayload(bytes.Repeat([]byte{0}, len(body))) }),
	} {
		t.Run("rebind "+name, func(t *testing.T) {
			conn := connect(t, func(r grpc.ServiceRegistrar) { pb.RegisterEncoderServiceServer(r, encoderLiar{rebind: lies}) })
			r, err := OpenRebinder(deadline(t), conn, StreamRegions{}, toyFormat)
			require.NoError(t, err)
			_, err = r.Rebind(deadline(t), body, 3, bindingA, bindingB)
			require.ErrorIs(t, err, ErrContract)
		})
	}
}

type transportLiar struct {
	pb.UnimplementedTransportServiceServer
	lies []*pb.DeliverResponse
}

func (l transportLiar) Deliver(stream grpc.BidiStreamingServer[pb.DeliverRequest, pb.DeliverResponse]) error {
	return lie(stream, nil, func(r *pb.DeliverRequest) bool { return r.GetOpen() != nil }, l.lies)
}

func answered(stream uint64, outcome pb.Outcome) *pb.DeliverResponse {
	a := &pb.StreamAnswer{Stream: stream, Outcome: outcome}
	return &pb.DeliverResponse{Response: &pb.DeliverResponse_Answer{Answer: a}}
}

func TestTransportLies(t *testing.T) {
	for name, tc := range map[string]struct {
		lies []*pb.DeliverResponse
		want string
	}{
		"nothing":         {[]*pb.DeliverResponse{{}}, "does not belong to a transport"},
		"not open":        {[]*pb.DeliverResponse{answered(2, pb.Outcome_OUTCOME_FAILED)}, "delivery stream 2, which is not open"},
		"twice":           {[]*pb.DeliverResponse{answered(1, pb.Outcome_OUTCOME_FAILED), answered(1, pb.Outcome_OUTCOME_FAILED)}, "which is not open"},
		"not asked":       {[]*pb.DeliverResponse{answered(1, pb.Outcome_OUTCOME_CONFIRMED)}, "confirmed delivery stream 1, which was not finished"},
		"unknown outcome": {[]*pb.DeliverResponse{answered(1, 9)}, "unknown outcome 9"},
		"no outcome":      {[]*pb.DeliverResponse{answered(1, 0)}, "unknown outcome 0"},
		"release":         {[]*pb.DeliverResponse{{Response: &pb.DeliverResponse_Release{Release: &pb.Release{Slots: []uint32{9}}}}}, "without region"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := connect(t, func(r grpc.ServiceRegistrar) { pb.RegisterTransportServiceServer(r, transportLiar{lies: tc.lies}) })
			s, err := OpenDeliver(deadline(t), conn, nil)
			require.NoError(t, err)
			require.NoError(t, s.Open(1, false))
			require.ErrorContains(t, untilError(t, s.Recv), tc.want)
		})
	}
}

type pluginLiar struct {
	pb.UnimplementedPluginServiceServer
	describe *pb.DescribeResponse
	metrics  *pb.MetricsResponse
	control  []*pb.ControlResponse
}

func (l pluginLiar) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	return l.describe, nil
}

func (l pluginLiar) Metrics(context.Context, *pb.MetricsRequest) (*pb.MetricsResponse, error) {
	return l.metrics, nil
}

func (l pluginLiar) Control(stream grpc.BidiStreamingServer[pb.ControlRequest, pb.ControlResponse]) error {
	return lie(stream, nil, nil, l.control)
}

func TestDescriptionLies(t *testing.T) {
	deep := &pb.ConfigSchema{}
	for range 100 {
		deep = &pb.ConfigSchema{Blocks: []*pb.Block{{Type: "b", Body: deep}}}
	}
	text := pb.ValueType_VALUE_TYPE_STRING
	for name, tc := range map[string]struct {
		change func(*pb.DescribeResponse)
		want   string
	}{
		"no name":   {func(d *pb.DescribeResponse) { d.Name = "" }, "no name"},
		"kind":      {func(d *pb.DescribeResponse) { d.Kind = 77 }, "unknown kind 77"},
		"no kind":   {func(d *pb.DescribeResponse) { d.Kind = 0 }, "unknown kind 0"},
		"no format": {func(d *pb.DescribeResponse) { d.Kind = pb.Kind_KIND_ENCODER }, "without format"},
		"no input":  {func(d *pb.DescribeResponse) { d.Kind = pb.Kind_KIND_TRANSPORT }, "input 0"},
		"depth":     {func(d *pb.DescribeResponse) { d.Config = deep }, "nested more than 16 deep"},
		"type":      {func(d *pb.DescribeResponse) { d.Config.Attributes = []*pb.Attribute{{Name: "a", Type: 300}} }, "unknown type 300"},
		"nameless":  {func(d *pb.DescribeResponse) { d.Config.Attributes = []*pb.Attribute{{Type: text}} }, "without a name"},
		"name twice": {func(d *pb.DescribeResponse) {
			d.Config = &pb.ConfigSchema{Attributes: []*pb.Attribute{{Name: "a", Type: text}}, Blocks: []*pb.Block{{Type: "a"}}}
		}, "twice"},
		"grant": {func(d *pb.DescribeResponse) {
			d.Config.Attributes = []*pb.Attribute{{Name: "a", Type: text, Grant: -1}}
		}, "unknown grant"},
		"collection": {func(d *pb.DescribeResponse) {
			d.Config.Attributes = []*pb.Attribute{{Name: "a", Type: text, Collection: 3}}
		}, "unknown collection"},
		"default": {func(d *pb.DescribeResponse) {
			d.Config.Attributes = []*pb.Attribute{{Name: "a", Type: text, Default: &pb.ConfigValue{}}}
		}, "default"},
		"items":        {func(d *pb.DescribeResponse) { d.Config.Blocks = []*pb.Block{{Type: "b", MinItems: 3, MaxItems: 2}} }, "3 to 2 times"},
		"unknown name": {func(d *pb.DescribeResponse) { d.Config.OneOf = []*pb.OneOf{{Names: []string{"x"}}} }, "does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &pb.DescribeResponse{Kind: pb.Kind_KIND_SOURCE, Name: "n", Config: &pb.ConfigSchema{}}
			tc.change(d)
			conn := connect(t, func(r grpc.ServiceRegistrar) { pb.RegisterPluginServiceServer(r, pluginLiar{describe: d}) })
			_, err := Describe(deadline(t), conn)
			require.ErrorIs(t, err, ErrContract)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestOtherLies(t *testing.T) {
	conn := connect(t, func(r grpc.ServiceRegistrar) {
		pb.RegisterPluginServiceServer(r, pluginLiar{
			metrics: &pb.MetricsResponse{Metrics: []*pb.Metric{{Name: "m"}}},
			control: []*pb.ControlResponse{{Response: &pb.ControlResponse_Health{Health: &pb.Health{State: 9}}}},
		})
	})
	_, err := Metrics(deadline(t), conn)
	require.ErrorContains(t, err, `metric "m" has unknown type 0`)
	c, err := OpenControl(deadline(t), conn)
	require.NoError(t, err)
	require.ErrorContains(t, untilError(t, c.Recv), "unknown state 9")
	_, err = Discover(deadline(t), conn) // not served at all
	require.ErrorIs(t, err, ErrContract)
}
