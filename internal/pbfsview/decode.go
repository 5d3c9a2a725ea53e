package pbfsview

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
)

// MaxValues is the number of values that a message may have to be decoded. A value
// may take 2 bytes in a file, and takes about a hundred in memory.
const MaxValues = 1 << 20

// valuesField is the number of the field channel_values.
const valuesField = 4

// decode decodes a message into m. Fields that it does not know are left out.
func decode(raw []byte, m *ingestv1.IngestWithConfigDataStreamRequest) error {
	if len(raw) > 2*MaxValues { // others cannot have as many
		if err := checkValues(raw); err != nil {
			return err
		}
	}
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, m); err != nil {
		return explain(raw) // the text of err is not the same each time
	}
	return nil
}

func checkValues(raw []byte) error {
	values := 0
	for len(raw) > 0 {
		field, _, n := protowire.ConsumeField(raw)
		if n < 0 {
			return nil // it cannot be decoded in any case
		}
		if field == valuesField {
			values++
		}
		raw = raw[n:]
	}
	if values > MaxValues {
		return fmt.Errorf("it has %d values, at most %d are decoded", values, MaxValues)
	}
	return nil
}

// explain says why a message cannot be decoded.
func explain(raw []byte) error {
	for rest := raw; len(rest) > 0; {
		_, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			return fmt.Errorf("its byte %d begins no field", len(raw)-len(rest))
		}
		rest = rest[n:]
	}
	return errors.New("a field is malformed, or a text is not UTF-8")
}
