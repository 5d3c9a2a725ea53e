package backup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/checkpoint"
	"github.com/pipelined/pipelined/core/vfs"
)

// model knows what must hold for a backup, whatever happens to its disk.
type model struct {
	opts      Options                    // with all tracks that there ever are
	tracks    []string                   // of this life
	start     uint64                     // first id of this life
	told      map[string]*checkpoint.Set // confirmations of this life
	orphans   []Orphan                   // that wait to be adopted
	free      map[string]*checkpoint.Set // ids of lives without a track: it is owed none of them
	highest   uint64                     // id that was given out
	durable   checkpoint.Set             // ids that Sync vouched for
	written   checkpoint.Set             // ids that were appended, as far as the caller was told
	attempted map[string]*checkpoint.Set // confirmations that were made, also in vain
	noted     map[string]*checkpoint.Set // confirmations that were said to be durable
	lost      checkpoint.Set             // ids that were returned as lost
	unsynced  []checkpoint.Range         // held in the caller's memory, in order
	again     []checkpoint.Range         // of these, those that must be written again
	cursor    uint64                     // durable
}

func newModel(opts Options) *model {
	m := &model{
		opts: opts, tracks: opts.Tracks, free: make(map[string]*checkpoint.Set),
		attempted: make(map[string]*checkpoint.Set), noted: make(map[string]*checkpoint.Set),
	}
	for _, track := range opts.Tracks {
		m.attempted[track], m.noted[track], m.free[track] = &checkpoint.Set{}, &checkpoint.Set{}, &checkpoint.Set{}
	}
	return m
}

// step does one thing that an owner does.
func (m *model) step(b *Backup, r *rand.Rand) {
	switch p := r.IntN(23); {
	case p < 11:
		m.add(b, uint64(1+r.IntN(20)))
	case p < 15:
		through, err := b.Sync()
		m.after(err)
		if err == nil && through > 0 && through == b.Stats().Appended {
			m.synced()
		}
	case p < 19:
		m.confirm(b, r)
	case p < 20:
		for len(m.again) > 0 && m.append(b, m.again[0]) { // in order: cursors rely on it
		}
	case p < 22:
		if len(m.again) == 0 && m.highest > 0 { // as if rows that came last were refused
			_ = b.Advance("s", m.highest, binary.BigEndian.AppendUint64(nil, m.highest))
		}
	default:
		m.adopt(b)
	}
}

// adopt stores an orphan again. That is durable, or it stays an orphan.
func (m *model) adopt(b *Backup) {
	if len(m.orphans) == 0 {
		return
	}
	done, err := b.Adopt(m.orphans[0], placeIn(1))
	m.lose(done.Lost)
	m.highest = max(m.highest, b.Stats().NextID-1)
	m.durable.AddSet(done.Ids)
	m.written.AddSet(done.Ids)
	if err == nil {
		m.orphans = m.orphans[1:]
	}
}

// live compares a running backup with what must hold at any time.
func (m *model) live(t require.TestingT, b *Backup, disk vfs.FS) {
	stats := b.Stats()
	ours := span(m.start, stats.NextID-1)
	for _, track := range m.tracks {
		want := checkpoint.SetOf()
		if ours.Valid() {
			want.Add(ours)
		}
		want.RemoveSet(*m.attempted[track])
		require.Equal(t, want.String(), b.Unconfirmed(track, ours).String(), "unconfirmed by "+track)
		missing := b.Missing(track)
		for r := range m.lost.Ranges() {
			require.False(t, missing.Overlaps(r), "lost and missing")
		}
		for r := range m.told[track].Ranges() {
			require.False(t, missing.Overlaps(r), "confirmed by %s and missing", track)
			require.Empty(t, b.Unconfirmed(track, r).String())
		}
	}
	require.LessOrEqual(t, stats.Durable, stats.Appended)
	if m.opts.MaxDisk > 0 {
		require.LessOrEqual(t, bytesOnDisk(t, disk, m.opts), m.opts.MaxDisk+max(m.opts.MaxFileSize, 2500))
	}
}

// bytesOnDisk returns the size of segments and indexes.
func bytesOnDisk(t require.TestingT, disk vfs.FS, opts Options) (n int64) {
	for _, dir := range []string{testDir, opts.StateDir} {
		list, err := disk.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range list {
			if dir == testDir || strings.HasPrefix(e.Name, indexPrefix) {
				n += e.Size
			}
		}
	}
	return n
}

func (m *model) add(b *Backup, n uint64) {
	ids, err := b.Reserve(n)
	if err != nil {
		return
	}
	m.highest = max(m.highest, ids.Last)
	m.unsynced = append(m.unsynced, ids)
	m.again = append(m.again, ids)
	for len(m.again) > 0 && m.append(b, m.again[0]) {
	}
}

// append writes what waits; false if it must wait on.
func (m *model) append(b *Backup, ids checkpoint.Range) bool {
	done, err := b.Append(metaOf(ids), bodyOf(ids))
	m.lose(done.Lost)
	m.after(err)
	if err != nil {
		return false
	}
	m.written.Add(ids)
	if len(m.again) > 0 && m.again[0] == ids {
		m.again = m.again[1:]
	}
	return true
}

// lose takes in what was dropped: it need not be written again.
func (m *model) lose(losses []Loss) {
	m.lost.AddSet(idsOf(losses))
	isLost := func(ids checkpoint.Range) bool { return m.lost.Overlaps(ids) }
	m.unsynced = slices.DeleteFunc(slices.Clone(m.unsynced), isLost)
	m.again = slices.DeleteFunc(slices.Clone(m.again), isLost)
}

// after takes in what an error says: everything that is not durable is written again.
func (m *model) after(err error) {
	if suspect := (*SuspectError)(nil); errors.As(err, &suspect) {
		m.again = append([]checkpoint.Range(nil), m.unsynced...)
	}
}

func (m *model) synced() {
	if len(m.again) > 0 {
		return // not everything is written
	}
	for _, ids := range m.unsynced {
		m.durable.Add(ids)
		m.cursor = max(m.cursor, ids.Last)
	}
	m.unsynced = nil
}

func (m *model) confirm(b *Backup, r *rand.Rand) {
	if m.written.Empty() {
		return
	}
	var ids checkpoint.Set
	for range 2 {
		first := 1 + r.Uint64N(m.highest)
		ids.AddSet(m.written.Within(span(first, first+r.Uint64N(60))))
	}
	if r.IntN(3) == 0 {
		ids = m.written.Within(span(1, 1+r.Uint64N(m.highest)))
	}
	if ids.Empty() {
		return
	}
	track := m.tracks[r.IntN(len(m.tracks))]
	m.attempted[track].AddSet(ids)
	m.told[track].AddSet(ids)
	if b.Confirm(track, ids) == nil {
		m.noted[track].AddSet(ids)
	}
}

// check compares a backup that was opened after the end with what must hold.
func (m *model) check(t require.TestingT, b *Backup, found Recovered) {
	m.lost.AddSet(found.Lost)
	there := readIDs(t, b, everything())

	// Nothing durable is missing, but what all have confirmed or what was lost with
	// notice.
	must := m.durable.Clone()
	must.RemoveSet(m.lost)
	all := m.written.Clone()
	all.AddSet(m.durable)
	for _, track := range m.opts.Tracks {
		rest := all.Clone()
		rest.RemoveSet(*m.attempted[track])
		rest.RemoveSet(*m.free[track])
		all.RemoveSet(rest)
	}
	gone := must.Clone()
	gone.RemoveSet(there)
	gone.RemoveSet(all)
	require.Empty(t, gone.String(), "durable and gone")
	unfair := found.Lost.Clone()
	for ids := range m.durable.Ranges() {
		if m.opts.OnFull != DropOldest {
			require.False(t, unfair.Overlaps(ids), "durable and reported as lost: %v", unfair)
		}
	}

	for _, track := range m.opts.Tracks {
		missing := b.Missing(track)
		// No confirmation is invented: what nobody confirmed is missing if it is there.
		owed := there.Clone()
		owed.RemoveSet(*m.attempted[track])
		require.True(t, missing.ContainsSet(owed), "%s: confirmed by nobody and not missing", track)
		// None that was durable is forgotten.
		for ids := range m.noted[track].Ranges() {
			require.False(t, missing.Overlaps(ids), "%s: confirmed and missing again", track)
		}
		require.True(t, there.ContainsSet(missing), "%s: missing and not readable", track)
	}

	if found.Journal == nil {
		ids, err := b.Reserve(1)
		require.NoError(t, err)
		require.Greater(t, ids.First, m.highest, "an id is given out twice")
		m.highest = ids.Last
	}

	// Everything before a cursor is there, or needs no delivery.
	if p := found.Cursors["s"]; m.cursor > 0 || p != nil {
		require.Len(t, p, 8)
		at := binary.BigEndian.Uint64(p)
		require.GreaterOrEqual(t, at, m.cursor, "the cursor fell back")
		behind := m.written.Within(span(1, at))
		behind.RemoveSet(there)
		behind.RemoveSet(all)
		behind.RemoveSet(m.lost)
		require.Empty(t, behind.String(), "the cursor at %d says too much", at)
	}
}

// run opens a backup and does some steps; false if it could not be opened.
func (m *model) run(t require.TestingT, fsys vfs.FS, disk vfs.FS, seed uint64, steps int) {
	opts := m.opts
	opts.Tracks = m.tracks
	b, found, err := Open(fsys, testDir, opts)
	if err != nil {
		return
	}
	m.restart(b, found)
	if b.DefineFlow(1, []byte("flow one")) != nil {
		return
	}
	r := rand.New(rand.NewPCG(seed, 1))
	for range steps {
		m.step(b, r)
		m.live(t, b, disk)
	}
	for _, track := range m.opts.Tracks {
		if last := b.Stats().NextID - 1; !slices.Contains(m.tracks, track) && last >= m.start {
			m.free[track].Add(span(m.start, last))
		}
	}
	err = b.Close()
	m.after(err)
	if err == nil {
		m.synced()
	}
}

// restart forgets what was in memory alone.
func (m *model) restart(b *Backup, found Recovered) {
	m.lost.AddSet(found.Lost)
	for _, ids := range m.unsynced {
		m.written.Remove(ids)
	}
	m.written.AddSet(b.Missing(m.opts.Tracks[0]))
	m.unsynced, m.again = nil, nil
	m.told = make(map[string]*checkpoint.Set)
	for _, track := range m.opts.Tracks {
		m.told[track] = &checkpoint.Set{}
	}
	m.start, m.orphans = b.Stats().NextID, found.Orphans
}

// checkAfter opens what a crash left and compares, twice: a start changes nothing
// for the worse, also if it is followed by a crash.
func (m *model) checkAfter(t require.TestingT, fsys *vfs.Memory, survival vfs.Survival) {
	for range 2 {
		b, found, err := Open(fsys, testDir, m.opts)
		require.NoError(t, err)
		m.check(t, b, found)
		fsys = fsys.Crash(survival)
	}
}

func variants() map[string]Options {
	plain := testOptions()
	drop := testOptions()
	drop.MaxDisk, drop.OnFull = 12000, DropOldest
	one := testOptions()
	one.Tracks, one.MaxFileSize, one.JournalSize = []string{"a"}, 800, 200
	return map[string]Options{"plain": plain, "drop oldest": drop, "one track, small files": one}
}

const crashSteps = 24

// TestCrashAtEveryOperation cuts the power before each operation and keeps any part
// of what was not synced.
func TestCrashAtEveryOperation(t *testing.T) {
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			where := logWhere(t)
			for n, fired := 0, true; fired; n++ {
				for try := range uint64(3) {
					seed := uint64(n)*10 + try
					m, disk := newModel(opts), vfs.NewMemory(0)
					m.run(t, disk, disk, try, crashSteps/2) // an earlier life
					disk = disk.Crash(vfs.Keep())
					fault := vfs.StopAt(disk, n)
					m.run(t, fault, disk, try+100, crashSteps)
					fired = fault.Fired()
					survival := []vfs.Survival{vfs.Lose(), vfs.Random(seed), vfs.Random(seed + 1<<32)}[try]
					*where = fmt.Sprintf("operation %d, try %d", n, try)
					m.checkAfter(t, disk.Crash(survival), survival)
				}
			}
		})
	}
}

// logWhere says which case was the last one if a test fails.
func logWhere(t *testing.T) *string {
	where := new(string)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("in the case of " + *where)
		}
	})
	return where
}

// TestFaultAtEveryOperation fails each operation once, or fills the disk from there
// on, goes on working, and cuts the power.
func TestFaultAtEveryOperation(t *testing.T) {
	for kind, fail := range map[string]func(vfs.FS, int) *vfs.Fault{"once": vfs.FailOnce, "full disk": vfs.FailFrom} {
		for name, opts := range variants() {
			t.Run(kind+", "+name, func(t *testing.T) {
				where := logWhere(t)
				for n, fired := 0, true; fired; n++ {
					seed := uint64(n)
					m, disk := newModel(opts), vfs.NewMemory(0)
					m.run(t, disk, disk, 1, crashSteps/2)
					fault := fail(disk, n)
					m.run(t, fault, disk, 2, crashSteps)
					fired = fault.Fired()
					if n > 150 { // a full disk is full for ever
						break
					}
					survival := vfs.Random(seed)
					*where = fmt.Sprintf("operation %d", n)
					m.checkAfter(t, disk.Crash(survival), survival)
				}
			})
		}
	}
}
