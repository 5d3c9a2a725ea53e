package csv

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/pipelined/pipelined/plugins/sources/csv/record"
)

// follower is what a file that is followed remembers between two looks.
type follower struct {
	leaving int    // looks since another file has the path
	fetched int64  // bytes read at the last look
	trouble string // why nothing can be read, for a person; empty: nothing is wrong
}

// look notices what happened to a followed file: that it is there now, was
// truncated, or replaced. It is called when no row is at hand.
func (f *file) look(ctx context.Context) error {
	if f.in == nil {
		f.trouble = ""
		err := f.open(ctx)
		if errors.Is(err, fs.ErrNotExist) {
			f.trouble = missing
			return nil
		}
		return err
	}
	info, err := f.in.file.Stat()
	if err != nil {
		return err
	}
	if why := f.rewritten(info.Size()); why != "" {
		f.log.Warn("the file was rewritten; it is read from its beginning, and what was not read before is lost", "path", f.spec.path,
			"read_until_line", f.reader.Mark().Line-1, "because", why)
		return f.reopen(ctx)
	}
	now, err := os.Stat(f.spec.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // it is being replaced, or was removed: what is open stays
	case err != nil:
		return err
	case os.SameFile(now, info):
		f.leaving = 0
		return nil
	}
	return f.leave(ctx)
}

// rewritten says why the open file is not the one that was read, if so.
func (f *file) rewritten(size int64) string {
	if size < f.reader.Fetched() {
		return "it is shorter"
	}
	m := f.reader.Mark()
	if size == f.reader.Fetched() || m.Length == 0 {
		return ""
	}
	before := make([]byte, m.Length)
	if _, err := f.in.file.ReadAt(before, m.Offset-m.Length); err != nil || record.Sum(before) != m.Sum {
		return "the last line that was read is another one now"
	}
	return ""
}

// leave reads a file that was replaced to its end: until nothing came for a while,
// then its last line, even without a line end. Then it turns to the new one.
func (f *file) leave(ctx context.Context) error {
	if fetched := f.reader.Fetched(); fetched != f.fetched {
		f.fetched, f.leaving = fetched, 0
	}
	f.leaving++
	switch f.leaving {
	case 1:
		return nil
	case 2:
		f.reader.Final()
		return nil
	}
	f.log.Info("the file was replaced; going on with the new one", "path", f.spec.path, "read_until_line", f.reader.Mark().Line-1)
	return f.reopen(ctx)
}

func (f *file) reopen(ctx context.Context) error {
	f.close()
	f.follower = follower{}
	f.from, f.hasLast = nil, false
	return f.look(ctx)
}
