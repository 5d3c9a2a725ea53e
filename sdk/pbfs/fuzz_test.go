package pbfs

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// fuzzLimits are low, so that small inputs reach them.
var fuzzLimits = Limits{MaxChunk: 200 << 10, MaxMessage: 100 << 10}

func addSeeds(f *testing.F) {
	file, _ := fileOf(bodyOf("one"), nil, bodyOf("", "two"), bodyOf(string(make([]byte, 700))))
	damaged := bytes.Clone(file)
	damaged[3] ^= 4
	f.Add([]byte{})
	f.Add(make([]byte, 40))
	f.Add(file)
	f.Add(file[:len(file)-5])
	f.Add(damaged)
	f.Add(join([]byte("junk"), file, header(0, 1<<60), file))
	f.Add(join(header(0, 20), file, rawChunk([]byte{1}), file))
	f.Add(join(header(1, 100<<10), file, file, file))
	f.Add(nested(60))
}

// FuzzReader: what is accepted is what would be written; offsets are true; it
// ends; memory stays within its bound.
func FuzzReader(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, file []byte) {
		r := NewReader(bytes.NewReader(file), fuzzLimits)
		at := int64(0)
		for range len(file)/HeaderSize + 2 {
			c, err := r.Next()
			if buf := len(r.win.buf); buf > max(firstBuffer, min(4*len(file), (fuzzLimits.MaxChunk+HeaderSize)*5/4)) {
				t.Fatalf("buffer of %d bytes for %d", buf, len(file))
			}
			if e, ok := errors.AsType[*Error](err); ok {
				if e.Offset != at || e.At < at || e.At > int64(len(file)) {
					t.Fatalf("%v: the chunk is at %d", e, at)
				}
				if e.Kind == Malformed || e.Kind == LargeMessage {
					size, kind := tryChunk(file[at:], fuzzLimits)
					if kind != e.Kind {
						t.Fatalf("%v, want %v", e, kind)
					}
					at += int64(size)
					continue
				}
			}
			if err != nil {
				if (err == io.EOF) != (at == int64(len(file))) {
					t.Fatalf("%v at byte %d of %d", err, at, len(file))
				}
				return
			}
			if c.Offset != at || !bytes.Equal(AppendChunk(nil, c.Body), file[at:c.End()]) {
				t.Fatalf("chunk at %d is not what stands at %d", c.Offset, at)
			}
			checkMessages(t, c)
			at = c.End()
		}
		t.Fatal("does not end")
	})
}

// checkMessages rebuilds the body of a chunk from its messages.
func checkMessages(t *testing.T, c Chunk) {
	t.Helper()
	var body []byte
	count := 0
	for msg, err := range Messages(c.Body) {
		if err != nil || len(msg) > fuzzLimits.MaxMessage {
			t.Fatalf("message %d of %d bytes: %v", count, len(msg), err)
		}
		body = AppendMessage(body, msg)
		count++
	}
	if count != c.Count || !bytes.Equal(body, c.Body) {
		t.Fatalf("%d messages of %d, or their bytes differ", count, c.Count)
	}
}

// FuzzScan: the scan finds what the obvious slow way finds, covers each byte
// once, and stays within its bound of memory.
func FuzzScan(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, file []byte) {
		if len(file) > 16<<10 {
			t.Skip("the slow way takes too long")
		}
		for _, stride := range []int64{5, defaultStride} {
			s := NewScanner(bytes.NewReader(file), int64(len(file)), fuzzLimits)
			s.sums.stride = stride
			got, want := collect(t, s, file), slowScan(file, fuzzLimits)
			if len(got) != len(want) {
				t.Fatalf("%d items, want %d", len(got), len(want))
			}
			for i := range got {
				if got[i] != want[i] {
					t.Fatalf("%+v, want %+v", got[i], want[i])
				}
			}
			if len(s.win.buf) > firstBuffer {
				t.Fatalf("buffer of %d bytes", len(s.win.buf))
			}
		}
	})
}

// FuzzCheckBody: a body that is accepted is the sum of its messages.
func FuzzCheckBody(f *testing.F) {
	f.Add(bodyOf("", "a", "bc"))
	f.Add([]byte{5, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, body []byte) {
		count, err := CheckBody(body)
		var again []byte
		var walkErr error
		for msg, err := range Messages(body) {
			if walkErr = err; err == nil {
				again = AppendMessage(again, msg)
				count--
			}
		}
		if count != 0 || (err == nil) != (walkErr == nil) {
			t.Fatalf("check: %v, walk: %v, count differs by %d", err, walkErr, count)
		}
		if !bytes.HasPrefix(body, again) || (err == nil && len(again) != len(body)) {
			t.Fatal("not what would be written")
		}
	})
}
