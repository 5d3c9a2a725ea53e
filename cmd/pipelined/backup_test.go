package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pipelined/pipelined/sdk/pbfs"
)

// backupMessage makes a message of a flow at a time in seconds. Each value is an
// encoded one, see value.
func backupMessage(flow string, seconds uint64, values ...[]byte) []byte {
	b := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "config")
	b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), flow)
	at := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), seconds)
	b = protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), at)
	for _, v := range values {
		b = protowire.AppendBytes(protowire.AppendTag(b, 4, protowire.BytesType), v)
	}
	return protowire.AppendString(protowire.AppendTag(b, 5, protowire.BytesType), "run")
}

func number(v float64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(nil, 2, protowire.Fixed64Type), math.Float64bits(v))
}

func whole(field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, field, protowire.VarintType), v)
}

func data(field protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, field, protowire.BytesType), v)
}

// backupFile makes a file of chunks, and the offsets at which they end.
func backupFile(chunks ...[][]byte) (file []byte, ends []int) {
	for _, messages := range chunks {
		var body []byte
		for _, m := range messages {
			body = pbfs.AppendMessage(body, m)
		}
		file = pbfs.AppendChunk(file, body)
		ends = append(ends, len(file))
	}
	return file, ends
}

const noon = 1_777_636_800 // 2026-05-01T12:00:00Z

// flight is a good file of three chunks and four messages.
func flight() (file []byte, ends []int) {
	return backupFile(
		[][]byte{
			backupMessage("engine", noon, number(1.5), data(11, ""), whole(7, 1<<63), data(1, "on")),
			backupMessage("gps\x1b[2J", noon+1, whole(4, 1), whole(5, 7), whole(6, 7), whole(8, math.MaxUint64)),
		},
		[][]byte{backupMessage("engine", noon+2, number(math.NaN()), number(math.Inf(-1)), data(12, "\x00\xff"), data(9, "\x05"), whole(10, 3))},
		[][]byte{backupMessage("engine", noon+3)},
	)
}

// backupTree fills the current directory with files of every kind.
func backupTree(t *testing.T) {
	t.Helper()
	good, ends := flight()
	bad := bytes.Clone(good)
	bad[ends[0]+20] ^= 1
	strange, _ := backupFile([][]byte{backupMessage("engine", noon), []byte("\x08"), backupMessage("engine", noon+1)})
	for path, content := range map[string][]byte{
		"good/stand 3/key-1":          good,
		"good/empty":                  nil,
		"good/no-messages":            pbfs.AppendChunk(nil, nil),
		"good/.pipelined-00.tmp/part": good[:30],
		"bad/a\x1b[2J":                good[:20],
		"bad/hole":                    bad,
		"bad/table.parquet":           []byte("PAR1\x15\x04\x15\x10\x15\x14\x4c\x15\x02\x15\x00PAR1"),
		"bad/torn":                    good[:len(good)-3],
		"bad/strange":                 strange,
		"bad/rows.csv":                []byte("time,value\n1,2\n"),
	} {
		writeFile(t, path, string(content))
	}
}

func TestBackupGolden(t *testing.T) {
	root, err := os.Getwd()
	require.NoError(t, err)
	t.Chdir(t.TempDir())
	backupTree(t)
	for name, lines := range map[string][][]string{
		"ls": {
			{"backup", "ls", "good", "bad/torn"},
			{"backup", "ls", "--flows", "good"},
			{"backup", "ls", "bad", "none"},
		},
		"verify": {
			{"backup", "verify", "good"},
			{"backup", "verify", "good", "bad"},
			{"backup", "verify", "none", "bad/hole"},
		},
		"cat": {
			{"backup", "cat", "good/stand 3/key-1"},
			{"backup", "cat", "--format", "csv", "good/stand 3/key-1"},
			{"backup", "cat", "bad/hole", "bad/strange", "bad/torn", "bad/rows.csv", "bad/table.parquet"},
			{"backup", "cat", "none", "good", "good/stand 3/key-1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, args := range lines {
				got = append(got, cli(t, args...).transcript(args...))
			}
			requireGolden(t, root, "backup-"+name, strings.Join(got, "\n"))
		})
	}
}

func TestBackupExitCodes(t *testing.T) {
	t.Chdir(t.TempDir())
	backupTree(t)
	require.NoError(t, syscall.Mkfifo("pipe", 0o600))
	const good, torn, strange, text = "good/stand 3/key-1", "bad/torn", "bad/strange", "bad/rows.csv"
	for _, tc := range []struct {
		want  int
		files []string
	}{
		{exitOK, []string{good}},
		{exitOK, []string{"good/empty", "good/no-messages", good}},
		{exitDamaged, []string{torn}},
		{exitDamaged, []string{"bad/hole"}},
		{exitDamaged, []string{strange}},
		{exitDamaged, []string{text}},
		{exitDamaged, []string{torn, good}},
		{exitDamaged, []string{good, torn}},
		{exitIO, []string{"none"}},
		{exitIO, []string{"pipe"}},
		{exitIO, []string{"none", torn, good}},
		{exitIO, []string{torn, "none", good}},
		{exitIO, []string{good, torn, "none"}},
	} {
		for _, command := range []string{"ls", "cat", "verify"} {
			r := cli(t, append([]string{"backup", command}, tc.files...)...)
			assert.Equal(t, tc.want, r.code, "%s %q", command, tc.files)
			if tc.want == exitIO {
				assert.Contains(t, r.stderr, "pipelined: ")
			}
			if strings.Contains(strings.Join(tc.files, " "), good) && command == "cat" {
				assert.Contains(t, r.stdout, `"values":[1.5,`, "the good file is printed wherever it stands")
			}
		}
	}
	assert.Equal(t, exitIO, cli(t, "backup", "cat", good, "good").code, "a directory")

	require.NoError(t, os.Mkdir("nothing", 0o700))
	r := cli(t, "backup", "verify", "nothing")
	assert.Equal(t, result{exitOK, "0 files: 0 intact, 0 damaged, 0 unreadable\n", "pipelined: nothing: no files in this directory\n"}, r)
}

// hurt is what any damage to one file must lead to.
func hurt(t *testing.T, path string, file []byte, messages, code int) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, file, 0o600))
	r := cli(t, "backup", "cat", path)
	require.Equal(t, code, r.code)
	require.Equal(t, messages, strings.Count(r.stdout, "\n"))
	for line := range strings.Lines(r.stdout) {
		require.True(t, json.Valid([]byte(line)))
	}
	require.Equal(t, code != exitOK, r.stderr != "")
	r = cli(t, "backup", "verify", path)
	require.Equal(t, code, r.code)
	require.Empty(t, r.stderr)
	verdict := fmt.Sprintf(": intact: %d message", messages)
	if code != exitOK {
		verdict = fmt.Sprintf(": damaged: %d message", messages)
	}
	require.Contains(t, r.stdout, verdict)
}

func TestBackupCutAnywhere(t *testing.T) {
	file, ends := flight()
	path := filepath.Join(t.TempDir(), "file")
	messages, code := 0, exitOK
	for cut := range len(file) + 1 {
		switch cut {
		case ends[0]:
			messages, code = 2, exitOK
		case ends[1], ends[2]:
			messages, code = messages+1, exitOK
		case 0:
		default:
			code = exitDamaged
		}
		hurt(t, path, file[:cut], messages, code)
	}
}

func TestBackupAnyBitFlipped(t *testing.T) {
	file, ends := flight()
	path := filepath.Join(t.TempDir(), "file")
	for bit := range 8 * len(file) {
		left := 3
		if bit/8 < ends[0] {
			left = 2
		}
		file[bit/8] ^= 1 << (bit % 8)
		hurt(t, path, file, left, exitDamaged)
		file[bit/8] ^= 1 << (bit % 8)
	}
}

func TestBackupHugeLengths(t *testing.T) {
	good, _ := flight()
	path := filepath.Join(t.TempDir(), "file")
	for _, header := range []string{
		"\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff",
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80",
		"\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00",
		"\x00\x00\x00\x00\x00\x00\x00\x3f\x00\x00\x00\x00",
	} {
		hurt(t, path, append([]byte(header), good...), 4, exitDamaged)
		hurt(t, path, append(bytes.Clone(good), header...), 4, exitDamaged)
	}
	// Lengths of messages, in a chunk whose checksum is right.
	hurt(t, path, pbfs.AppendChunk(good, []byte("\xff\xff\xff\xff\x00\x00")), 4, exitDamaged)
}

func TestBackupManyHoles(t *testing.T) {
	t.Chdir(t.TempDir())
	good, _ := backupFile([][]byte{backupMessage("engine", noon)})
	writeFile(t, "file", strings.Repeat(string(good)+"junk", maxDamage+7))
	r := cli(t, "backup", "cat", "file")
	assert.Equal(t, exitDamaged, r.code)
	assert.Equal(t, maxDamage+7, strings.Count(r.stdout, "\n"))
	assert.Equal(t, maxDamage+1, strings.Count(r.stderr, "\n"))
	assert.Contains(t, r.stderr, "pipelined: file: and 7 more problems\n")
	r = cli(t, "backup", "verify", "file")
	assert.Equal(t, maxDamage+3, strings.Count(r.stdout, "\n"))
}

func TestBackupCatFilters(t *testing.T) {
	t.Chdir(t.TempDir())
	file, _ := backupFile([][]byte{
		backupMessage("engine", noon, number(0)),
		backupMessage("gps", noon+1, number(1)),
		backupMessage("engine", noon+2, number(2)),
		backupMessage("engi", noon+3, number(3)),
		backupMessage("late", 1<<40, number(4)), // after the year 9999
	})
	writeFile(t, "file", string(file))
	for _, tc := range []struct {
		flags string
		want  string // the values
	}{
		{"", "01234"},
		{"--flow engine", "02"},
		{"--flow engine --flow gps", "012"},
		{"--flow ENGINE", ""},
		{"--from 2026-05-01T12:00:01Z", "123"},
		{"--from 2026-05-01T12:00:01.000000001Z", "23"},
		{"--from 2026-05-01T14:00:02+02:00", "23"},
		{"--to 2026-05-01T12:00:02Z", "01"},
		{"--to 2026-05-01T12:00:02.000000001Z", "012"},
		{"--from 2026-05-01T12:00:00Z --to 2026-05-01T12:00:00.000000001Z", "0"},
		{"--from 2026-05-01 --to 2026-05-02", "0123"},
		{"--from 2026-05-02", ""},
		{"--flow engine --from 2026-05-01T12:00:01Z", "2"},
	} {
		args := append([]string{"backup", "cat", "--format", "csv", "file"}, strings.Fields(tc.flags)...)
		r := cli(t, args...)
		assert.Equal(t, exitOK, r.code)
		got := ""
		for line := range strings.Lines(r.stdout) {
			if _, value, ok := strings.Cut(line, ",0,double,"); ok {
				got += strings.TrimSpace(value)
			}
		}
		assert.Equal(t, tc.want, got, tc.flags)
	}
}

// closing is an output whose reader goes away, or whose disk is full.
type closing struct {
	left int
	err  error
}

func (c *closing) Write(p []byte) (int, error) {
	if len(p) > c.left {
		return 0, &os.PathError{Op: "write", Path: "/dev/stdout", Err: c.err}
	}
	c.left -= len(p)
	return len(p), nil
}

func TestBackupOutputFails(t *testing.T) {
	t.Chdir(t.TempDir())
	good, _ := flight()
	writeFile(t, "file", strings.Repeat(string(good), 1000))
	for _, args := range [][]string{
		{"backup", "cat", "file"},
		{"backup", "cat", "--format", "csv", "file"},
		{"backup", "ls", "file"},
		{"backup", "verify", "file"},
	} {
		for _, left := range []int{0, 100_000} {
			var stderr bytes.Buffer
			out := &closing{left, syscall.EPIPE}
			assert.Equal(t, exitOK, execute(t.Context(), args, out, &stderr), "%v", args)
			assert.Empty(t, stderr.String(), "a reader that has enough is no error")

			out = &closing{left, syscall.ENOSPC}
			code := execute(t.Context(), args, out, &stderr)
			if left > 0 && args[1] != "cat" {
				assert.Equal(t, exitOK, code, "what they print is short")
				continue
			}
			assert.Equal(t, exitIO, code, "%v", args)
			assert.Equal(t, "pipelined: write output: write /dev/stdout: no space left on device\n", stderr.String())
		}
	}
}

func TestBackupCancelled(t *testing.T) {
	t.Chdir(t.TempDir())
	good, _ := flight()
	writeFile(t, "file", string(good))
	var stdout, stderr bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code := execute(ctx, []string{"backup", "verify", "file"}, &stdout, &stderr)
	assert.Equal(t, exitFailure, code)
	assert.Empty(t, stdout.String())
}
