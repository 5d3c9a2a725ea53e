package siftserver

import (
	"encoding/binary"
	"errors"
	"math"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pipelined/pipelined/plugins/sources/sift/registry"
	"github.com/pipelined/pipelined/sdk"
)

const (
	// gatherBytes is the size of gathered rows, as the builder bounds it, at which
	// a stream emits at once: some 800 rows of ten doubles.
	gatherBytes = 256 << 10
	// laneBytes bounds what a stream keeps for the flows that it uses, most of it
	// memory for their rows. Beyond it the flows are looked up again.
	laneBytes = 16 << 20
	// maxReasons bounds the kinds of refusals gathered between two emissions.
	maxReasons = 64
)

// errEnded is returned for rows that come after the end of a stream.
var errEnded = errors.New("the stream has ended")

// unfit is why all rows of a flow are refused.
type unfit struct{ reason string }

func (e unfit) Error() string { return e.reason }

// pipe is what a stream's rows go to.
type pipe interface {
	// flow looks a flow up and announces it. An unfit error is why its rows are
	// refused; any other one says nothing about them and ends the stream.
	flow(config, name, run string) (*registry.Flow, sdk.FlowNumber, error)
	// emit hands over the builder's rows and resets it; it waits for credit.
	emit(number sdk.FlowNumber, rows *sdk.Builder) (sequence uint64, err error)
	// refuse accounts for rows that were not taken.
	refuse(d sdk.Dropped) error
	// received counts messages and their bytes.
	received(messages, bytes uint64)
	// ingested is told what came in for runs.
	ingested(runs map[string]*registry.Ingested)
}

// rows are the rows that one stream has sent, gathered by flow.
type rows struct {
	pipe pipe
	pace *pacer

	mu struct { // held while emitting, so that the order is kept
		sync.Mutex
		routes   map[string]route // by the ids in a message
		lanes    map[sdk.FlowNumber]*lane
		last     route  // of the last row …
		lastKey  []byte // … and its key; empty: none
		key      []byte // scratch
		cost     int    // of all lanes and routes
		waiting  []*lane
		bytes    int // of the waiting lanes' rows
		due      bool
		messages uint64
		received uint64 // bytes of the messages
		runs     map[string]*registry.Ingested
		refusals map[refusal]*tally
		sequence uint64 // of the last batch
		ended    bool
		err      error
	}
}

// route is where the rows of a config, flow and run go. Several may lead to one
// lane: runs without a key may share a name.
type route struct {
	lane *lane
	run  *registry.Ingested // nil without a run
}

// routeBytes is about what a route takes besides its key.
const routeBytes = 128

// refusal is what refused rows have in common.
type refusal struct {
	flow   sdk.FlowNumber // 0: not known
	reason string
}

// tally counts refused rows with their span of time.
type tally struct {
	rows     uint64
	from, to int64 // stamps in ns since the Unix epoch; both 0: unknown
}

func (t *tally) add(req *request) {
	t.rows++
	at, ok := req.time()
	if !ok || !req.stamped {
		return
	}
	if t.from == 0 && t.to == 0 {
		t.from, t.to = at, at
	}
	t.from, t.to = min(t.from, at), max(t.to, at)
}

func newRows(p pipe, pace *pacer) *rows {
	r := &rows{pipe: p, pace: pace}
	r.mu.routes = map[string]route{}
	r.mu.lanes = map[sdk.FlowNumber]*lane{}
	r.mu.runs = map[string]*registry.Ingested{}
	r.mu.refusals = map[refusal]*tally{}
	return r
}

// add takes a message. An error ends the stream; it is a status if it is meant
// for the client.
func (r *rows) add(message []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.mu.err != nil:
		return r.mu.err
	case r.mu.ended:
		return errEnded
	}
	r.mu.messages++
	r.mu.received += uint64(len(message))
	var req request
	if err := req.scan(message); err != nil {
		return r.malformed()
	}
	to, err := r.route(&req)
	if u, ok := errors.AsType[unfit](err); ok {
		return r.refuse(&req, 0, u.reason)
	}
	if err != nil {
		r.mu.err = err
		return err
	}
	if err := r.append(to, &req, message); err != nil {
		return err
	}
	switch {
	case r.mu.cost > laneBytes:
		return r.forget()
	case r.mu.bytes >= gatherBytes:
		return r.flush()
	case len(r.mu.waiting) == 0:
		return nil // refused, or emitted already
	}
	return r.schedule()
}

// schedule emits now, or when the pacer says so.
func (r *rows) schedule() error {
	if r.mu.due {
		return nil
	}
	if r.pace.now(r) {
		return r.flush()
	}
	r.mu.due = true
	return nil
}

func (r *rows) malformed() error {
	if err := r.refuse(&request{}, 0, errMalformed.Error()); err != nil {
		return err
	}
	return status.Error(codes.InvalidArgument, errMalformed.Error())
}

// append adds the row to its lane, or notes why it is refused.
func (r *rows) append(to route, req *request, message []byte) error {
	l := to.lane
	before, first := l.rows.Bytes(), l.rows.Rows() == 0
	wrong, err := l.add(req, message)
	if wrong != nil && wrong.crowded {
		if err := r.flush(); err != nil {
			return err
		}
		before, first = 0, true
		wrong, err = l.add(req, message)
	}
	switch {
	case err != nil:
		return r.malformed()
	case wrong != nil:
		return r.refuse(req, l.number, wrong.reason)
	}
	if to.run != nil {
		at, _ := req.time()
		to.run.Least, to.run.Greatest = min(to.run.Least, at), max(to.run.Greatest, at)
	}
	r.mu.bytes += l.rows.Bytes() - before
	if first {
		r.mu.waiting = append(r.mu.waiting, l)
	}
	if l.rows.Full() {
		return r.flush()
	}
	return nil
}

// route returns where a request's row goes.
func (r *rows) route(req *request) (route, error) {
	key := r.mu.key[:0]
	for _, part := range [...][]byte{req.config, req.flow, req.run} {
		key = binary.AppendUvarint(key, uint64(len(part)))
		key = append(key, part...)
	}
	r.mu.key = key
	if string(key) == string(r.mu.lastKey) {
		return r.mu.last, nil
	}
	to, known := r.mu.routes[string(key)]
	if !known {
		var err error
		if to, err = r.open(req); err != nil {
			return route{}, err
		}
		r.mu.routes[string(key)] = to
		r.mu.cost += routeBytes + len(key)
	}
	r.mu.last, r.mu.lastKey = to, append(r.mu.lastKey[:0], key...)
	return to, nil
}

// open looks a new route up.
func (r *rows) open(req *request) (route, error) {
	run := string(req.run)
	flow, number, err := r.pipe.flow(string(req.config), string(req.flow), run)
	if err != nil {
		return route{}, err
	}
	to := route{lane: r.mu.lanes[number]}
	if to.lane == nil {
		to.lane = newLane(flow, number)
		r.mu.lanes[number] = to.lane
		r.mu.cost += to.lane.cost
	}
	if run != "" {
		to.run = r.run(run, flow.AssetID)
	}
	return to, nil
}

// run returns where to note what came in for a run.
func (r *rows) run(id, asset string) *registry.Ingested {
	run := r.mu.runs[id]
	if run == nil {
		run = &registry.Ingested{Least: math.MaxInt64, Greatest: math.MinInt64}
		r.mu.runs[id] = run
	}
	for _, known := range run.AssetIDs {
		if known == asset {
			return run
		}
	}
	run.AssetIDs = append(run.AssetIDs, asset)
	return run
}

// forget emits everything and drops the routes and lanes.
func (r *rows) forget() error {
	if err := r.flush(); err != nil {
		return err
	}
	r.pipe.ingested(r.mu.runs)
	clear(r.mu.routes)
	clear(r.mu.lanes)
	clear(r.mu.runs)
	r.mu.last, r.mu.lastKey, r.mu.cost = route{}, r.mu.lastKey[:0], 0
	return nil
}

// refuse notes a row that is not taken. It returns an error if the row wants the
// stream to end then.
func (r *rows) refuse(req *request, flow sdk.FlowNumber, reason string) error {
	key := refusal{flow, reason}
	t := r.mu.refusals[key]
	if t == nil {
		if len(r.mu.refusals) == maxReasons {
			if err := r.flush(); err != nil {
				return err
			}
		}
		t = new(tally)
		r.mu.refusals[key] = t
	}
	t.add(req)
	if req.strict {
		return status.Error(codes.InvalidArgument, reason)
	}
	return r.schedule() // emitting reports it, together with others
}

// flush emits what is gathered, flow by flow in the order of their first rows.
// Called with the lock held, because order matters more than waiting.
func (r *rows) flush() error {
	if r.mu.err != nil {
		return r.mu.err
	}
	for _, l := range r.mu.waiting {
		r.mu.cost += l.grown()
		sequence, err := r.pipe.emit(l.number, l.rows)
		if err != nil {
			r.mu.err = err
			return err
		}
		r.mu.sequence = sequence
	}
	clear(r.mu.waiting)
	r.mu.waiting, r.mu.bytes = r.mu.waiting[:0], 0
	for key, t := range r.mu.refusals {
		err := r.pipe.refuse(sdk.Dropped{Flow: key.flow, Rows: t.rows, Reason: key.reason, From: t.from, To: t.to, Refused: true})
		if err != nil {
			r.mu.err = err
			return err
		}
	}
	clear(r.mu.refusals)
	r.pipe.received(r.mu.messages, r.mu.received)
	r.mu.messages, r.mu.received = 0, 0
	return nil
}

// tick is called by the pacer when the stream's time has come.
func (r *rows) tick() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.due = false
	_ = r.flush() // the next add, or end, returns it
}

// result is what came of a stream's rows.
type result struct {
	sequence uint64 // of its last batch; 0: none
	runs     map[string]*registry.Ingested
	err      error // nothing may be acknowledged
}

// end emits the rest; rows that come later are not taken. It reports whether it
// was this call that ended the stream.
func (r *rows) end() (result, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := !r.mu.ended
	r.mu.ended = true
	if first {
		_ = r.flush()
	}
	return result{r.mu.sequence, r.mu.runs, r.mu.err}, first
}
