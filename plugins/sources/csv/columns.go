package csv

import (
	"github.com/pipelined/pipelined/plugins/sources/csv/jsonline"
	"github.com/pipelined/pipelined/sdk"
)

// columns collects the declared columns of a file: its own, then those of the
// source that it does not declare itself.
func (r *resolver) columns(s *spec, f input) {
	channels := map[string]bool{}
	seen := map[string]bool{}
	add := func(c ColumnConfig, at []sdk.Step, own map[string]bool) {
		if own[c.Name] {
			r.problem(at, "Duplicate column", "The column %q is declared twice.", c.Name)
			return
		}
		own[c.Name] = true
		if seen[c.Name] {
			return
		}
		seen[c.Name] = true
		d, ok := r.column(s, c, at)
		if !ok {
			return
		}
		if !d.Ignore && channels[d.channel] {
			r.problem(at, "Duplicate channel", "Two columns have the channel %q.", d.channel)
			return
		}
		channels[d.channel] = channels[d.channel] || !d.Ignore
		s.columns = append(s.columns, d)
	}
	if f.at != nil {
		own := map[string]bool{}
		for i, c := range f.Columns {
			add(c, in(f.at, sdk.Step{Block: "column", BlockIndex: i}), own)
		}
	}
	own := map[string]bool{}
	for i, c := range r.config.Columns {
		add(c, in(nil, sdk.Step{Block: "column", BlockIndex: i}), own)
	}
}

func (r *resolver) column(s *spec, c ColumnConfig, at []sdk.Step) (declared, bool) {
	before := len(r.diags)
	d := declared{ColumnConfig: c, channel: c.Name}
	if c.Name == "" {
		r.problem(at, "Missing column", "The label names the column.")
	}
	if c.Channel != nil {
		d.channel = *c.Channel
		if d.channel == "" {
			r.problem(in(at, attribute("channel")), "Missing channel", "The name of a channel cannot be empty.")
		}
	}
	if c.Type != nil {
		typ, err := sdk.ParseChannelType(*c.Type)
		if err != nil || typ == sdk.BitField {
			r.problem(in(at, attribute("type")), "Unknown type", "The type %q cannot be read from text.", *c.Type)
		}
		d.typ = typ
	}
	r.enum(d, at)
	r.path(s, &d, at)
	return d, len(r.diags) == before
}

func (r *resolver) path(s *spec, d *declared, at []sdk.Step) {
	if !s.ndjson {
		if d.Path != nil {
			r.problem(in(at, attribute("path")), "Unused setting", "Paths are for NDJSON; a column of CSV is found by its name in the header.")
		}
		return
	}
	text, place := d.Name, at
	if d.Path != nil {
		text, place = *d.Path, in(at, attribute("path"))
	}
	path, err := jsonline.ParsePath(text)
	if err != nil {
		r.problem(place, "Invalid path", "%v.", err)
	}
	d.path = path
}

// enum checks the names of an enum's keys.
func (r *resolver) enum(d declared, at []sdk.Step) {
	values := in(at, attribute("values"))
	switch {
	case d.typ != sdk.Enum && len(d.Values) > 0:
		r.problem(values, "Unused setting", "Values belong to type \"enum\".")
	case d.typ == sdk.Enum && len(d.Values) == 0:
		r.problem(in(at, attribute("type")), "Missing values", "An enum needs values = { NAME = key, … }.")
	}
	names := map[uint32]string{}
	for _, v := range enumValues(d.Values) {
		if v.Name == "" {
			r.problem(values, "Missing name", "The name of the key %d is empty.", v.Key)
		}
		if other, twice := names[v.Key]; twice {
			r.problem(values, "Duplicate key", "The key %d has two names, %q and %q.", v.Key, other, v.Name)
		}
		names[v.Key] = v.Name
	}
}
