package wire

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
)

// TestCreditNeverStarves plays a sender against a receiver: whatever the sizes, who
// has nothing under way may send; and never is more under way than the window and
// one payload.
func TestCreditNeverStarves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var g gate
		var w window
		g.grant(w.open())
		var underWay []int
		bytes := 0
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			n := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(0, sdk.MaxPayloadBytes)).Draw(t, "size")
			if rapid.Bool().Draw(t, "send") {
				sent := g.try(n)
				if !sent && len(underWay) == 0 {
					t.Fatalf("nothing is under way, and %d bytes may not be sent", n)
				}
				if sent {
					if err := w.receive(n); err != nil {
						t.Fatalf("the receiver does not take what it has permitted: %v", err)
					}
					underWay = append(underWay, n)
					bytes += n
				}
			} else if len(underWay) > 0 {
				bytes -= underWay[0]
				if credit := w.consume(underWay[0]); credit != nil {
					g.grant(credit)
				}
				underWay = underWay[1:]
			}
			if len(underWay) > windowBatches || bytes > windowBytes+sdk.MaxPayloadBytes {
				t.Fatalf("%d payloads of %d bytes are under way", len(underWay), bytes)
			}
		}
	})
}

func TestReceiverFindsOutSendersWithoutCredit(t *testing.T) {
	var w window
	w.open()
	for range windowBatches {
		require.NoError(t, w.receive(1))
	}
	require.ErrorContains(t, w.receive(1), "65 payloads")
}

func TestGateWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		passed := make(chan error, 3)
		for range 2 {
			go func() { passed <- g.pass(t.Context(), 10) }()
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { passed <- g.pass(ctx, 10) }()
		synctest.Wait()
		assert.Empty(t, passed)
		cause := errors.New("gone")
		cancel(cause)
		assert.Equal(t, cause, <-passed)
		g.grant(&pb.Credit{Batches: 1, Bytes: 100})
		assert.NoError(t, <-passed)
		synctest.Wait()
		assert.Empty(t, passed)
		g.grant(&pb.Credit{Batches: 2, Bytes: 100})
		g.grant(&pb.Credit{Batches: 1, Bytes: 50}) // an older one that came late
		assert.NoError(t, <-passed)
	})
}

func TestWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w work
		require.NoError(t, w.begin())
		require.NoError(t, w.begin())
		sealed := make(chan error, 1)
		go func() { sealed <- w.seal(t.Context()) }()
		synctest.Wait()
		w.end(1)
		require.NoError(t, w.begin(), "what is held may bring more")
		w.end(1)
		synctest.Wait()
		assert.Empty(t, sealed)
		w.end(1)
		require.NoError(t, <-sealed)
		require.Error(t, w.begin())
		require.NoError(t, w.seal(t.Context()))
	})
}
