package csv

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/pipelined/pipelined/sdk"
)

// schema is what the rows of a file become.
type schema struct {
	table   *table
	flow    sdk.Flow
	columns []column // that become channels
}

// schemaMaker puts the columns of a file together.
type schemaMaker struct {
	spec     *spec
	table    *table
	evidence []evidence // for each value of a row
	known    []inferred // types that were found before; nil: none

	schema  schema
	found   []inferred
	unsure  []string // columns without any value
	ignored []string // columns that no channel can be made of
}

func (m *schemaMaker) make() error {
	m.schema.table = m.table
	m.schema.flow.Name = m.spec.flow
	if m.spec.ndjson {
		m.ndjson()
	} else {
		m.csv()
	}
	if len(m.schema.columns) == 0 {
		return fmt.Errorf("%s has no columns beside the event time; declare those that are wanted", m.spec.path)
	}
	if err := m.schema.flow.Check(); err != nil {
		return fmt.Errorf("%s: %w", m.spec.path, err)
	}
	m.forget()
	return nil
}

// report tells what a user may have expected otherwise.
func (m *schemaMaker) report(log *slog.Logger) {
	if len(m.unsure) > 0 {
		log.Warn("columns have no value in the first rows and are read as text; declare their types",
			"path", m.spec.path, "columns", listed(m.unsure))
	}
	if len(m.ignored) > 0 {
		log.Warn("columns are left out: they have no name, or are arrays or empty objects; declare what is wanted of them",
			"path", m.spec.path, "columns", listed(m.ignored))
	}
}

// listed shortens a list of names for the log.
func listed(names []string) string {
	const most = 20
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

func (m *schemaMaker) csv() {
	byName := map[string]*declared{}
	for i := range m.spec.columns {
		d := &m.spec.columns[i]
		byName[d.Name] = d
	}
	for field, name := range m.table.header {
		switch d := byName[name]; {
		case d != nil:
			m.declare(d, field)
		case name == "":
			m.ignored = append(m.ignored, fmt.Sprintf("column %d", field+1))
		case field != m.table.time:
			m.undeclared(name, field)
		}
	}
}

func (m *schemaMaker) ndjson() {
	tree := m.table.tree
	fixed := map[int]bool{m.table.time: true}
	for i := range m.spec.columns {
		d := &m.spec.columns[i]
		field := tree.Add(d.path)
		fixed[field] = true
		m.declare(d, field)
	}
	for field := range tree.Len() {
		if !fixed[field] {
			m.undeclared(tree.Name(field), field)
		}
	}
}

func (m *schemaMaker) declare(d *declared, field int) {
	if d.Ignore {
		return
	}
	typ := d.typ
	if typ == 0 {
		typ = m.typ(d.Name, field)
	}
	if typ == 0 { // an array or an object: its text
		typ = sdk.String
	}
	m.add(column{name: d.Name, field: field, typ: typ, enum: d.Values},
		sdk.Channel{Name: d.channel, Type: typ, Unit: d.Unit, Description: d.Description, Enum: enumValues(d.Values)})
}

func (m *schemaMaker) undeclared(name string, field int) {
	if m.spec.onlyDeclared {
		return
	}
	if typ := m.typ(name, field); typ != 0 {
		m.add(column{name: name, field: field, typ: typ}, sdk.Channel{Name: name, Type: typ})
	}
}

// typ returns the type of a column that was found, now or before; 0: it cannot be
// a channel.
func (m *schemaMaker) typ(name string, field int) sdk.ChannelType {
	if m.spec.ndjson {
		name = m.table.tree.Path(field).String()
	}
	for _, k := range m.known {
		if k.Column == name {
			m.found = append(m.found, k)
			return k.Type
		}
	}
	var e evidence
	if field < len(m.evidence) {
		e = m.evidence[field]
	}
	typ := e.typ(m.spec.follow)
	switch {
	case e.found() && typ == 0:
		m.ignored = append(m.ignored, name)
	case !e.found() && m.spec.ndjson && m.table.tree.Parts(field):
		typ = 0 // null, where others have an object
	case !e.found():
		m.unsure = append(m.unsure, name)
	}
	m.found = append(m.found, inferred{name, typ})
	return typ
}

func (m *schemaMaker) add(c column, channel sdk.Channel) {
	c.channel = len(m.schema.columns)
	m.schema.columns = append(m.schema.columns, c)
	m.schema.flow.Channels = append(m.schema.flow.Channels, channel)
}

// forget makes the columns of NDJSON that are no channels absent from rows.
func (m *schemaMaker) forget() {
	if !m.spec.ndjson {
		return
	}
	wanted := map[int]bool{m.table.time: true}
	for _, c := range m.schema.columns {
		wanted[c.field] = true
	}
	for field := range m.table.tree.Len() {
		if !wanted[field] {
			m.table.tree.Ignore(field)
		}
	}
}
