package deadletter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

const testDir = "/data/dead"

var row = time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)

func letter(id uint64) Letter {
	return Letter{
		Track: "sift.live", ID: id, Flow: fmt.Sprintf("flow%d", id%3), Code: 3, Text: "no such channel",
		Time: row.UnixNano(), GivenUp: row.Add(time.Hour).UnixNano(),
		Definition: fmt.Appendf(nil, "definition of %d", id%3), Target: sdk.Binding{ConfigID: "c", RunID: "r"},
		Message: fmt.Appendf(nil, "message %d %s", id, strings.Repeat("x", int(id%700))),
	}
}

func open(t require.TestingT, fsys vfs.FS, limit int64) *Store {
	s, err := Open(fsys, testDir, limit)
	require.NoError(t, err)
	return s
}

// contents returns what can be read: messages by id, from every line of every file.
// A line whose message is not there fails the test.
func contents(t require.TestingT, fsys vfs.FS) (map[uint64]Line, int) {
	files, err := fsys.ReadDir(testDir)
	require.NoError(t, err)
	found := make(map[uint64]Line)
	count := 0
	for _, f := range files {
		if filepath.Ext(f.Name) != lineSuffix {
			continue
		}
		path := filepath.Join(testDir, f.Name)
		messages := make(map[int64]string)
		data := strings.TrimSuffix(path, lineSuffix) + dataSuffix
		if _, err := fsys.Stat(data); err == nil { // or both files were never used
			messages = chunks(t, fsys, data)
		}
		definitions := make(map[string]string)
		for r := NewReader(bytes.NewReader(read(t, fsys, path))); ; count++ {
			l, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			want := letter(l.ID)
			require.Equal(t, string(want.Message), messages[l.Offset], "%s, line of %d", path, l.ID)
			require.Equal(t, len(want.Message), l.Length)
			if l.Definition != nil {
				definitions[l.Flow] = string(l.Definition)
			}
			require.Equal(t, string(want.Definition), definitions[l.Flow])
			l.Offset, l.Definition = 0, nil
			found[l.ID] = l
		}
	}
	return found, count
}

func read(t require.TestingT, fsys vfs.FS, path string) []byte {
	f, err := fsys.Open(path)
	require.NoError(t, err)
	defer f.Close()
	size, err := f.Size()
	require.NoError(t, err)
	data, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	require.NoError(t, err)
	return data
}

// chunks returns the messages of a PBFS file by the offset of their chunk.
func chunks(t require.TestingT, fsys vfs.FS, path string) map[int64]string {
	data := read(t, fsys, path)
	found := make(map[int64]string)
	for s := pbfs.NewScanner(bytes.NewReader(data), int64(len(data)), pbfs.Limits{}); ; {
		c, err := s.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if _, hole := errors.AsType[*pbfs.Hole](err); hole {
			continue
		}
		require.NoError(t, err)
		for m := range pbfs.Messages(c.Body) {
			found[c.Offset] = string(m)
		}
	}
}

func TestPutAndRead(t *testing.T) {
	disk := vfs.NewMemory(0)
	s := open(t, disk, 0)
	for id := range uint64(10) {
		require.NoError(t, s.Put(letter(id)))
	}
	assert.Equal(t, uint64(10), s.Count())
	found, count := contents(t, disk)
	assert.Equal(t, 10, count)
	assert.Equal(t, Line{
		Track: "sift.live", ID: 4, Flow: "flow1", Code: 3, Status: "INVALID_ARGUMENT", Text: "no such channel",
		Time: "2026-03-01T12:00:00.000000005Z", GivenUp: "2026-03-01T13:00:00.000000005Z",
		Length: len(letter(4).Message), ConfigID: "c", RunID: "r",
	}, found[4])
	assert.Equal(t, []string{"sift.live-001.jsonl", "sift.live-001.pbfs"}, names(t, disk))

	// A reader that knows nothing of this package takes the messages in order.
	r := pbfs.NewReader(bytes.NewReader(read(t, disk, testDir+"/sift.live-001.pbfs")), pbfs.Limits{})
	for id := range uint64(10) {
		c, err := r.Next()
		require.NoError(t, err)
		assert.Equal(t, pbfs.AppendMessage(nil, letter(id).Message), c.Body)
	}
	s.Close()
	s.Close()
	assert.ErrorIs(t, s.Put(letter(11)), ErrClosed)
}

func names(t *testing.T, fsys vfs.FS) (list []string) {
	files, err := fsys.ReadDir(testDir)
	require.NoError(t, err)
	for _, f := range files {
		list = append(list, f.Name)
	}
	return list
}

// TestFilesOfEachStart: what is there is never written again.
func TestFilesOfEachStart(t *testing.T) {
	disk := vfs.NewMemory(0)
	for range 3 {
		s := open(t, disk, 0)
		require.NoError(t, s.Put(letter(1)))
		other := letter(2)
		other.Track = "../etc/ö"
		require.NoError(t, s.Put(other))
		s.Close()
	}
	s := open(t, disk, 0)
	assert.Equal(t, uint64(6), s.Count())
	assert.Equal(t, []string{
		"_etc__-002.jsonl", "_etc__-002.pbfs", "_etc__-004.jsonl", "_etc__-004.pbfs", "_etc__-006.jsonl", "_etc__-006.pbfs",
		"sift.live-001.jsonl", "sift.live-001.pbfs", "sift.live-003.jsonl", "sift.live-003.pbfs", "sift.live-005.jsonl", "sift.live-005.pbfs",
	}, names(t, disk))
}

// TestFilesMovedAway by a person, while the store is open.
func TestFilesMovedAway(t *testing.T) {
	disk := vfs.NewMemory(0)
	s := open(t, disk, 3000)
	id := uint64(1)
	for ; s.Put(letter(id)) == nil; id++ {
	}
	err := s.Put(letter(id))
	require.ErrorIs(t, err, ErrFull)
	assert.Regexp(t, `^dead letter of track sift.live, message \d+: dead letters have no room left: /data/dead has \d+ bytes, at most 3000 are allowed; move its files to another place$`, err.Error())
	stored, _ := contents(t, disk)
	assert.Len(t, stored, int(id-1), "what was there before is there")
	small := letter(0)
	for range 100 {
		_ = s.Put(small)
	}
	size := 0
	for _, name := range names(t, disk) {
		size += len(read(t, disk, testDir+"/"+name))
	}
	assert.LessOrEqual(t, size, 3000)

	for _, name := range names(t, disk) {
		require.NoError(t, disk.Remove(testDir+"/"+name))
	}
	require.NoError(t, s.Put(letter(id)))
	stored, _ = contents(t, disk)
	assert.Contains(t, stored, id)
}

// TestForeignWords: neither a terminal nor a line is broken by what a destination
// says.
func TestForeignWords(t *testing.T) {
	disk := vfs.NewMemory(0)
	s := open(t, disk, 0)
	l := letter(1)
	l.Text = "a\x1b[31m\nb\u202e \u2028\xff<c>" + strings.Repeat("é\x00", 5000)
	l.Flow = strings.Repeat("\"", 100_000)
	l.Code = 99
	l.Definition = bytes.Repeat([]byte{0}, maxDefinition)
	require.NoError(t, s.Put(l))
	data := read(t, disk, testDir+"/sift.live-001.jsonl")
	assert.Equal(t, 1, bytes.Count(data, []byte("\n")))
	got, err := NewReader(bytes.NewReader(data)).Next()
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(got.Text, "a [31m b   ?<c>é é "), "%q", got.Text)
	assert.LessOrEqual(t, len(got.Text), maxText)
	assert.Equal(t, l.Definition, got.Definition)
	assert.Equal(t, "UNKNOWN", got.Status)

	l.Definition = append(l.Definition, 0)
	assert.ErrorContains(t, s.Put(l), "too long")
	assert.Equal(t, uint64(1), s.Count())
}

// FuzzReader: any file ends, in bounded memory, and all that is a line is found.
func FuzzReader(f *testing.F) {
	line, err := newLine(letter(1), 0).encode()
	require.NoError(f, err)
	f.Add([]byte("{}\nnull\n\x00\x00"), uint16(3))
	f.Add(line[:20], uint16(0))
	f.Fuzz(func(t *testing.T, garbage []byte, n uint16) {
		var file []byte
		for range n % 10 {
			file = append(append(file, line...), '\n')
		}
		file = append(append(append(file, garbage...), '\n'), line...)
		found := 0
		for r := NewReader(bytes.NewReader(file)); ; found++ {
			if _, err := r.Next(); err != nil {
				require.ErrorIs(t, err, io.EOF)
				break
			}
			require.LessOrEqual(t, cap(r.buf), 2*maxLine)
		}
		require.GreaterOrEqual(t, found, int(n%10)+1)
	})
}

func TestReaderSkipsWhatIsTooLong(t *testing.T) {
	line, err := newLine(letter(1), 0).encode()
	require.NoError(t, err)
	long, err := json.Marshal(Line{Status: "x", Text: strings.Repeat("x", 3*maxLine)})
	require.NoError(t, err)
	r := NewReader(io.MultiReader(bytes.NewReader(long), strings.NewReader("\n"), bytes.NewReader(line), strings.NewReader(`{"status":"x"}`)))
	got, err := r.Next()
	require.NoError(t, err)
	assert.Equal(t, uint64(1), got.ID)
	_, err = r.Next()
	assert.ErrorIs(t, err, io.EOF)
}

// life puts letters in one run of a program; it tries each that fails once more.
func life(fsys vfs.FS, limit int64, next *uint64, stored map[uint64]bool) {
	s, err := Open(fsys, testDir, limit)
	if err != nil {
		return
	}
	defer s.Close()
	for range 6 {
		*next++
		l := letter(*next)
		if *next%4 == 0 {
			l.Track = "other"
		}
		for tries := 0; tries < 2 && !stored[l.ID]; tries++ {
			stored[l.ID] = s.Put(l) == nil
		}
	}
}

// mustHave checks that everything stored is there, and that the next start works.
func mustHave(t *testing.T, fsys vfs.FS, stored map[uint64]bool, where string) {
	s, err := Open(fsys, testDir, 0)
	require.NoError(t, err, where)
	found, count := contents(t, fsys)
	for id, ok := range stored {
		if ok {
			require.Contains(t, found, id, where)
		}
	}
	require.Equal(t, uint64(count), s.Count(), where)
	next := letter(10_000)
	require.NoError(t, s.Put(next), where)
	found, _ = contents(t, fsys)
	require.Contains(t, found, next.ID, where)
}

// TestCrashAtEveryOperation cuts the power before each operation and keeps any part
// of what was not synced.
func TestCrashAtEveryOperation(t *testing.T) {
	for n, fired := 0, true; fired; n++ {
		for try := range uint64(12) {
			survival := vfs.Random(uint64(n)*100 + try)
			switch try {
			case 0:
				survival = vfs.Lose()
			case 1:
				survival = vfs.Keep()
			}
			disk := vfs.NewMemory(0)
			stored, next := make(map[uint64]bool), uint64(0)
			life(disk, 0, &next, stored)
			disk = disk.Crash(survival)
			fault := vfs.StopAt(disk, n)
			life(fault, 0, &next, stored)
			fired = fault.Fired()
			disk = disk.Crash(survival)
			mustHave(t, disk, stored, fmt.Sprintf("operation %d, try %d", n, try))
		}
	}
}

// TestFaultAtEveryOperation fails each operation once, or fills the disk from there
// on, and cuts the power later.
func TestFaultAtEveryOperation(t *testing.T) {
	for kind, fail := range map[string]func(vfs.FS, int) *vfs.Fault{"once": vfs.FailOnce, "full disk": vfs.FailFrom} {
		t.Run(kind, func(t *testing.T) {
			for n, fired := 0, true; fired && n < 100; n++ {
				disk := vfs.NewMemory(0)
				stored, next := make(map[uint64]bool), uint64(0)
				life(disk, 0, &next, stored)
				fault := fail(disk, n)
				life(fault, 0, &next, stored)
				fired = fault.Fired()
				if kind == "once" {
					for id, ok := range stored {
						require.True(t, ok, "one failure is overcome, of %d", id)
					}
				}
				require.LessOrEqual(t, len(names(t, disk)), 12, "no files are left behind")
				mustHave(t, disk.Crash(vfs.Random(uint64(n))), stored, fmt.Sprintf("operation %d", n))
			}
		})
	}
}

// TestFullDiskFillsUp: trying again does not leave files behind, and it goes on when
// there is room.
func TestFullDiskFillsUp(t *testing.T) {
	disk := vfs.NewMemory(2000)
	s := open(t, disk, 0)
	id := uint64(1)
	for ; s.Put(letter(id)) == nil; id++ {
	}
	for range 50 {
		require.Error(t, s.Put(letter(id)))
	}
	assert.LessOrEqual(t, len(names(t, disk)), 4)
	disk.SetLimit(10_000)
	require.NoError(t, s.Put(letter(id)))
	found, _ := contents(t, disk)
	assert.Len(t, found, int(id))
}
