package sdk

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strings"
	"unicode/utf8"
)

// ChannelType is the type of all values of a channel. The numbers are those of
// the plugin contract and of the public ingestion API.
type ChannelType uint8

// The channel types.
const (
	Double ChannelType = iota + 1
	String
	Enum     // uint32 key; names are in Channel.Enum
	BitField // little-endian bytes of one width for the whole batch
	Bool
	Float
	Int32
	Uint32
	Int64
	Uint64
	Bytes
)

// ChannelTypes lists all types in the order of their numbers.
func ChannelTypes() []ChannelType {
	return []ChannelType{Double, String, Enum, BitField, Bool, Float, Int32, Uint32, Int64, Uint64, Bytes}
}

var channelTypeNames = [...]string{
	Double: "double", String: "string", Enum: "enum", BitField: "bit_field", Bool: "bool",
	Float: "float", Int32: "int32", Uint32: "uint32", Int64: "int64", Uint64: "uint64", Bytes: "bytes",
}

// Valid reports whether t is one of the channel types.
func (t ChannelType) Valid() bool { return t >= Double && t <= Bytes }

// String returns the name that pipeline files use.
func (t ChannelType) String() string {
	if !t.Valid() {
		return fmt.Sprintf("channel type %d", uint8(t))
	}
	return channelTypeNames[t]
}

// ParseChannelType is the inverse of String.
func ParseChannelType(name string) (ChannelType, error) {
	for _, t := range ChannelTypes() {
		if t.String() == name {
			return t, nil
		}
	}
	return 0, fmt.Errorf("unknown channel type %q", name)
}

// EnumValue names one key of an enum channel.
type EnumValue struct {
	Name   string
	Key    uint32
	Signed bool
}

// BitFieldElement names a range of bits of a bit field channel.
type BitFieldElement struct {
	Name     string
	Index    int32  // position of its first bit
	BitCount uint32 // width in bits
}

// Channel is one named, typed signal.
type Channel struct {
	Name        string
	Type        ChannelType
	Unit        string
	Description string
	Enum        []EnumValue
	BitField    []BitFieldElement
}

// Origin says for whom a flow came in. The zero value is the pipeline's own data.
type Origin struct {
	Asset     string
	ClientKey string
	Run       string // the run's client key, or its name where it has no key
}

// Flow is a named, ordered list of channels that are sampled together. Origin
// and Name identify it; its channels never change under one identity.
type Flow struct {
	Origin   Origin
	Name     string
	Channels []Channel
	// StrictlyIncreasing promises that each stamp is greater than the one before.
	StrictlyIncreasing bool
}

// Limits of a flow. They bound what a hostile plugin can make the host keep.
const (
	MaxChannels    = 65_536
	MaxNameBytes   = 16 << 10
	MaxRowsInBatch = 4_096
	// MaxBatchBytes is the size at which batches are cut.
	MaxBatchBytes = 1 << 20
	// MaxPayloadBytes is the hard limit of one payload; a single row beyond it is
	// refused.
	MaxPayloadBytes = 4 << 20
	// MaxPositionBytes bounds a source's position.
	MaxPositionBytes = 4 << 10
)

// Check reports what is wrong with the flow's definition.
func (f *Flow) Check() error {
	switch {
	case f.Name == "":
		return errors.New("flow has no name")
	case len(f.Name) > MaxNameBytes:
		return fmt.Errorf("flow name has %d bytes, the limit is %d", len(f.Name), MaxNameBytes)
	case !utf8.ValidString(f.Name):
		return fmt.Errorf("flow name %.100q is not UTF-8", f.Name)
	case len(f.Channels) == 0:
		return fmt.Errorf("flow %.100q has no channels", f.Name)
	case len(f.Channels) > MaxChannels:
		return fmt.Errorf("flow %.100q has %d channels, the limit is %d", f.Name, len(f.Channels), MaxChannels)
	}
	seen := make(map[string]struct{}, len(f.Channels))
	for i := range f.Channels {
		c := &f.Channels[i]
		if err := c.check(); err != nil {
			return fmt.Errorf("flow %.100q: channel %d: %w", f.Name, i, err)
		}
		if _, twice := seen[c.Name]; twice {
			return fmt.Errorf("flow %.100q has two channels %.100q", f.Name, c.Name)
		}
		seen[c.Name] = struct{}{}
	}
	return nil
}

func (c *Channel) check() error {
	switch {
	case c.Name == "":
		return errors.New("no name")
	case len(c.Name) > MaxNameBytes:
		return fmt.Errorf("name has %d bytes, the limit is %d", len(c.Name), MaxNameBytes)
	case !utf8.ValidString(c.Name):
		return fmt.Errorf("name %.100q is not UTF-8", c.Name)
	case !c.Type.Valid():
		return fmt.Errorf("%.100q has unknown type %d", c.Name, c.Type)
	}
	return nil
}

// Channel returns the position of the channel with that name, or -1.
func (f *Flow) Channel(name string) int {
	for i := range f.Channels {
		if f.Channels[i].Name == name {
			return i
		}
	}
	return -1
}

// Fingerprint identifies a flow's definition, its origin included.
type Fingerprint [16]byte

// String returns the fingerprint in hex.
func (p Fingerprint) String() string { return fmt.Sprintf("%x", p[:]) }

// Fingerprint is the first 16 bytes of the SHA-256 over the flow's canonical
// form: every field in declaration order, strings and lists with a 32-bit
// little-endian length before them, numbers as 32-bit little-endian words.
func (f *Flow) Fingerprint() Fingerprint {
	h := canonical{sha256.New()}
	h.string(f.Origin.Asset)
	h.string(f.Origin.ClientKey)
	h.string(f.Origin.Run)
	h.string(f.Name)
	h.bool(f.StrictlyIncreasing)
	h.number(uint32(len(f.Channels)))
	for i := range f.Channels {
		h.channel(&f.Channels[i])
	}
	return Fingerprint(h.Sum(nil)[:16])
}

type canonical struct{ hash.Hash }

func (h canonical) number(n uint32) {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], n)
	h.Write(b[:])
}

func (h canonical) string(s string) {
	h.number(uint32(len(s)))
	h.Write([]byte(s))
}

func (h canonical) bool(b bool) {
	if b {
		h.number(1)
		return
	}
	h.number(0)
}

func (h canonical) channel(c *Channel) {
	h.string(c.Name)
	h.number(uint32(c.Type))
	h.string(c.Unit)
	h.string(c.Description)
	h.number(uint32(len(c.Enum)))
	for _, e := range c.Enum {
		h.string(e.Name)
		h.number(e.Key)
		h.bool(e.Signed)
	}
	h.number(uint32(len(c.BitField)))
	for _, e := range c.BitField {
		h.string(e.Name)
		h.number(uint32(e.Index))
		h.number(e.BitCount)
	}
}

// mostDifferences keeps the text of a difference short.
const mostDifferences = 5

// Difference says in one line how b differs from f, for a person; empty when
// both define the same channels.
func (f *Flow) Difference(b *Flow) string {
	var out []string
	for i := range max(len(f.Channels), len(b.Channels)) {
		switch {
		case i >= len(b.Channels):
			out = append(out, fmt.Sprintf("channel %.100q is missing", f.Channels[i].Name))
		case i >= len(f.Channels):
			out = append(out, fmt.Sprintf("channel %.100q is new", b.Channels[i].Name))
		default:
			if d := f.Channels[i].difference(&b.Channels[i]); d != "" {
				out = append(out, fmt.Sprintf("channel %d: %s", i+1, d))
			}
		}
		if len(out) > mostDifferences {
			out[mostDifferences] = "…"
			break
		}
	}
	return strings.Join(out, "; ")
}

func (c *Channel) difference(d *Channel) string {
	switch {
	case c.Name != d.Name:
		return fmt.Sprintf("name %.100q, now %.100q", c.Name, d.Name)
	case c.Type != d.Type:
		return fmt.Sprintf("type of %.100q is %s, now %s", c.Name, c.Type, d.Type)
	case c.Unit != d.Unit:
		return fmt.Sprintf("unit of %.100q is %.100q, now %.100q", c.Name, c.Unit, d.Unit)
	case c.Description != d.Description:
		return fmt.Sprintf("description of %.100q is %.100q, now %.100q", c.Name, c.Description, d.Description)
	case fmt.Sprint(c.Enum) != fmt.Sprint(d.Enum):
		return fmt.Sprintf("enum values of %.100q differ", c.Name)
	case fmt.Sprint(c.BitField) != fmt.Sprint(d.BitField):
		return fmt.Sprintf("bit field elements of %.100q differ", c.Name)
	}
	return ""
}
