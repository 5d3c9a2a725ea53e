package vfs

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
)

// ErrCrashed is what every operation returns after a crash, until the end of the
// process so to say.
var ErrCrashed = errors.New("the machine has crashed")

// Survival decides what of the unsynced state a crash leaves.
type Survival struct {
	// Sector says whether a written sector of a file is on the disk.
	Sector func() bool
	// Change says whether a creation, rename or removal is on the disk.
	Change func() bool
	// Size returns the length of a file, from what is durable up to what was written.
	Size func(durable, written int) int
}

// Keep lets everything survive, as after the end of the process alone.
func Keep() Survival { return survive(true) }

// Lose lets nothing survive that was not synced.
func Lose() Survival { return survive(false) }

func survive(all bool) Survival {
	always := func() bool { return all }
	return Survival{always, always, func(durable, written int) int {
		if all {
			return written
		}
		return durable
	}}
}

// Random lets any part survive, by seed: each sector and each change on its own,
// with odds that differ from seed to seed.
func Random(seed uint64) Survival {
	r := rand.New(rand.NewPCG(seed, 0))
	sectors, changes := r.Float64(), r.Float64()
	return Survival{
		Sector: func() bool { return r.Float64() < sectors },
		Change: func() bool { return r.Float64() < changes },
		Size: func(durable, written int) int {
			switch r.IntN(4) {
			case 0:
				return durable
			case 1:
				return durable + r.IntN(written-durable+1)
			}
			return written
		},
	}
}

// Crash ends the file system and returns what the next start finds. The old one and
// its open files fail from then on; locks are gone.
//
// What it models: content that was synced stays, and names that were synced with
// their directory. Of the sectors (512 bytes) that were written since, any subset
// survives, in any order; the others have their old content, or zeros. The length of
// a file is any between the durable and the written one. Of the creations, renames
// and removals that were not synced, any subset survives, applied in order; a rename
// is atomic. A file's own Sync does not make its name durable, and a name can survive
// without the content. After a Sync that failed, the sectors that it was for can be
// lost even if a later Sync succeeds. Not modelled: sectors torn inside, stale
// content of other files, and disks that lie about a sync.
func (m *Memory) Crash(survival Survival) *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.dead = true
	c := crash{survival, make(map[*inode]*inode)}
	return newMemory(c.directory(m.mu.root), m.mu.limit)
}

type crash struct {
	Survival
	files map[*inode]*inode // by what they were, for files with two names
}

func (c crash) directory(d *directory) *directory {
	entries := maps.Clone(d.durable)
	for _, change := range d.changes {
		if c.Change() {
			change.apply(entries)
		}
	}
	after := newDirectory()
	for _, e := range sortedEntries(entries) {
		switch n := e.node.(type) {
		case *inode:
			after.entries[e.name] = c.file(n)
		case *directory:
			after.entries[e.name] = c.directory(n)
		}
	}
	after.sync()
	return after
}

func (c crash) file(n *inode) *inode {
	if after, ok := c.files[n]; ok {
		return after
	}
	data := make([]byte, c.Size(len(n.durable), len(n.data)))
	copy(data, n.durable)
	for i, state := range n.sectors {
		from, to := n.span(i)
		if state != clean && from < len(data) && c.Sector() {
			copy(data[from:], n.data[from:to])
		}
	}
	after := &inode{}
	after.write(data)
	after.sync()
	c.files[n] = after
	return after
}

type namedNode struct {
	name string
	node node
}

// sortedEntries has the order that makes a crash a function of its seed.
func sortedEntries(entries map[string]node) []namedNode {
	var list []namedNode
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		list = append(list, namedNode{name, entries[name]})
	}
	return list
}
