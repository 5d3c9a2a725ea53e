package pipeline

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pipelined/pipelined/core/backup"
	"github.com/pipelined/pipelined/core/delivery"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/wire"
)

// adoptOrphans stores messages again that an unclean end left without a record. It
// may be that they were delivered; they were never acknowledged.
func (s *store) adoptOrphans(orphans []backup.Orphan) {
	for _, o := range orphans {
		adopted, err := s.backup.Adopt(o, s.placeOrphan)
		if err != nil {
			s.logger.Error("messages without a record stay in their file until the next start", "file", o.File, "error", err)
		}
		if adopted.Left > 0 {
			s.logger.Error("messages of no known flow stay in their file", "file", o.File, "chunks", adopted.Left)
		}
		if !adopted.Ids.Empty() {
			s.logger.Warn("messages without a record will be delivered, perhaps again", "file", o.File, "messages", adopted.Ids.Count())
		}
	}
}

// placeOrphan finds the flow of a chunk among those of its file, by what its first
// message says.
func (s *store) placeOrphan(c backup.OrphanChunk) (backup.Meta, error) {
	to := addressOf(firstMessage(c.Body))
	var meta backup.Meta
	for _, definition := range c.Definitions {
		def, err := wire.UnmarshalFlow(definition)
		if err != nil || def.Name != to.flow {
			continue
		}
		if meta.Flow != 0 {
			return meta, backup.ErrLeave // two flows of that name: it could be either's
		}
		if meta.Flow, err = s.orphanFlow(*def, definition); err != nil {
			return meta, err
		}
	}
	if meta.Flow == 0 {
		return meta, backup.ErrLeave
	}
	number, err := s.bindingNumber(to.target)
	meta.Binding = number
	return meta, err
}

// orphanFlow returns the number of an adopted flow. One definition has one.
func (s *store) orphanFlow(def sdk.Flow, definition []byte) (uint32, error) {
	if f := s.adopted[string(definition)]; f != nil {
		return s.flowNumber(f)
	}
	f := delivery.NewFlow(def, s.before(), len(s.tracks))
	s.adopted[string(definition)] = f
	return s.flowNumber(f)
}

// Numbers of fields of a message and of its timestamp, see the contract of the
// destination.
const (
	fieldConfig = 1
	fieldFlow   = 2
	fieldTime   = 3
	fieldRun    = 5

	fieldSeconds = 1
	fieldNanos   = 2
)

// address is what a message says of where it belongs.
type address struct {
	flow   string
	target sdk.Binding
	time   int64 // of the row, ns since the Unix epoch
}

// addressOf reads the message that data begins with, as far as it can be read.
func addressOf(data []byte) (a address) {
	eachField(data, func(number protowire.Number, value []byte, _ uint64) {
		switch number {
		case fieldConfig:
			a.target.ConfigID = string(value)
		case fieldFlow:
			a.flow = string(value)
		case fieldRun:
			a.target.RunID = string(value)
		case fieldTime:
			eachField(value, func(number protowire.Number, _ []byte, n uint64) {
				switch number {
				case fieldSeconds:
					a.time += int64(n) * 1e9
				case fieldNanos:
					a.time += int64(n)
				}
			})
		}
	})
	return a
}

// eachField calls use for the fields with bytes or a varint in a message.
func eachField(data []byte, use func(number protowire.Number, value []byte, n uint64)) {
	for len(data) > 0 {
		number, kind, tag := protowire.ConsumeTag(data)
		if tag < 0 {
			return
		}
		size := protowire.ConsumeFieldValue(number, kind, data[tag:])
		if size < 0 {
			return
		}
		switch kind {
		case protowire.BytesType:
			value, _ := protowire.ConsumeBytes(data[tag:])
			use(number, value, 0)
		case protowire.VarintType:
			n, _ := protowire.ConsumeVarint(data[tag:])
			use(number, nil, n)
		}
		data = data[tag+size:]
	}
}
