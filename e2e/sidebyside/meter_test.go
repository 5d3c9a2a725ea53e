package sidebyside

import (
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// meter measures what comes to a server. It may be used by several streams at once.
type meter struct {
	mu      sync.Mutex
	rows    int
	first   time.Time
	last    time.Time
	gaps    []time.Duration // those of at least noteGap between two receptions
	longest time.Duration   // gap, also if it is not noted
}

// noteGap is the least gap that is noted.
const noteGap = 50 * time.Millisecond

func (m *meter) take([]byte) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rows == 0 {
		m.first, m.last = now, now
	}
	gap := now.Sub(m.last)
	if gap >= noteGap {
		m.gaps = append(m.gaps, gap)
	}
	m.longest = max(m.longest, gap)
	m.last = now
	m.rows++
}

// reading is what a drain is measured by: rows of two flows, told apart by name.
type reading struct {
	mu      sync.Mutex
	stored  flowReading
	live    []arrival
	counted bool // what comes counts as sent again
}

type flowReading struct {
	seen     bitmap
	distinct int
	rows     int // while counted
	bytes    int
	first    time.Time
	last     time.Time
}

// arrival is a row of the live flow.
type arrival struct {
	stamp   time.Time
	latency time.Duration
}

type bitmap []uint64

// set reports whether a bit is new.
func (m *bitmap) set(i int) bool {
	for i/64 >= len(*m) {
		*m = append(*m, make([]uint64, 1024)...)
	}
	word, bit := &(*m)[i/64], uint64(1)<<(i%64)
	fresh := *word&bit == 0
	*word |= bit
	return fresh
}

// take reads a message; the rows of the stored flow are numbered by their stamps,
// one each µs from epoch.
func (r *reading) take(message []byte) {
	now := time.Now()
	flow, stamp := header(message)
	r.mu.Lock()
	defer r.mu.Unlock()
	if string(flow) != storedFlow {
		r.live = append(r.live, arrival{stamp, now.Sub(stamp)})
		return
	}
	s := &r.stored
	if s.seen.set(int(stamp.Sub(epoch) / time.Microsecond)) {
		s.distinct++
	}
	if !r.counted {
		return
	}
	if s.rows == 0 {
		s.first = now
	}
	s.last = now
	s.rows++
	s.bytes += len(message)
}

// header returns the flow and the stamp of an ingest message.
func header(message []byte) (flow []byte, stamp time.Time) {
	const fieldFlow, fieldStamp = 2, 3
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return flow, stamp
		}
		message = message[n:]
		if kind != protowire.BytesType {
			return flow, stamp
		}
		content, n := protowire.ConsumeBytes(message)
		if n < 0 {
			return flow, stamp
		}
		message = message[n:]
		switch number {
		case fieldFlow:
			flow = content
		case fieldStamp:
			return flow, timestamp(content)
		}
	}
	return flow, stamp
}

func timestamp(content []byte) time.Time {
	var parts [3]uint64 // by field: seconds, ns
	for len(content) > 0 {
		number, kind, n := protowire.ConsumeTag(content)
		if n < 0 || kind != protowire.VarintType || number > 2 {
			break
		}
		content = content[n:]
		v, n := protowire.ConsumeVarint(content)
		if n < 0 {
			break
		}
		content = content[n:]
		parts[number] = v
	}
	return time.Unix(int64(parts[1]), int64(parts[2]))
}
