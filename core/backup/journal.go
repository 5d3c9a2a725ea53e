package backup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/pipelined/pipelined/core/vfs"
)

const (
	journalPrefix = "journal-"
	temporary     = ".tmp"
	reserveName   = "reserve"
)

// journal writes facts. Each file begins with all that is known, written under
// another name, synced and renamed; facts are appended to it. Once anything about a
// file failed, nothing more is written to it: the next fact begins a new one.
type journal struct {
	fs      vfs.FS
	dir     string
	most    int64  // bytes of a file, unless what is known needs more
	reserve int64  // bytes of the file that is given up when the disk is full
	number  uint64 // of the newest file that may exist

	file vfs.File // nil: the next write begins a file
	size int64
	full int64 // size after which a new file is begun: most, or twice what it began with
}

// allFacts appends records of all that is known.
type allFacts func(dst []byte) []byte

func (j *journal) path(number uint64) string {
	return filepath.Join(j.dir, fmt.Sprintf("%s%016x", journalPrefix, number))
}

// write makes facts durable: records, or all that is known if a file is begun.
// On an error they may be durable or not.
func (j *journal) write(records []byte, all allFacts) error {
	if j.file != nil && j.size+int64(len(records)) <= j.full {
		if err := j.append(records); err == nil {
			return nil
		}
	}
	return j.begin(all)
}

func (j *journal) append(records []byte) error {
	_, err := j.file.Write(records)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		j.abandon()
		return err
	}
	j.size += int64(len(records))
	return nil
}

// abandon closes the file for good.
func (j *journal) abandon() {
	if j.file != nil {
		_ = j.file.Close() // what it holds is synced, or not relied on
		j.file = nil
	}
}

// begin starts a file with all that is known. On a full disk it gives up the
// reserve and tries once more.
func (j *journal) begin(all allFacts) error {
	err := j.tryBegin(all)
	if errors.Is(err, syscall.ENOSPC) && j.giveUpReserve() {
		err = j.tryBegin(all)
	}
	if err != nil {
		return fmt.Errorf("state journal in %s: %w", j.dir, err)
	}
	return nil
}

func (j *journal) tryBegin(all allFacts) error {
	j.abandon()
	j.number++ // also after a failure: a name is used once
	p := binary.LittleEndian.AppendUint32([]byte("pbjr"), journalVersion)
	content := appendRecord(nil, journalHeader, binary.LittleEndian.AppendUint64(p, j.number))
	content = all(content)
	content = appendRecord(content, journalComplete, nil)

	path := j.path(j.number)
	f, err := writeFile(j.fs, path+temporary, content)
	if err == nil {
		if err = j.fs.Rename(path+temporary, path); err == nil {
			err = j.fs.SyncDir(j.dir)
		}
		if err != nil {
			_ = f.Close()
		}
	}
	if err != nil {
		_ = j.fs.Remove(path + temporary)
		return err
	}
	j.file, j.size = f, int64(len(content))
	j.full = max(j.most, 2*j.size)
	j.removeOld()
	return nil
}

// writeFile makes a file with synced content.
func writeFile(fsys vfs.FS, path string, content []byte) (vfs.File, error) {
	f, err := fsys.Create(path)
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// removeOld removes all files but the newest two. What cannot be removed now is
// removed another time.
func (j *journal) removeOld() {
	names, err := j.files()
	if err != nil {
		return
	}
	for i, n := range names {
		if i >= 2 {
			_ = j.fs.Remove(j.path(n))
		}
	}
}

// removeTemporary removes files that were begun in vain before the start.
func (j *journal) removeTemporary() {
	list, err := j.fs.ReadDir(j.dir)
	if err != nil {
		return
	}
	for _, e := range list {
		if _, ok := cutNumber(e.Name, journalPrefix, temporary, 16); ok {
			_ = j.fs.Remove(filepath.Join(j.dir, e.Name))
		}
	}
}

// files returns the numbers of all journals, the newest first.
func (j *journal) files() ([]uint64, error) {
	list, err := j.fs.ReadDir(j.dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, e := range list {
		if n, ok := cutNumber(e.Name, journalPrefix, temporary, 16); ok {
			j.number = max(j.number, n) // begun in vain
		}
		if n, ok := cutNumber(e.Name, journalPrefix, "", 16); ok && !e.Dir {
			j.number = max(j.number, n)
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	return numbers, nil
}

// cutNumber reads the number between prefix and suffix of a name.
func cutNumber(name, prefix, suffix string, base int) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	if digits, ok = strings.CutSuffix(digits, suffix); !ok || len(digits) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, base, 64)
	return n, err == nil && n > 0 && n <= maxSegment
}

// read returns what all journals say, and what is wrong with them. The older ones
// are only asked when the newest is not complete.
func (j *journal) read() (known *facts, damage []string) {
	known = newFacts()
	numbers, err := j.files()
	if err != nil {
		return known, []string{err.Error()}
	}
	defer func() {
		if len(damage) > 0 {
			known.clean = 0
		}
	}()
	for _, n := range numbers {
		complete, wrong := j.readFile(n, known)
		damage = append(damage, wrong...)
		if complete {
			return known, damage
		}
		damage = append(damage, fmt.Sprintf("%s: incomplete, reading the one before", j.path(n)))
	}
	if len(numbers) > 0 {
		damage = append(damage, "no journal is complete: what cannot be read counts as unconfirmed")
	}
	return known, damage
}

// readFile adds what one journal says. It is complete if all that was known at its
// start is there.
func (j *journal) readFile(number uint64, known *facts) (complete bool, damage []string) {
	path := j.path(number)
	wrong := func(format string, args ...any) {
		if len(damage) < 20 { // enough to see what happened
			damage = append(damage, path+": "+fmt.Sprintf(format, args...))
		}
	}
	f, size, err := openFile(j.fs, path)
	if err != nil {
		wrong("%v", err)
		return false, damage
	}
	defer f.Close()

	hurt, last := false, uint32(0)
	for r := newRecordReader(f, size); ; {
		rec, err := r.read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			wrong("%v", err)
			return false, damage
		}
		if !known.learn(rec) {
			hurt = hurt || !complete
			wrong("bytes %d to %d are not readable", rec.from, rec.to)
		}
		complete = complete || rec.kind == journalComplete && !hurt
		last = rec.kind
	}
	if last != journalClean {
		known.clean = 0
	}
	return complete, damage
}

func openFile(fsys vfs.FS, path string) (vfs.File, int64, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, 0, err
	}
	size, err := f.Size()
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, size, nil
}

// keepReserve makes the reserve if it is not there. Its failure is no harm: then
// the disk is full already.
func (j *journal) keepReserve() {
	path := filepath.Join(j.dir, reserveName)
	if e, err := j.fs.Stat(path); j.reserve == 0 || err == nil && e.Size == j.reserve {
		return
	}
	if err := j.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	f, err := writeFile(j.fs, path, make([]byte, j.reserve))
	if err != nil {
		_ = j.fs.Remove(path)
		return
	}
	_ = f.Close()
}

// giveUpReserve reports whether there was one.
func (j *journal) giveUpReserve() bool {
	if err := j.fs.Remove(filepath.Join(j.dir, reserveName)); err != nil {
		return false
	}
	return j.fs.SyncDir(j.dir) == nil
}
