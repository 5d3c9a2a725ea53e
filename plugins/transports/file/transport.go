package file

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pipelined/pipelined/internal/outfile"
	"github.com/pipelined/pipelined/sdk"
)

type transport struct {
	config   Config
	fallback naming // of the pipeline's own messages before Register
	dir      *outfile.Dir
	now      func() time.Time

	mu struct {
		sync.Mutex
		names map[sdk.Origin]naming
	}
}

// naming is what the path of a file is made of.
type naming struct{ asset, run, clientKey string }

func open(s sdk.Settings, c Config, fs outfile.FS, now func() time.Time) (sdk.Transport, error) {
	t := &transport{
		config:   c,
		fallback: naming{asset: s.Asset, clientKey: s.Pipeline},
		dir:      outfile.New(c.Dir, fs, s.Logger),
		now:      now,
	}
	t.mu.names = map[sdk.Origin]naming{}
	return t, nil
}

// Register makes sure that files can be written, and notes how they are called.
func (t *transport) Register(_ context.Context, r sdk.Registration) (sdk.Registered, error) {
	if err := t.dir.Open(); err != nil {
		return sdk.Registered{}, classify(err)
	}
	out := sdk.Registered{Destination: "file:" + t.dir.Path()}
	if len(r.Flows) == 0 {
		return out, nil
	}
	origin := r.Flows[0].Origin
	if origin == (sdk.Origin{}) {
		out.Binding = t.config.binding()
	}
	if out.Binding.ConfigID != "" && out.Binding.RunID == "" && hasRun(&r.Run) {
		return sdk.Registered{}, sdk.Permanent(errors.New(
			"messages carry the run of the pipeline: give its id in run_id beside ingestion_config_id"))
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
	t.mu.names[origin] = naming{asset: r.Asset, run: run, clientKey: r.ClientKey}
	return out, nil
}

func hasRun(r *sdk.Run) bool { return r.ID != "" || r.Name != "" || r.ClientKey != "" }

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

// OpenStream begins a set of files.
func (t *transport) OpenStream(context.Context, sdk.StreamOptions) (sdk.Stream, error) {
	if err := t.dir.Open(); err != nil {
		return nil, classify(err)
	}
	files, err := t.dir.NewSet()
	if err != nil {
		return nil, classify(err)
	}
	return &stream{transport: t, files: files, open: map[fileKey]*current{}}, nil
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
