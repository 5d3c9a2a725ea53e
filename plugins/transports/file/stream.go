package file

import (
	"context"
	"fmt"
	"time"

	"github.com/pipelined/pipelined/internal/outfile"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// maxOpen bounds the files that a stream has open. Beyond it the one whose last
// message is the oldest is finished.
const maxOpen = 64

// stream writes batches to files until it is finished.
type stream struct {
	transport *transport
	files     *outfile.Set
	open      map[fileKey]*current
	sends     uint64 // batches so far
}

// fileKey tells what goes to one file.
type fileKey struct {
	origin  sdk.Origin
	unbound bool
}

// current is a file that is being written.
type current struct {
	file   *outfile.File
	begun  time.Time
	latest uint64 // number of the last batch written to it
}

// Send writes the batch as a chunk.
func (s *stream) Send(_ context.Context, d *sdk.Delivery) error {
	return s.run(func() error {
		if err := check(d); err != nil {
			return sdk.Permanent(fmt.Errorf("batch of flow %q: %w", d.Flow.Name, err))
		}
		if len(d.Body) == 0 {
			return nil
		}
		return s.write(d)
	})
}

// check makes sure that readers will find the messages of the batch.
func check(d *sdk.Delivery) error {
	count, err := pbfs.CheckBody(d.Body)
	if err == nil && count != d.Count {
		err = fmt.Errorf("it has %d messages, not %d", count, d.Count)
	}
	return err
}

// run carries out a step of the stream.
func (s *stream) run(step func() error) error {
	if err := s.files.Run(step); err != nil {
		return classify(err)
	}
	return nil
}

func (s *stream) write(d *sdk.Delivery) error {
	f, err := s.fileFor(d)
	if err != nil {
		return err
	}
	header := pbfs.ChunkHeader(d.Body)
	if _, err := f.Write(header[:]); err != nil {
		return err
	}
	_, err = f.Write(d.Body)
	return err
}

// fileFor returns the file for the batch, with room for it.
func (s *stream) fileFor(d *sdk.Delivery) (*outfile.File, error) {
	s.sends++
	key := fileKey{d.Flow.Origin, d.Binding.IsUnbound()}
	now := s.transport.now()
	c := s.open[key]
	if c != nil && s.full(c, len(d.Body), now) {
		if err := s.finish(key); err != nil {
			return nil, err
		}
		c = nil
	}
	if c == nil {
		var err error
		if c, err = s.begin(key, now); err != nil {
			return nil, err
		}
	}
	c.latest = s.sends
	return c.file, nil
}

// full reports whether a batch goes to another file than this one.
func (s *stream) full(c *current, body int, now time.Time) bool {
	config := &s.transport.config
	return c.file.Size()+pbfs.HeaderSize+int64(body) > int64(config.MaxFileSize) ||
		config.MaxFileAge > 0 && now.Sub(c.begun) >= config.MaxFileAge
}

func (s *stream) begin(key fileKey, now time.Time) (*current, error) {
	if len(s.open) >= maxOpen {
		if err := s.finish(s.oldest()); err != nil {
			return nil, err
		}
	}
	n := s.transport.naming(key.origin)
	file, err := s.files.Create(func(attempt int) string {
		at := now.Add(time.Duration(attempt) * time.Microsecond)
		path := pbfs.Path(s.transport.dir.Path(), n.asset, n.run, n.clientKey, at)
		if key.unbound {
			path += ".unbound"
		}
		return path
	})
	if err != nil {
		return nil, err
	}
	c := &current{file: file, begun: now}
	s.open[key] = c
	return c, nil
}

// oldest returns the file whose last batch is the oldest.
func (s *stream) oldest() fileKey {
	var oldest fileKey
	latest := s.sends
	for key, c := range s.open {
		if c.latest < latest {
			oldest, latest = key, c.latest
		}
	}
	return oldest
}

// finish completes a file. It gets its name with the others.
func (s *stream) finish(key fileKey) error {
	c := s.open[key]
	delete(s.open, key)
	return c.file.Seal()
}

// Finish makes the files durable and gives them their names.
func (s *stream) Finish(context.Context) (sdk.Finished, error) {
	var paths []string
	err := s.run(func() error {
		var err error
		paths, err = s.files.Publish()
		return err
	})
	return sdk.Finished{Paths: paths}, err
}

// Abort removes the files.
func (s *stream) Abort() { s.files.Abort() }
