package generator

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

// BenchmarkFill is the work for one batch at saturation, written as a flow batch.
func BenchmarkFill(b *testing.B) {
	ten := func(wave string) []Channel {
		var out []Channel
		for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
			out = append(out, block(name, func(c *Channel) { c.Wave = wave }))
		}
		return out
	}
	hundred := 100
	for _, bc := range []struct {
		name   string
		change func(c *Config)
	}{
		{"10 sines", func(*Config) {}},
		{"100 sines", func(c *Config) { c.Channels = &hundred }},
		{"10 constants", func(c *Config) { c.Channel = ten("constant") }},
		{"10 noises", func(c *Config) { c.Channel = ten("noise") }},
		{"10 counters", func(c *Config) { c.Channel = ten("counter") }},
	} {
		b.Run(bc.name, func(b *testing.B) {
			s := newSource(b, config(0, bc.change)).(*source)
			r, err := s.run(newOutput(b))
			require.NoError(b, err)
			var dst []byte
			rows := 0
			b.ReportAllocs()
			for b.Loop() {
				r.fill(sdk.MaxRowsInBatch)
				rows += r.rows.Rows()
				dst = r.rows.Append(dst[:0])
				r.rows.Reset()
			}
			b.SetBytes(int64(len(dst)))
			b.ReportMetric(float64(b.Elapsed()/time.Nanosecond)/float64(rows), "ns/row")
		})
	}
}
