package manager

import (
	"context"
	"time"
)

// skimEvery is how often at most the tail is searched for confirmed batches.
const skimEvery = 10 * time.Millisecond

// skimAll lets go of batches that all tracks have confirmed, wherever they are in the
// tail. It looks after each confirmation, and now and then.
func (m *Manager) skimAll(ctx context.Context) {
	for {
		m.skim.pause(ctx, m.settings.Probe)
		if !pause(ctx, skimEvery) {
			return
		}
		m.skimOnce()
	}
}

func (m *Manager) skimOnce() {
	var x effects
	defer func() { m.carryOut(x) }()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.ended {
		return
	}
	for _, e := range m.mu.tail.entries {
		if e.stage != done && e.batch != nil && e.batch.Confirmed() {
			m.skipped(e, &x)
		}
	}
	if len(x.safe) > 0 {
		m.advance()
	}
}
