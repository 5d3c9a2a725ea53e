package wire

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
)

// callSink notes which streams were opened and which calls have ended.
type callSink struct {
	sink
	mu     sync.Mutex
	opened []sdk.StreamOptions
	ended  []uint64
}

func newCallSink(stream func(sdk.StreamOptions) sdk.Stream) *callSink {
	s := new(callSink)
	s.openStream = func(_ context.Context, o sdk.StreamOptions) (sdk.Stream, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.opened = append(s.opened, o)
		return stream(o), nil
	}
	return s
}

func (s *callSink) CallEnded(call uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = append(s.ended, call)
}

func (s *callSink) calls() (opened []sdk.StreamOptions, ended []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened, s.ended
}

func callSinkPlugin(s *callSink) sdk.Plugin {
	return sdk.NewTransport(sdk.Info{Name: "sink", Version: "1"}, sdk.TransportCapabilities{Input: sdk.InputEncoded}, noConfig{},
		func(sdk.Settings, noConfig) (sdk.Transport, error) { return s, nil })
}

// endCall closes a Deliver call and waits for its end.
func endCall(t *testing.T, d *DeliverStream) {
	t.Helper()
	require.NoError(t, d.CloseSend())
	assert.Empty(t, drainToEOF(t, d.Recv))
}

// TestTwoCalls has two Deliver calls at a time, with equal numbers: one gets all its
// answers while the destination takes nothing from the other.
func TestTwoCalls(t *testing.T) {
	forms(t, []shm.Direction{shm.ToPlugin, shm.ToPlugin}, func(t *testing.T, regions []*shm.Region) {
		blocked, release := make(chan struct{}), make(chan struct{})
		var got [3][]string // bodies by call
		s := newCallSink(func(o sdk.StreamOptions) sdk.Stream {
			return &sinkStream{send: func(_ context.Context, d *sdk.Delivery) error {
				if o.Call == 1 && len(got[1]) == 0 {
					close(blocked)
					<-release
				}
				got[o.Call] = append(got[o.Call], string(d.Body))
				return nil
			}}
		})
		conn, _ := serveInProcess(t, callSinkPlugin(s), present(regions)...)
		open := func(region *shm.Region) *DeliverStream {
			d, err := OpenDeliver(deadline(t), conn, region)
			require.NoError(t, err)
			require.NoError(t, d.Announce(1, &rpmFlow))
			return d
		}
		const batches = 60
		deliver := func(d *DeliverStream, stream uint64) func() error {
			return func() error {
				if err := d.Open(stream, false); err != nil {
					return err
				}
				for i := range batches {
					if err := d.Send(t.Context(), stream, encodedBatch(i, 250), sdk.Binding{ConfigID: "c"}); err != nil {
						return err
					}
				}
				return d.Finish(stream)
			}
		}
		first := open(regions[0])
		require.NoError(t, first.Open(1, false)) // it is call 1 for sure
		require.NoError(t, first.Finish(1))
		assert.Equal(t, OutcomeConfirmed, until[*Answer](t, first.Recv).Outcome)
		second := open(regions[1])
		joinFirst := meanwhile(t, deliver(first, 2))
		answer := make(chan *Answer, 1)
		joinReader := meanwhile(t, func() error {
			answer <- until[*Answer](t, first.Recv)
			return nil
		})
		await(t, blocked)
		joinSecond := meanwhile(t, deliver(second, 1))
		assert.Equal(t, Answer{Stream: 1, Outcome: OutcomeConfirmed}, *until[*Answer](t, second.Recv))
		joinSecond()
		endCall(t, second)
		close(release)
		joinFirst()
		joinReader()
		assert.Equal(t, Answer{Stream: 2, Outcome: OutcomeConfirmed}, *await(t, answer))
		endCall(t, first)
		for call := 1; call <= 2; call++ {
			assert.Equal(t, batches, len(got[call]))
			for i, body := range got[call] {
				assert.True(t, body == string(encodedBatch(i, 250).Payload), "batch %d of call %d", i, call)
			}
		}
	})
}

// TestEmptyStreams: a delivery stream without a batch is confirmed, or aborted, and
// the transport does not hear of it. Its wish for a new connection is the next one's.
func TestEmptyStreams(t *testing.T) {
	s := newCallSink(func(sdk.StreamOptions) sdk.Stream { return &sinkStream{} })
	conn, _ := serveInProcess(t, callSinkPlugin(s))
	d, err := OpenDeliver(deadline(t), conn, nil)
	require.NoError(t, err)
	require.NoError(t, d.Announce(1, &rpmFlow))
	for stream := uint64(1); stream <= 500; stream++ {
		end, want := d.Finish, OutcomeConfirmed
		if stream%5 == 0 {
			end, want = d.Abort, OutcomeAborted
		}
		require.NoError(t, d.Open(stream, stream == 250))
		require.NoError(t, end(stream))
		assert.Equal(t, Answer{Stream: stream, Outcome: want}, *until[*Answer](t, d.Recv))
	}
	opened, _ := s.calls()
	assert.Empty(t, opened)
	for stream := uint64(501); stream <= 502; stream++ {
		require.NoError(t, d.Open(stream, false))
		join := meanwhile(t, func() error {
			return errors.Join(d.Send(t.Context(), stream, encodedBatch(1, 1), sdk.Binding{ConfigID: "c"}), d.Finish(stream))
		})
		assert.Equal(t, OutcomeConfirmed, until[*Answer](t, d.Recv).Outcome)
		join()
	}
	opened, ended := s.calls()
	assert.Equal(t, []sdk.StreamOptions{{Call: 1, NewConnection: true}, {Call: 1}}, opened)
	assert.Empty(t, ended)
	require.NoError(t, d.Open(503, false))
	require.NoError(t, d.CloseSend())
	events := drainToEOF(t, d.Recv)
	assert.Equal(t, []DeliverEvent{&Answer{Stream: 503, Outcome: OutcomeAborted}}, events)
	_, ended = s.calls()
	assert.Equal(t, []uint64{1}, ended, "the transport hears of the end of a call before the host")
}
