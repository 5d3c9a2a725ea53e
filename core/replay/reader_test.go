package replay

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pipelined/pipelined/sdk/pbfs"
)

// readAll returns the rows and the damage of a file.
func readAll(t require.TestingT, r *reader) (numbers []int, passed, behind []Damage) {
	for {
		m, err := r.next()
		if d, ok := errors.AsType[*damageError](err); ok {
			if d.passed {
				passed = append(passed, d.Damage)
			} else {
				behind = append(behind, d.Damage)
			}
			continue
		}
		if errors.Is(err, io.EOF) {
			return numbers, passed, behind
		}
		require.NoError(t, err)
		numbers = append(numbers, numberOf(t, m.raw))
	}
}

func read(file []byte, resync bool) *reader {
	return newReader(bytes.NewReader(file), int64(len(file)), Position{}, resync, nil)
}

func TestReadDamage(t *testing.T) {
	good, at := chunks(rows(0, 10, "f")...)
	damaged := func(change func(file []byte)) []byte {
		file := bytes.Clone(good)
		change(file)
		return file
	}
	flipped := damaged(func(file []byte) { file[at[3]+20] ^= 1 })
	for _, tc := range []struct {
		name    string
		file    []byte
		resync  bool
		numbers []int
		passed  []Damage
		behind  []Damage
	}{
		{name: "nothing", file: good, numbers: sequence(0, 10)},
		{name: "empty"},
		{
			name: "a bit", file: flipped, numbers: slices.Concat(sequence(0, 3), sequence(4, 10)),
			passed: []Damage{{Kind: Hole, From: at[3], To: at[4], Reason: "wrong checksum"}},
		},
		{
			name: "two neighbours", file: damaged(func(file []byte) { file[at[3]+20] ^= 1; file[at[4]] ^= 1 }),
			numbers: slices.Concat(sequence(0, 3), sequence(5, 10)),
			passed:  []Damage{{Kind: Hole, From: at[3], To: at[5], Reason: "wrong checksum"}},
		},
		{
			name: "a wrong length", file: damaged(func(file []byte) { file[at[3]+4] ^= 1 }),
			numbers: sequence(0, 3),
			behind: []Damage{
				{Kind: Hole, From: at[3], To: at[4], Reason: "wrong checksum"},
				{Kind: Searched, From: at[4], To: at[10], Messages: 6, Reason: "found by searching behind damage"},
			},
		},
		{
			name: "zeros", file: damaged(func(file []byte) { clear(file[at[3]:at[5]]) }), numbers: sequence(0, 3),
			behind: []Damage{
				{Kind: Hole, From: at[3], To: at[5], Reason: "wrong checksum"},
				{Kind: Searched, From: at[5], To: at[10], Messages: 5, Reason: "found by searching behind damage"},
			},
		},
		{
			name: "zeros, searched", file: damaged(func(file []byte) { clear(file[at[3]:at[5]]) }), resync: true,
			numbers: slices.Concat(sequence(0, 3), sequence(5, 10)),
			passed:  []Damage{{Kind: Hole, From: at[3], To: at[5], Reason: "wrong checksum"}},
		},
		{
			name: "torn", file: good[:len(good)-1], numbers: sequence(0, 9),
			behind: []Damage{{Kind: TornTail, From: at[9], To: at[10] - 1, Reason: "torn tail"}},
		},
		{
			name: "the last", file: damaged(func(file []byte) { file[at[9]+20] ^= 1 }), numbers: sequence(0, 9),
			behind: []Damage{{Kind: Hole, From: at[9], To: at[10], Reason: "wrong checksum"}},
		},
		{
			name: "no message", file: slices.Concat(good[:at[2]], pbfs.AppendChunk(nil, pbfs.AppendMessage(nil, []byte{8})), good[at[2]:]),
			numbers: sequence(0, 10),
			passed:  []Damage{{Kind: Undecodable, From: at[2] + 16, To: at[2] + 17, Messages: 1, Reason: "its byte 0 begins no field"}},
		},
		{
			name: "wrong lengths inside", file: slices.Concat(good[:at[2]], pbfs.AppendChunk(nil, []byte{9, 9, 9}), good[at[2]:]),
			numbers: sequence(0, 10),
			passed:  []Damage{{Kind: Hole, From: at[2], To: at[2] + 15, Reason: "malformed lengths"}},
		},
		{
			name: "a chunk inside of a damaged one",
			file: func() []byte {
				inner, _ := chunks(row(99, "f"))
				file := pbfs.AppendChunk(bytes.Clone(good[:at[2]]), pbfs.AppendMessage(nil, inner))
				file[at[2]] ^= 1
				return append(file, good[at[2]:]...)
			}(),
			numbers: sequence(0, 10),
			passed:  []Damage{{Kind: Hole, From: at[2], To: at[2] + 16 + 12 + 4 + int64(len(row(99, "f"))), Reason: "wrong checksum"}},
		},
		{name: "empty chunks", file: slices.Concat(pbfs.AppendChunk(nil, nil), good, pbfs.AppendChunk(nil, nil)), numbers: sequence(0, 10)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := read(tc.file, tc.resync)
			numbers, passed, behind := readAll(t, r)
			assert.Equal(t, tc.numbers, numbers)
			assert.Equal(t, tc.passed, passed)
			assert.Equal(t, tc.behind, behind)
			want := int64(len(tc.file))
			if len(behind) > 0 {
				want = behind[0].From
			}
			assert.Equal(t, Position{Chunk: want, Through: want}, r.position())
		})
	}
}

type borders []int64

func (b borders) After(offset int64) (int64, bool) {
	for _, at := range b {
		if at > offset {
			return at, true
		}
	}
	return 0, false
}

// An index tells where to go on.
func TestReadWithBorders(t *testing.T) {
	file, at := chunks(rows(0, 10, "f")...)
	clear(file[at[3] : at[5]+3])
	r := newReader(bytes.NewReader(file), int64(len(file)), Position{}, false, borders(at))
	numbers, passed, behind := readAll(t, r)
	assert.Equal(t, slices.Concat(sequence(0, 3), sequence(6, 10)), numbers)
	assert.Equal(t, []Damage{{Kind: Hole, From: at[3], To: at[6], Reason: "wrong checksum"}}, passed)
	assert.Empty(t, behind)
}

// Reading can go on at every position: nothing is left out or comes twice.
func TestReadAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var file []byte
		n := 0
		for range rapid.IntRange(0, 8).Draw(t, "chunks") {
			var body []byte
			for range rapid.IntRange(0, 4).Draw(t, "messages") {
				body = pbfs.AppendMessage(body, row(n, "f"))
				n++
			}
			file = pbfs.AppendChunk(file, body)
		}
		for range rapid.IntRange(0, 2).Draw(t, "damages") {
			if len(file) > 0 {
				file[rapid.IntRange(0, len(file)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
			}
		}
		if len(file) > 0 && rapid.Bool().Draw(t, "cut") {
			file = file[:rapid.IntRange(0, len(file)).Draw(t, "length")]
		}
		resync := rapid.Bool().Draw(t, "resync")
		want, passed, behind := readAll(t, read(file, resync))

		var got []int
		var gotPassed []Damage
		at := Position{}
		for end := false; !end; {
			r := newReader(bytes.NewReader(file), int64(len(file)), at, resync, nil)
			for range rapid.IntRange(1, 4).Draw(t, "steps") {
				m, err := r.next()
				d, damaged := errors.AsType[*damageError](err)
				switch {
				case errors.Is(err, io.EOF), damaged && !d.passed:
					end = true
				case damaged:
					gotPassed = append(gotPassed, d.Damage)
				default:
					require.NoError(t, err)
					got = append(got, numberOf(t, m.raw))
				}
				if end {
					break
				}
			}
			require.GreaterOrEqual(t, r.position().Through, at.Through)
			at = r.position()
			require.LessOrEqual(t, at.Chunk, at.Through)
		}
		require.Equal(t, want, got)
		require.Equal(t, passed, gotPassed)
		if len(behind) > 0 {
			require.LessOrEqual(t, at.Through, behind[0].From)
		}
	})
}
