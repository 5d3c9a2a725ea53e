package siftserver

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/pipelined/pipelined/plugins/sources/sift/registry"
	configsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	pingv1 "github.com/pipelined/pipelined/proto/sift/ping/v1"
	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"
	"github.com/pipelined/pipelined/sdk"
)

func keys(texts ...string) setting {
	return withConfig(func(c *Config) {
		for _, text := range texts {
			c.Keys = append(c.Keys, sdk.NewSecret(text))
		}
	})
}

func TestKeys(t *testing.T) {
	r := start(t, keys("first", "second key"))
	for authorization, want := range map[string]codes.Code{
		"Bearer first":      codes.OK,
		"bearer second key": codes.OK,
		"BEARER first":      codes.OK,
		"":                  codes.Unauthenticated,
		"Bearer":            codes.Unauthenticated,
		"Bearer ":           codes.Unauthenticated,
		"Bearer First":      codes.Unauthenticated,
		"Bearer first ":     codes.Unauthenticated,
		"Bearer third":      codes.Unauthenticated,
		"Basic first":       codes.Unauthenticated,
		"first":             codes.Unauthenticated,
	} {
		c := r.dial(authorization)
		_, err := c.ping.Ping(t.Context(), &pingv1.PingRequest{})
		assert.Equal(t, want, status.Code(err), "ping with %q", authorization)
		stream, _ := c.stream()
		_, err = stream.CloseAndRecv()
		assert.Equal(t, want, status.Code(err), "stream with %q", authorization)
		if err != nil {
			assert.NotContains(t, err.Error(), "first")
		}
	}
}

// Only this machine can connect then.
func TestWithoutKeysEveryCallIsLetIn(t *testing.T) {
	r := start(t)
	for _, authorization := range []string{anyKey, ""} {
		_, err := r.dial(authorization).ping.Ping(t.Context(), &pingv1.PingRequest{})
		require.NoError(t, err)
	}
}

func TestOtherCallsAreUnimplemented(t *testing.T) {
	c := start(t).dial(anyKey)
	_, err := c.runs.CreateAdhocRun(t.Context(), &runsv2.CreateAdhocRunRequest{})
	assert.Equal(t, codes.Unimplemented, status.Code(err))
	stream, err := c.ingest.IngestArbitraryProtobufDataStream(t.Context())
	require.NoError(t, err)
	_, err = stream.CloseAndRecv()
	assert.Equal(t, codes.Unimplemented, status.Code(err))
	err = c.conn.Invoke(t.Context(), "/sift.other.v1.OtherService/Other", &pingv1.PingRequest{}, &pingv1.PingResponse{})
	assert.Equal(t, codes.Unimplemented, status.Code(err))
}

func TestHostileNames(t *testing.T) {
	r := start(t)
	c := r.dial(anyKey)
	for i, name := range []string{
		`it's`, `"quoted"`, `back\slash`, "a/b/../c", " ", "  spaces  ", "new\nline", "nul\x00byte", "déjà 🚀", "''", `\'`,
		"') || (client_key != '", "%s%d", strings.Repeat("n", 10<<10), strings.Repeat("é", 8<<10),
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			asset, key := name, name
			if strings.TrimSpace(name) == "" {
				asset = "blank names are refused"
			}
			f := form{asset: asset, key: key, flows: []*configsv2.FlowConfig{doubles(name, name, "second")}}
			s, err := c.startUp(t.Context(), f)
			require.NoError(t, err)
			run, err := c.runs.CreateRun(t.Context(), &runsv2.CreateRunRequest{Name: asset, ClientKey: &key})
			require.NoError(t, err)
			s.run = run.GetRun()
			literal := "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`).Replace(name) + "'"
			configs, err := c.configs.ListIngestionConfigs(t.Context(), &configsv2.ListIngestionConfigsRequest{Filter: "client_key == " + literal})
			require.NoError(t, err)
			require.Len(t, configs.GetIngestionConfigs(), 1)
			flows, err := c.configs.ListIngestionConfigFlows(t.Context(), &configsv2.ListIngestionConfigFlowsRequest{
				IngestionConfigId: s.config.GetIngestionConfigId(), Filter: "flow_name in [" + literal + ",'x']",
			})
			require.NoError(t, err)
			require.Len(t, flows.GetFlows(), 1)
			runs, err := c.runs.ListRuns(t.Context(), &runsv2.ListRunsRequest{Filter: "client_key == " + literal})
			require.NoError(t, err)
			require.Len(t, runs.GetRuns(), 1)
			stream, _ := c.stream()
			require.NoError(t, stream.Send(s.row(name, 1, double(1), double(2))))
			_, err = stream.CloseAndRecv()
			require.NoError(t, err)
			assert.Equal(t, []string{"1 1 2"}, r.out.rows()[asset+"/"+key+"/"+key+"/"+name])
		})
	}
	// The reference does not escape: its filter is refused, with the place.
	_, err := c.startUp(t.Context(), form{asset: "a", key: `it's`})
	assert.Equal(t, codes.InvalidArgument, status.Code(err))
	assert.ErrorContains(t, err, "at byte 18")
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	err = runOnce(t, func(s *sdk.Settings, c *Config) { c.Listen = l.Addr().String() })
	assert.EqualError(t, err, "listen on "+l.Addr().String()+": another program uses this port; stop it, or set another port in listen")
}

// runOnce runs a source that cannot start.
func runOnce(t *testing.T, change func(*sdk.Settings, *Config)) error {
	t.Helper()
	s := sdk.Settings{Logger: slog.New(slog.DiscardHandler), StateDir: t.TempDir(), Health: func(sdk.Health) {}}
	c := defaultConfig()
	c.Listen = "127.0.0.1:0"
	change(&s, &c)
	source, err := newSource(s, c, defaultTiming())
	if err != nil {
		return err
	}
	return source.Run(t.Context(), newOutput())
}

func TestCannotStart(t *testing.T) {
	junk := filepath.Join(t.TempDir(), registry.FileName)
	require.NoError(t, os.WriteFile(junk, bytes.Repeat([]byte("junk"), 5000), 0o600))
	held := start(t)
	for name, tc := range map[string]struct {
		change func(*sdk.Settings, *Config)
		want   string
	}{
		"empty key":       {func(_ *sdk.Settings, c *Config) { c.Keys = []sdk.Secret{sdk.NewSecret("k"), {}} }, "key 2 is empty"},
		"not loopback":    {func(_ *sdk.Settings, c *Config) { c.Listen = "0.0.0.0:0" }, "is not of the loopback interface"},
		"foreign address": {func(_ *sdk.Settings, c *Config) { c.Listen = "192.0.2.1:4711" }, "listen on 192.0.2.1:4711: this machine does not have that address"},
		"no certificate":  {func(_ *sdk.Settings, c *Config) { c.TLS = &TLS{Cert: "/none.crt", Key: "/none.key"} }, "tls: certificate /none.crt with key /none.key"},
		"no directory":    {func(s *sdk.Settings, _ *Config) { s.StateDir = "/none" }, "open registry: open /none/registry.db"},
		"in use":          {func(s *sdk.Settings, _ *Config) { s.StateDir = held.source.settings.StateDir }, "another process uses it"},
		"junk":            {func(s *sdk.Settings, _ *Config) { s.StateDir = filepath.Dir(junk) }, "move the file away"},
	} {
		t.Run(name, func(t *testing.T) { assert.ErrorContains(t, runOnce(t, tc.change), tc.want) })
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pool := writeCertificate(t, cert, key)
	r := start(t, keys("k"), withConfig(func(c *Config) { c.TLS = &TLS{Cert: cert, Key: key} }))
	secure := r.dial("Bearer k", grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(pool, "")))
	s, err := secure.startUp(t.Context(), form{asset: "a", key: "k", flows: []*configsv2.FlowConfig{doubles("f", "x")}})
	require.NoError(t, err)
	stream, _ := secure.stream()
	require.NoError(t, stream.Send(s.row("f", 1, double(1))))
	_, err = stream.CloseAndRecv()
	require.NoError(t, err)
	_, err = r.dial("Bearer k").ping.Ping(t.Context(), &pingv1.PingRequest{})
	assert.Equal(t, codes.Unavailable, status.Code(err))
}

func writeCertificate(t *testing.T, certFile, keyFile string) *x509.CertPool {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return pool
}

func TestStateIsPrivate(t *testing.T) {
	r := start(t)
	info, err := os.Stat(filepath.Join(r.source.settings.StateDir, registry.FileName))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestConnectionLimit(t *testing.T) {
	r := start(t, withConfig(func(c *Config) { c.MaxStreams = 1 }))
	var open []net.Conn
	for range 2 {
		conn, err := net.Dial("tcp", r.address)
		require.NoError(t, err)
		open = append(open, conn)
	}
	r.eventually("two connections", func() bool { return r.source.counts.connections.Load() == 2 })
	third, err := net.Dial("tcp", r.address)
	require.NoError(t, err)
	_, err = third.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, third.Close())
	for _, conn := range open {
		require.NoError(t, conn.Close())
	}
	r.eventually("no connection", func() bool { return r.source.counts.connections.Load() == 0 })
	_, err = r.dial(anyKey).ping.Ping(t.Context(), &pingv1.PingRequest{})
	require.NoError(t, err)
}

// Clients ping every 20 s, also when they have no call. They may do so for ever;
// a flood of pings ends the connection.
func TestPingsAreAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := bufconn.Listen(64 << 10)
		server := newServer(defaultConfig(), nil)
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(listener) }()
		conn, err := listener.Dial()
		require.NoError(t, err)
		_, err = conn.Write([]byte(http2.ClientPreface))
		require.NoError(t, err)
		framer := http2.NewFramer(conn, conn)
		require.NoError(t, framer.WriteSettings())

		acks, goAway := 0, ""
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			for {
				f, err := framer.ReadFrame()
				if err != nil {
					return
				}
				switch f := f.(type) {
				case *http2.PingFrame:
					acks++
				case *http2.GoAwayFrame:
					goAway = string(f.DebugData())
				}
			}
		}()
		for range 100 {
			<-time.After(20 * time.Second)
			require.NoError(t, framer.WritePing(false, [8]byte{}))
		}
		synctest.Wait()
		assert.Equal(t, 100, acks)
		assert.Empty(t, goAway)
		for range 5 {
			_ = framer.WritePing(false, [8]byte{})
		}
		<-closed
		assert.Equal(t, "too_many_pings", goAway)
		server.Stop()
		require.NoError(t, <-ended)
	})
}

func TestMetrics(t *testing.T) {
	r, s := streaming(t)
	stream, _ := s.client.stream()
	require.NoError(t, stream.Send(s.row("f", 1, double(1), double(2))))
	require.NoError(t, stream.Send(s.row("f", 1, double(1))))
	_, err := stream.CloseAndRecv()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, m := range r.source.Metrics() {
		assert.NotEmpty(t, m.Help)
		got[m.Name] = m.Value
	}
	assert.EqualValues(t, 1, got["connections"])
	assert.EqualValues(t, 1, got["streams_total"])
	assert.EqualValues(t, 1, got["streams_confirmed_total"])
	assert.EqualValues(t, 2, got["messages_total"])
	assert.EqualValues(t, 1, got["rows_refused_total"])
	assert.Greater(t, got["message_bytes_total"], 100.0)
}

func TestDiscover(t *testing.T) {
	got, err := start(t).source.Discover(context.Background())
	require.NoError(t, err)
	assert.Equal(t, sdk.Discovery{Dynamic: true}, got)
}
