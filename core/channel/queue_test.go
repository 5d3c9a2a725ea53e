package channel

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ints is a queue of numbers that count for one message and their value in bytes.
func ints(messages, bytes int) *Queue[int] {
	return NewQueue(Size{messages, bytes}, func(n int) Size { return Size{1, n} })
}

func TestPushWaitsForRoom(t *testing.T) {
	for name, limit := range map[string]Size{"messages": {2, 1000}, "bytes": {1000, 20}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := ints(limit.Messages, limit.Bytes)
				require.NoError(t, q.Push(t.Context(), 10))
				require.NoError(t, q.Push(t.Context(), 10))
				pushed := make(chan error, 1)
				go func() { pushed <- q.Push(t.Context(), 10) }()
				synctest.Wait()
				select {
				case <-pushed:
					t.Fatal("Push did not wait")
				default:
				}
				_, ok := q.Pop()
				require.True(t, ok)
				require.NoError(t, <-pushed)
				assert.Equal(t, Size{2, 20}, q.Used())
			})
		})
	}
}

func TestAnItemLargerThanTheLimitIsTakenAlone(t *testing.T) {
	q := ints(10, 10)
	require.NoError(t, q.Push(t.Context(), 1000))
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	require.ErrorIs(t, q.Push(ctx, 1), cause)
}

func TestCloseEndsWritersAndLeavesWhatIsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := ints(1, 100)
		require.NoError(t, q.Push(t.Context(), 1))
		pushed := make(chan error, 1)
		go func() { pushed <- q.Push(t.Context(), 2) }()
		synctest.Wait()
		q.Close()
		q.Close()
		require.ErrorIs(t, <-pushed, ErrClosed)
		require.ErrorIs(t, q.Push(t.Context(), 3), ErrClosed)
		assert.False(t, q.Closed(), "something is in it")
		assert.Equal(t, []int{1}, slices.Collect(q.All()))
		<-q.Ready()
		_, ok := q.Pop()
		require.True(t, ok)
		assert.True(t, q.Closed())
		<-q.Ready()
		_, ok = q.Pop()
		assert.False(t, ok)
	})
}

// TestQueueEqualsAModel checks order, sizes and wake-ups with one reader and one
// writer at random.
func TestQueueEqualsAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := ints(5, 50)
		var model []int
		for range rapid.IntRange(1, 50).Draw(t, "operations") {
			if rapid.Bool().Draw(t, "push") {
				n := rapid.IntRange(0, 30).Draw(t, "n")
				room, err := q.tryPush(n, Size{1, n})
				require.NoError(t, err)
				fits := len(model) == 0 || len(model) < 5 && sum(model)+n <= 50
				require.Equal(t, fits, room == nil)
				if fits {
					model = append(model, n)
				}
			} else if n, ok := q.Pop(); ok {
				require.Equal(t, model[0], n)
				model = model[1:]
			} else {
				require.Empty(t, model)
			}
			require.Equal(t, Size{len(model), sum(model)}, q.Used())
			require.Equal(t, len(model) > 0, ready(q), "a reader is woken exactly when there is something")
		}
	})
}

// ready takes the token and puts it back, as a reader that finds it does.
func ready(q *Queue[int]) bool {
	select {
	case <-q.Ready():
		q.mu.Lock()
		defer q.mu.Unlock()
		if len(q.mu.items) > 0 {
			q.signal()
			return true
		}
		return false
	default:
		return false
	}
}

func sum(numbers []int) int {
	n := 0
	for _, one := range numbers {
		n += one
	}
	return n
}

func TestPushEvictingTakesTheOldestOut(t *testing.T) {
	q := NewQueue(Size{Messages: 3, Bytes: 100}, func(n int) Size { return Size{Messages: n, Bytes: 1} })
	for _, n := range []int{1, 1, 1} {
		evicted, err := q.PushEvicting(n)
		require.NoError(t, err)
		assert.Empty(t, evicted)
	}
	evicted, err := q.PushEvicting(2)
	require.NoError(t, err)
	assert.Equal(t, []int{1, 1}, evicted)
	assert.Equal(t, Size{Messages: 3, Bytes: 2}, q.Used())
	evicted, err = q.PushEvicting(9) // larger than the limit by itself
	require.NoError(t, err)
	assert.Equal(t, []int{1, 2}, evicted)
	first, ok := q.Peek()
	assert.True(t, ok)
	assert.Equal(t, 9, first)
	q.Close()
	_, err = q.PushEvicting(1)
	require.ErrorIs(t, err, ErrClosed)
}
