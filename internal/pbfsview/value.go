package pbfsview

import (
	"encoding/base64"
	"math"
	"strconv"

	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
)

// value is a value as text.
type value struct {
	kind   string // its type, as on the wire; "unknown" if this program does not know it
	text   string
	quoted bool // by JSON
}

func valueOf(v *ingestv1.IngestWithConfigDataChannelValue) value {
	switch v := v.GetType().(type) {
	case *ingestv1.IngestWithConfigDataChannelValue_String_:
		return value{"string", v.String_, true}
	case *ingestv1.IngestWithConfigDataChannelValue_Double:
		return float("double", v.Double, 64)
	case *ingestv1.IngestWithConfigDataChannelValue_Float:
		return float("float", float64(v.Float), 32)
	case *ingestv1.IngestWithConfigDataChannelValue_Bool:
		return value{"bool", strconv.FormatBool(v.Bool), false}
	case *ingestv1.IngestWithConfigDataChannelValue_Int32:
		return value{"int32", strconv.FormatInt(int64(v.Int32), 10), false}
	case *ingestv1.IngestWithConfigDataChannelValue_Uint32:
		return value{"uint32", strconv.FormatUint(uint64(v.Uint32), 10), false}
	case *ingestv1.IngestWithConfigDataChannelValue_Int64: // readers of JSON round what is over 2^53
		return value{"int64", strconv.FormatInt(v.Int64, 10), true}
	case *ingestv1.IngestWithConfigDataChannelValue_Uint64:
		return value{"uint64", strconv.FormatUint(v.Uint64, 10), true}
	case *ingestv1.IngestWithConfigDataChannelValue_BitField:
		return value{"bit_field", base64.StdEncoding.EncodeToString(v.BitField), true}
	case *ingestv1.IngestWithConfigDataChannelValue_Enum:
		return value{"enum", strconv.FormatUint(uint64(v.Enum), 10), false}
	case *ingestv1.IngestWithConfigDataChannelValue_Bytes:
		return value{"bytes", base64.StdEncoding.EncodeToString(v.Bytes), true}
	case *ingestv1.IngestWithConfigDataChannelValue_Empty:
		return value{"empty", "", false}
	}
	return value{"unknown", "", false}
}

// float writes a number with the fewest digits that tell it from all others.
func float(kind string, f float64, bits int) value {
	switch {
	case math.IsNaN(f):
		return value{kind, "NaN", true}
	case math.IsInf(f, 1):
		return value{kind, "Infinity", true}
	case math.IsInf(f, -1):
		return value{kind, "-Infinity", true}
	}
	return value{kind, strconv.FormatFloat(f, 'g', -1, bits), false}
}
