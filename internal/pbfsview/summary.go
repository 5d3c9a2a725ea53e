package pbfsview

import (
	"hash/maphash"
	"time"
)

// TimeFormat is how times are written: RFC 3339 with all nine digits.
const TimeFormat = "2006-01-02T15:04:05.000000000Z07:00"

// Summary counts what is in a file.
type Summary struct {
	Bytes       int64 // size of the file
	Chunks      int64 // valid chunks
	Messages    int64 // messages in them
	Undecodable int64 // of these
	Holes       int64 // a torn tail not included
	HoleBytes   int64
	TornBytes   int64     // bytes of an incomplete chunk at the end
	Foreign     bool      // it is a file of another format
	First, Last time.Time // least and greatest time; zero if no message has one

	flows *flowSet
}

// Intact reports whether all bytes of the file were read as messages.
func (s *Summary) Intact() bool {
	return s.Undecodable == 0 && s.Holes == 0 && s.TornBytes == 0 && !s.Foreign
}

// Flows returns the number of flows: pairs of a config id and a name. If there are
// more than MaxFlows, exact is false and the number is MaxFlows.
func (s *Summary) Flows() (n int, exact bool) { return len(s.flows.seen), !s.flows.full }

func (s *Summary) damaged(d *Damage) {
	switch d.Kind {
	case Foreign:
		s.Foreign = true
	case TornTail:
		s.TornBytes += d.Size()
	default:
		s.Holes++
		s.HoleBytes += d.Size()
	}
}

func (s *Summary) add(m *Message) {
	s.flows.add(m.pb.GetIngestionConfigId(), m.pb.GetFlow())
	t, ok := m.Time()
	if !ok {
		return
	}
	if s.First.IsZero() || t.Before(s.First) {
		s.First = t
	}
	if s.Last.IsZero() || t.After(s.Last) {
		s.Last = t
	}
}

// MaxFlows is the number of flows of one file that are counted.
const MaxFlows = 100_000

// flowSet counts flows by hashes of their names, so that its memory is bounded.
type flowSet struct {
	hash maphash.Hash
	seen map[uint64]struct{}
	full bool
}

func newFlowSet() *flowSet { return &flowSet{seen: map[uint64]struct{}{}} }

func (f *flowSet) add(config, flow string) {
	f.hash.Reset()
	maphash.WriteComparable(&f.hash, [2]string{config, flow})
	key := f.hash.Sum64()
	if _, ok := f.seen[key]; ok {
		return
	}
	if len(f.seen) == MaxFlows {
		f.full = true
		return
	}
	f.seen[key] = struct{}{}
}
