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
	name, target := addressOf(firstMessage(c.Body))
	var meta backup.Meta
	for _, definition := range c.Definitions {
		def, err := wire.UnmarshalFlow(definition)
		if err != nil || def.Name != name {
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
	number, err := s.bindingNumber(target)
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

// Numbers of fields of a message, see the contract of the destination.
const (
	fieldConfig = 1
	fieldFlow   = 2
	fieldRun    = 5
)

// addressOf returns the flow's name and the ids in the message that data begins with.
func addressOf(data []byte) (flow string, target sdk.Binding) {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			break
		}
		size := protowire.ConsumeFieldValue(number, kind, data[n:])
		if size < 0 {
			break
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(data[n:])
			switch number {
			case fieldConfig:
				target.ConfigID = string(value)
			case fieldFlow:
				flow = string(value)
			case fieldRun:
				target.RunID = string(value)
			}
		}
		data = data[n+size:]
	}
	return flow, target
}
