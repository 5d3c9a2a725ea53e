package parquet

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"

	"github.com/parquet-go/parquet-go"

	"github.com/pipelined/pipelined/sdk"
)

// timeColumn is the name of the column of the stamps, in every table.
const timeColumn = "time"

// Keys of the file's metadata.
const (
	metaFormat    = "pipelined.format" // of the metadata: "1"
	metaPipeline  = "pipelined.pipeline"
	metaAsset     = "pipelined.asset"
	metaClientKey = "pipelined.client_key"
	metaRun       = "pipelined.run"
	metaFlow      = "pipelined.flow"
	metaChannels  = "pipelined.channels" // JSON, a list of channelMeta
)

// channelMeta says what a column holds.
type channelMeta struct {
	Column      string        `json:"column"`
	Channel     string        `json:"channel"`
	Type        string        `json:"type"`
	Unit        string        `json:"unit,omitempty"`
	Description string        `json:"description,omitempty"`
	Enum        []enumMeta    `json:"enum,omitempty"`
	BitField    []elementMeta `json:"bit_field,omitempty"`
}

type enumMeta struct {
	Key  uint32 `json:"key"`
	Name string `json:"name"`
}

type elementMeta struct {
	Name     string `json:"name"`
	Index    int32  `json:"index"`     // position of its first bit
	BitCount uint32 `json:"bit_count"` // width in bits
}

// columnNames returns the names of the columns of a flow's channels: those of the
// channels, except that none is called like the column of the stamps.
func columnNames(f *sdk.Flow) []string {
	names := make([]string, len(f.Channels))
	for i := range f.Channels {
		names[i] = f.Channels[i].Name
		for n := 1; names[i] == timeColumn || n > 1 && f.Channel(names[i]) >= 0; n++ {
			names[i] = f.Channels[i].Name + "_" + strconv.Itoa(n)
		}
	}
	return names
}

// checkFlow reports a flow that no file can hold.
func checkFlow(f *sdk.Flow) error {
	if columns := len(f.Channels) + 1; columns > parquet.MaxColumnIndex {
		return fmt.Errorf("flow %q has %d channels, a Parquet file can have %d", f.Name, len(f.Channels), parquet.MaxColumnIndex-1)
	}
	return nil
}

// schemaOf returns the schema of a flow's table.
func schemaOf(f *sdk.Flow) *parquet.Schema {
	root := &record{Node: parquet.Group{}}
	root.add(timeColumn, parquet.Encoded(parquet.Timestamp(parquet.Nanosecond), &parquet.DeltaBinaryPacked))
	for i, name := range columnNames(f) {
		root.add(name, parquet.Optional(nodeOf(f.Channels[i].Type)))
	}
	return parquet.NewSchema("flow", root)
}

func nodeOf(t sdk.ChannelType) parquet.Node {
	switch t {
	case sdk.Double:
		return parquet.Leaf(parquet.DoubleType)
	case sdk.Float:
		return parquet.Leaf(parquet.FloatType)
	case sdk.Bool:
		return parquet.Leaf(parquet.BooleanType)
	case sdk.Int32:
		return parquet.Int(32)
	case sdk.Uint32:
		return parquet.Uint(32)
	case sdk.Int64:
		return parquet.Int(64)
	case sdk.Uint64:
		return parquet.Uint(64)
	case sdk.String, sdk.Enum:
		return parquet.Encoded(parquet.String(), &parquet.RLEDictionary)
	default: // bytes and bit fields
		return parquet.Encoded(parquet.Leaf(parquet.ByteArrayType), &parquet.Plain)
	}
}

// record is the root of a schema: a group whose fields keep their order.
type record struct {
	parquet.Node
	fields []parquet.Field
}

func (r *record) add(name string, node parquet.Node) { r.fields = append(r.fields, field{node, name}) }

// Fields returns the columns.
func (r *record) Fields() []parquet.Field { return r.fields }

// GoType returns a type without meaning: rows are never values here.
func (r *record) GoType() reflect.Type { return reflect.TypeFor[struct{}]() }

type field struct {
	parquet.Node
	name string
}

// Name returns the name of the column.
func (f field) Name() string { return f.name }

// Value is for rows that are Go values, which are not used here.
func (f field) Value(reflect.Value) reflect.Value {
	panic("parquet: rows are written as columns")
}

// metadataOf returns the metadata of a table's files.
func metadataOf(f *sdk.Flow, pipeline string, n naming) (map[string]string, error) {
	channels := make([]channelMeta, len(f.Channels))
	for i, column := range columnNames(f) {
		c := &f.Channels[i]
		m := channelMeta{Column: column, Channel: c.Name, Type: c.Type.String(), Unit: c.Unit, Description: c.Description}
		for _, e := range c.Enum {
			m.Enum = append(m.Enum, enumMeta{e.Key, e.Name})
		}
		for _, e := range c.BitField {
			m.BitField = append(m.BitField, elementMeta{e.Name, e.Index, e.BitCount})
		}
		channels[i] = m
	}
	text, err := json.Marshal(channels)
	if err != nil {
		return nil, fmt.Errorf("metadata of flow %q: %w", f.Name, err)
	}
	meta := map[string]string{
		metaFormat: "1", metaPipeline: pipeline, metaFlow: f.Name, metaChannels: string(text),
		metaAsset: n.asset, metaClientKey: n.clientKey, metaRun: n.run,
	}
	for key, value := range meta {
		if value == "" {
			delete(meta, key)
		}
	}
	return meta, nil
}
