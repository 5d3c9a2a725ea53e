package siftserver

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

func text2(s string) sdk.Value { return sdk.Value{Kind: sdk.KindString, String: s} }

func TestValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Config)
		want   []string // severity, attribute and summary of each diagnostic
	}{
		"loopback":      {func(c *Config) {}, nil},
		"localhost":     {func(c *Config) { c.Listen = "localhost:0" }, nil},
		"IPv6":          {func(c *Config) { c.Listen = "[::1]:50051" }, nil},
		"mapped":        {func(c *Config) { c.Listen = "[::ffff:127.0.0.1]:50051" }, nil},
		"no port":       {func(c *Config) { c.Listen = "127.0.0.1" }, []string{"error listen Invalid address"}},
		"named port":    {func(c *Config) { c.Listen = "127.0.0.1:grpc" }, []string{"error listen Invalid port"}},
		"large port":    {func(c *Config) { c.Listen = "127.0.0.1:65536" }, []string{"error listen Invalid port"}},
		"open":          {func(c *Config) { c.Listen = "0.0.0.0:1" }, []string{"error listen Open to everyone"}},
		"all addresses": {func(c *Config) { c.Listen = ":1" }, []string{"error listen Open to everyone"}},
		"other host":    {func(c *Config) { c.Listen = "host.example:1" }, []string{"error listen Open to everyone"}},
		"clear":         {func(c *Config) { c.Listen, c.Keys = ":1", make([]sdk.Secret, 1) }, []string{"warning listen Keys travel in the clear"}},
		"keys and TLS":  {func(c *Config) { c.Listen, c.Keys, c.TLS = ":1", make([]sdk.Secret, 1), &TLS{} }, nil},
		"bounds": {func(c *Config) { c.MaxMessageBytes, c.MaxState, c.MaxStreams = 1, 1, 0 }, []string{
			"error max_message_bytes Message limit out of range", "error max_state State limit out of range", "error max_streams Stream limit out of range",
		}},
		"upper bounds": {func(c *Config) { c.MaxMessageBytes, c.MaxState, c.MaxStreams = 1<<31, 1<<31, 1<<31-1 }, []string{
			"error max_message_bytes Message limit out of range", "error max_state State limit out of range", "error max_streams Stream limit out of range",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := defaultConfig()
			c.Listen = "127.0.0.1:50051"
			tc.change(&c)
			var got []string
			for _, d := range c.Validate() {
				severity := map[sdk.Severity]string{sdk.SeverityError: "error", sdk.SeverityWarning: "warning"}[d.Severity]
				got = append(got, fmt.Sprint(severity, " ", d.Path[0].Attribute, " ", d.Summary))
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestPlugin(t *testing.T) {
	p := Plugin()
	assert.Equal(t, sdk.KindSource, p.Kind)
	assert.Equal(t, "sift", p.Info.Name)
	assert.False(t, p.Source.Replayable)
	attributes := map[string]sdk.Attribute{}
	for _, a := range p.Schema.Attributes {
		attributes[a.Name] = a
		assert.NotEmpty(t, a.Description, a.Name)
	}
	assert.Equal(t, sdk.GrantTCPBind, attributes["listen"].Grant)
	assert.True(t, attributes["keys"].Sensitive)
	assert.Equal(t, sdk.List, attributes["keys"].Collection)
	assert.EqualValues(t, 4<<20, attributes["max_message_bytes"].Default.Integer)

	body := sdk.Body{
		Attributes: map[string]sdk.Value{
			"listen": text2("0.0.0.0:50051"),
			"keys":   {Kind: sdk.KindList, List: []sdk.Value{text2("one"), text2("two")}},
		},
		Blocks: []sdk.BlockBody{{Type: "tls", Body: sdk.Body{Attributes: map[string]sdk.Value{"cert": text2("c"), "key": text2("k")}}}},
	}
	require.Empty(t, p.Validate(body))
	opened, err := p.Open(sdk.Settings{}, body)
	require.NoError(t, err)
	s := opened.(*source)
	assert.Equal(t, "two", s.config.Keys[1].Reveal())
	assert.NotContains(t, fmt.Sprintf("%v %+v", s.config, s.config), "two")
	assert.Equal(t, &TLS{Cert: "c", Key: "k"}, s.config.TLS)
	require.NoError(t, s.Shutdown(t.Context()))
}
