package sift

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/pipelined/pipelined/internal/sifttest"
	assetsv1 "github.com/pipelined/pipelined/proto/sift/assets/v1"
	ingestionconfigsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"
	"github.com/pipelined/pipelined/sdk"
)

const (
	createConfig = ingestionconfigsv2.IngestionConfigService_CreateIngestionConfig_FullMethodName
	createFlows  = ingestionconfigsv2.IngestionConfigService_CreateIngestionConfigFlows_FullMethodName
	listFlows    = ingestionconfigsv2.IngestionConfigService_ListIngestionConfigFlows_FullMethodName
	createRun    = runsv2.RunService_CreateRun_FullMethodName
	updateRun    = runsv2.RunService_UpdateRun_FullMethodName
	updateAsset  = assetsv1.AssetService_UpdateAsset_FullMethodName
)

// calls counts and alters unary calls.
type calls struct {
	mu    sync.Mutex
	n     map[string]int
	alter func(method string, n int, request proto.Message) error // n from 1
}

func (c *calls) intercept(_ context.Context, method string, request proto.Message) error {
	c.mu.Lock()
	if c.n == nil {
		c.n = make(map[string]int)
	}
	c.n[method]++
	n, alter := c.n[method], c.alter
	c.mu.Unlock()
	if alter == nil {
		return nil
	}
	return alter(method, n, request)
}

func (c *calls) count(method string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[method]
}

func testFlow(name string, channels ...string) sdk.Flow {
	f := sdk.Flow{Name: name}
	for _, c := range channels {
		f.Channels = append(f.Channels, sdk.Channel{Name: c, Type: sdk.Double, Unit: "m"})
	}
	return f
}

func registration(flows ...sdk.Flow) sdk.Registration {
	return sdk.Registration{Asset: "stand", ClientKey: "stand-v1", Flows: flows}
}

// allTypes is a flow with every channel type.
func allTypes() sdk.Flow {
	f := sdk.Flow{Name: "all"}
	for _, typ := range sdk.ChannelTypes() {
		c := sdk.Channel{Name: typ.String(), Type: typ, Unit: "u", Description: "d"}
		switch typ {
		case sdk.Enum:
			c.Enum = []sdk.EnumValue{{Name: "on", Key: 1}, {Name: "off", Key: 2, Signed: true}}
		case sdk.BitField:
			c.BitField = []sdk.BitFieldElement{{Name: "low", Index: 0, BitCount: 3}, {Name: "high", Index: 3, BitCount: 5}}
		}
		f.Channels = append(f.Channels, c)
	}
	return f
}

// flowNames returns what the server has for the only config.
func flowNames(t *testing.T, server *sifttest.Server) []string {
	t.Helper()
	require.Len(t, server.Configs(), 1)
	var out []string
	for _, f := range server.Flows(server.Configs()[0].GetIngestionConfigId()) {
		out = append(out, f.GetName())
	}
	return out
}

func TestRegister(t *testing.T) {
	var seen calls
	server := sifttest.New(t, sifttest.Options{Intercept: seen.intercept, PageSize: 1, Keys: []string{"k"}})
	tr, health := newTransport(t, server, func(c *Config) { c.APIKey = sdk.NewSecret("k") })

	r := registration(testFlow("a", "x", "y"), allTypes())
	first, err := tr.Register(t.Context(), r)
	require.NoError(t, err)
	id := server.Configs()[0].GetIngestionConfigId()
	assert.Equal(t, sdk.Registered{Destination: server.URI() + "/" + id, Binding: sdk.Binding{ConfigID: id}}, first)
	assert.Equal(t, "stand", server.Assets()[0].GetName())
	assert.True(t, proto.Equal(flowConfig(&r.Flows[1]), server.Flows(id)[1]))
	assert.Zero(t, seen.count(createFlows))
	assert.Equal(t, sdk.HealthOK, health.last().State)

	again, err := tr.Register(t.Context(), r)
	require.NoError(t, err)
	assert.Equal(t, first, again)
	assert.Zero(t, seen.count(createFlows), "nothing was missing")

	r.Flows = append(r.Flows, testFlow("b", "z"), testFlow("c", "z"))
	more, err := tr.Register(t.Context(), r)
	require.NoError(t, err)
	assert.Equal(t, first, more)
	assert.Equal(t, []string{"a", "all", "b", "c"}, flowNames(t, server))
	assert.Equal(t, 1, seen.count(createFlows), "one call for both")

	// Another process with fewer flows.
	other, _ := newTransport(t, server, func(c *Config) { c.APIKey = sdk.NewSecret("k") })
	fewer, err := other.Register(t.Context(), registration(testFlow("c", "z")))
	require.NoError(t, err)
	assert.Equal(t, first, fewer)
}

func TestRegisterWithoutFlows(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{})
	tr, _ := newTransport(t, server)
	for range 2 {
		got, err := tr.Register(t.Context(), registration())
		require.NoError(t, err)
		assert.NotEmpty(t, got.Binding.ConfigID)
	}
}

// TestConflicts: flows that the destination has otherwise, or will not have, are
// reported with the reason; all others are registered.
func TestConflicts(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{})
	there := allTypes()
	config, err := server.AddConfig("STAND", "stand-v1", flowConfig(&there))
	require.NoError(t, err)
	tr, _ := newTransport(t, server)

	changed := allTypes()
	changed.Channels[0].Unit = "K"
	changed.Channels = append(changed.Channels[:len(changed.Channels)-1], sdk.Channel{Name: "new", Type: sdk.Bool})
	nameless := testFlow("")
	huge := testFlow("huge", strings.Repeat("x", 10_000))
	for i := range 500 {
		c := huge.Channels[0]
		c.Name = fmt.Sprint(i, c.Name)
		huge.Channels = append(huge.Channels, c)
	}
	got, err := tr.Register(t.Context(), registration(changed, testFlow("fine", "x"), nameless, huge, testFlow("fine", "y"), testFlow(" ", "x")))
	require.NoError(t, err)
	assert.Equal(t, config.GetIngestionConfigId(), got.Binding.ConfigID)
	text := make(map[string]string)
	for _, c := range got.Conflicts {
		text[c.Flow] = c.Difference
	}
	require.Len(t, text, 5)
	assert.Equal(t, `channel 1: unit of "double" is "u", now "K"; channel 11: name "bytes", now "new"`, text["all"])
	assert.Contains(t, text[""], "no name")
	assert.Contains(t, text["huge"], "takes at most")
	assert.Contains(t, text["fine"], `defined twice: channel 1: name "x", now "y"`)
	assert.Contains(t, text[" "], "refuses it")
	assert.Equal(t, []string{"all", "fine"}, flowNames(t, server))
}

// TestRefusedFlowInNewConfig: a flow that the service refuses does not keep the
// config from being made.
func TestRefusedFlowInNewConfig(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{})
	tr, _ := newTransport(t, server)
	got, err := tr.Register(t.Context(), registration(testFlow("a", "x"), testFlow(" ", "x"), testFlow("b", "x")))
	require.NoError(t, err)
	require.Len(t, got.Conflicts, 1)
	assert.Equal(t, []string{"a", "b"}, flowNames(t, server))
}

// TestGroups: no call is larger than it may be, however many and wide the flows.
func TestGroups(t *testing.T) {
	seen := calls{alter: func(_ string, _ int, request proto.Message) error {
		if size := proto.Size(request); size > groupBytes+100_000 {
			return status.Errorf(codes.ResourceExhausted, "%d bytes", size)
		}
		return nil
	}}
	server := sifttest.New(t, sifttest.Options{Intercept: seen.intercept})
	tr, _ := newTransport(t, server)
	wide := make([]string, 1000)
	for i := range wide {
		wide[i] = fmt.Sprintf("channel-%04d-%s", i, strings.Repeat("x", 50))
	}
	var flows []sdk.Flow
	for i := range 40 {
		flows = append(flows, testFlow(fmt.Sprint("wide", i), wide...))
	}
	for i := range 500 {
		flows = append(flows, testFlow(fmt.Sprint("narrow", i), "x"))
	}
	got, err := tr.Register(t.Context(), registration(flows...))
	require.NoError(t, err)
	assert.Empty(t, got.Conflicts)
	assert.Len(t, flowNames(t, server), len(flows))
	assert.Equal(t, 4, seen.count(createFlows))
}

// TestLargePages: lists whose pages are too large for an answer are read in
// smaller ones.
func TestLargePages(t *testing.T) {
	seen := calls{alter: func(_ string, _ int, request proto.Message) error {
		if list, ok := request.(*ingestionconfigsv2.ListIngestionConfigFlowsRequest); ok && list.GetPageSize() > 5 {
			return status.Error(codes.ResourceExhausted, "too large")
		}
		return nil
	}}
	server := sifttest.New(t, sifttest.Options{Intercept: seen.intercept})
	flows := []sdk.Flow{testFlow("a", "x"), testFlow("b", "x"), testFlow("c", "x")}
	_, err := server.AddConfig("stand", "stand-v1", flowConfig(&flows[0]), flowConfig(&flows[2]))
	require.NoError(t, err)
	tr, _ := newTransport(t, server)
	got, err := tr.Register(t.Context(), registration(flows...))
	require.NoError(t, err)
	assert.Empty(t, got.Conflicts)
	assert.Equal(t, []string{"a", "c", "b"}, flowNames(t, server))
}

// TestRaces: somebody else is faster, at every step.
func TestRaces(t *testing.T) {
	for _, piecemeal := range []bool{false, true} {
		t.Run(fmt.Sprint("piecemeal ", piecemeal), func(t *testing.T) {
			a, b, c, other := testFlow("a", "x"), testFlow("b", "x"), testFlow("c", "x"), testFlow("b", "another")
			var server *sifttest.Server
			seen := calls{alter: func(method string, n int, _ proto.Message) error {
				if n > 1 {
					return nil
				}
				var err error
				switch method {
				case createConfig:
					_, err = server.AddConfig("Stand", "stand-v1")
				case createFlows:
					err = server.AddFlows(server.Configs()[0].GetIngestionConfigId(), flowConfig(&a), flowConfig(&other))
				case createRun:
					_, err = server.AddRun("run", "run-1")
				}
				return err
			}}
			server = sifttest.New(t, sifttest.Options{Intercept: seen.intercept, Piecemeal: piecemeal})
			tr, _ := newTransport(t, server)
			r := registration(a, b, c)
			r.Run = sdk.Run{Name: "run", ClientKey: "run-1"}
			got, err := tr.Register(t.Context(), r)
			require.NoError(t, err)
			assert.Equal(t, []sdk.FlowConflict{{Flow: "b", Difference: `channel 1: name "another", now "x"`}}, got.Conflicts)
			assert.Equal(t, []string{"a", "b", "c"}, flowNames(t, server))
			require.Len(t, server.Runs(), 1)
			assert.Equal(t, server.Runs()[0].GetRunId(), got.Binding.RunID)
		})
	}
}

func TestHostileNames(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{PageSize: 3})
	tr, _ := newTransport(t, server)
	var flows []sdk.Flow
	for _, name := range hostileNames() {
		flows = append(flows, testFlow(name, hostileNames()...))
	}
	ids := make(map[string]bool)
	for _, name := range hostileNames() {
		r := sdk.Registration{
			Asset: name, ClientKey: name, Flows: flows, Run: sdk.Run{Name: name, ClientKey: name, Tags: []string{name}},
			AssetTags: []string{name}, AssetMetadata: []sdk.Metadata{{Name: name, Value: name}},
		}
		first, err := tr.Register(t.Context(), r)
		require.NoError(t, err, name)
		again, err := tr.Register(t.Context(), r)
		require.NoError(t, err, name)
		assert.Equal(t, first, again)
		assert.Empty(t, first.Conflicts)
		ids[first.Binding.ConfigID+first.Binding.RunID] = true
	}
	assert.Len(t, ids, len(hostileNames()))
}

func TestWrongAsset(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{})
	_, err := server.AddConfig("another", "stand-v1")
	require.NoError(t, err)
	tr, health := newTransport(t, server)
	_, err = tr.Register(t.Context(), registration())
	e := requireFailure(t, err, sdk.ClassPermanent, invalidArgument)
	assert.Contains(t, e.Message, `belongs to asset "another" at the destination, not to "stand"`)
	assert.Equal(t, sdk.HealthFailing, health.last().State)
	assert.False(t, lowerASCII("\u212Aelvin") == lowerASCII("kelvin"), "only ASCII letters have no case")
}

func TestRegisterFails(t *testing.T) {
	for _, tc := range []struct {
		name  string
		alter func(method string, n int, request proto.Message) error
		class sdk.Class
		code  codes.Code
		text  string
	}{
		{"not permitted", func(string, int, proto.Message) error { return status.Error(codes.PermissionDenied, "read only key") }, sdk.ClassPermanent, codes.PermissionDenied, "create ingestion config: read only key"},
		{"unavailable", func(string, int, proto.Message) error { return status.Error(codes.Unavailable, "") }, sdk.ClassDisconnected, codes.Unavailable, "gave no reason"},
		{"rate limit", func(string, int, proto.Message) error { return sifttest.RateLimited(time.Second) }, sdk.ClassRetry, codes.ResourceExhausted, "rate limit"},
		{"exists, but is not listed", func(method string, _ int, _ proto.Message) error {
			if method == createConfig {
				return status.Error(codes.AlreadyExists, "")
			}
			return nil
		}, sdk.ClassRetry, codes.Unknown, "does not list it"},
		{"list refused", func(method string, _ int, _ proto.Message) error {
			if method == listFlows {
				return status.Error(codes.Internal, "trace")
			}
			return nil
		}, sdk.ClassRetry, codes.Internal, "list flows: trace"},
		{"every page too large", func(method string, _ int, _ proto.Message) error {
			if method == listFlows {
				return status.Error(codes.ResourceExhausted, "one flow of 100 MB")
			}
			return nil
		}, sdk.ClassRetry, codes.ResourceExhausted, "one flow of 100 MB"},
		{"creation of flows fails", func(method string, _ int, _ proto.Message) error {
			if method == createFlows {
				return status.Error(codes.Internal, "disk")
			}
			return nil
		}, sdk.ClassRetry, codes.Internal, "create flows: disk"},
		{"run not found", func(string, int, proto.Message) error { return nil }, sdk.ClassPermanent, codes.NotFound, "attach to run"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			seen := calls{alter: tc.alter}
			server := sifttest.New(t, sifttest.Options{Intercept: seen.intercept})
			if tc.name != "exists, but is not listed" {
				_, err := server.AddConfig("stand", "stand-v1")
				require.NoError(t, err)
			}
			tr, _ := newTransport(t, server)
			r := registration(testFlow("a", "x"))
			r.Run.ID = "no such run"
			_, err := tr.Register(t.Context(), r)
			e := requireFailure(t, err, tc.class, uint32(tc.code))
			assert.Contains(t, e.Message, tc.text)
			if tc.name == "rate limit" {
				assert.Equal(t, time.Second, e.Delay)
			}
		})
	}
}

// TestCreatedButNotListed: a destination that loses what it has taken is not
// believed.
func TestCreatedButNotListed(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{PageSize: 1})
	_, err := server.AddConfig("stand", "stand-v1")
	require.NoError(t, err)
	tr, _ := newTransport(t, server)
	g := &registrar{transport: tr, configs: forgetful{}}
	set := prepareFlows([]sdk.Flow{testFlow("a", "x")})
	require.ErrorContains(t, g.flows(t.Context(), "c", set), "does not list it")
	g.configs = endless{}
	require.ErrorContains(t, g.flows(t.Context(), "c", set), "does not end")
}

type forgetful struct {
	ingestionconfigsv2.IngestionConfigServiceClient
}

func (forgetful) CreateIngestionConfigFlows(context.Context, *ingestionconfigsv2.CreateIngestionConfigFlowsRequest, ...grpc.CallOption) (*ingestionconfigsv2.CreateIngestionConfigFlowsResponse, error) {
	return nil, nil
}

func (forgetful) ListIngestionConfigFlows(context.Context, *ingestionconfigsv2.ListIngestionConfigFlowsRequest, ...grpc.CallOption) (*ingestionconfigsv2.ListIngestionConfigFlowsResponse, error) {
	return nil, nil
}

type endless struct{ forgetful }

func (endless) ListIngestionConfigFlows(context.Context, *ingestionconfigsv2.ListIngestionConfigFlowsRequest, ...grpc.CallOption) (*ingestionconfigsv2.ListIngestionConfigFlowsResponse, error) {
	return &ingestionconfigsv2.ListIngestionConfigFlowsResponse{
		Flows: []*ingestionconfigsv2.FlowConfig{{Name: "b"}}, NextPageToken: "again",
	}, nil
}

// TestSilentDestination: every call has a deadline.
func TestSilentDestination(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{Intercept: func(ctx context.Context, _ string, _ proto.Message) error {
		<-ctx.Done()
		return ctx.Err()
	}})
	tr, _ := newTransport(t, server, func(c *Config) { c.CallTimeout = 50 * time.Millisecond })
	_, err := tr.Register(t.Context(), registration())
	requireFailure(t, err, sdk.ClassRetry, uint32(codes.DeadlineExceeded))

	tr, _ = newTransport(t, server)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = tr.Register(ctx, registration())
	requireFailure(t, err, sdk.ClassRetry, uint32(codes.DeadlineExceeded))
}
