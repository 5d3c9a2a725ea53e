package parquet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/pipelined/pipelined/internal/outfile"
	"github.com/pipelined/pipelined/sdk"
)

const (
	// maxBegun bounds the files that a stream has begun and not ended. Beyond it the
	// one whose flow has been silent for longest is ended.
	maxBegun = 64
	// memoryGroups is how many row groups' worth of memory a stream may use.
	memoryGroups = 4
)

// limits are sizes in bytes.
type limits struct{ rowGroup, file, memory int64 }

// stream writes batches to tables until it is finished.
type stream struct {
	transport *transport
	files     *outfile.Set
	limits    limits
	scratch   []parquet.Value // of all fillers

	tables map[tableKey]*table
	order  []*table // as they came
	begun  map[*table]struct{}
	sends  uint64 // batches so far
	used   int64  // bytes in memory, about
	widest int64  // what the widest table takes in memory at least
}

// tableKey is the identity of a flow.
type tableKey struct {
	origin sdk.Origin
	name   string
}

func newStream(t *transport, files *outfile.Set) *stream {
	rowGroup := int64(t.config.RowGroupSize)
	return &stream{
		transport: t,
		files:     files,
		limits:    limits{rowGroup: rowGroup, file: int64(t.config.MaxFileSize), memory: memoryGroups * rowGroup},
		scratch:   make([]parquet.Value, fillRows),
		tables:    map[tableKey]*table{},
		begun:     map[*table]struct{}{},
	}
}

// Send takes the rows of the batch.
func (s *stream) Send(_ context.Context, d *sdk.Delivery) error {
	return s.run(func() error {
		if d.Rows == nil {
			return sdk.Permanent(fmt.Errorf("flow %q: there are no rows in the batch", d.Flow.Name))
		}
		t, err := s.table(d.Flow)
		if err != nil {
			return err
		}
		s.sends++
		t.latest = s.sends
		if err := t.add(d.Rows); err != nil {
			return err
		}
		s.count(t)
		return s.relieve()
	})
}

// run carries out a step of the stream.
func (s *stream) run(step func() error) error {
	if err := s.files.Run(step); err != nil {
		s.release()
		return classify(err)
	}
	return nil
}

// release gives up what the tables hold in memory; the stream has ended.
func (s *stream) release() {
	s.tables, s.order, s.begun = nil, nil, nil
}

// table returns the table of the flow.
func (s *stream) table(f *sdk.Flow) (*table, error) {
	key := tableKey{f.Origin, f.Name}
	t := s.tables[key]
	if t != nil && t.flow == f {
		return t, nil
	}
	if t != nil && t.flow.Fingerprint() == f.Fingerprint() {
		return t, nil
	}
	if t != nil {
		return nil, sdk.Permanent(fmt.Errorf("flow %q has other channels than before: %s", f.Name, t.flow.Difference(f)))
	}
	if err := checkFlow(f); err != nil {
		return nil, sdk.Permanent(err)
	}
	t = &table{stream: s, flow: f}
	s.tables[key] = t
	s.order = append(s.order, t)
	s.widest = max(s.widest, int64(t.columns())*(columnBytes+columnBuffers))
	return t, nil
}

// begin creates the next file of a flow's table.
func (s *stream) begin(t *table) (*outfile.File, error) {
	if len(s.begun) >= maxBegun {
		if err := s.endSilent(); err != nil {
			return nil, err
		}
	}
	n := s.transport.naming(t.flow.Origin)
	now := s.transport.now()
	dir := tableDir(s.transport.dir.Path(), t.flow.Origin, t.flow.Name)
	file, err := s.files.Create(func(attempt int) string {
		return filepath.Join(dir, fileName(n.run, n.clientKey, now.Add(time.Duration(attempt)*time.Microsecond)))
	})
	if err == nil {
		s.begun[t] = struct{}{}
	}
	return file, err
}

// ended notes that the file of a table is complete.
func (s *stream) ended(t *table) {
	delete(s.begun, t)
	if t.filler.repaired > 0 {
		s.transport.logger.Warn("strings that are not UTF-8 were repaired", "flow", t.flow.Name, "strings", t.filler.repaired)
	}
}

// endSilent ends the file of the flow that has been silent for longest.
func (s *stream) endSilent() error {
	var oldest *table
	for t := range s.begun {
		if oldest == nil || t.latest < oldest.latest {
			oldest = t
		}
	}
	defer s.count(oldest)
	return oldest.end()
}

// count brings the account of the memory up to date.
func (s *stream) count(t *table) {
	used := t.used()
	s.used += used - t.memory
	t.memory = used
}

// relieve writes to the files what takes most memory, if it is too much in all.
func (s *stream) relieve() error {
	limit := max(s.limits.memory, 2*s.widest)
	if s.used <= limit {
		return nil
	}
	largest := slices.Clone(s.order)
	slices.SortStableFunc(largest, func(a, b *table) int { return cmp.Compare(b.memory, a.memory) })
	for _, step := range []func(*table) error{(*table).drain, (*table).end} {
		for _, t := range largest {
			if s.used <= limit/2 {
				return nil
			}
			err := step(t)
			s.count(t)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Finish writes all files and gives them their names.
func (s *stream) Finish(context.Context) (sdk.Finished, error) {
	var paths []string
	err := s.run(func() error {
		for _, t := range s.order {
			if err := errors.Join(s.files.CheckAborted(), t.finish()); err != nil {
				return err
			}
		}
		var err error
		paths, err = s.files.Publish()
		return err
	})
	s.release()
	return sdk.Finished{Paths: paths}, err
}

// Abort removes the files.
func (s *stream) Abort() { s.files.Abort() }
