package csv

import (
	"math"
	"time"
)

// early is how much before its time a row may go, so that dense rows do not need a
// timer each.
const early = time.Millisecond

// pacer says when rows are due. It reads no clock.
type pacer struct {
	speed  float64       // 0: all are due at once
	maxGap time.Duration // a longer pause is cut to this

	begun bool
	last  int64     // event time of the row before
	event int64     // a row with this event time …
	wall  time.Time // … is due at this time
}

func newPacer(c Config) pacer {
	p := pacer{maxGap: math.MaxInt64}
	if c.Speed.Keyword == "" && !c.Follow {
		p.speed = c.Speed.Number
	}
	if c.MaxGap != nil {
		p.maxGap = *c.MaxGap
	}
	return p
}

// wait returns how long a row has to wait. Rows come in the order of the replay.
func (p *pacer) wait(event int64, now time.Time) time.Duration {
	if !p.begun || p.between(event, p.last) > p.maxGap {
		// The first row, or event time went back by more than a pause may be.
		p.begun, p.event, p.wall = true, event, now
	}
	p.last = event
	wait := p.between(p.event, event) - now.Sub(p.wall)
	if wait > p.maxGap {
		p.event, p.wall = event, now.Add(p.maxGap)
		wait = p.maxGap
	}
	if wait < early {
		return 0
	}
	return wait
}

// between returns how much time passes in the replay between two event times.
func (p *pacer) between(from, to int64) time.Duration {
	// As numbers with a fraction: the difference of two stamps may not fit int64.
	after := (float64(to) - float64(from)) / p.speed
	return time.Duration(min(max(after, math.MinInt64/2), math.MaxInt64/2))
}
