package parquet

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/compress/snappy"
	"github.com/parquet-go/parquet-go/compress/uncompressed"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/pipelined/pipelined/internal/outfile"
	"github.com/pipelined/pipelined/sdk"
)

// Sizes of pages in bytes, before compression, and of the pieces in which their
// buffers grow.
const (
	minPage = 8 << 10
	maxPage = 256 << 10

	smallPiece = 4 << 10
	largePiece = 32 << 10
	// wideTable is how many columns make pieces small.
	wideTable = 256
)

type transport struct {
	config   Config
	pipeline string
	fallback naming // of the pipeline's own flows before Register
	dir      *outfile.Dir
	logger   *slog.Logger
	now      func() time.Time

	codec compress.Codec
	small parquet.BufferPool
	large parquet.BufferPool

	mu struct {
		sync.Mutex
		names map[sdk.Origin]naming
	}
}

// naming says for whom flows come.
type naming struct{ asset, run, clientKey string }

func open(s sdk.Settings, c Config, fs outfile.FS, now func() time.Time) (sdk.Transport, error) {
	t := &transport{
		config:   c,
		pipeline: s.Pipeline,
		fallback: naming{asset: s.Asset},
		dir:      outfile.New(c.Dir, fs, s.Logger),
		logger:   s.Logger,
		now:      now,
		small:    parquet.NewChunkBufferPool(smallPiece),
		large:    parquet.NewChunkBufferPool(largePiece),
	}
	switch c.Compression {
	case "zstd":
		t.codec = &zstd.Codec{Level: zstd.SpeedFastest}
	case "snappy":
		t.codec = &snappy.Codec{}
	default:
		t.codec = &uncompressed.Codec{}
	}
	t.mu.names = map[sdk.Origin]naming{}
	return t, nil
}

// Register makes sure that files can be written and can hold the flows, and notes
// for whom these come.
func (t *transport) Register(_ context.Context, r sdk.Registration) (sdk.Registered, error) {
	if err := t.dir.Open(); err != nil {
		return sdk.Registered{}, classify(err)
	}
	out := sdk.Registered{Destination: "parquet:" + t.dir.Path()}
	for i := range r.Flows {
		if err := checkFlow(&r.Flows[i]); err != nil {
			return sdk.Registered{}, sdk.Permanent(err)
		}
	}
	if len(r.Flows) == 0 {
		return out, nil
	}
	run := r.Run.Name
	if run == "" {
		run = r.Run.ClientKey
	}
	if run == "" {
		run = r.Run.ID
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.names[r.Flows[0].Origin] = naming{asset: r.Asset, run: run, clientKey: r.ClientKey}
	return out, nil
}

func (t *transport) naming(origin sdk.Origin) naming {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n, ok := t.mu.names[origin]; ok {
		return n
	}
	if origin == (sdk.Origin{}) {
		return t.fallback
	}
	return naming{asset: origin.Asset, run: origin.Run, clientKey: origin.ClientKey}
}

// options returns how the files of a flow are written.
func (t *transport) options(f *sdk.Flow) ([]parquet.WriterOption, error) {
	meta, err := metadataOf(f, t.pipeline, t.naming(f.Origin))
	if err != nil {
		return nil, err
	}
	columns := len(f.Channels) + 1
	pieces := t.large
	if columns >= wideTable {
		pieces = t.small
	}
	options := []parquet.WriterOption{
		schemaOf(f),
		parquet.CreatedBy("pipelined", version, ""),
		parquet.Compression(t.codec),
		parquet.PageBufferSize(min(max(int(t.config.RowGroupSize)/columns, minPage), maxPage)),
		parquet.ColumnPageBuffers(pieces),
		parquet.DictionaryMaxBytes(maxDictionary),
		parquet.DataPageStatistics(false), // row groups have them, and the index of pages
	}
	for key, value := range meta {
		options = append(options, parquet.KeyValueMetadata(key, value))
	}
	return append(options, withoutBounds(f)...), nil
}

// maxUnbounded bounds the columns without bounds: the library looks each column up
// in a list of them.
const maxUnbounded = 4096

// withoutBounds leaves out the least and greatest value of columns where they may
// be as long as a batch.
func withoutBounds(f *sdk.Flow) []parquet.WriterOption {
	var options []parquet.WriterOption
	for i, name := range columnNames(f) {
		switch f.Channels[i].Type {
		case sdk.String, sdk.Bytes, sdk.BitField:
			if len(options) < maxUnbounded {
				options = append(options, parquet.SkipPageBounds(name))
			}
		}
	}
	return options
}

// OpenStream begins a set of files.
func (t *transport) OpenStream(context.Context, sdk.StreamOptions) (sdk.Stream, error) {
	if err := t.dir.Open(); err != nil {
		return nil, classify(err)
	}
	files, err := t.dir.NewSet()
	if err != nil {
		return nil, classify(err)
	}
	return newStream(t, files), nil
}

// Shutdown aborts what is open.
func (t *transport) Shutdown(context.Context) error { return t.dir.Close() }

// classify tells errors that last from those that may go away.
func classify(err error) error {
	if _, classified := errors.AsType[*sdk.Error](err); classified {
		return err
	}
	if outfile.Lasting(err) {
		return sdk.Permanent(err)
	}
	return sdk.Retry(err, 0)
}
