package csv

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"

	"github.com/pipelined/pipelined/plugins/sources/csv/record"
)

// stream is an open file. Offsets are those of its content, also where the file
// itself is compressed.
type stream struct {
	file *os.File
	gzip bool
}

// openStream opens a regular file.
func openStream(s *spec) (*stream, error) {
	// Other kinds are refused before they are opened: opening a pipe may wait.
	info, err := os.Stat(s.path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", s.path)
	}
	file, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	out := &stream{file: file}
	if err := out.recognise(s); err != nil {
		file.Close()
		return nil, err
	}
	return out, nil
}

// recognise looks at the first bytes.
func (s *stream) recognise(sp *spec) error {
	begin := make([]byte, 2)
	n, err := s.file.ReadAt(begin, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	begin = begin[:n]
	s.gzip = bytes.Equal(begin, []byte("\x1f\x8b"))
	switch {
	case bytes.Equal(begin, []byte("\xff\xfe")), bytes.Equal(begin, []byte("\xfe\xff")):
		return fmt.Errorf("%s is UTF-16; convert it to UTF-8, for example with iconv", sp.path)
	case s.gzip && sp.follow:
		return fmt.Errorf("%s is a gzip file, which cannot be followed", sp.path)
	case !s.gzip && gzipped(sp.path):
		return fmt.Errorf("%s is not a gzip file, although its name ends in .gz", sp.path)
	}
	return nil
}

func (s *stream) close() error { return s.file.Close() }

// content returns a reader of the content from an offset on. It ends early when
// ctx does. There is one reader at a time.
func (s *stream) content(ctx context.Context, offset int64) (io.Reader, error) {
	if !s.gzip {
		_, err := s.file.Seek(offset, io.SeekStart)
		return ctxReader{ctx, s.file}, err
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	unzipped, err := gzip.NewReader(ctxReader{ctx, s.file})
	if err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	_, err = io.CopyN(io.Discard, unzipped, offset)
	return unzipped, err
}

// ctxReader fails when its context has ended.
type ctxReader struct {
	ctx context.Context
	in  io.Reader
}

func (r ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.in.Read(p)
}

// head identifies a file by how its content begins.
type head struct {
	length int64
	sum    uint32
}

const headBytes = 4096

// head returns that of the first bytes, at most length of them.
func (s *stream) head(length int64) (head, error) {
	var content io.Reader = io.NewSectionReader(s.file, 0, math.MaxInt64)
	if s.gzip {
		unzipped, err := gzip.NewReader(content)
		if err != nil {
			return head{}, fmt.Errorf("gzip: %w", err)
		}
		content = unzipped
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	n, err := io.Copy(sum, io.LimitReader(content, length))
	return head{n, sum.Sum32()}, err
}

// place says where to go on in a file, and how to recognise that it is the same.
type place struct {
	head head
	mark record.Mark
}

// changedError says that a file is not the one that a position belongs to.
type changedError struct{ what string }

func (e *changedError) Error() string { return e.what }

// resume returns a reader of what is behind a place, or a changedError.
func (s *stream) resume(ctx context.Context, p place) (io.Reader, error) {
	found, err := s.head(p.head.length)
	if err != nil {
		return nil, err
	}
	if found != p.head {
		return nil, &changedError{"it begins differently"}
	}
	if !s.gzip { // seeking beyond the end is no error
		info, err := s.file.Stat()
		if err != nil {
			return nil, err
		}
		if info.Size() < p.mark.Offset {
			return nil, &changedError{"it is shorter"}
		}
	}
	content, err := s.content(ctx, p.mark.Offset-p.mark.Length)
	if errors.Is(err, io.EOF) {
		return nil, &changedError{"it is shorter"}
	}
	if err != nil {
		return nil, err
	}
	before := make([]byte, p.mark.Length)
	_, err = io.ReadFull(content, before)
	switch {
	case s.gzip && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)):
		return nil, &changedError{"it is shorter"}
	case err != nil:
		return nil, err
	case p.mark.Length > 0 && record.Sum(before) != p.mark.Sum:
		return nil, &changedError{fmt.Sprintf("line %d is another one", p.mark.Line-1)}
	}
	return content, nil
}
