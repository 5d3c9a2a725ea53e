package plugintest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// plugins are the plugins that this test binary can be. Those with a name that
// begins with "bad" break the contract somewhere.
func plugins() map[string]sdk.Plugin {
	return map[string]sdk.Plugin{
		"source":                 countPlugin(counter{}),
		"bad source, unstable":   countPlugin(counter{unstable: true}),
		"bad source, stubborn":   countPlugin(counter{stubborn: true}),
		"bad source, progress":   countPlugin(counter{progress: 1}),
		"bad source, undeclared": countPlugin(counter{undeclared: true}),
		"bad source, positions":  countPlugin(counter{shift: 1}),
		"encoder":                rowsPlugin(rowEncoder{}),
		"bad encoder, impure":    rowsPlugin(rowEncoder{impure: true}),
		"bad encoder, lossy":     rowsPlugin(rowEncoder{lossy: true}),
		"bad encoder, binding":   rowsPlugin(rowEncoder{halfBound: true}),
		"transport":              sinkPlugin(&sink{}),
		"bad transport, abort":   sinkPlugin(&sink{deaf: true}),
		"bad transport, calls":   sinkPlugin(&sink{alone: make(chan struct{}, 1)}),
		"bad transport, files":   sinkPlugin(&sink{path: os.DevNull}),
		"bad names":              badNames(),
	}
}

// programs are no plugins at all, or not all of one.
func programs() map[string]func() {
	return map[string]func(){
		"bad program, silent": func() { os.Exit(3) },
		"bad program, junk":   func() { fmt.Println("hello"); os.Exit(0) },
		"bad program, hangs": func() {
			signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM)
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		},
	}
}

type countConfig struct {
	Rows int64  `config:"rows" doc:"How many."`
	Name string `config:"name,required" doc:"Name of the flow."`
}

// counter is a source that counts.
type counter struct {
	nothing
	countConfig
	unstable   bool  // other rows each time
	stubborn   bool  // does not stop
	undeclared bool  // flows that it did not say
	progress   int64 // promised too early, by this
	shift      int64 // rows that a resumed run leaves out
}

type nothing struct{}

func (nothing) Shutdown(context.Context) error { return nil }

func countPlugin(c counter) sdk.Plugin {
	return sdk.NewSource(sdk.Info{Name: "count", Version: "1", Description: "Counts."},
		sdk.SourceCapabilities{Replayable: true}, countConfig{Rows: 10_000},
		func(_ sdk.Settings, config countConfig) (sdk.Source, error) {
			c.countConfig = config
			return c, nil
		})
}

func (c counter) flow() sdk.Flow {
	return sdk.Flow{Name: c.Name, StrictlyIncreasing: true, Channels: []sdk.Channel{{Name: "n", Type: sdk.Int64}}}
}

func (c counter) Discover(context.Context) (sdk.Discovery, error) {
	return sdk.Discovery{Flows: []sdk.Flow{c.flow()}, Finite: true}, nil
}

func (c counter) Run(ctx context.Context, out sdk.Output) error {
	flow := c.flow()
	if c.undeclared {
		flow.Name += "2"
	}
	number, err := out.Announce(flow)
	if err != nil {
		return err
	}
	from := int64(0)
	if position, ok := out.Resume(); ok {
		if from, err = strconv.ParseInt(string(position), 10, 64); err != nil {
			return sdk.Permanent(err)
		}
		from += c.shift
	}
	if c.stubborn {
		<-ctx.Done()
	}
	rows := sdk.NewBuilder(&flow)
	var last uint64
	for from < c.Rows {
		for range 1 + from%2000 {
			at := baseTime + from
			rows.Row(at)
			if c.unstable {
				at = int64(os.Getpid())
			}
			rows.Int64(0, at)
			from++
		}
		if last, err = out.Emit(ctx, number, rows, strconv.AppendInt(nil, from, 10)); err != nil {
			return err
		}
		if err := out.Progress(number, baseTime+from-1+c.progress); err != nil {
			return err
		}
		select {
		case <-out.Stopping():
			return nil
		default:
		}
	}
	if err := errors.Join(out.Finish(), out.AckWanted(last, time.Second)); err != nil {
		return err
	}
	return out.WaitAck(ctx, last)
}

// rowEncoder makes a flow batch of one row, its ids and their length of each row.
type rowEncoder struct {
	nothing
	impure    bool // the same batch gives other bytes in another process
	lossy     bool // negative zero becomes zero
	halfBound bool // forgets the run when it rebinds
}

func rowsPlugin(e rowEncoder) sdk.Plugin {
	return sdk.NewEncoder(sdk.Info{Name: "rows", Version: "1", Description: "Rows as they are."},
		sdk.EncoderCapabilities{Format: "rows", Decodes: true, Rebinds: true}, struct{}{},
		func(sdk.Settings, struct{}) (sdk.Encoder, error) { return e, nil })
}

func (e rowEncoder) Encode(dst []byte, batch *sdk.Batch, b sdk.Binding) (sdk.Encoded, error) {
	out := sdk.Encoded{Body: dst}
	out.MinTime, out.MaxTime = batch.TimeSpan()
	rows := sdk.NewBuilder(batch.Flow())
	for row := range batch.Rows() {
		rows.Reset()
		if err := rows.CopyRow(batch, row); err != nil {
			return out, err
		}
		message := append(rows.Append(nil), b.ConfigID+b.RunID...)
		message = append(message, byte(len(b.ConfigID+b.RunID)))
		if e.impure {
			message = binary.LittleEndian.AppendUint32(message, uint32(os.Getpid()))
		}
		out.Body = pbfs.AppendMessage(out.Body, message)
		out.Count++
	}
	return out, nil
}

// cutIDs takes a message apart.
func cutIDs(m []byte) (row, ids []byte, err error) {
	if len(m) > 0 {
		if at := len(m) - 1 - int(m[len(m)-1]); at >= 0 {
			return m[:at], m[at : len(m)-1], nil
		}
	}
	return nil, nil, sdk.Permanent(errors.New("not messages of this format"))
}

func (e rowEncoder) Decode(rows *sdk.Builder, body []byte) error {
	var batch sdk.Batch
	for m, err := range pbfs.Messages(body) {
		if err != nil {
			return sdk.Permanent(err)
		}
		row, _, err := cutIDs(m)
		if err != nil {
			return err
		}
		if err := batch.Parse(rows.Flow(), row); err != nil {
			return sdk.Permanent(err)
		}
		if err := rows.CopyRow(&batch, 0); err != nil {
			return sdk.Permanent(err)
		}
		if e.lossy && batch.Column(0).Valid(0) && batch.Column(0).Doubles()[0] == 0 {
			rows.Double(0, 0)
		}
	}
	return nil
}

func (e rowEncoder) Rebind(body []byte, from, to sdk.Binding) error {
	for m, err := range pbfs.Messages(body) {
		if err != nil {
			return sdk.Permanent(err)
		}
		_, carried, err := cutIDs(m)
		if err != nil || string(carried) != from.ConfigID+from.RunID {
			return sdk.Permanent(errors.New("other ids"))
		}
		ids := to.ConfigID + to.RunID
		if e.halfBound {
			ids = to.ConfigID
		}
		copy(carried, ids)
	}
	return nil
}

// sink takes everything.
type sink struct {
	nothing
	deaf  bool          // does not hear an abort
	alone chan struct{} // held by a stream, for as long as it lives; nil: they do not mind each other
	path  string        // of all its files
}

func sinkPlugin(s *sink) sdk.Plugin {
	return sdk.NewTransport(sdk.Info{Name: "sink", Version: "1", Description: "Takes everything."},
		sdk.TransportCapabilities{Input: sdk.InputEncoded, Overlap: true}, struct{}{},
		func(sdk.Settings, struct{}) (sdk.Transport, error) { return s, nil })
}

func (s *sink) Register(context.Context, sdk.Registration) (sdk.Registered, error) {
	return sdk.Registered{Destination: "nowhere"}, nil
}

func (s *sink) OpenStream(ctx context.Context, _ sdk.StreamOptions) (sdk.Stream, error) {
	if s.alone != nil {
		select {
		case s.alone <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &sinkStream{sink: s, aborted: make(chan struct{})}, nil
}

type sinkStream struct {
	*sink
	messages int
	aborted  chan struct{}
}

func (s *sinkStream) Send(_ context.Context, d *sdk.Delivery) error {
	n, err := pbfs.CheckBody(d.Body)
	if err != nil || n != d.Count {
		return sdk.Permanent(errors.New("not the messages that were sent"))
	}
	s.messages += n
	if s.messages > math.MaxInt32 {
		return errors.New("full")
	}
	return nil
}

func (s *sinkStream) Finish(context.Context) (sdk.Finished, error) {
	if s.deaf && s.messages < 2000 {
		select {} // for ever
	}
	if s.alone != nil {
		<-s.alone
	}
	if s.path != "" {
		return sdk.Finished{Paths: []string{s.path}}, nil
	}
	return sdk.Finished{}, nil
}

func (s *sinkStream) Abort() { close(s.aborted) }

func badNames() sdk.Plugin {
	type config struct {
		CamelCase string `config:"camelCase"`
		Mode      string `config:"mode" allowed:"a,b"`
	}
	p := sdk.NewSource(sdk.Info{Name: "Bad-Name", Version: ""}, sdk.SourceCapabilities{}, config{Mode: "c"},
		func(sdk.Settings, config) (sdk.Source, error) { return counter{}, nil })
	return p
}
