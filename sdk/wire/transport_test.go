package wire

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
	"github.com/pipelined/pipelined/sdk/shm"
)

// sink is a transport whose methods are functions; those left out succeed.
type sink struct {
	nothing
	register   func(context.Context, sdk.Registration) (sdk.Registered, error)
	openStream func(context.Context, sdk.StreamOptions) (sdk.Stream, error)
}

func (s *sink) Register(ctx context.Context, r sdk.Registration) (sdk.Registered, error) {
	return s.register(ctx, r)
}

func (s *sink) OpenStream(ctx context.Context, o sdk.StreamOptions) (sdk.Stream, error) {
	return s.openStream(ctx, o)
}

type sinkStream struct {
	send   func(context.Context, *sdk.Delivery) error
	finish func(context.Context) (sdk.Finished, error)
	abort  func()
}

func (s *sinkStream) Send(ctx context.Context, d *sdk.Delivery) error {
	if s.send == nil {
		return nil
	}
	return s.send(ctx, d)
}

func (s *sinkStream) Finish(ctx context.Context) (sdk.Finished, error) {
	if s.finish == nil {
		return sdk.Finished{}, nil
	}
	return s.finish(ctx)
}

func (s *sinkStream) Abort() {
	if s.abort != nil {
		s.abort()
	}
}

// watched notices by itself that the destination has ended it.
type watched struct {
	sinkStream
	done chan struct{}
}

func (w *watched) Done() <-chan struct{} { return w.done }

func sinkPlugin(s *sink) sdk.Plugin {
	caps := sdk.TransportCapabilities{Input: sdk.InputEncoded, MaxMessageBytes: 4096, Overlap: true, Binds: true}
	return sdk.NewTransport(sdk.Info{Name: "sink", Version: "1"}, caps, noConfig{},
		func(sdk.Settings, noConfig) (sdk.Transport, error) { return s, nil })
}

func opens(stream sdk.Stream) *sink {
	return &sink{openStream: func(context.Context, sdk.StreamOptions) (sdk.Stream, error) { return stream, nil }}
}

func openSink(t testing.TB, s *sink, regions ...*shm.Region) *DeliverStream {
	t.Helper()
	conn, _ := serveInProcess(t, sinkPlugin(s), present(regions)...)
	var region *shm.Region
	if len(regions) > 0 {
		region = regions[0]
	}
	stream, err := OpenDeliver(deadline(t), conn, region)
	require.NoError(t, err)
	require.NoError(t, stream.Announce(1, &rpmFlow))
	return stream
}

// encodedBatch makes a batch of messages that depend on seed.
func encodedBatch(seed, messages int) Batch {
	var body []byte
	for i := range messages {
		body = pbfs.AppendMessage(body, fmt.Appendf(nil, "message %d of %d", i, seed))
	}
	return Batch{Flow: 1, Count: messages, MinTime: 1, MaxTime: 2, Format: toyFormat, Payload: body}
}

func TestDeliver(t *testing.T) {
	sizes := []int{1, 100, 1000, 4096, 7}
	const streams, batches = 4, 40
	forms(t, []shm.Direction{shm.ToPlugin}, func(t *testing.T, regions []*shm.Region) {
		var mu sync.Mutex
		got := map[string][]byte{} // by run, which names the delivery stream
		s := &sink{openStream: func(_ context.Context, o sdk.StreamOptions) (sdk.Stream, error) {
			name := ""
			return &sinkStream{
				send: func(_ context.Context, d *sdk.Delivery) error {
					name = d.Binding.RunID
					mu.Lock()
					defer mu.Unlock()
					got[name] = append(got[name], d.Body...)
					return nil
				},
				finish: func(context.Context) (sdk.Finished, error) {
					return sdk.Finished{Paths: []string{name, fmt.Sprint(o.NewConnection)}}, nil
				},
			}, nil
		}}
		deliver := openSink(t, s, regions...)
		want := map[string][]byte{}
		for stream := range uint64(streams) {
			for i := range batches {
				name := fmt.Sprint(stream + 1)
				want[name] = append(want[name], encodedBatch(i, sizes[i%len(sizes)]).Payload...)
			}
			require.NoError(t, deliver.Open(stream+1, stream == 2))
			meanwhile(t, func() error {
				for i := range batches {
					binding := sdk.Binding{ConfigID: "c", RunID: fmt.Sprint(stream + 1)}
					if err := deliver.Send(t.Context(), stream+1, encodedBatch(i, sizes[i%len(sizes)]), binding); err != nil {
						return err
					}
				}
				return deliver.Finish(stream + 1)
			})
		}
		answered := map[uint64]bool{}
		for range streams {
			a := until[*Answer](t, deliver.Recv)
			assert.Equal(t, OutcomeConfirmed, a.Outcome)
			assert.Equal(t, []string{fmt.Sprint(a.Stream), fmt.Sprint(a.Stream == 3)}, a.Paths)
			assert.False(t, answered[a.Stream])
			answered[a.Stream] = true
			assert.Equal(t, ErrAnswered, deliver.Send(t.Context(), a.Stream, encodedBatch(1, 1), sdk.Binding{}))
			assert.Equal(t, ErrAnswered, deliver.Finish(a.Stream))
			assert.Equal(t, ErrAnswered, deliver.Abort(a.Stream))
		}
		require.NoError(t, deliver.CloseSend())
		assert.Empty(t, drainToEOF(t, deliver.Recv))
		for name, body := range want {
			assert.True(t, slices.Equal(body, got[name]), "stream %s got other bytes", name)
		}
	})
}

func TestDeliverRows(t *testing.T) {
	var rows []int
	deliver := openSink(t, opens(&sinkStream{send: func(_ context.Context, d *sdk.Delivery) error {
		if d.Body != nil || d.Flow.Name != "rpm" || d.Rows.Rows() != d.Count {
			return errors.New("not the rows that were sent")
		}
		rows = append(rows, d.Rows.Rows())
		return nil
	}}))
	require.NoError(t, deliver.Open(1, false))
	meanwhile(t, func() error {
		return errors.Join(
			deliver.Send(t.Context(), 1, rpmBatch(0, numbers(3)...), sdk.Binding{}),
			deliver.Send(t.Context(), 1, rpmBatch(0, numbers(4000)...), sdk.Binding{}),
			deliver.Finish(1),
		)
	})
	assert.Equal(t, OutcomeConfirmed, until[*Answer](t, deliver.Recv).Outcome)
	assert.Equal(t, []int{3, 4000}, rows)
}

// TestAnswers drives a delivery stream into every end. Each has exactly one answer.
func TestAnswers(t *testing.T) {
	retry := sdk.Retry(&sdk.Error{Code: 14, Message: "busy"}, time.Second)
	failed := errors.New("broken pipe")
	failing := func(err error) func(context.Context) (sdk.Finished, error) {
		return func(context.Context) (sdk.Finished, error) { return sdk.Finished{}, err }
	}
	sending := func(err error) func(context.Context, *sdk.Delivery) error {
		return func(context.Context, *sdk.Delivery) error { return err }
	}
	closed := make(chan struct{})
	close(closed)
	for name, tc := range map[string]struct {
		sink    *sink
		outcome Outcome
		failure *sdk.Error
	}{
		"confirmed":     {opens(&sinkStream{}), OutcomeConfirmed, nil},
		"finish fails":  {opens(&sinkStream{finish: failing(retry)}), OutcomeFailed, &sdk.Error{Class: sdk.ClassRetry, Code: 14, Message: "busy", Delay: time.Second}},
		"ended early":   {opens(&sinkStream{finish: failing(fmt.Errorf("stream 1: %w", sdk.ErrEndedEarly))}), OutcomeEndedEarly, nil},
		"send fails":    {opens(&sinkStream{send: sending(failed)}), OutcomeFailed, &sdk.Error{Class: sdk.ClassRetry, Code: 2, Message: "broken pipe"}},
		"both fail":     {opens(&sinkStream{send: sending(failed), finish: failing(sdk.Permanent(errors.New("denied")))}), OutcomeFailed, &sdk.Error{Class: sdk.ClassPermanent, Code: 2, Message: "denied"}},
		"send early OK": {opens(&sinkStream{send: sending(sdk.ErrEndedEarly)}), OutcomeEndedEarly, nil},
		"open fails": {&sink{openStream: func(context.Context, sdk.StreamOptions) (sdk.Stream, error) {
			return nil, sdk.Disconnected(failed)
		}}, OutcomeFailed, &sdk.Error{Class: sdk.ClassDisconnected, Code: 2, Message: "broken pipe"}},
		"no stream": {opens(nil), OutcomeFailed, &sdk.Error{Class: sdk.ClassPermanent, Code: 2, Message: "OpenStream returned no stream"}},
		"open panics": {&sink{openStream: func(context.Context, sdk.StreamOptions) (sdk.Stream, error) {
			panic(1)
		}}, OutcomeFailed, &sdk.Error{Class: sdk.ClassPermanent, Code: 13, Message: "plugin code panicked in OpenStream: 1"}},
		"send panics":      {opens(&sinkStream{send: func(context.Context, *sdk.Delivery) error { panic(2) }}), OutcomeFailed, &sdk.Error{Class: sdk.ClassPermanent, Code: 13, Message: "plugin code panicked in Send: 2"}},
		"finish panics":    {opens(&sinkStream{finish: func(context.Context) (sdk.Finished, error) { panic(3) }}), OutcomeFailed, &sdk.Error{Class: sdk.ClassPermanent, Code: 13, Message: "plugin code panicked in Finish: 3"}},
		"destination ends": {opens(&watched{done: closed}), OutcomeEndedEarly, nil},
		"destination fails": {
			opens(&watched{done: closed, sinkStream: sinkStream{finish: failing(sdk.Permanent(failed))}}), OutcomeFailed,
			&sdk.Error{Class: sdk.ClassPermanent, Code: 2, Message: "broken pipe"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			region := newRegion(t, shm.ToPlugin, 8<<10, 2)
			deliver := openSink(t, tc.sink, region)
			require.NoError(t, deliver.Open(1, false))
			joinSends := meanwhile(t, func() error {
				// More than there is room for: what comes after the answer is given back.
				for i := range 20 {
					err := deliver.Send(t.Context(), 1, encodedBatch(i, 250), sdk.Binding{ConfigID: "c"})
					if errors.Is(err, ErrAnswered) {
						return nil
					}
					if err != nil {
						return err
					}
				}
				if err := deliver.Finish(1); !errors.Is(err, ErrAnswered) {
					return err
				}
				return nil
			})
			a := until[*Answer](t, deliver.Recv)
			assert.Equal(t, tc.outcome, a.Outcome)
			assert.Equal(t, tc.failure, a.Failure)
			// The call goes on for other streams, with all slots.
			joinAbort := meanwhile(t, func() error {
				if err := deliver.Open(2, false); err != nil {
					return err
				}
				return deliver.Abort(2)
			})
			assert.Equal(t, uint64(2), until[*Answer](t, deliver.Recv).Stream)
			joinSends()
			joinAbort()
			require.NoError(t, deliver.CloseSend())
			assert.Empty(t, drainToEOF(t, deliver.Recv))
		})
	}
}

// TestAbort gives streams up at every stage.
func TestAbort(t *testing.T) {
	for _, stage := range []string{"opening", "idle", "sending", "finishing"} {
		t.Run(stage, func(t *testing.T) {
			reached := make(chan struct{}, 1)
			aborted := make(chan struct{})
			block := func() error {
				reached <- struct{}{}
				<-aborted
				return errors.New("aborted")
			}
			stream := &sinkStream{abort: func() { close(aborted) }}
			s := &sink{openStream: func(ctx context.Context, _ sdk.StreamOptions) (sdk.Stream, error) {
				if stage == "opening" {
					reached <- struct{}{}
					<-ctx.Done()
					return nil, ctx.Err()
				}
				if stage == "idle" {
					reached <- struct{}{}
				}
				return stream, nil
			}}
			if stage == "sending" {
				stream.send = func(context.Context, *sdk.Delivery) error { return block() }
			}
			if stage == "finishing" {
				stream.finish = func(context.Context) (sdk.Finished, error) { return sdk.Finished{}, block() }
			}
			deliver := openSink(t, s)
			require.NoError(t, deliver.Open(1, false))
			meanwhile(t, func() error {
				if err := deliver.Send(t.Context(), 1, encodedBatch(1, 1), sdk.Binding{ConfigID: "c"}); err != nil {
					return err
				}
				if stage == "finishing" {
					if err := deliver.Finish(1); err != nil {
						return err
					}
				}
				await(t, reached)
				return deliver.Abort(1)
			})
			assert.Equal(t, OutcomeAborted, until[*Answer](t, deliver.Recv).Outcome)
		})
	}
}

// TestConfirmedAfterAbort: what the destination has taken is taken.
func TestConfirmedAfterAbort(t *testing.T) {
	finishing, aborted := make(chan struct{}), make(chan struct{})
	deliver := openSink(t, opens(&sinkStream{
		finish: func(context.Context) (sdk.Finished, error) {
			close(finishing)
			<-aborted
			return sdk.Finished{}, nil
		},
		abort: func() { close(aborted) },
	}))
	require.NoError(t, deliver.Open(1, false))
	meanwhile(t, func() error {
		if err := deliver.Send(t.Context(), 1, encodedBatch(1, 1), sdk.Binding{ConfigID: "c"}); err != nil {
			return err
		}
		if err := deliver.Finish(1); err != nil {
			return err
		}
		await(t, finishing)
		return deliver.Abort(1)
	})
	assert.Equal(t, OutcomeConfirmed, until[*Answer](t, deliver.Recv).Outcome)
}

func TestDeliverProgress(t *testing.T) {
	deliver := openSink(t, opens(&sinkStream{}))
	require.NoError(t, deliver.Open(1, false))
	meanwhile(t, func() error {
		b := encodedBatch(1, 3)
		return errors.Join(
			deliver.Send(t.Context(), 1, b, sdk.Binding{ConfigID: "c"}),
			deliver.Send(t.Context(), 1, b, sdk.Binding{ConfigID: "c"}),
		)
	})
	for p := until[*StreamProgress](t, deliver.Recv); p.Batches < 2; p = until[*StreamProgress](t, deliver.Recv) {
	}
	require.NoError(t, deliver.CloseSend())
	for _, event := range drainToEOF(t, deliver.Recv) {
		if a, ok := event.(*Answer); ok {
			assert.Equal(t, OutcomeAborted, a.Outcome, "the end of the call ends its streams")
		}
	}
}

func TestRegister(t *testing.T) {
	r := sdk.Registration{
		Asset: "rig", ClientKey: "key \"'/", Flows: []sdk.Flow{testFlow, rpmFlow},
		Run:           sdk.Run{Name: "run", ClientKey: "k", Description: "d", Tags: []string{"x"}, Metadata: []sdk.Metadata{{Name: "n", Value: 1.5}}},
		AssetTags:     []string{"a", "b"},
		AssetMetadata: []sdk.Metadata{{Name: "b", Value: true}, {Name: "s", Value: "text"}},
	}
	want := sdk.Registered{
		Destination: "here", Binding: sdk.Binding{ConfigID: "c", RunID: "r"},
		Conflicts: []sdk.FlowConflict{{Flow: "rpm", Difference: "type"}},
	}
	s := &sink{}
	conn, _ := serveInProcess(t, sinkPlugin(s))
	s.register = func(_ context.Context, got sdk.Registration) (sdk.Registered, error) {
		assert.Equal(t, r, got)
		return want, nil
	}
	got, err := Register(deadline(t), conn, r)
	require.NoError(t, err)
	assert.Equal(t, want, got)

	_, err = Register(deadline(t), conn, sdk.Registration{AssetMetadata: []sdk.Metadata{{Name: "n", Value: 1}}})
	require.ErrorContains(t, err, "want string, float64 or bool")
}

// TestErrorsCross holds errors against what arrives behind the process border.
func TestErrorsCross(t *testing.T) {
	plain := errors.New("plain")
	for name, tc := range map[string]struct {
		err  error
		want sdk.Error
	}{
		"plain":        {plain, sdk.Error{Class: sdk.ClassRetry, Code: 2, Message: "plain"}},
		"retry":        {sdk.Retry(plain, 3*time.Second), sdk.Error{Class: sdk.ClassRetry, Code: 2, Message: "plain", Delay: 3 * time.Second}},
		"permanent":    {sdk.Permanent(plain), sdk.Error{Class: sdk.ClassPermanent, Code: 2, Message: "plain"}},
		"disconnected": {sdk.Disconnected(plain), sdk.Error{Class: sdk.ClassDisconnected, Code: 2, Message: "plain"}},
		"coded":        {&sdk.Error{Class: sdk.ClassPermanent, Code: 7, Message: "denied"}, sdk.Error{Class: sdk.ClassPermanent, Code: 7, Message: "denied"}},
		"wrapped":      {fmt.Errorf("at home: %w", sdk.Permanent(plain)), sdk.Error{Class: sdk.ClassPermanent, Code: 2, Message: "at home: plain"}},
		"no class":     {&sdk.Error{Code: 9, Message: "m"}, sdk.Error{Class: sdk.ClassRetry, Code: 9, Message: "m"}},
		"not UTF-8":    {errors.New("a\xffb"), sdk.Error{Class: sdk.ClassRetry, Code: 2, Message: "a\uFFFDb"}},
		"empty":        {errors.New(""), sdk.Error{Class: sdk.ClassRetry, Code: 2, Message: "the plugin gave no reason"}},
		"a status of the destination": {
			fmt.Errorf("register: %w", grpc.ErrServerStopped),
			sdk.Error{Class: sdk.ClassRetry, Code: 2, Message: "register: grpc: the server has been stopped"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &sink{register: func(context.Context, sdk.Registration) (sdk.Registered, error) { return sdk.Registered{}, tc.err }}
			conn, _ := serveInProcess(t, sinkPlugin(s))
			_, err := Register(deadline(t), conn, sdk.Registration{})
			assert.Equal(t, &tc.want, err, "in a message")

			conn, _ = serveInProcess(t, sdk.NewSource(sdk.Info{Name: "s"}, sdk.SourceCapabilities{}, noConfig{},
				func(sdk.Settings, noConfig) (sdk.Source, error) { return undiscovered{err: tc.err}, nil }))
			_, err = Discover(deadline(t), conn)
			assert.Equal(t, &tc.want, err, "in a status")
		})
	}
}

type undiscovered struct {
	scripted
	err error
}

func (u undiscovered) Discover(context.Context) (sdk.Discovery, error) { return sdk.Discovery{}, u.err }

// TestExactlyOneAnswer lets many delivery streams end in all ways at once.
func TestExactlyOneAnswer(t *testing.T) {
	const streams = 60
	random := func(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }
	opened := uint64(1000)
	var mu sync.Mutex
	s := &sink{openStream: func(ctx context.Context, _ sdk.StreamOptions) (sdk.Stream, error) {
		mu.Lock()
		opened++
		r := random(opened)
		mu.Unlock()
		aborted := make(chan struct{})
		fail := func() error {
			switch r.IntN(8) {
			case 0:
				return errors.New("broken pipe")
			case 1:
				panic("oh")
			case 2:
				select { // a destination that hangs until it is given up
				case <-aborted:
				case <-time.After(time.Millisecond):
				}
			}
			return nil
		}
		return &sinkStream{
			send:   func(context.Context, *sdk.Delivery) error { return fail() },
			finish: func(context.Context) (sdk.Finished, error) { return sdk.Finished{}, fail() },
			abort:  func() { close(aborted) },
		}, fail()
	}}
	forms(t, []shm.Direction{shm.ToPlugin}, func(t *testing.T, regions []*shm.Region) {
		deliver := openSink(t, s, regions...)
		join := meanwhile(t, func() error {
			var wg sync.WaitGroup
			defer wg.Wait()
			for stream := uint64(1); stream <= streams; stream++ {
				if err := deliver.Open(stream, false); err != nil {
					return err
				}
				wg.Go(func() {
					r := random(stream)
					var err error
					for range r.IntN(6) {
						if err = deliver.Send(t.Context(), stream, encodedBatch(1, 1+r.IntN(600)), sdk.Binding{ConfigID: "c"}); err != nil {
							break
						}
					}
					if err == nil && r.IntN(3) > 0 {
						err = deliver.Finish(stream)
					}
					if err == nil && r.IntN(2) == 0 {
						err = deliver.Abort(stream)
					}
					assert.True(t, err == nil || errors.Is(err, ErrAnswered), err)
				})
			}
			return nil
		})
		sent := make(chan struct{})
		go func() {
			join()
			assert.NoError(t, deliver.CloseSend())
			close(sent)
		}()
		answers := map[uint64]int{}
		for _, event := range drainToEOF(t, deliver.Recv) {
			if a, ok := event.(*Answer); ok {
				answers[a.Stream]++
			}
		}
		await(t, sent)
		assert.Len(t, answers, streams)
		for stream, n := range answers {
			assert.Equal(t, 1, n, "answers to delivery stream %d", stream)
		}
	})
}
