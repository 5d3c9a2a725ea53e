package csv

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/pipelined/pipelined/sdk"
)

// account counts rows, and tells the host and the log of those that are refused.
type account struct {
	log       *slog.Logger
	read      atomic.Uint64 // rows taken from files
	backwards atomic.Uint64 // rows that are older than the one before

	mu struct {
		sync.Mutex
		pending []sdk.Dropped // not reported yet, one for each flow and reason
		refused uint64
	}
}

// The first refused rows are logged one by one, later ones by their number.
const (
	loggedRows = 10
	maxPending = 64 // reasons that are gathered before they are reported in any case
)

// refuse counts a refused row. Known is false if its event time is not known.
func (a *account) refuse(f *file, line, stamp int64, known bool, m misfit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.refused++
	if n := a.mu.refused; n <= loggedRows {
		a.log.Warn("row refused", "path", f.spec.path, "line", line, "reason", m.reason, "found", m.found)
	} else if isPowerOfTen(n) {
		a.log.Warn("rows refused", "rows", n, "path", f.spec.path, "line", line, "last_reason", m.String())
	}
	for i := range a.mu.pending {
		if d := &a.mu.pending[i]; d.Flow == f.number && d.Reason == m.reason {
			d.Rows++
			if known && d.From == 0 && d.To == 0 {
				d.From, d.To = stamp, stamp
			} else if known {
				d.From, d.To = min(d.From, stamp), max(d.To, stamp)
			}
			return
		}
	}
	if !known {
		stamp = 0
	}
	a.mu.pending = append(a.mu.pending, sdk.Dropped{
		Flow: f.number, Rows: 1, Reason: m.reason, From: stamp, To: stamp, Refused: true,
	})
}

func isPowerOfTen(n uint64) bool {
	for n >= 10 && n%10 == 0 {
		n /= 10
	}
	return n == 1
}

// full reports whether what is gathered shall be reported now.
func (a *account) full() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.mu.pending) >= maxPending
}

// report tells the host of the refused rows since the last report.
func (a *account) report(out sdk.Output) error {
	a.mu.Lock()
	pending := a.mu.pending
	a.mu.pending = nil
	a.mu.Unlock()
	for _, d := range pending {
		if err := out.Dropped(d); err != nil {
			return err
		}
	}
	return nil
}

func (a *account) metrics() []sdk.Metric {
	a.mu.Lock()
	defer a.mu.Unlock()
	return []sdk.Metric{
		{Name: "rows_read", Type: sdk.Counter, Value: float64(a.read.Load()), Help: "Rows taken from files, also again after a rewind."},
		{Name: "rows_refused", Type: sdk.Counter, Value: float64(a.mu.refused), Help: "Rows that could not be read."},
		{Name: "time_steps_back", Type: sdk.Counter, Value: float64(a.backwards.Load()), Help: "Rows that are older than the row before them in their file."},
	}
}

// output is the host with the account kept: refused rows are reported before a
// position that is behind them.
type output struct {
	sdk.Output
	account *account

	mu struct { // not held while the host is called
		sync.Mutex
		closed bool
	}
}

var errClosed = errors.New("the output is closed")

// close makes all later emissions fail.
func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.closed = true
}

func (o *output) Emit(ctx context.Context, flow sdk.FlowNumber, rows *sdk.Builder, position []byte) (uint64, error) {
	o.mu.Lock()
	closed := o.mu.closed
	o.mu.Unlock()
	if closed {
		return 0, errClosed
	}
	if err := o.account.report(o.Output); err != nil {
		return 0, err
	}
	return o.Output.Emit(ctx, flow, rows, position)
}
