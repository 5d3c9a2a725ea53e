package pbfs

import (
	"fmt"
	"io"
)

const (
	firstBuffer   = 64 << 10 // bytes that a window begins with
	maxEmptyReads = 100      // reads without a byte and without an error, in a row
)

// window is a sliding view of a stream. It reads ahead as far as it is asked
// to, and its buffer grows only with bytes that have arrived: to at most four
// times what it holds, and to at most 5/4 of the longest view asked for.
type window struct {
	src        io.Reader
	buf        []byte // what is held is buf[start:end]
	start, end int
	off        int64 // of buf[start] in the stream
	err        error // that ended the source; it is not read again
}

func newWindow(src io.Reader) window {
	return window{src: src, buf: make([]byte, firstBuffer)}
}

// bytes returns what is held. It is valid until the next call of need.
func (w *window) bytes() []byte { return w.buf[w.start:w.end] }

// advance moves the window forward by n bytes that it holds.
func (w *window) advance(n int) {
	w.start += n
	w.off += int64(n)
	if w.start == w.end {
		w.start, w.end = 0, 0
	}
}

// need reads until n bytes are held. If the source ends before, it returns
// io.EOF; what is there is held.
func (w *window) need(n int) error {
	for w.end-w.start < n {
		if w.err != nil {
			return w.err
		}
		if w.end == len(w.buf) {
			w.makeRoom(n)
		}
		w.read()
	}
	return nil
}

// makeRoom frees space at the end of the buffer on the way to a view of n
// bytes. What is held moves only after the window has advanced by at least a
// quarter of it, or into a buffer that grows by doubling: in total, each byte
// is moved a few times at most.
func (w *window) makeRoom(n int) {
	held, into := w.bytes(), w.buf
	if enough := n + n/4; len(held) > len(w.buf)/2 && len(w.buf) < enough {
		into = make([]byte, min(enough, 2*len(w.buf)))
	}
	w.start, w.end = 0, copy(into, held)
	w.buf = into
}

func (w *window) read() {
	for range maxEmptyReads {
		n, err := w.src.Read(w.buf[w.end:])
		w.end += n
		if err != nil {
			w.err = w.readError(err)
			return
		}
		if n > 0 {
			return
		}
	}
	w.err = w.readError(io.ErrNoProgress)
}

func (w *window) readError(err error) error {
	if err == io.EOF { // not one that wraps it: that is a failure of the source
		return io.EOF
	}
	return fmt.Errorf("pbfs: read at byte %d: %w", w.off+int64(w.end-w.start), err)
}
