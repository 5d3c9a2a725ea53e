package torture

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/parquet-go/parquet-go"
	"google.golang.org/protobuf/proto"

	"github.com/pipelined/pipelined/internal/sifttest"
	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

const flowName = "load"

// rowNumber returns the number of the row in a message: its first value.
func rowNumber(message []byte) (uint64, error) {
	var r ingestv1.IngestWithConfigDataStreamRequest
	if err := proto.Unmarshal(message, &r); err != nil {
		return 0, err
	}
	if len(r.GetChannelValues()) == 0 {
		return 0, fmt.Errorf("a message of flow %q without values", r.GetFlow())
	}
	switch v := r.GetChannelValues()[0].GetType().(type) {
	case *ingestv1.IngestWithConfigDataChannelValue_Uint64:
		return v.Uint64, nil
	case *ingestv1.IngestWithConfigDataChannelValue_Int64:
		return uint64(v.Int64), nil
	}
	return 0, fmt.Errorf("a message of flow %q that begins with %T", r.GetFlow(), r.GetChannelValues()[0].GetType())
}

// tally says how often each row was seen.
type tally struct {
	seen  []uint16
	total int
	odd   []error // what is no row of this scenario
}

func newTally(rows int) *tally { return &tally{seen: make([]uint16, rows)} }

func (t *tally) add(n uint64) {
	if n >= uint64(len(t.seen)) {
		t.odd = append(t.odd, fmt.Errorf("row %d was never made", n))
		return
	}
	t.seen[n]++
	t.total++
}

func (t *tally) addMessage(m []byte) {
	n, err := rowNumber(m)
	if err != nil {
		t.odd = append(t.odd, err)
		return
	}
	t.add(n)
}

func (t *tally) has(n int) bool { return t.seen[n] > 0 }

// distinct returns how many rows were seen.
func (t *tally) distinct() int {
	n := 0
	for _, c := range t.seen {
		if c > 0 {
			n++
		}
	}
	return n
}

// duplicates returns how many rows were seen more often than once would do.
func (t *tally) duplicates() int { return t.total - t.distinct() }

// destination keeps the tally of what the server has confirmed.
type destination struct {
	*tally
	server *sifttest.Server
	done   map[*sifttest.Stream]bool
}

// update adds the streams that ended since the last call.
func (d *destination) update() {
	for _, st := range d.server.Streams() {
		if d.done[st] {
			continue
		}
		select {
		case <-st.Ended():
		default:
			continue
		}
		d.done[st] = true
		if st.Acknowledged() {
			for _, m := range st.Messages() {
				d.addMessage(m)
			}
		}
	}
}

// fileRows counts what is in the PBFS files below a directory, also in damaged ones.
// Files that go away meanwhile are left out.
func fileRows(dir string, t *tally) error {
	return walk(dir, "", func(path string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		for s := pbfs.NewScanner(f, info.Size(), pbfs.Limits{}); ; {
			c, err := s.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if _, hole := errors.AsType[*pbfs.Hole](err); hole {
				continue
			}
			if err != nil {
				return err
			}
			for m := range pbfs.Messages(c.Body) {
				t.addMessage(m)
			}
		}
	})
}

// tableRows counts what is in the Parquet files below a directory.
func tableRows(dir string, t *tally) error {
	return walk(dir, ".parquet", func(path string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		file, err := parquet.OpenFile(f, info.Size())
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		reader := parquet.NewReader(file)
		defer reader.Close()
		rows := make([]parquet.Row, 256)
		for {
			n, err := reader.ReadRows(rows)
			for _, row := range rows[:n] {
				t.add(uint64(row[1].Int64())) // behind the time
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
}

// walk visits the files below a directory; hidden directories are left out, and what
// vanishes.
func walk(dir, suffix string, visit func(path string) error) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
		case d.IsDir() && path != dir && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.Type().IsRegular() && strings.HasSuffix(path, suffix):
			err = visit(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return err
}

// bytesBelow returns the size of all files below a directory.
func bytesBelow(dir string) (n int64) {
	_ = walk(dir, "", func(path string) error {
		if info, err := os.Stat(path); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}
