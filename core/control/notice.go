package control

import "fmt"

// Kind is what a notice is about.
type Kind uint8

// The kinds of notices.
const (
	// SignalNextCheckpoint asks for a checkpoint now.
	SignalNextCheckpoint Kind = iota + 1
	// CheckpointComplete says that a destination has confirmed ids.
	CheckpointComplete
	// CheckpointNeedsReingestion says that ids were sent and not confirmed.
	CheckpointNeedsReingestion
	// BackupFull says that the backup has as many files as it may have.
	BackupFull
	// ReingestBackups says that the backup may have what a destination misses.
	ReingestBackups
	// Shutdown says that the pipeline ends.
	Shutdown

	kinds = int(Shutdown)
)

// String returns the kind's name.
func (k Kind) String() string {
	names := [...]string{
		SignalNextCheckpoint:       "SignalNextCheckpoint",
		CheckpointComplete:         "CheckpointComplete",
		CheckpointNeedsReingestion: "CheckpointNeedsReingestion",
		BackupFull:                 "BackupFull",
		ReingestBackups:            "ReingestBackups",
		Shutdown:                   "Shutdown",
	}
	if !k.valid() {
		return fmt.Sprintf("Kind(%d)", uint8(k))
	}
	return names[k]
}

func (k Kind) valid() bool { return k > 0 && int(k) <= kinds }

// AllTracks stands for every track of the pipeline.
const AllTracks = -1

// Notice is told to those who listen to its kind and track.
type Notice struct {
	Kind  Kind
	Track int // number of the track in its pipeline, or AllTracks

	// First and Last are the least and the greatest id that it is about; both are 0
	// when it is not about ids. Not every id between them needs to be concerned.
	First, Last uint64
}

// merged returns one notice for both, which have the same kind.
func (n Notice) merged(other Notice) Notice {
	if n.Track != other.Track {
		n.Track = AllTracks
	}
	switch {
	case other.First == 0 && other.Last == 0:
	case n.First == 0 && n.Last == 0:
		n.First, n.Last = other.First, other.Last
	default:
		n.First, n.Last = min(n.First, other.First), max(n.Last, other.Last)
	}
	return n
}
