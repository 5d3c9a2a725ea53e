package wire

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
)

func drawFlow(t *rapid.T) *sdk.Flow {
	name := rapid.StringN(1, 20, 80)
	f := &sdk.Flow{
		Name:               name.Draw(t, "flow"),
		StrictlyIncreasing: rapid.Bool().Draw(t, "increasing"),
	}
	if rapid.Bool().Draw(t, "origin") {
		f.Origin = sdk.Origin{Asset: name.Draw(t, "asset"), ClientKey: name.Draw(t, "key"), Run: name.Draw(t, "run")}
	}
	for _, channel := range rapid.SliceOfNDistinct(name, 1, 5, rapid.ID).Draw(t, "channels") {
		c := sdk.Channel{
			Name: channel, Type: rapid.SampledFrom(sdk.ChannelTypes()).Draw(t, "type"),
			Unit: rapid.String().Draw(t, "unit"), Description: rapid.String().Draw(t, "description"),
		}
		for range rapid.IntRange(0, 2).Draw(t, "keys") {
			c.Enum = append(c.Enum, sdk.EnumValue{Name: name.Draw(t, "n"), Key: rapid.Uint32().Draw(t, "k"), Signed: rapid.Bool().Draw(t, "s")})
			c.BitField = append(c.BitField, sdk.BitFieldElement{Name: name.Draw(t, "n"), Index: rapid.Int32().Draw(t, "i"), BitCount: rapid.Uint32().Draw(t, "c")})
		}
		f.Channels = append(f.Channels, c)
	}
	return f
}

func TestFlowCrosses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawFlow(t)
		a, err := announcement(1, want)
		require.NoError(t, err)
		var table flowTable
		got, fingerprint, err := table.add(recode(t, a, &pb.FlowAnnouncement{}))
		require.NoError(t, err)
		assert.Equal(t, want, got)
		assert.Equal(t, want.Fingerprint(), fingerprint)
	})
}

// recode sends a message through its bytes.
func recode[M proto.Message](t require.TestingT, m, into M) M {
	raw, err := proto.Marshal(m)
	require.NoError(t, err)
	require.NoError(t, proto.Unmarshal(raw, into))
	return into
}

func TestFlowLimits(t *testing.T) {
	wide := sdk.Flow{Name: "wide"}
	for i := range 200 {
		wide.Channels = append(wide.Channels, sdk.Channel{Name: fmt.Sprint(i), Type: sdk.Double, Description: strings.Repeat("d", 40<<10)})
	}
	_, err := announcement(1, &wide)
	require.ErrorContains(t, err, "the limit is")

	// Nothing a plugin announces is free: flows, channels and bytes are counted.
	a, err := announcement(1, &rpmFlow)
	require.NoError(t, err)
	for name, full := range map[string]flowTable{
		"flows":    {flows: make([]*sdk.Flow, maxFlows)},
		"channels": {channels: maxFlowChannels},
		"bytes":    {bytes: maxAnnouncementBytes},
	} {
		t.Run(name, func(t *testing.T) {
			a.Number = uint32(len(full.flows) + 1)
			_, _, err := full.add(a)
			require.ErrorContains(t, err, "the limits are")
		})
	}
	var counts flowTable
	a.Number = 1
	_, _, err = counts.add(a)
	require.NoError(t, err)
	assert.Equal(t, 1, counts.channels)
	assert.Equal(t, proto.Size(a), counts.bytes)
}

func drawValue(t *rapid.T, depth int) sdk.Value {
	kind := rapid.IntRange(int(sdk.KindString), int(sdk.KindMap)).Draw(t, "kind")
	v := sdk.Value{Kind: sdk.ValueKind(kind)}
	switch v.Kind {
	case sdk.KindString:
		v.String = rapid.String().Draw(t, "string")
	case sdk.KindInteger:
		v.Integer = rapid.Int64().Draw(t, "integer")
	case sdk.KindNumber:
		v.Number = rapid.Float64().Draw(t, "number")
	case sdk.KindBool:
		v.Bool = rapid.Bool().Draw(t, "bool")
	case sdk.KindList:
		for range rapid.IntRange(0, 3-depth).Draw(t, "items") {
			v.List = append(v.List, drawValue(t, depth+1))
		}
	case sdk.KindMap:
		v.Map = map[string]sdk.Value{}
		for range rapid.IntRange(0, 3-depth).Draw(t, "items") {
			v.Map[rapid.String().Draw(t, "key")] = drawValue(t, depth+1)
		}
	}
	return v
}

func drawBody(t *rapid.T, depth int) sdk.Body {
	b := sdk.Body{Attributes: map[string]sdk.Value{}}
	for range rapid.IntRange(0, 3).Draw(t, "attributes") {
		b.Attributes[rapid.StringN(1, 5, 20).Draw(t, "name")] = drawValue(t, 0)
	}
	for range rapid.IntRange(0, 2-depth).Draw(t, "blocks") {
		b.Blocks = append(b.Blocks, sdk.BlockBody{Type: "b", Labels: []string{"l"}, Body: drawBody(t, depth+1)})
	}
	return b
}

func TestBodyCrosses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawBody(t, 0)
		got, err := bodyFromPB(recode(t, bodyToPB(want), &pb.ConfigBody{}))
		require.NoError(t, err)
		assert.Equal(t, want, got)
	})
}

func TestDeepBodiesAreRefused(t *testing.T) {
	v := &pb.ConfigValue{Value: &pb.ConfigValue_Bool{}}
	b := &pb.ConfigBody{}
	for range 1000 {
		v = &pb.ConfigValue{Value: &pb.ConfigValue_List{List: &pb.ConfigList{Items: []*pb.ConfigValue{v}}}}
		b = &pb.ConfigBody{Blocks: []*pb.ConfigBlock{{Type: "b", Body: b}}}
	}
	_, err := valueFromPB(v)
	require.ErrorContains(t, err, "deep")
	_, err = bodyFromPB(b)
	require.ErrorContains(t, err, "deep")
}

func TestLogLevelCrosses(t *testing.T) {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		got, ok := levelFromPB(levelToPB(level))
		assert.True(t, ok)
		assert.Equal(t, level, got)
	}
	_, ok := levelFromPB(99)
	assert.False(t, ok)
}

func TestParseHandshake(t *testing.T) {
	want := Handshake{Version: 1, Socket: "/run/x/plugin-1", Certificate: []byte{1, 2, 3}}
	got, err := ParseHandshake(want.String() + "\n")
	require.NoError(t, err)
	assert.Equal(t, want, got)
	for line, want := range map[string]string{
		"":                         `no handshake but ""`,
		"hello":                    `no handshake but "hello"`,
		strings.Repeat("x", 1000):  "… (1000 bytes)",
		strings.Repeat("x", 20000): "20000 bytes",
		"1|x|unix|/s|grpc|AQID":    "no handshake",
		"2|1|unix|/s|grpc|AQID":    "core protocol 2, want 1",
		"1|1|tcp|:1|grpc|AQID":     `address "tcp :1"`,
		"1|1|unix||grpc|AQID":      `address "unix "`,
		"1|1|unix|/s|netrpc|AQID":  `protocol "netrpc"`,
		"1|1|unix|/s|grpc|":        "without a certificate",
		"1|1|unix|/s|grpc|***":     "without a certificate",
	} {
		_, err := ParseHandshake(line)
		require.ErrorContains(t, err, want)
	}
}

// TestCertificates lets two sides with each other's certificates meet, and nobody
// else.
func TestCertificates(t *testing.T) {
	host, plugin, other := newCert(t), newCert(t), newCert(t)
	assert.Equal(t, 1970, host.Leaf.NotBefore.Year())
	assert.Equal(t, 9999, host.Leaf.NotAfter.Year())
	for name, tc := range map[string]struct {
		client, trusted, expected tls.Certificate
		want                      string
	}{
		"good":         {host, host, plugin, ""},
		"other client": {other, host, plugin, "unknown certificate authority"},
		"other plugin": {host, host, other, "certificate"},
		"no client":    {tls.Certificate{}, host, plugin, "certificate required"},
	} {
		t.Run(name, func(t *testing.T) {
			server, err := ServerTLS(plugin, CertificatePEM(tc.trusted))
			require.NoError(t, err)
			client, err := ClientTLS(tc.client, tc.expected.Certificate[0])
			require.NoError(t, err)
			if tc.client.Certificate == nil {
				client.Certificates = nil
			}
			err = meet(t, client, server)
			if tc.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tc.want)
			}
		})
	}
	_, err := ServerTLS(plugin, "junk")
	require.Error(t, err)
	_, err = ClientTLS(host, []byte("junk"))
	require.Error(t, err)
}

func newCert(t *testing.T) tls.Certificate {
	t.Helper()
	c, err := NewCertificate()
	require.NoError(t, err)
	return c
}

// meet returns the client's error, also one that only its first read shows.
func meet(t *testing.T, client, server *tls.Config) error {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	go func() {
		s := tls.Server(b, server)
		if s.Handshake() == nil {
			_, _ = s.Write([]byte("x"))
		}
		_ = s.Close()
	}()
	c := tls.Client(a, client)
	if err := c.Handshake(); err != nil {
		_ = a.Close()
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}
