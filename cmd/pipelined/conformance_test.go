package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/internal/sifttest"
	ingestionconfig "github.com/pipelined/pipelined/plugins/encoders/ingestion_config"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/plugintest"
)

// TestConformance holds every bundled plugin, as a process, to the contract.
func TestConformance(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	for _, p := range bundled() {
		name := fmt.Sprintf("%s/%s", p.Kind, p.Info.Name)
		t.Run(name, func(t *testing.T) {
			prepare, ok := conformance[name]
			require.True(t, ok, "a bundled plugin without an entry here")
			process := plugintest.Process{Path: self, Args: []string{pluginVerb, p.Kind.String(), p.Info.Name}}
			plugintest.Run(t, process, prepare(t))
		})
	}
}

// conformance says how each plugin is tried.
var conformance = map[string]func(*testing.T) plugintest.Options{
	"source/csv": func(t *testing.T) plugintest.Options {
		file := filepath.Join(t.TempDir(), "rows.csv")
		rows := "t,a,b\n" + strings.Repeat("1.5,2,x\n", 500)
		require.NoError(t, os.WriteFile(file, []byte(rows), 0o600))
		body := bodyOf(map[string]sdk.Value{"path": textValue(file), "speed": textValue("max")})
		body.Blocks = []sdk.BlockBody{{Type: "time", Body: bodyOf(map[string]sdk.Value{"column": textValue("t")})}}
		return plugintest.Options{Config: body, Repeatable: true}
	},
	"source/generator": func(*testing.T) plugintest.Options {
		return plugintest.Options{Repeatable: true, Config: bodyOf(map[string]sdk.Value{
			"rate":  textValue("max"),
			"rows":  {Kind: sdk.KindInteger, Integer: 20_000},
			"start": {Kind: sdk.KindInteger, Integer: 1_700_000_000_000_000_000},
		})}
	},
	"source/host": func(*testing.T) plugintest.Options {
		return plugintest.Options{Config: bodyOf(map[string]sdk.Value{
			"period": {Kind: sdk.KindInteger, Integer: 20_000_000},
		})}
	},
	"source/sift": func(t *testing.T) plugintest.Options {
		return plugintest.Options{Config: bodyOf(map[string]sdk.Value{"listen": textValue(freeAddress(t))})}
	},
	"encoder/ingestion_config": func(*testing.T) plugintest.Options { return plugintest.Options{} },
	"transport/file": func(t *testing.T) plugintest.Options {
		return plugintest.Options{Config: directory(t), Registration: registration(), Encode: encoder(t)}
	},
	"transport/parquet": func(t *testing.T) plugintest.Options {
		return plugintest.Options{Config: directory(t), Registration: registration()}
	},
	"transport/sift": func(t *testing.T) plugintest.Options {
		server := sifttest.New(t, sifttest.Options{})
		return plugintest.Options{
			Config:       bodyOf(map[string]sdk.Value{"uri": textValue(server.URI()), "api_key": textValue("a-key")}),
			Registration: registration(), Encode: encoder(t),
		}
	},
}

func bodyOf(attributes map[string]sdk.Value) sdk.Body { return sdk.Body{Attributes: attributes} }

func textValue(text string) sdk.Value { return sdk.Value{Kind: sdk.KindString, String: text} }

func directory(t *testing.T) sdk.Body {
	return bodyOf(map[string]sdk.Value{"dir": textValue(t.TempDir())})
}

func registration() *sdk.Registration {
	return &sdk.Registration{Asset: "asset", ClientKey: "key"}
}

// encoder returns the bundled encoder's Encode, for transports of its messages.
func encoder(t *testing.T) func([]byte, *sdk.Batch, sdk.Binding) (sdk.Encoded, error) {
	component, err := ingestionconfig.Plugin().Open(sdk.Settings{}, sdk.Body{})
	require.NoError(t, err)
	return component.(sdk.Encoder).Encode
}

// freeAddress returns an address that nobody listens on at the moment.
func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}
