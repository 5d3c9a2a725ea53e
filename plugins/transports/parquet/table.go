package parquet

import (
	"fmt"

	"github.com/parquet-go/parquet-go"

	"github.com/pipelined/pipelined/internal/outfile"
	"github.com/pipelined/pipelined/sdk"
)

const (
	// stageBytes is how much is gathered, as flow batches, before it is turned into
	// columns. A flow with less than this in a whole stream needs little memory.
	stageBytes = 256 << 10
	// maxGroupRows bounds the rows of a row group: readers take one as a whole.
	maxGroupRows = 1 << 20
	// maxChunks bounds the column chunks of a file, each of which takes memory until
	// the footer is written.
	maxChunks = 1 << 16
	// columnBytes is about what a column takes in memory while its file is written,
	// columnBuffers what it takes at least in addition once it has values.
	columnBytes   = 2 << 10
	columnBuffers = 16 << 10
	// maxDictionary bounds the dictionary of a column in a row group, in bytes.
	maxDictionary = 1 << 20
)

// table holds the rows of one flow in one stream: those that wait, and the file
// that is being written, if one has been begun.
type table struct {
	stream *stream
	flow   *sdk.Flow

	stage  []byte // flow batches, each at a multiple of 8 bytes
	ends   []int  // where they end
	parsed sdk.Batch

	file   *outfile.File // nil: none has been begun
	writer *parquet.GenericWriter[any]
	filler *filler
	offset int64 // bytes of the file without the current row group
	rows   int64 // in the current row group
	groups int   // row groups before it

	latest uint64 // number of the stream's last batch for the table
	memory int64  // what the stream has counted for it
}

// add takes the rows of a batch.
func (t *table) add(batch *sdk.Batch) error {
	raw := batch.Raw()
	if len(t.stage)+len(raw) > stageBytes {
		if err := t.unstage(); err != nil {
			return err
		}
		if len(raw) > stageBytes/2 {
			return t.write(batch)
		}
	}
	t.stage = append(t.stage, raw...)
	t.ends = append(t.ends, len(t.stage))
	for len(t.stage)%8 != 0 {
		t.stage = append(t.stage, 0)
	}
	return nil
}

// unstage turns the rows that wait into columns.
func (t *table) unstage() error {
	from := 0
	for _, end := range t.ends {
		if err := t.parsed.Parse(t.flow, t.stage[from:end:end]); err != nil {
			return err
		}
		if err := t.write(&t.parsed); err != nil {
			return err
		}
		from = (end + 7) &^ 7
	}
	t.stage, t.ends = t.stage[:0], t.ends[:0]
	return nil
}

// write turns rows into columns, and writes these when a row group is complete.
func (t *table) write(batch *sdk.Batch) error {
	if t.file == nil {
		if err := t.begin(); err != nil {
			return err
		}
	}
	if err := t.filler.write(batch, t.writer.ColumnWriters()); err != nil {
		return fmt.Errorf("flow %q: %w", t.flow.Name, err)
	}
	t.rows += int64(batch.Rows())
	if t.rows < maxGroupRows && t.writer.Size()-t.offset < t.stream.limits.rowGroup {
		return nil
	}
	return t.flush()
}

func (t *table) begin() error {
	options, err := t.stream.transport.options(t.flow)
	if err != nil {
		return err
	}
	file, err := t.stream.begin(t)
	if err != nil {
		return err
	}
	t.file = file
	t.writer = parquet.NewGenericWriter[any](file, options...)
	t.filler = newFiller(t.flow, t.stream.scratch)
	t.offset, t.rows, t.groups = 0, 0, 0
	return nil
}

// flush writes the current row group to the file, and ends the file if another
// one would make it too large.
func (t *table) flush() error {
	if t.rows == 0 {
		return nil
	}
	if err := t.writer.Flush(); err != nil {
		return fmt.Errorf("flow %q: %w", t.flow.Name, err)
	}
	t.rows, t.offset = 0, t.writer.Size()
	t.groups++
	l := &t.stream.limits
	if t.offset+l.rowGroup > l.file || (t.groups+1)*t.columns() > maxChunks || t.groups == parquet.MaxRowGroups {
		return t.end()
	}
	return nil
}

// end completes the file, if there is one, without the rows that wait. It is
// durable and closed then, and gets its name with the others.
func (t *table) end() error {
	file := t.file
	if file == nil {
		return nil
	}
	if err := t.footer(); err != nil {
		return err
	}
	return file.Seal()
}

// finish writes all rows. The content of the file is complete then.
func (t *table) finish() error {
	if err := t.unstage(); err != nil {
		return err
	}
	if t.file == nil {
		return nil
	}
	return t.footer()
}

// footer writes what is behind the last row of a file.
func (t *table) footer() error {
	if err := t.writer.Close(); err != nil {
		return fmt.Errorf("flow %q: %w", t.flow.Name, err)
	}
	t.stream.ended(t)
	t.file, t.writer, t.filler, t.rows = nil, nil, nil, 0
	return nil
}

func (t *table) columns() int { return len(t.flow.Channels) + 1 }

// used returns about how many bytes the table takes in memory.
func (t *table) used() int64 {
	n := int64(cap(t.stage))
	if t.file != nil {
		n += int64(t.columns())*columnBytes + t.writer.Size() - t.offset
	}
	if t.rows > 0 {
		n += int64(t.columns()) * columnBuffers
	}
	return n
}

// drain writes what is in memory to the file.
func (t *table) drain() error {
	if err := t.unstage(); err != nil {
		return err
	}
	t.stage, t.ends = nil, nil
	return t.flush()
}
