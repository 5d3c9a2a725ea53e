package wire

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
)

// scripted is a source that runs a function.
type scripted struct {
	nothing
	run func(ctx context.Context, out sdk.Output) error
}

func (s scripted) Run(ctx context.Context, out sdk.Output) error { return s.run(ctx, out) }

func (scripted) Discover(context.Context) (sdk.Discovery, error) {
	return sdk.Discovery{Flows: []sdk.Flow{testFlow}, Finite: true}, nil
}

func sourcePlugin(replayable bool, run func(context.Context, sdk.Output) error) sdk.Plugin {
	return sdk.NewSource(sdk.Info{Name: "scripted", Version: "1"}, sdk.SourceCapabilities{Replayable: replayable}, noConfig{},
		func(sdk.Settings, noConfig) (sdk.Source, error) { return scripted{run: run}, nil })
}

func TestDiscover(t *testing.T) {
	conn, _ := serveInProcess(t, sourcePlugin(false, nil))
	d, err := Discover(deadline(t), conn)
	require.NoError(t, err)
	assert.Equal(t, sdk.Discovery{Flows: []sdk.Flow{testFlow}, Finite: true}, d)
}

func TestSourceBatches(t *testing.T) {
	sizes := []int{1, 2, 100, 700, 4096, 3, 1500}
	forms(t, []shm.Direction{shm.ToHost}, func(t *testing.T, regions []*shm.Region) {
		conn, _ := serveInProcess(t, sourcePlugin(true, func(ctx context.Context, out sdk.Output) error {
			flow, err := out.Announce(testFlow)
			if err != nil {
				return err
			}
			rows := sdk.NewBuilder(&testFlow)
			for round, from := 0, 0; round < 20; round++ {
				for _, n := range sizes {
					fill(rows, from, n)
					from += n
					if _, err := out.Emit(ctx, flow, rows, []byte{byte(round)}); err != nil {
						return err
					}
					if rows.Rows() != 0 {
						return errors.New("emit has not reset the builder")
					}
				}
			}
			return nil
		}), present(regions)...)
		stream, err := OpenSource(deadline(t), conn, SourceStart{Region: regions[0]})
		require.NoError(t, err)
		assert.Equal(t, uint32(1), until[*FlowAnnounced](t, stream.Recv).Number)
		from := 0
		for i := range 20 * len(sizes) {
			n := sizes[i%len(sizes)]
			got := until[*SourceBatch](t, stream.Recv)
			want := flowBatch(uint64(i+1), from, n)
			assert.Equal(t, want.Sequence, got.Sequence)
			assert.Equal(t, []int64{want.MinTime, want.MaxTime}, []int64{got.MinTime, got.MaxTime})
			assert.Equal(t, n, got.Count)
			assert.Equal(t, []byte{byte(i / len(sizes))}, got.Position)
			require.Equal(t, want.Payload, got.Payload.Bytes())
			got.Payload.Release()
			from += n
		}
		fin := until[*Finished](t, stream.Recv)
		assert.Equal(t, uint64(20*len(sizes)), fin.LastSequence)
		assert.Nil(t, fin.Failure)
		_, err = stream.Recv()
		assert.Equal(t, io.EOF, err)
	})
}

func TestSourceRunsAgainOnTheSameRegion(t *testing.T) {
	region := newRegion(t, shm.ToHost, 64<<10, 2)
	conn, _ := serveInProcess(t, sourcePlugin(false, func(ctx context.Context, out sdk.Output) error {
		flow, err := out.Announce(testFlow)
		if err != nil {
			return err
		}
		rows := sdk.NewBuilder(&testFlow)
		for range 5 {
			fill(rows, 0, 500)
			if _, err := out.Emit(ctx, flow, rows, nil); err != nil {
				return err
			}
		}
		return nil
	}), region)
	for range 3 {
		stream, err := OpenSource(deadline(t), conn, SourceStart{Region: region})
		require.NoError(t, err)
		_, err = OpenSource(deadline(t), conn, SourceStart{Region: region})
		require.ErrorContains(t, err, "in use")
		batches := 0
		for _, event := range drainToEOF(t, stream.Recv) {
			if b, ok := event.(*SourceBatch); ok {
				batches++
				b.Payload.Release()
			}
		}
		assert.Equal(t, 5, batches)
	}
}

func TestSourceHearsTheHost(t *testing.T) {
	heard := make(chan sdk.Rewind, 1)
	conn, _ := serveInProcess(t, sourcePlugin(true, func(ctx context.Context, out sdk.Output) error {
		position, ok := out.Resume()
		if !ok || string(position) != "start" {
			return errors.New("no position to resume from")
		}
		flow, err := out.Announce(testFlow)
		if err != nil {
			return err
		}
		rows := sdk.NewBuilder(&testFlow)
		fill(rows, 0, 10)
		sequence, err := out.Emit(ctx, flow, rows, nil)
		if err != nil {
			return err
		}
		if err := errors.Join(
			out.Progress(flow, 77),
			out.Dropped(sdk.Dropped{Flow: flow, Rows: 3, Reason: "too fast", From: 1, To: 2, Refused: true}),
			out.AckWanted(sequence, time.Second),
		); err != nil {
			return err
		}
		if err := out.WaitAck(ctx, sequence); err != nil {
			return err
		}
		select {
		case r := <-out.Rewinds():
			heard <- r
		case <-ctx.Done():
			return ctx.Err()
		}
		<-out.Stopping()
		if err := out.Finish(); err != nil {
			return err
		}
		return out.WaitAck(ctx, 100)
	}))
	stream, err := OpenSource(deadline(t), conn, SourceStart{Resume: []byte("start")})
	require.NoError(t, err)
	until[*SourceBatch](t, stream.Recv).Payload.Release()
	assert.Equal(t, &Progress{Flow: 1, UpTo: 77}, until[*Progress](t, stream.Recv))
	assert.Equal(t, sdk.Dropped{Flow: 1, Rows: 3, Reason: "too fast", From: 1, To: 2, Refused: true},
		until[*Dropped](t, stream.Recv).Dropped)
	assert.Equal(t, &AckWanted{Sequence: 1, Within: time.Second}, until[*AckWanted](t, stream.Recv))
	require.NoError(t, stream.Ack(1))
	require.NoError(t, stream.Rewind(sdk.Rewind{FromBeginning: true, Reason: "again"}))
	assert.Equal(t, sdk.Rewind{FromBeginning: true, Reason: "again"}, await(t, heard))
	require.NoError(t, stream.Stop())
	assert.Equal(t, uint64(1), until[*Finished](t, stream.Recv).LastSequence)
	require.NoError(t, stream.Ack(100)) // also what comes after Finish is heard
	assert.Empty(t, drainToEOF(t, stream.Recv))
}

func TestSourceFailure(t *testing.T) {
	for name, tc := range map[string]struct {
		run  func(context.Context, sdk.Output) error
		want sdk.Error
	}{
		"retry": {
			func(context.Context, sdk.Output) error { return sdk.Retry(errors.New("bus is off"), time.Minute) },
			sdk.Error{Class: sdk.ClassRetry, Code: 2, Message: "bus is off", Delay: time.Minute},
		},
		"panic": {
			func(context.Context, sdk.Output) error { panic("oh") },
			sdk.Error{Class: sdk.ClassPermanent, Code: 13, Message: "plugin code panicked in Run: oh"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn, _ := serveInProcess(t, sourcePlugin(false, tc.run))
			stream, err := OpenSource(deadline(t), conn, SourceStart{})
			require.NoError(t, err)
			assert.Equal(t, &tc.want, until[*Finished](t, stream.Recv).Failure)
			assert.Empty(t, drainToEOF(t, stream.Recv))
		})
	}
}

func TestSourceEndsWithTheHost(t *testing.T) {
	waits := sourcePlugin(false, func(ctx context.Context, out sdk.Output) error {
		<-ctx.Done()
		return ctx.Err()
	})
	t.Run("close", func(t *testing.T) {
		conn, _ := serveInProcess(t, waits)
		stream, err := OpenSource(deadline(t), conn, SourceStart{})
		require.NoError(t, err)
		require.NoError(t, stream.CloseSend())
		assert.Nil(t, until[*Finished](t, stream.Recv).Failure)
		assert.Empty(t, drainToEOF(t, stream.Recv))
	})
	t.Run("cancel", func(t *testing.T) {
		conn, _ := serveInProcess(t, waits)
		ctx, cancel := context.WithCancel(deadline(t))
		stream, err := OpenSource(ctx, conn, SourceStart{})
		require.NoError(t, err)
		cancel()
		_, err = stream.Recv()
		require.ErrorIs(t, err, context.Canceled)
	})
}

// TestEmitWaitsForCredit holds a source against a host that does not read.
func TestEmitWaitsForCredit(t *testing.T) {
	forms(t, []shm.Direction{shm.ToHost}, func(t *testing.T, regions []*shm.Region) {
		emitted := make(chan uint64, 10_000)
		gaveUp := make(chan error, 1)
		conn, _ := serveInProcess(t, sourcePlugin(false, func(ctx context.Context, out sdk.Output) error {
			flow, err := out.Announce(testFlow)
			if err != nil {
				return err
			}
			rows := sdk.NewBuilder(&testFlow)
			for {
				fill(rows, 0, 500) // goes to a slot, and 64 of it into the window of gRPC
				sequence, err := out.Emit(ctx, flow, rows, nil)
				if err != nil {
					gaveUp <- err
					return err
				}
				emitted <- sequence
			}
		}), present(regions)...)
		ctx, cancel := context.WithCancel(deadline(t))
		stream, err := OpenSource(ctx, conn, SourceStart{Region: regions[0]})
		require.NoError(t, err)
		limit := windowBatches
		if regions[0] != nil {
			limit = regions[0].Slots()
		}
		for range limit {
			await(t, emitted)
		}
		// One more comes only after the host has read one.
		until[*SourceBatch](t, stream.Recv).Payload.Release()
		for range limit - 1 {
			until[*SourceBatch](t, stream.Recv).Payload.Release()
		}
		await(t, emitted)
		cancel()
		require.Error(t, await(t, gaveUp))
	})
}
