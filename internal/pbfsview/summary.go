package pbfsview

import "time"

// Bounds of the names of flows that a Summary has.
const (
	maxFlows     = 10_000
	maxFlowBytes = 1024
)

// Summary counts what is in a file.
type Summary struct {
	Bytes    int64 // size of the file
	Chunks   int64 // valid chunks
	Messages int64 // messages in them that were decoded

	Undecodable int64 // messages in valid chunks that were not
	Holes       int64
	TornTail    bool
	Foreign     bool  // it is a file of another format
	LostBytes   int64 // bytes of all these

	// Flows has the number of messages by the name of their flow. MoreFlows is set
	// if there are others, because they are too many or have names too long to be
	// kept.
	Flows     map[string]int64
	MoreFlows bool

	// The least and greatest time of Timed messages; the others have none.
	Timed    int64
	From, To time.Time
}

// Intact reports whether all bytes of the file were read as messages.
func (s *Summary) Intact() bool {
	return s.Undecodable == 0 && s.Holes == 0 && !s.TornTail && !s.Foreign
}

func (s *Summary) addDamage(d *Damage) {
	s.LostBytes += d.Size()
	switch d.Kind {
	case Hole:
		s.Holes++
	case TornTail:
		s.TornTail = true
	case Undecodable:
		s.Undecodable++
	case Foreign:
		s.Foreign = true
	}
}

func (s *Summary) addMessage(m *Message) {
	s.Messages++
	name := m.Flow()
	if _, known := s.Flows[name]; known || len(s.Flows) < maxFlows && len(name) <= maxFlowBytes {
		s.Flows[name]++
	} else {
		s.MoreFlows = true
	}
	t, ok := m.Time()
	if !ok {
		return
	}
	if s.Timed == 0 || t.Before(s.From) {
		s.From = t
	}
	if s.Timed == 0 || t.After(s.To) {
		s.To = t
	}
	s.Timed++
}
