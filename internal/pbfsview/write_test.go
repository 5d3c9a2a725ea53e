package pbfsview

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"
)

type writer interface {
	Write(*Message) error
	Flush() error
}

// write writes messages as they come from a file.
func write(t tester, w writer, messages []*request) {
	t.Helper()
	file, _ := fileOf(t, messages)
	for r := NewReader(bytes.NewReader(file), int64(len(file))); ; {
		m, err := r.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		require.NoError(t, w.Write(m))
	}
	require.NoError(t, w.Flush())
}

func toJSON(t tester, messages ...*request) string {
	t.Helper()
	var out bytes.Buffer
	write(t, NewJSON(bufio.NewWriter(&out)), messages)
	return out.String()
}

func toCSV(t tester, terminal bool, messages ...*request) string {
	t.Helper()
	var out bytes.Buffer
	w, err := NewCSV(bufio.NewWriter(&out), terminal)
	require.NoError(t, err)
	write(t, w, messages)
	return out.String()
}

// line is a line of JSON as a reader sees it.
type line struct {
	Flow           *string           `json:"flow"`
	Timestamp      json.RawMessage   `json:"timestamp"`
	ConfigID       *string           `json:"ingestion_config_id"`
	RunID          *string           `json:"run_id"`
	Values         []json.RawMessage `json:"values"`
	EndStream      bool              `json:"end_stream_on_validation_error"`
	OrganizationID string            `json:"organization_id"`
}

// parseJSON is the inverse of the writer, built on another JSON library.
func parseJSON(t tester, text string) (messages []*request) {
	t.Helper()
	for raw := range strings.Lines(text) {
		require.True(t, strings.HasSuffix(raw, "}\n"))
		var l line
		d := json.NewDecoder(strings.NewReader(raw))
		d.DisallowUnknownFields()
		require.NoError(t, d.Decode(&l))
		m := &request{
			Flow: *l.Flow, IngestionConfigId: *l.ConfigID, RunId: *l.RunID, Timestamp: parseTimestamp(t, l.Timestamp),
			EndStreamOnValidationError: l.EndStream, OrganizationId: l.OrganizationID,
		}
		for _, v := range l.Values {
			m.ChannelValues = append(m.ChannelValues, parseValue(t, v))
		}
		messages = append(messages, m)
	}
	return messages
}

func parseTimestamp(t tester, raw json.RawMessage) *timestamppb.Timestamp {
	var text *string
	if json.Unmarshal(raw, &text) != nil {
		var parts struct {
			Seconds int64 `json:"seconds,string"`
			Nanos   int32 `json:"nanos"`
		}
		require.NoError(t, json.Unmarshal(raw, &parts))
		return &timestamppb.Timestamp{Seconds: parts.Seconds, Nanos: parts.Nanos}
	}
	if text == nil {
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, *text)
	require.NoError(t, err)
	return timestamppb.New(at)
}

func parseValue(t tester, raw json.RawMessage) *channel {
	var untagged any
	require.NoError(t, json.Unmarshal(raw, &untagged))
	switch v := untagged.(type) {
	case nil:
		return none()
	case bool:
		return flag(v)
	case string:
		return text(v)
	case float64:
		return double(v)
	}
	var tagged map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(raw, &tagged))
	for kind, raw := range tagged {
		text := string(raw)
		if text[0] == '"' {
			require.NoError(t, json.Unmarshal(raw, &text))
		}
		return valueFrom(t, kind, text)
	}
	return &channel{}
}

// valueFrom returns the value of a type that has this text.
func valueFrom(t tester, kind, s string) *channel {
	var v *channel
	var err error
	signed := func(bits int) (n int64) { n, err = strconv.ParseInt(s, 10, bits); return n }
	unsigned := func(bits int) (n uint64) { n, err = strconv.ParseUint(s, 10, bits); return n }
	number := func(bits int) (n float64) { n, err = strconv.ParseFloat(s, bits); return n }
	decode := func() (b []byte) { b, err = base64.StdEncoding.DecodeString(s); return b }
	switch kind {
	case "double":
		v = double(number(64))
	case "float":
		v = single(float32(number(32)))
	case "string":
		v = text(s)
	case "bool":
		v = flag(s == "true")
	case "int32":
		v = int32Of(int32(signed(32)))
	case "uint32":
		v = uint32Of(uint32(unsigned(32)))
	case "enum":
		v = enumOf(uint32(unsigned(32)))
	case "int64":
		v = int64Of(signed(64))
	case "uint64":
		v = uint64Of(unsigned(64))
	case "bytes":
		v = bytesOf(decode())
	case "bit_field":
		v = bitsOf(decode())
	case "empty":
		v = none()
	case "unknown":
		v = &channel{}
	default:
		require.Fail(t, "unknown type", kind)
	}
	require.NoError(t, err)
	return v
}

// requireRendered checks that what is written tells exactly these messages.
func requireRendered(t tester, messages []*request) {
	t.Helper()
	text := toJSON(t, messages...)
	requireSame(t, messages, parseJSON(t, text))
	joined := strings.ReplaceAll(text, "\n", "")
	require.Equal(t, replaceUnsafe(joined), joined, "safe for a terminal")

	lines := 1
	for _, m := range messages {
		lines += max(1, len(m.ChannelValues))
	}
	records, err := csv.NewReader(strings.NewReader(toCSV(t, false, messages...))).ReadAll()
	require.NoError(t, err)
	require.Len(t, records, lines)
	requireRecords(t, messages, records[1:])
}

// requireRecords checks that the lines of CSV tell these messages.
func requireRecords(t tester, messages []*request, records [][]string) {
	t.Helper()
	unix := func(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") } // as the reader does
	for _, m := range messages {
		stamp := ""
		if at := m.GetTimestamp(); at.IsValid() {
			stamp = at.AsTime().Format(TimeFormat)
		} else if at != nil {
			stamp = fmt.Sprintf("%ds %dns", at.Seconds, at.Nanos)
		}
		if len(m.ChannelValues) == 0 {
			require.Equal(t, []string{unix(m.Flow), stamp, "", "", ""}, records[0])
			records = records[1:]
		}
		for i, v := range m.ChannelValues {
			r := records[0]
			records = records[1:]
			require.Equal(t, []string{unix(m.Flow), stamp, strconv.Itoa(i)}, r[:3])
			if r[3] == "string" {
				require.Equal(t, unix(v.GetString_()), r[4])
				continue
			}
			requireSame(t, []*request{{ChannelValues: []*channel{v}}}, []*request{{ChannelValues: []*channel{valueFrom(t, r[3], r[4])}}})
		}
	}
}

func TestWritersTellEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		requireRendered(t, rapid.SliceOfN(genRequest(), 0, 4).Draw(t, "messages"))
	})
}

func TestJSONValues(t *testing.T) {
	for _, tc := range []struct {
		value *channel
		want  string
	}{
		{double(1), `1`},
		{double(-0.1), `-0.1`},
		{double(math.Copysign(0, -1)), `-0`},
		{double(math.MaxFloat64), `1.7976931348623157e+308`},
		{double(math.SmallestNonzeroFloat64), `5e-324`},
		{double(math.NaN()), `{"double":"NaN"}`},
		{double(math.Inf(1)), `{"double":"Infinity"}`},
		{double(math.Inf(-1)), `{"double":"-Infinity"}`},
		{single(0.1), `{"float":0.1}`},
		{single(float32(math.NaN())), `{"float":"NaN"}`},
		{single(float32(math.Inf(-1))), `{"float":"-Infinity"}`},
		{text("on"), `"on"`},
		{text(""), `""`},
		{text("\"\\/<&>\n\t\x00"), `"\"\\/<&>\u000a\u0009\u0000"`},
		{text("\x1b[2J\x7f\u009b\u202e\u2028é€😀"), `"\u001b[2J\u007f\u009b\u202e\u2028é€😀"`},
		{flag(true), `true`},
		{flag(false), `false`},
		{int32Of(math.MinInt32), `{"int32":-2147483648}`},
		{uint32Of(math.MaxUint32), `{"uint32":4294967295}`},
		{int64Of(math.MinInt64), `{"int64":"-9223372036854775808"}`},
		{uint64Of(math.MaxUint64), `{"uint64":"18446744073709551615"}`},
		{enumOf(7), `{"enum":7}`},
		{bytesOf([]byte{0, 0xff}), `{"bytes":"AP8="}`},
		{bitsOf(nil), `{"bit_field":""}`},
		{none(), `null`},
		{&channel{}, `{}`},
	} {
		want := `{"flow":"","timestamp":null,"ingestion_config_id":"","run_id":"","values":[` + tc.want + "]}\n"
		assert.Equal(t, want, toJSON(t, &request{ChannelValues: []*channel{tc.value}}))
	}
}

func TestJSONMembers(t *testing.T) {
	m := &request{Flow: "f\x1b", IngestionConfigId: "c", RunId: "r", Timestamp: &timestamppb.Timestamp{Seconds: -1, Nanos: 5}}
	assert.Equal(t, `{"flow":"f\u001b","timestamp":"1969-12-31T23:59:59.000000005Z","ingestion_config_id":"c","run_id":"r","values":[]}`+"\n", toJSON(t, m))
	m.Timestamp = &timestamppb.Timestamp{Seconds: math.MaxInt64, Nanos: -1}
	m.EndStreamOnValidationError, m.OrganizationId = true, "o"
	assert.Equal(t, `{"flow":"f\u001b","timestamp":{"seconds":"9223372036854775807","nanos":-1},"ingestion_config_id":"c","run_id":"r","values":[],`+
		`"end_stream_on_validation_error":true,"organization_id":"o"}`+"\n", toJSON(t, m))
}

func TestCSV(t *testing.T) {
	m := &request{Flow: "a,\"b\"\x1b", Timestamp: &timestamppb.Timestamp{Seconds: 1}, ChannelValues: []*channel{text("x\x1by"), text(""), none(), double(0.5)}}
	assert.Equal(t, "flow,time,position,type,value\n"+
		"\"a,\"\"b\"\"\x1b\",1970-01-01T00:00:01.000000000Z,0,string,x\x1by\n"+
		"\"a,\"\"b\"\"\x1b\",1970-01-01T00:00:01.000000000Z,1,string,\n"+
		"\"a,\"\"b\"\"\x1b\",1970-01-01T00:00:01.000000000Z,2,empty,\n"+
		"\"a,\"\"b\"\"\x1b\",1970-01-01T00:00:01.000000000Z,3,double,0.5\n", toCSV(t, false, m))
	assert.Contains(t, toCSV(t, true, m), "\"a,\"\"b\"\"\uFFFD\",1970-01-01T00:00:01.000000000Z,0,string,x\uFFFDy\n")
	assert.Equal(t, "flow,time,position,type,value\nf,-9223372036854775808s 5ns,,,\n",
		toCSV(t, false, &request{Flow: "f", Timestamp: &timestamppb.Timestamp{Seconds: math.MinInt64, Nanos: 5}}))
	assert.Equal(t, "flow,time,position,type,value\n", toCSV(t, false))
}

// full is an output that takes n bytes.
type full struct{ n int }

func (f *full) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, errDisk
	}
	return len(p), nil
}

func TestWritersReportErrors(t *testing.T) {
	m := &request{ChannelValues: []*channel{text(strings.Repeat("x", 10_000))}}
	file, _ := fileOf(t, []*request{m})
	for name, open := range map[string]func(*bufio.Writer) (writer, error){
		"JSON": func(out *bufio.Writer) (writer, error) { return NewJSON(out), nil },
		"CSV":  func(out *bufio.Writer) (writer, error) { return NewCSV(out, false) },
	} {
		t.Run(name, func(t *testing.T) {
			w, err := open(bufio.NewWriterSize(&full{5000}, 4096))
			require.NoError(t, err)
			read, err := NewReader(bytes.NewReader(file), int64(len(file))).Next()
			require.NoError(t, err)
			require.ErrorIs(t, w.Write(read), errDisk)
			require.ErrorIs(t, w.Flush(), errDisk)
		})
	}
}
