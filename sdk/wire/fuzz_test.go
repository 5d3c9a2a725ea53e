package wire

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
)

func marshal(f *testing.F, m proto.Message) []byte {
	f.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	return raw
}

// FuzzAnnouncement: a flow that was taken over is sound and can be announced again.
func FuzzAnnouncement(f *testing.F) {
	a, err := announcement(1, &testFlow)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(marshal(f, a))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m pb.FlowAnnouncement
		if proto.Unmarshal(raw, &m) != nil {
			return
		}
		// The fingerprint is right: what it covers is to be tried, not SHA-256.
		flow, err := flowFromPB(m.GetFlow())
		if err != nil {
			return
		}
		fingerprint := flow.Fingerprint()
		m.Number, m.Fingerprint = 1, fingerprint[:]
		var table, again flowTable
		got, _, err := table.add(&m)
		if err != nil {
			t.Fatalf("flow that can be converted is refused: %v", err)
		}
		if err := got.Check(); err != nil {
			t.Fatalf("unsound flow: %v", err)
		}
		next, err := announcement(1, got)
		if err != nil {
			t.Fatal(err)
		}
		if _, p, err := again.add(next); err != nil || p != fingerprint {
			t.Fatalf("announced again: %v, fingerprint %s, was %s", err, p, fingerprint)
		}
	})
}

// FuzzDescription: a description that was taken over says the same when it is said
// again.
func FuzzDescription(f *testing.F) {
	for _, p := range []sdk.Plugin{fullPlugin(nil), toyPlugin(), sinkPlugin(nil)} {
		f.Add(marshal(f, descriptionToPB(&p)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m pb.DescribeResponse
		if proto.Unmarshal(raw, &m) != nil {
			return
		}
		d, err := descriptionFromPB(&m)
		if err != nil || d.Kind == sdk.KindEvaluator {
			return
		}
		said := descriptionToPB(&sdk.Plugin{
			Kind: d.Kind, Info: d.Info, Schema: d.Schema, Source: d.Source, Encoder: d.Encoder, Transport: d.Transport,
		})
		again, err := descriptionFromPB(said)
		if err != nil {
			t.Fatalf("refused when said again: %v", err)
		}
		if twice := descriptionToPB(&sdk.Plugin{
			Kind: again.Kind, Info: again.Info, Schema: again.Schema,
			Source: again.Source, Encoder: again.Encoder, Transport: again.Transport,
		}); !proto.Equal(said, twice) {
			t.Fatalf("said %v, then %v", said, twice)
		}
	})
}

// FuzzBody: a configuration that was taken over crosses again unchanged.
func FuzzBody(f *testing.F) {
	f.Add(marshal(f, bodyToPB(fullBody())))
	schema := fullPlugin(nil).Schema
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m pb.ConfigBody
		if proto.Unmarshal(raw, &m) != nil {
			return
		}
		body, err := bodyFromPB(&m)
		if err != nil {
			return
		}
		again, err := bodyFromPB(bodyToPB(body))
		if err != nil || !proto.Equal(bodyToPB(body), bodyToPB(again)) {
			t.Fatalf("crossed again: %v", err)
		}
		if diags := checkBody(schema, body, true); len(diags) == 0 {
			var c fullConfig
			if err := sdk.Decode(body, &c); err != nil {
				t.Fatalf("fits its schema and cannot be decoded: %v", err)
			}
		}
	})
}

// FuzzSource feeds a source's stream with what a plugin might say.
func FuzzSource(f *testing.F) {
	a := spoiledFlow(func(*pb.FlowAnnouncement) {})
	b := spoiledBatch(func(*pb.SourceBatch) {})
	for _, m := range say(a, b, &pb.Progress{Flow: 1}, &pb.Dropped{Flow: 1}, &pb.AckWanted{Sequence: 1}, &pb.Finished{LastSequence: 1}) {
		f.Add(marshal(f, m))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m pb.RunResponse
		if proto.Unmarshal(raw, &m) != nil {
			return
		}
		in := &inlet{sendCredit: func(*pb.Credit) error { return nil }}
		if err := in.open(); err != nil {
			t.Fatal(err)
		}
		s := &SourceStream{in: in}
		if _, err := s.event(say(a)[0]); err != nil {
			t.Fatal(err)
		}
		event, err := s.event(&m)
		switch e := event.(type) {
		case *SourceBatch:
			if err != nil {
				return
			}
			var rows sdk.Batch
			if err := rows.Parse(&rpmFlow, e.Payload.Bytes()); err != nil {
				t.Fatalf("a batch that does not parse was passed on: %v", err)
			}
			if least, greatest := rows.TimeSpan(); rows.Rows() != e.Count || least != e.MinTime || greatest != e.MaxTime {
				t.Fatal("a batch with a wrong head was passed on")
			}
			e.Payload.Release()
		case nil:
			if err == nil {
				t.Fatal("neither event nor error")
			}
		}
		if err != nil && !errors.Is(err, ErrContract) {
			t.Fatalf("not the plugin's fault? %v", err)
		}
	})
}

// FuzzEncoded feeds an encoder's stream with what a plugin might answer.
func FuzzEncoded(f *testing.F) {
	f.Add(marshal(f, encoded(func(*pb.EncodedBatch) {}).GetEncoded()))
	f.Add(marshal(f, encoded(func(e *pb.EncodedBatch) {
		e.Batch.Count, e.Refused = 2, []*pb.RefusedRow{{Row: 1, Channel: "c", Reason: "r"}}
		e.Batch.Payload = inlinePayload(toyBody(bindingA, 1, 2))
	}).GetEncoded()))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m pb.EncodedBatch
		if proto.Unmarshal(raw, &m) != nil {
			return
		}
		in := &inlet{sendCredit: func(*pb.Credit) error { return nil }}
		if err := in.open(); err != nil {
			t.Fatal(err)
		}
		s := &EncoderStream{from: in}
		b := rpmBatch(1, 1, 2, 3)
		if err := s.ask(&b); err != nil {
			t.Fatal(err)
		}
		got, err := s.answer(&m)
		if err != nil {
			if !errors.Is(err, ErrContract) {
				t.Fatalf("not the plugin's fault? %v", err)
			}
			return
		}
		if got.Count+len(got.Refused) != 3 || got.MinTime > got.MaxTime {
			t.Fatalf("passed on: %+v", got)
		}
		if (got.Count > 0) != (got.Payload != nil) {
			t.Fatal("messages without payload, or the other way round")
		}
	})
}

// FuzzHandshake: a line that is understood is what its handshake prints, up to what
// is not looked at.
func FuzzHandshake(f *testing.F) {
	f.Add(Handshake{Version: 1, Socket: "/s", Certificate: []byte{1}}.String())
	f.Add("1|1|unix|/s|grpc|AQID|true")
	f.Fuzz(func(t *testing.T, line string) {
		h, err := ParseHandshake(line)
		if err != nil {
			return
		}
		again, err := ParseHandshake(h.String())
		if err != nil || again.Socket != h.Socket || again.Version != h.Version || string(again.Certificate) != string(h.Certificate) {
			t.Fatalf("%q gave %+v, which prints %q: %v", line, h, h.String(), err)
		}
	})
}
