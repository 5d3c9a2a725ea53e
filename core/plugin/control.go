package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/wire"
)

var errControlEnded = errors.New("its control stream has ended")

// maxHealthPerSecond is how often a change of health is passed on; others only
// replace what Health returns.
const maxHealthPerSecond = 10

// controller reads a plugin's control stream.
type controller struct {
	stream   *wire.Control
	onHealth func(sdk.Health)
	drained  chan struct{} // closed by the plugin's answer to drain
	ended    chan struct{} // closed when the stream has ended

	mu struct {
		sync.Mutex
		nonce      uint64
		pong       chan struct{} // closed by the answer to nonce; nil: none is awaited
		lastPong   time.Time
		health     sdk.Health
		healthRate rate
		draining   bool  // the plugin has been asked to
		err        error // why the stream has ended
	}
}

func newController(stream *wire.Control, onHealth func(sdk.Health)) *controller {
	c := &controller{
		stream: stream, onHealth: onHealth,
		drained: make(chan struct{}), ended: make(chan struct{}),
	}
	c.mu.lastPong = time.Now()
	c.mu.health.State = sdk.HealthOK
	return c
}

// run reads until the stream's end.
func (c *controller) run() {
	defer close(c.ended)
	for drained := false; ; {
		event, err := c.stream.Recv()
		if err != nil {
			c.fail(err)
			return
		}
		switch event := event.(type) {
		case wire.Pong:
			c.pong(event.Nonce)
		case wire.Drained:
			if !drained && c.draining() { // unasked for it means nothing
				drained = true
				close(c.drained)
			}
		case wire.HealthChanged:
			c.changeHealth(event.Health)
		}
	}
}

func (c *controller) changeHealth(h sdk.Health) {
	c.mu.Lock()
	pass := h != c.mu.health && c.mu.healthRate.admit(time.Now(), maxHealthPerSecond)
	c.mu.health = h
	c.mu.Unlock()
	if pass {
		c.onHealth(h)
	}
}

func (c *controller) health() sdk.Health {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.health
}

func (c *controller) draining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.draining
}

func (c *controller) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == io.EOF {
		err = errControlEnded
	}
	c.mu.err = err
}

func (c *controller) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.err
}

func (c *controller) pong(nonce uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.pong == nil || nonce != c.mu.nonce {
		return // an answer that nobody asked for proves nothing
	}
	close(c.mu.pong)
	c.mu.pong, c.mu.lastPong = nil, time.Now()
}

func (c *controller) lastPong() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.lastPong
}

// ping waits for the answer to a ping. As long as one is owed no other is sent:
// a plugin that has stopped must not collect them.
func (c *controller) ping(ctx context.Context) error {
	pong, nonce := c.expectPong()
	if nonce != 0 {
		if err := c.stream.Ping(nonce); err != nil {
			return err
		}
	}
	return c.await(ctx, pong)
}

// expectPong returns what is closed by the next answer, and the nonce to send for
// it, 0 if that has been done.
func (c *controller) expectPong() (pong <-chan struct{}, nonce uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.pong == nil {
		c.mu.pong = make(chan struct{})
		c.mu.nonce++
		nonce = c.mu.nonce
	}
	return c.mu.pong, nonce
}

// drain asks the plugin to finish and waits until it has.
func (c *controller) drain(ctx context.Context) error {
	c.mu.Lock()
	c.mu.draining = true
	c.mu.Unlock()
	left := time.Duration(0)
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	if err := c.stream.Drain(left); err != nil {
		return err
	}
	if err := c.await(ctx, c.drained); err != nil {
		return err
	}
	return c.stream.CloseSend()
}

// await waits for an answer, the end of ctx or of the stream.
func (c *controller) await(ctx context.Context, answer <-chan struct{}) error {
	select {
	case <-answer:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("it does not answer: %w", context.Cause(ctx))
	case <-c.ended:
		return c.err()
	}
}
