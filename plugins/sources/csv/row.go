package csv

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pipelined/pipelined/plugins/sources/csv/jsonline"
	"github.com/pipelined/pipelined/plugins/sources/csv/record"
	"github.com/pipelined/pipelined/sdk"
)

// misfit says why a row is refused.
type misfit struct {
	reason string // the same for all rows with the same fault
	found  string // what is in this row, for the log; may be empty
}

func (m misfit) String() string {
	if m.found == "" {
		return m.reason
	}
	return m.reason + ": " + m.found
}

// excerpt quotes a text for the log.
func excerpt(text []byte) string {
	const longest = 60
	if len(text) > longest {
		return fmt.Sprintf("%q…", text[:longest])
	}
	return fmt.Sprintf("%q", text)
}

// table takes the records of a file apart.
type table struct {
	spec   *spec
	header []string       // of CSV: the names of the fields
	tree   *jsonline.Tree // of NDJSON
	time   int            // index of the value with the event time

	values [][]byte         // of the row that was split last; nil: no value
	parsed []jsonline.Value // the same of NDJSON
}

// newTable returns a table for a file with that header; nil for NDJSON.
func newTable(s *spec, header []string) (*table, error) {
	t := &table{spec: s, header: header}
	if s.ndjson {
		t.tree = jsonline.NewTree()
		for _, d := range s.columns {
			t.tree.Add(d.path)
		}
		t.time = t.tree.Add(s.timePath)
		return t, nil
	}
	for _, d := range s.columns {
		if _, err := t.find(d.Name); err != nil {
			return nil, err
		}
	}
	var err error
	t.time, err = t.find(s.timeColumn)
	return t, err
}

// find returns the index of a field by its name.
func (t *table) find(name string) (int, error) {
	for i, known := range t.header {
		if known == name {
			return i, nil
		}
	}
	const most = 20
	names := t.header
	more := ""
	if len(names) > most {
		names, more = names[:most], fmt.Sprintf(" and %d more", len(t.header)-most)
	}
	return 0, fmt.Errorf("%s has no column %q; it has %q%s", t.spec.path, name, names, more)
}

// split takes a record apart into values and its event time.
func (t *table) split(rec *record.Record) (stamp int64, m *misfit) {
	if rec.Problem != "" {
		return 0, &misfit{string(rec.Problem), excerpt(rec.Text)}
	}
	if t.spec.ndjson {
		m = t.splitJSON(rec)
	} else {
		m = t.splitCSV(rec)
	}
	if m != nil {
		return 0, m
	}
	text := t.values[t.time]
	if text == nil || t.spec.isNull(trim(text)) {
		return 0, &misfit{reason: "row has no event time"}
	}
	stamp, err := t.spec.times.Parse(text)
	if err != nil {
		return 0, &misfit{err.Error(), excerpt(text)}
	}
	return stamp, nil
}

func (t *table) splitCSV(rec *record.Record) *misfit {
	if n := len(rec.Fields); n != len(t.header) {
		reason := "row has fewer fields than the header"
		if n > len(t.header) {
			reason = "row has more fields than the header"
		}
		return &misfit{reason, fmt.Sprintf("%d instead of %d", n, len(t.header))}
	}
	t.values = rec.Fields
	return nil
}

func (t *table) splitJSON(rec *record.Record) *misfit {
	parsed, err := t.tree.Read(rec.Text)
	if err != nil {
		m := &misfit{err.Error(), excerpt(rec.Text)}
		if e, ok := errors.AsType[*jsonline.Error](err); ok {
			m = &misfit{e.Reason, fmt.Sprintf("byte %d of %s", e.At+1, m.found)}
		}
		return m
	}
	t.parsed, t.values = parsed, t.values[:0]
	for i := range parsed {
		if parsed[i].Kind <= jsonline.Null {
			t.values = append(t.values, nil)
		} else {
			t.values = append(t.values, parsed[i].Text)
		}
	}
	return nil
}

func (s *spec) isNull(text []byte) bool {
	if s.onlyEmpty { // the usual case without a look-up
		return len(text) == 0
	}
	return s.null[string(text)]
}

// put adds the values of a row to the builder, whose row is begun.
func (t *table) put(columns []column, rows *sdk.Builder) *misfit {
	for i := range columns {
		c := &columns[i]
		text := t.values[c.field]
		if text == nil || t.spec.isNull(text) || c.typ != sdk.String && c.typ != sdk.Bytes && t.spec.isNull(trim(text)) {
			continue
		}
		if err := c.set(rows, text); err != nil {
			return &misfit{fmt.Sprintf("column %q %v", c.name, err), excerpt(text)}
		}
	}
	return nil
}

// readHeader reads what comes before the rows of a CSV file and returns the names
// of its columns, nil where there are none. io.EOF means that the header is not
// there (yet).
func readHeader(r *record.Reader, s *spec) ([]string, error) {
	for range s.skip {
		if err := r.SkipLine(); err != nil {
			return nil, err
		}
	}
	if s.ndjson || !s.header {
		return nil, nil
	}
	rec, err := r.Next()
	if err != nil {
		return nil, err
	}
	if rec.Problem != "" {
		return nil, fmt.Errorf("%s:%d: the header cannot be read: %s; without a header set header to false",
			s.path, rec.Line, rec.Problem)
	}
	names := make([]string, len(rec.Fields))
	seen := map[string]int{}
	for i, field := range rec.Fields {
		name := strings.TrimSpace(string(field))
		if strings.ContainsRune(name, '\r') {
			return nil, fmt.Errorf("%s:%d: the lines end with CR alone; convert them to LF", s.path, rec.Line)
		}
		if first, twice := seen[name]; twice && name != "" {
			return nil, fmt.Errorf("%s:%d: the header has the column %q twice, at positions %d and %d; rename one, or set header to false and skip_lines to %d",
				s.path, rec.Line, name, first+1, i+1, s.skip+1)
		}
		seen[name], names[i] = i, name
	}
	return names, nil
}

// numbered returns the names of the columns of a file without a header.
func numbered(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("column_%d", i+1)
	}
	return names
}
