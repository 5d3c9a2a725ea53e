package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pipelined/pipelined/core/status"
	"github.com/pipelined/pipelined/internal/sifttest"
)

// A key that is taken back while rows flow: somebody has to do something, and the
// sentence says what and since when.
func TestStatusOfARefusedKey(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{Keys: []string{"a-key"}})
	h := load{uri: server.URI(), rate: "1000", pipeline: backupBlock}.start(t)
	h.awaitStatus("rows are delivered", func(p status.Pipeline) bool {
		return len(p.Tracks) == 1 && p.Tracks[0].Delivered > 0
	})
	server.SetKeys("another-key")
	p := h.awaitStatus("it is stuck", func(p status.Pipeline) bool { return p.State == status.Stuck })
	assert.Regexp(t, `^stuck: UNAUTHENTICATED: .* since \d\d:\d\d`, p.Sentence)
	assert.Positive(t, p.Tracks[0].Streams["UNAUTHENTICATED"])

	server.SetKeys("a-key")
	h.command("status", "--wait", "delivered").requireExit(exitOK)
	h.awaitStatus("it delivers again", func(p status.Pipeline) bool { return p.State == status.Delivering })
	h.interrupt()
	h.requireExit(exitOK)
	h.requireBalanced("load")
}
