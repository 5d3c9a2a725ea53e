// Package shm carries payloads between host and plugin by reference: a region is
// a sealed memory file, cut into slots of equal size, that the host makes and the
// plugin process inherits.
//
// One side writes a region and the other reads it. A slot belongs to the writer
// from Acquire until its number has been sent, then to the reader until the
// number comes back and the writer gives it to Release. Free slots are the
// writer's credit.
//
// The host trusts nothing of a plugin here: no seal can be taken off, so a plugin
// can neither shrink a region, which would make the host fault, nor write into
// one that the host writes. What a plugin wrote may change at any time, so the
// host copies before it looks (CopyOut). Numbers that come from the other side
// are checked; wrong ones give errors.
//
// The side that created or opened a region closes it, after everything that uses
// it has ended: slices that Acquire and Read gave out are invalid from then on.
// Nothing here starts a goroutine. Where there are no sealed memory files (only
// Linux has them) Create and Open fail with errors.ErrUnsupported and all payloads
// travel inline.
package shm
