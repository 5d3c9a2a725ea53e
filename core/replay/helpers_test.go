package replay

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pipelined/pipelined/core/backoff"
	"github.com/pipelined/pipelined/core/vfs"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

const configID = "0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"

// row makes message number n of a flow, as the reference client writes it. Its time
// is n seconds.
func row(n int, flow string) []byte { return rowOf(n, flow, configID, "r") }

func rowOf(n int, flow, config, run string) []byte {
	b := protowire.AppendString(protowire.AppendTag(nil, fieldConfig, protowire.BytesType), config)
	b = protowire.AppendString(protowire.AppendTag(b, fieldFlow, protowire.BytesType), flow)
	at := protowire.AppendVarint(protowire.AppendTag(nil, fieldSeconds, protowire.VarintType), uint64(n))
	b = protowire.AppendBytes(protowire.AppendTag(b, fieldTime, protowire.BytesType), at)
	value := protowire.AppendFixed64(protowire.AppendTag(nil, 2, protowire.Fixed64Type), uint64(n))
	b = protowire.AppendBytes(protowire.AppendTag(b, fieldValue, protowire.BytesType), value)
	return protowire.AppendString(protowire.AppendTag(b, fieldRun, protowire.BytesType), run)
}

// numberOf is the inverse of row.
func numberOf(t require.TestingT, message []byte) int {
	h, err := parse(message)
	require.NoError(t, err)
	return int(h.seconds)
}

// chunks makes a file, one message to a chunk, and the offsets of its chunks.
func chunks(messages ...[]byte) (file []byte, at []int64) {
	for _, m := range messages {
		at = append(at, int64(len(file)))
		file = pbfs.AppendChunk(file, pbfs.AppendMessage(nil, m))
	}
	return file, append(at, int64(len(file)))
}

func rows(from, to int, flows ...string) [][]byte {
	var out [][]byte
	for n := from; n < to; n++ {
		out = append(out, row(n, flows[n%len(flows)]))
	}
	return out
}

var inodes atomic.Uint64

func source(file []byte) *Source {
	return &Source{
		Path: "/backups/a", File: bytes.NewReader(file),
		Identity: Identity{Device: 1, Inode: inodes.Add(1), Size: int64(len(file))},
	}
}

// server is a destination that remembers what it confirmed. Answer decides on each
// stream.
type server struct {
	answer    func(sent [][]byte) error
	send      func(sent int) error // of each batch, with the messages so far
	connect   func() error
	confirmed [][]byte
	batches   []int // messages in each batch that was sent
	sessions  int
	closed    int
}

type fakeSession struct {
	*server
	open bool
	sent [][]byte
}

func (s *server) start(context.Context) (Session, error) {
	if s.connect != nil {
		if err := s.connect(); err != nil {
			return nil, err
		}
	}
	s.sessions++
	return &fakeSession{server: s}, nil
}

func (s *fakeSession) Open(bool) error {
	if s.open {
		panic("a stream is open already")
	}
	s.open, s.sent = true, nil
	return nil
}

func (s *fakeSession) Send(_ context.Context, b *Batch) error {
	count := 0
	for rest := b.Body; len(rest) > 0; count++ {
		n := binary.LittleEndian.Uint32(rest)
		s.sent = append(s.sent, bytes.Clone(rest[4:4+n]))
		rest = rest[4+n:]
	}
	if count != b.Count || count == 0 {
		panic("the count of a batch is wrong")
	}
	s.batches = append(s.batches, count)
	if s.server.send != nil {
		return s.server.send(len(s.sent))
	}
	return nil
}

func (s *fakeSession) Finish(context.Context, time.Duration) error {
	if !s.open {
		panic("no stream is open")
	}
	s.open = false
	if s.answer != nil {
		if err := s.answer(s.sent); err != nil {
			return err
		}
	}
	s.confirmed = append(s.confirmed, s.sent...)
	return nil
}

func (s *fakeSession) Full() bool { return false }

func (s *fakeSession) Close() { s.closed++ }

// numbers returns the rows that were confirmed, in their order.
func (s *server) numbers(t require.TestingT) []int {
	var out []int
	for _, m := range s.confirmed {
		out = append(out, numberOf(t, m))
	}
	return out
}

func sequence(from, to int) []int {
	var out []int
	for n := from; n < to; n++ {
		out = append(out, n)
	}
	return out
}

func settings(t testing.TB, fsys vfs.FS, s *server) Settings {
	t.Helper()
	store, err := OpenStore(fsys, "/progress")
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() }) // a crashed one fails
	return Settings{
		Connect: s.start, Store: store, CheckpointBytes: 64 << 20, Interval: 10 * time.Second,
		Patience: time.Second, Retry: backoff.Policy{Initial: time.Millisecond, Max: time.Millisecond, Multiplier: 2},
		Logger: slog.New(slog.DiscardHandler),
	}
}

func deliver(t testing.TB, s Settings, file []byte) (Outcome, error) {
	t.Helper()
	r := New(s)
	defer r.Close()
	return r.Deliver(t.Context(), nil, source(file))
}

func requireDelivered(t testing.TB, s Settings, file []byte) Outcome {
	t.Helper()
	o, err := deliver(t, s, file)
	require.NoError(t, err)
	require.True(t, o.End)
	return o
}

func memory() *vfs.Memory { return vfs.NewMemory(1 << 30) }

var errAway = &sdk.Error{Class: sdk.ClassDisconnected, Code: 14, Message: "away"}
