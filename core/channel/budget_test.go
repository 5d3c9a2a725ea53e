package channel

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestAShareIsThereWhateverOthersHold(t *testing.T) {
	b := NewBudget(100, 2) // 25 for each, 50 in common
	greedy, modest := b.Share(), b.Share()
	require.NoError(t, greedy.Take(t.Context(), 75))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, greedy.Take(ctx, 1))
	require.NoError(t, modest.Take(ctx, 25))
	require.Error(t, modest.Take(ctx, 1))
	greedy.Give(10)
	require.NoError(t, modest.Take(ctx, 10))
	require.Error(t, greedy.Take(ctx, 1))
}

func TestABatchLargerThanTheBudgetPasses(t *testing.T) {
	s := NewBudget(10, 1).Share()
	require.NoError(t, s.Take(t.Context(), 1000))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, s.Take(ctx, 1))
	s.Give(1000)
	assert.Zero(t, s.Used())
}

func TestTakeWaitsForGive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewBudget(10, 1).Share()
		require.NoError(t, s.Take(t.Context(), 8))
		done := make(chan error, 1)
		go func() { done <- s.Take(t.Context(), 5) }()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("taken beyond the budget")
		default:
		}
		s.Give(8)
		require.NoError(t, <-done)
	})
}

func TestBudgetNeverExceeds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		users := rapid.IntRange(1, 4).Draw(t, "users")
		b := NewBudget(1000, users)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		shares, held := make([]*Share, users), make([][]int, users)
		for i := range shares {
			shares[i] = b.Share()
		}
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			i := rapid.IntRange(0, users-1).Draw(t, "user")
			if n := len(held[i]); n > 0 && rapid.Bool().Draw(t, "give") {
				shares[i].Give(held[i][n-1])
				held[i] = held[i][:n-1]
			} else if n := rapid.IntRange(1, 60).Draw(t, "bytes"); shares[i].Take(ctx, n) == nil {
				held[i] = append(held[i], n)
			} else {
				// Refused: the own part is used up and the common part, too.
				require.Greater(t, shares[i].Used()+n, 500/users)
			}
			sum := 0
			for _, s := range shares {
				sum += s.Used()
			}
			require.LessOrEqual(t, sum, 1000)
		}
		for i := range shares {
			for _, n := range held[i] {
				shares[i].Give(n)
			}
			require.Zero(t, shares[i].Used())
		}
		require.Zero(t, b.mu.common)
	})
}
