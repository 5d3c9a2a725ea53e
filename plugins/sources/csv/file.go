package csv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/pipelined/pipelined/plugins/sources/csv/record"
	"github.com/pipelined/pipelined/sdk"
)

// file reads the rows of a file, one at a time.
type file struct {
	spec    *spec
	key     uint64 // in positions
	log     *slog.Logger
	account *account
	schema  *schema // nil: nothing is known of it yet

	announced bool
	number    sdk.FlowNumber
	rows      *sdk.Builder // used by bulk

	in     *stream // nil: not open
	reader *record.Reader
	head   head
	begun  bool   // the header was read
	from   *place // where to go on when the file is opened; nil: at its beginning

	ready bool // a row is at hand: stamp, line, and the table's values
	stamp int64
	line  int64
	done  record.Mark // behind the last row that was emitted, or waits in a builder

	before  record.Mark // before the first row that waits in a builder of bulk
	waiting bool        // there is such a row

	count     uint64 // rows read
	last      int64  // event time of the last one that could be read
	hasLast   bool
	backwards uint64
	refused   uint64
	unknown   []string

	follower
}

// open opens the file at its beginning, or where it is to go on.
func (f *file) open(ctx context.Context) error {
	in, err := openStream(f.spec)
	if err != nil {
		return err
	}
	f.in = in
	if err := f.start(ctx); err != nil {
		f.close()
		if ctx.Err() == nil {
			err = fmt.Errorf("%s: %w", f.spec.path, err)
		}
		return err
	}
	return nil
}

func (f *file) start(ctx context.Context) error {
	var err error
	if f.head, err = f.in.head(headBytes); err != nil {
		return err
	}
	if err := f.rewind(ctx); err != nil || f.from == nil {
		return err
	}
	from := *f.from
	f.from = nil
	if err := f.begin(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	content, err := f.in.resume(ctx, from)
	if changed, ok := errors.AsType[*changedError](err); ok {
		return f.changed(ctx, from, changed)
	}
	if err != nil {
		return err
	}
	f.reader = record.NewReader(content, f.spec.delimiter, from.mark, !f.spec.follow)
	f.begun, f.done, f.head = true, from.mark, from.head
	return nil
}

// changed is called when the file is not the one that the position is of.
func (f *file) changed(ctx context.Context, from place, why *changedError) error {
	if !f.spec.follow {
		return sdk.Permanent(fmt.Errorf("this is not the file that was read up to line %d: %w; bring that file back, or let the pipeline forget its state",
			from.mark.Line-1, why))
	}
	f.log.Warn("the file was replaced while nobody followed it; it is read from its beginning, and what was left of the old one is not read",
		"path", f.spec.path, "read_until_line", from.mark.Line-1, "because", why.what)
	return f.rewind(ctx)
}

// rewind goes to the beginning of the open file.
func (f *file) rewind(ctx context.Context) error {
	content, err := f.in.content(ctx, 0)
	if err != nil {
		return err
	}
	f.reader = record.NewReader(content, f.spec.delimiter, record.Start(), !f.spec.follow)
	f.begun, f.done = false, record.Start()
	return nil
}

func (f *file) close() {
	if f.in != nil {
		f.in.close()
	}
	f.in, f.ready = nil, false
}

// begin reads the header. It must be the one that the schema was made of.
func (f *file) begin() error {
	header, err := readHeader(f.reader, f.spec)
	if err != nil {
		return err
	}
	if known := f.schema.table.header; header != nil && !slices.Equal(header, known) {
		return fmt.Errorf("the header has changed: the columns are %q now and were %q; a flow keeps its channels, give the flow of the new file another name",
			header, known)
	}
	f.begun, f.done = true, f.reader.Mark()
	return nil
}

// next reads on to the next row that is not refused. Without one it returns false:
// the file has ended or, if it is followed, nothing more is written yet.
func (f *file) next(ctx context.Context) (bool, error) {
	f.ready = false
	if !f.begun {
		err := f.begin()
		if errors.Is(err, io.EOF) {
			return false, f.rewind(ctx)
		}
		if err != nil {
			return false, sdk.Permanent(f.failed(ctx, err))
		}
	}
	for {
		rec, err := f.reader.Next()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, f.failed(ctx, err)
		}
		f.account.read.Add(1)
		f.count++
		f.line = rec.Line
		stamp, m := f.schema.table.split(rec)
		if m != nil {
			f.refuse(0, false, *m)
			continue
		}
		f.stamp, f.ready = stamp, true
		f.checkOrder()
		return true, nil
	}
}

func (f *file) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	err = fmt.Errorf("read %s behind line %d: %w", f.spec.path, f.reader.Mark().Line-1, err)
	if f.in.gzip {
		return sdk.Permanent(err) // damage rather than a moment's trouble
	}
	return err
}

// checkOrder notices event times that go back, and such that begin in 1970.
func (f *file) checkOrder() {
	const year = int64(365 * 24 * time.Hour)
	switch {
	case !f.hasLast && f.stamp > -year && f.stamp < year:
		f.log.Warn("event times are those of 1970; if they count from another moment, set start in the time block",
			"path", f.spec.path, "line", f.line, "time", time.Unix(0, f.stamp).UTC())
	case f.hasLast && f.stamp < f.last:
		if f.backwards == 0 {
			f.log.Warn("event time goes back; rows stay in the order of the file", "path", f.spec.path, "line", f.line,
				"seconds", float64(f.last-f.stamp)/1e9)
		}
		f.backwards++
		f.account.backwards.Add(1)
	}
	f.last, f.hasLast = f.stamp, true
}

// put sets the values of the row at hand in a builder whose row is begun, or takes
// that row back and refuses it. The row is done then.
func (f *file) put(rows *sdk.Builder, stamp int64) {
	if m := f.schema.table.put(f.schema.columns, rows); m != nil {
		rows.DropRow()
		f.refuse(stamp, true, *m)
	}
	f.done = f.reader.Mark()
}

// refuse counts the row that was read last as refused. Known is false if its event
// time is not known.
func (f *file) refuse(stamp int64, known bool, m misfit) {
	f.refused++
	f.account.refuse(f, f.line, stamp, known, m)
}

// report logs what became of the rows.
func (f *file) report(message string) {
	level := slog.LevelInfo
	if f.backwards > 0 || f.refused > 0 {
		level = slog.LevelWarn
	}
	f.log.Log(context.Background(), level, message, "path", f.spec.path, "rows", f.count, "refused", f.refused,
		"lines", f.reader.Mark().Line-1, "time_steps_back", f.backwards)
}

// noteUnknown logs the first keys of NDJSON that were not in the first rows.
func (f *file) noteUnknown(name string) {
	if slices.Contains(f.unknown, name) {
		return
	}
	f.unknown = append(f.unknown, name)
	f.log.Warn("a key is not in the first rows and is left out; declare it as a column", "path", f.spec.path,
		"line", f.reader.Mark().Line-1, "key", name)
	if len(f.unknown) == loggedRows {
		f.log.Warn("further keys that are not in the first rows are left out without notice", "path", f.spec.path)
		f.schema.table.tree.OnUnknown(nil)
	}
}

// place says where to go on after the rows that were emitted; false: at the
// beginning.
func (f *file) place() (place, bool) {
	switch {
	case f.waiting:
		return place{f.head, f.before}, true
	case f.reader != nil:
		return place{f.head, f.done}, true
	case f.from != nil:
		return *f.from, true
	}
	return place{}, false
}
