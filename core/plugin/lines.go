package plugin

import "bytes"

// lineSplitter cuts a byte stream into lines. A line that is longer than limit is
// handed over when it has reached the limit, and its rest is left out: the memory
// is bounded, whatever comes.
type lineSplitter struct {
	limit int
	line  func(text []byte, whole bool) // text is valid during the call
	end   func()                        // may be nil
	buf   []byte
	skip  bool // until the end of a line that was too long
}

func (s *lineSplitter) write(p []byte) {
	for len(p) > 0 {
		part, rest, ended := bytes.Cut(p, []byte{'\n'})
		p = rest
		if !s.skip {
			s.append(part)
		}
		if ended {
			s.flush()
			s.skip = false
		}
	}
}

func (s *lineSplitter) append(part []byte) {
	room := s.limit - len(s.buf)
	if len(part) <= room {
		s.buf = append(s.buf, part...)
		return
	}
	s.buf = append(s.buf, part[:room]...)
	s.line(s.buf, false)
	s.buf, s.skip = s.buf[:0], true
}

// close hands over a last line without an end, and tells that no more comes.
func (s *lineSplitter) close() {
	s.flush()
	if s.end != nil {
		s.end()
	}
}

func (s *lineSplitter) flush() {
	if len(s.buf) > 0 {
		s.line(bytes.TrimSuffix(s.buf, []byte{'\r'}), true)
		s.buf = s.buf[:0]
	}
}
