package pbfs

import (
	"errors"
	"io"
)

// MaxListedHoles is the number of holes that a Summary lists.
const MaxListedHoles = 1000

// Summary counts what is in a file. Size = ChunkBytes + HoleBytes + TornBytes.
type Summary struct {
	Size         int64  // bytes of the file
	Chunks       int64  // valid chunks
	ChunkBytes   int64  // bytes of these, headers included
	Messages     int64  // messages in them
	MessageBytes int64  // bytes of these, lengths not included
	HoleCount    int64  // holes, a torn tail not included
	HoleBytes    int64  // bytes of these
	Holes        []Hole // the first MaxListedHoles of them, in order
	TornBytes    int64  // bytes of an incomplete chunk at the end; 0 if there is none
}

// Intact reports whether all bytes of the file belong to valid chunks.
func (s *Summary) Intact() bool { return s.HoleCount == 0 && s.TornBytes == 0 }

// Verify reads the first size bytes of src with a [Scanner] and counts what it
// finds. Damage is no error but part of the summary; an error is one of the
// source, and the summary then covers what was read before it.
func Verify(src io.ReaderAt, size int64, limits Limits) (Summary, error) {
	scanner := NewScanner(src, size, limits)
	sum := Summary{Size: max(size, 0)}
	for {
		c, err := scanner.Next()
		if hole, ok := errors.AsType[*Hole](err); ok {
			sum.addHole(hole)
			continue
		}
		if err == io.EOF {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
		sum.addChunk(c)
	}
}

func (s *Summary) addChunk(c Chunk) {
	s.Chunks++
	s.ChunkBytes += HeaderSize + int64(len(c.Body))
	s.Messages += int64(c.Count)
	s.MessageBytes += int64(len(c.Body)) - PrefixSize*int64(c.Count)
}

func (s *Summary) addHole(h *Hole) {
	if h.Cause.Kind == TornTail {
		s.TornBytes += h.Size()
		return
	}
	s.HoleCount++
	s.HoleBytes += h.Size()
	if len(s.Holes) < MaxListedHoles {
		s.Holes = append(s.Holes, *h)
	}
}
