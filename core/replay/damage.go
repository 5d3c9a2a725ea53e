package replay

import (
	"errors"
	"fmt"
	"slices"

	"github.com/pipelined/pipelined/sdk/pbfs"
)

// Kind is what is wrong with bytes of a file.
type Kind string

// The kinds. They stand in records, too.
const (
	// Hole: the bytes belong to no valid chunk.
	Hole Kind = "hole"
	// TornTail: the file ends inside a chunk, as after a crash of its writer, or
	// because it is still being written.
	TornTail Kind = "torn tail"
	// Undecodable: the chunk is right, its message is none of telemetry.
	Undecodable Kind = "undecodable"
	// Unsendable: the message cannot be sent, whatever the destination is.
	Unsendable Kind = "unsendable"
	// Refused: the destination refuses the message for good.
	Refused Kind = "refused"
	// Searched: valid chunks that were found behind damage by searching, and are
	// not sent because of that.
	Searched Kind = "not sent"
)

// Damage is a range of a file whose bytes are not delivered.
type Damage struct {
	Kind     Kind   `json:"kind"`
	From     int64  `json:"from"` // bytes: it begins at From and ends before To
	To       int64  `json:"to"`
	Messages int64  `json:"messages,omitempty"` // as far as that is known
	Reason   string `json:"reason"`
}

// Size returns the number of bytes in the range.
func (d *Damage) Size() int64 { return d.To - d.From }

// String says it in one line, without the name of the file.
func (d *Damage) String() string {
	return fmt.Sprintf("%s: bytes %d to %d: %s", d.Kind, d.From, d.To, d.Reason)
}

// reasonOf says in a few words what is wrong with a chunk.
func reasonOf(err error) string {
	if e, ok := errors.AsType[*pbfs.Error](err); ok {
		return e.Kind.String()
	}
	return err.Error()
}

// maxDamage bounds the ranges that are remembered for one file.
const maxDamage = 1000

// DamageList is the damage of a file: the first ranges of it, and how many others
// there are.
type DamageList struct {
	Ranges []Damage `json:"ranges,omitempty"`
	More   int64    `json:"more,omitempty"`
	Bytes  int64    `json:"bytes,omitempty"` // of all of them
}

// Empty reports whether there is none.
func (l *DamageList) Empty() bool { return len(l.Ranges) == 0 && l.More == 0 }

// Count returns how many ranges there are.
func (l *DamageList) Count() int64 { return int64(len(l.Ranges)) + l.More }

func (l *DamageList) clone() DamageList {
	c := *l
	c.Ranges = slices.Clone(l.Ranges)
	return c
}

func (l *DamageList) add(d Damage) {
	l.Bytes += d.Size()
	if len(l.Ranges) >= maxDamage {
		l.More++
		return
	}
	l.Ranges = append(l.Ranges, d)
}

func (l *DamageList) addAll(other *DamageList) {
	bytes := l.Bytes + other.Bytes
	for _, d := range other.Ranges {
		l.add(d)
	}
	l.More += other.More
	l.Bytes = bytes
}
