package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
	"github.com/pipelined/pipelined/sdk/shm"
)

const toyFormat = "toy"

// toy encodes a row as stamp, rpm and the binding's ids. It refuses rows whose rpm
// is negative, cannot read any with rpm 666 and panics at 667.
type toy struct{ nothing }

func toyPlugin() sdk.Plugin {
	return sdk.NewEncoder(sdk.Info{Name: "toy", Version: "1"},
		sdk.EncoderCapabilities{Format: toyFormat, Decodes: true, Rebinds: true}, noConfig{},
		func(sdk.Settings, noConfig) (sdk.Encoder, error) { return toy{}, nil })
}

func (toy) Encode(dst []byte, batch *sdk.Batch, binding sdk.Binding) (sdk.Encoded, error) {
	out := sdk.Encoded{Body: dst, MinTime: math.MaxInt64, MaxTime: math.MinInt64}
	for row, rpm := range batch.Column(0).Doubles() {
		switch {
		case rpm == 666:
			return out, sdk.Permanent(errors.New("evil batch"))
		case rpm == 667:
			panic("worse")
		case rpm < 0:
			out.Refused = append(out.Refused, sdk.Refused{Row: row, Channel: "rpm", Reason: "negative"})
			continue
		}
		at := batch.Times()[row]
		out.Body = pbfs.AppendMessage(out.Body, toyMessage(at, rpm, binding))
		out.Count++
		out.MinTime, out.MaxTime = min(out.MinTime, at), max(out.MaxTime, at)
	}
	return out, nil
}

func toyMessage(at int64, rpm float64, binding sdk.Binding) []byte {
	m := binary.LittleEndian.AppendUint64(nil, uint64(at))
	m = binary.LittleEndian.AppendUint64(m, math.Float64bits(rpm))
	return append(m, binding.ConfigID+binding.RunID...)
}

func (toy) Decode(rows *sdk.Builder, body []byte) error {
	for m, err := range pbfs.Messages(body) {
		if err != nil || len(m) < 16 {
			return sdk.Permanent(errors.New("not a toy message"))
		}
		rows.Row(int64(binary.LittleEndian.Uint64(m)))
		rows.Double(0, math.Float64frombits(binary.LittleEndian.Uint64(m[8:])))
	}
	return nil
}

func (toy) Rebind(body []byte, from, to sdk.Binding) error {
	for m, err := range pbfs.Messages(body) {
		if err != nil || !bytes.Equal(m[16:], []byte(from.ConfigID+from.RunID)) {
			return sdk.Permanent(errors.New("other ids"))
		}
		copy(m[16:], to.ConfigID+to.RunID)
	}
	return nil
}

var (
	rpmFlow  = sdk.Flow{Name: "rpm", Channels: []sdk.Channel{{Name: "rpm", Type: sdk.Double}}}
	bindingA = sdk.Binding{ConfigID: "aaaaaaaaaaaaaaaa", RunID: "rrrr"}
	bindingB = sdk.Binding{ConfigID: "bbbbbbbbbbbbbbbb", RunID: "ssss"}
)

// rpmBatch makes a batch of the values, with stamps 1000, 2000, …
func rpmBatch(sequence uint64, values ...float64) Batch {
	b := sdk.NewBuilder(&rpmFlow)
	for i, v := range values {
		b.Row(int64(i+1) * 1000)
		b.Double(0, v)
	}
	least, greatest := b.TimeSpan()
	return Batch{
		Sequence: sequence, Flow: 1, Count: len(values), MinTime: least, MaxTime: greatest,
		Payload: b.Append(nil),
	}
}

func toyBody(binding sdk.Binding, values ...float64) []byte {
	var body []byte
	for i, v := range values {
		if v >= 0 {
			body = pbfs.AppendMessage(body, toyMessage(int64(i+1)*1000, v, binding))
		}
	}
	return body
}

func numbers(n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = 1000 + float64(i)
	}
	return out
}

func openToy(t testing.TB, regions []*shm.Region) *EncoderStream {
	t.Helper()
	conn, _ := serveInProcess(t, toyPlugin(), present(regions)...)
	stream, err := OpenEncoder(deadline(t), conn, StreamRegions{In: regions[0], Out: regions[1]})
	require.NoError(t, err)
	require.NoError(t, stream.Announce(1, &rpmFlow))
	require.NoError(t, stream.Bind(1, bindingA))
	return stream
}

var bothWays = []shm.Direction{shm.ToPlugin, shm.ToHost}

func TestEncode(t *testing.T) {
	sizes := []int{1, 10, 300, 600, 4096, 2, 1000} // messages of 600 rows and more do not fit a slot
	const rounds = 15
	forms(t, bothWays, func(t *testing.T, regions []*shm.Region) {
		stream := openToy(t, regions)
		meanwhile(t, func() error {
			for i := range rounds * len(sizes) {
				b := rpmBatch(uint64(i+1), numbers(sizes[i%len(sizes)])...)
				if err := stream.Send(context.Background(), b); err != nil {
					return err
				}
			}
			return stream.CloseSend()
		})
		for i := range rounds * len(sizes) {
			n := sizes[i%len(sizes)]
			got, err := stream.Recv()
			require.NoError(t, err)
			assert.Equal(t, uint64(i+1), got.Sequence)
			assert.Equal(t, n, got.Count)
			assert.Equal(t, toyFormat, got.Format)
			assert.Equal(t, []int64{1000, int64(n) * 1000}, []int64{got.MinTime, got.MaxTime})
			require.Equal(t, toyBody(bindingA, numbers(n)...), got.Payload.Bytes())
			got.Payload.Release()
		}
		_, err := stream.Recv()
		assert.Equal(t, io.EOF, err)
		require.Error(t, stream.Send(deadline(t), rpmBatch(1, 1)), "nothing can be sent after the end")
	})
}

func TestEncodeRefused(t *testing.T) {
	stream := openToy(t, make([]*shm.Region, 2))
	ctx := deadline(t)
	meanwhile(t, func() error {
		return errors.Join(
			stream.Send(ctx, rpmBatch(1, 1, -1, 2, -2)),
			stream.Send(ctx, rpmBatch(2, -1, -1)),
			stream.Bind(1, bindingB),
			stream.Send(ctx, rpmBatch(3, 5)),
			stream.CloseSend(),
		)
	})
	got, err := stream.Recv()
	require.NoError(t, err)
	assert.Equal(t, []sdk.Refused{{Row: 1, Channel: "rpm", Reason: "negative"}, {Row: 3, Channel: "rpm", Reason: "negative"}}, got.Refused)
	assert.Equal(t, []int64{1000, 3000}, []int64{got.MinTime, got.MaxTime})
	assert.Equal(t, toyBody(bindingA, 1, -1, 2), got.Payload.Bytes())

	got, err = stream.Recv()
	require.NoError(t, err)
	assert.Equal(t, 0, got.Count)
	assert.Nil(t, got.Payload)
	assert.Len(t, got.Refused, 2)

	got, err = stream.Recv()
	require.NoError(t, err)
	assert.Equal(t, toyBody(bindingB, 5), got.Payload.Bytes())
	_, err = stream.Recv()
	assert.Equal(t, io.EOF, err)
}

func TestEncodeFailures(t *testing.T) {
	for name, tc := range map[string]struct {
		send func(*EncoderStream) error
		want string
	}{
		"encoder's error": {
			func(s *EncoderStream) error { return s.Send(t.Context(), rpmBatch(1, 666)) },
			`encode batch 1 of flow "rpm": evil batch`,
		},
		"panic": {
			func(s *EncoderStream) error { return s.Send(t.Context(), rpmBatch(1, 667)) },
			"plugin code panicked in Encode: worse",
		},
		"unknown flow": {
			func(s *EncoderStream) error {
				b := rpmBatch(1, 1)
				b.Flow = 2
				return s.Send(t.Context(), b)
			},
			"flow 2 was not announced",
		},
		"junk": {
			func(s *EncoderStream) error {
				b := rpmBatch(1, 1)
				b.Payload = []byte("junk")
				return s.Send(t.Context(), b)
			},
			"flow batch of 4 bytes",
		},
		"sequence": {
			func(s *EncoderStream) error {
				if err := s.Send(t.Context(), rpmBatch(2, 1)); err == nil {
					return errors.New("a hole was sent")
				}
				return s.Send(t.Context(), rpmBatch(1, 666))
			},
			"evil batch",
		},
	} {
		t.Run(name, func(t *testing.T) {
			stream := openToy(t, make([]*shm.Region, 2))
			meanwhile(t, func() error { return tc.send(stream) })
			_, err := stream.Recv()
			require.ErrorContains(t, err, tc.want)
			require.NotErrorIs(t, err, ErrContract)
			_, again := stream.Recv()
			assert.Equal(t, err, again)
		})
	}
}

// TestSendGivesUp ends a send that waits for room, by its context or the stream's.
func TestSendGivesUp(t *testing.T) {
	forms(t, bothWays, func(t *testing.T, regions []*shm.Region) {
		stream := openToy(t, regions)
		block := func(ctx context.Context) error {
			for sequence := stream.mu.sent + 1; ; sequence++ {
				if err := stream.Send(ctx, rpmBatch(sequence, numbers(700)...)); err != nil {
					return err
				}
			}
		}
		ctx, cancel := context.WithCancel(deadline(t))
		over := make(chan error, 1)
		go func() { over <- block(ctx) }()
		cancel() // nobody calls Recv, so it is or will be waiting
		require.ErrorIs(t, await(t, over), context.Canceled)
		go func() { over <- block(context.Background()) }()
		cause := errors.New("stopped")
		stream.life.end(cause)
		require.Error(t, await(t, over))
		_, err := stream.Recv()
		for err == nil {
			_, err = stream.Recv()
		}
		require.ErrorIs(t, err, cause)
	})
}

func TestDecode(t *testing.T) {
	forms(t, bothWays, func(t *testing.T, regions []*shm.Region) {
		conn, _ := serveInProcess(t, toyPlugin(), present(regions)...)
		d, err := OpenDecoder(deadline(t), conn, StreamRegions{In: regions[0], Out: regions[1]})
		require.NoError(t, err)
		require.NoError(t, d.Announce(1, &rpmFlow))
		for i := range 190 {
			values := numbers(1 + i*21)
			body := toyBody(bindingA, values...)
			got, err := d.Decode(deadline(t), Batch{Flow: 1, Count: len(values), Format: toyFormat, Payload: body})
			require.NoError(t, err)
			want := rpmBatch(1, values...)
			assert.Equal(t, want.Payload, got.Payload.Bytes())
			assert.Equal(t, []int64{want.MinTime, want.MaxTime}, []int64{got.MinTime, got.MaxTime})
			got.Payload.Release()
			_, err = d.Decode(deadline(t), Batch{Flow: 1, Count: 1, Format: toyFormat, Payload: []byte("junk")})
			var failed *sdk.Error
			require.ErrorAs(t, err, &failed)
			assert.Equal(t, sdk.ClassPermanent, failed.Class)
		}
		require.NoError(t, d.Close())
	})
}

func TestDecodeRowsMustEqualMessages(t *testing.T) {
	conn, _ := serveInProcess(t, toyPlugin())
	d, err := OpenDecoder(deadline(t), conn, StreamRegions{})
	require.NoError(t, err)
	require.NoError(t, d.Announce(1, &rpmFlow))
	_, err = d.Decode(deadline(t), Batch{Flow: 1, Count: 3, Format: toyFormat, Payload: toyBody(bindingA, 1, 2)})
	require.ErrorIs(t, err, ErrContract)
}

// realIDs are as long as placeholders.
func realIDs(run bool) sdk.Binding {
	b := sdk.Binding{ConfigID: "0f8fad5b-d9cb-469f-a165-70867728950e"}
	if run {
		b.RunID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
	}
	return b
}

// TestBindAgain changes the ids of a flow in the middle of a stream: the batches
// behind have the new ones, those before the old ones, whoever was faster.
func TestBindAgain(t *testing.T) {
	bindings := []sdk.Binding{
		sdk.Placeholder(false), realIDs(false), sdk.Placeholder(true), realIDs(true), bindingA, sdk.Placeholder(false),
	}
	const each = 9 // batches for each binding
	forms(t, bothWays, func(t *testing.T, regions []*shm.Region) {
		stream := openToy(t, regions)
		require.NoError(t, stream.Announce(2, &rpmFlow))
		require.NoError(t, stream.Bind(2, bindingB))
		meanwhile(t, func() error {
			for i := range each * len(bindings) {
				if i%each == 0 {
					if err := stream.Bind(1, bindings[i/each]); err != nil {
						return err
					}
				}
				b := rpmBatch(uint64(i+1), numbers(1+i*9)...)
				if i%3 == 2 {
					b.Flow = 2
				}
				if err := stream.Send(context.Background(), b); err != nil {
					return err
				}
			}
			return stream.CloseSend()
		})
		for i := range each * len(bindings) {
			got, err := stream.Recv()
			require.NoError(t, err)
			want := bindings[i/each]
			if i%3 == 2 {
				want = bindingB
			}
			assert.True(t, bytes.Equal(toyBody(want, numbers(1+i*9)...), got.Payload.Bytes()), "batch %d", i+1)
			got.Payload.Release()
		}
		_, err := stream.Recv()
		require.ErrorIs(t, err, io.EOF)
	})
}

// TestRebindPlaceholders: from placeholders to real ids and back, with a run and
// without one, through one call.
func TestRebindPlaceholders(t *testing.T) {
	forms(t, bothWays, func(t *testing.T, regions []*shm.Region) {
		conn, _ := serveInProcess(t, toyPlugin(), present(regions)...)
		r, err := OpenRebinder(deadline(t), conn, StreamRegions{In: regions[0], Out: regions[1]}, toyFormat)
		require.NoError(t, err)
		for i := range 60 {
			values := numbers(1 + i*60)
			run := i%2 == 0
			unbound, bound := sdk.Placeholder(run), realIDs(run)
			there, err := r.Rebind(deadline(t), toyBody(unbound, values...), len(values), unbound, bound)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(toyBody(bound, values...), there.Bytes()))
			back, err := r.Rebind(deadline(t), there.Bytes(), len(values), bound, unbound)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(toyBody(unbound, values...), back.Bytes()))
			there.Release()
			back.Release()
		}
		require.NoError(t, r.Close())
	})
}

func TestRebind(t *testing.T) {
	forms(t, bothWays, func(t *testing.T, regions []*shm.Region) {
		conn, _ := serveInProcess(t, toyPlugin(), present(regions)...)
		r, err := OpenRebinder(deadline(t), conn, StreamRegions{In: regions[0], Out: regions[1]}, toyFormat)
		require.NoError(t, err)
		for i := range 100 {
			values := numbers(1 + i*40)
			got, err := r.Rebind(deadline(t), toyBody(bindingA, values...), len(values), bindingA, bindingB)
			require.NoError(t, err)
			assert.Equal(t, toyBody(bindingB, values...), got.Bytes())
			got.Release()
			_, err = r.Rebind(deadline(t), toyBody(bindingB, values...), len(values), bindingA, bindingB)
			var failed *sdk.Error
			require.ErrorAs(t, err, &failed)
		}
		require.NoError(t, r.Close())
	})
}

// TestExchangeEndsWithItsCaller breaks a call in the middle.
func TestExchangeEndsWithItsCaller(t *testing.T) {
	conn, _ := serveInProcess(t, toyPlugin())
	r, err := OpenRebinder(deadline(t), conn, StreamRegions{}, toyFormat)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(deadline(t))
	cancel()
	_, err = r.Rebind(ctx, toyBody(bindingA, 1), 1, bindingA, bindingB)
	require.ErrorIs(t, err, context.Canceled)
}

func TestEncodedMessageOfEverySize(t *testing.T) {
	// Bodies around the borders between inline and slot, and beyond a slot.
	region := newRegion(t, shm.ToHost, 8<<10, 2)
	in := newRegion(t, shm.ToPlugin, 8<<10, 2)
	stream := openToy(t, []*shm.Region{in, region})
	for i, n := range []int{inlineBytes / 40, inlineBytes/40 + 1, 8 << 10 / 40, 8<<10/40 + 1, 4000} {
		meanwhile(t, func() error { return stream.Send(deadline(t), rpmBatch(uint64(i+1), numbers(n)...)) })
		got, err := stream.Recv()
		require.NoError(t, err, fmt.Sprint(n))
		require.Equal(t, toyBody(bindingA, numbers(n)...), got.Payload.Bytes())
		got.Payload.Release()
	}
}
