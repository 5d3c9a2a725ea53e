package csv

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"time"
	_ "time/tzdata" // zones also on machines without a database of their own

	"github.com/pipelined/pipelined/plugins/sources/csv/jsonline"
	"github.com/pipelined/pipelined/plugins/sources/csv/stamp"
	"github.com/pipelined/pipelined/sdk"
)

// spec says how a file is read: its own settings over those of the source.
type spec struct {
	flow, path   string
	ndjson       bool
	delimiter    byte // 0 for NDJSON
	header       bool
	skip         int
	null         map[string]bool
	onlyEmpty    bool // null is the empty text alone
	onlyDeclared bool
	follow       bool
	timeColumn   string
	timePath     jsonline.Path
	times        *stamp.Parser
	columns      []declared
}

// declared is a column block.
type declared struct {
	ColumnConfig
	typ     sdk.ChannelType // 0: from the first rows
	path    jsonline.Path
	channel string
}

// input is a file with its own settings and the place of its block.
type input struct {
	FileConfig
	at []sdk.Step
}

// resolver makes specs of a configuration and collects what is wrong with it.
type resolver struct {
	config Config
	diags  []sdk.Diagnostic
}

// Validate reports what is wrong with the configuration. It opens no file.
func (c *Config) Validate() []sdk.Diagnostic {
	_, diags := resolve(*c)
	return diags
}

func resolve(c Config) ([]spec, []sdk.Diagnostic) {
	r := resolver{config: c}
	r.checkReplay()
	var specs []spec
	flows := map[string]bool{}
	for _, in := range r.inputs() {
		s := r.spec(in)
		if flows[s.flow] {
			r.problem(in.at, "Duplicate flow", "Two files have the flow %q; each file is a flow of its own.", s.flow)
		}
		flows[s.flow] = true
		specs = append(specs, s)
	}
	return specs, r.diags
}

// problem reports an error at a block, or at an attribute of it that the last
// step names. What several files inherit is reported once.
func (r *resolver) problem(at []sdk.Step, summary, format string, args ...any) {
	d := sdk.Diagnostic{Severity: sdk.SeverityError, Summary: summary, Detail: fmt.Sprintf(format, args...), Path: at}
	for _, known := range r.diags {
		if fmt.Sprint(known) == fmt.Sprint(d) {
			return
		}
	}
	r.diags = append(r.diags, d)
}

// in returns the path of an attribute or block below another.
func in(at []sdk.Step, steps ...sdk.Step) []sdk.Step {
	return append(append([]sdk.Step(nil), at...), steps...)
}

func attribute(name string) sdk.Step { return sdk.Step{Attribute: name} }

func (r *resolver) inputs() []input {
	c := r.config
	var out []input
	if c.Path != nil {
		flow := strings.SplitN(filepath.Base(*c.Path), ".", 2)[0]
		if c.Flow != nil {
			flow = *c.Flow
		}
		if flow == "" {
			r.problem(in(nil, attribute("path")), "Missing flow", "The file's name gives no name for its flow; set flow.")
		}
		out = append(out, input{FileConfig{Flow: flow, Path: *c.Path}, nil})
	}
	for i, f := range c.Files {
		out = append(out, input{f, []sdk.Step{{Block: "file", BlockIndex: i}}})
	}
	switch {
	case len(out) == 0:
		r.problem(nil, "Missing file", "Set path, or add file blocks.")
	case c.Path != nil && len(c.Files) > 0:
		r.problem(in(nil, attribute("path")), "Conflicting settings", "A source has either path or file blocks.")
	case c.Path == nil && c.Flow != nil:
		r.problem(in(nil, attribute("flow")), "Unused setting", "It names the flow of path; the label of a file block names the block's flow.")
	case len(c.Files) > maxFiles:
		r.problem(out[maxFiles].at, "Too many files", "A source reads at most %d files; use several sources.", maxFiles)
	}
	return out
}

// checkReplay checks what is the same for all files.
func (r *resolver) checkReplay() {
	c := r.config
	if s := c.Speed; s.Keyword == "" && (s.Number <= 0 || math.IsInf(s.Number, 0) || math.IsNaN(s.Number)) {
		r.problem(in(nil, attribute("speed")), "Invalid speed", "It must be greater than 0, or \"max\".")
	}
	if c.MaxGap != nil && *c.MaxGap <= 0 {
		r.problem(in(nil, attribute("max_gap")), "Invalid duration", "It must be longer than 0. To replay without pauses set speed to \"max\".")
	}
	if c.Poll <= 0 {
		r.problem(in(nil, attribute("poll")), "Invalid duration", "It must be longer than 0.")
	}
	if !c.Follow {
		return
	}
	r.unused(nil, "speed", c.Speed != defaultConfig().Speed, replaysOnly)
	r.unused(nil, "max_gap", c.MaxGap != nil, replaysOnly)
	r.unused(nil, "rebase", c.Rebase != "off", replaysOnly)
}

const (
	replaysOnly = "Rows of a file that is followed go out when they are written; this is for replays."
	csvOnly     = "It is for CSV, and this file is NDJSON."
)

// unused reports an attribute that has no effect if it is set.
func (r *resolver) unused(at []sdk.Step, name string, set bool, why string) {
	if set {
		r.problem(in(at, attribute(name)), "Unused setting", "%s", why)
	}
}

func (r *resolver) spec(f input) spec {
	c := r.config
	s := spec{flow: f.Flow, path: f.Path, follow: c.Follow, header: c.Header, skip: c.SkipLines, onlyDeclared: c.OnlyDeclared}
	if f.Flow == "" && c.Path == nil {
		r.problem(f.at, "Missing flow", "The label of a file block names its flow.")
	}
	if f.Path == "" {
		r.problem(in(f.at, attribute("path")), "Missing path", "Name the file to read.")
	}
	if gzipped(f.Path) && c.Follow {
		r.problem(in(f.at, attribute("path")), "Conflicting settings", "A gzip file cannot be followed.")
	}
	if f.Header != nil {
		s.header = *f.Header
	}
	skipAt := []sdk.Step(nil)
	if f.SkipLines != nil {
		s.skip, skipAt = *f.SkipLines, f.at
	}
	if s.skip < 0 {
		r.problem(in(skipAt, attribute("skip_lines")), "Invalid number", "It cannot be below 0.")
	}
	if f.OnlyDeclared != nil {
		s.onlyDeclared = *f.OnlyDeclared
	}
	null := c.Null
	if f.Null != nil {
		null = f.Null
	}
	s.null = map[string]bool{}
	for _, text := range null {
		s.null[text] = true
	}
	s.onlyEmpty = len(s.null) == 1 && s.null[""]
	r.format(&s, f)
	r.time(&s, f)
	r.columns(&s, f)
	return s
}

func gzipped(path string) bool { return strings.EqualFold(filepath.Ext(path), ".gz") }

// extension is that of the content: a.csv.gz has .csv.
func extension(path string) string {
	if gzipped(path) {
		path = path[:len(path)-len(".gz")]
	}
	return strings.ToLower(filepath.Ext(path))
}

func (r *resolver) format(s *spec, f input) {
	extension := extension(f.Path)
	format, delimiter := "", ","
	switch extension {
	case ".csv":
		format = "csv"
	case ".tsv":
		format, delimiter = "csv", "\t"
	case ".ndjson", ".jsonl", ".json":
		format = "ndjson"
	}
	switch {
	case f.Format != nil:
		format = *f.Format
	case r.config.Format != nil:
		format = *r.config.Format
	}
	if format == "" {
		r.problem(in(f.at, attribute("path")), "Unknown format", "The extension %q does not tell how the file is written; set format to \"csv\" or \"ndjson\".", extension)
		format = "csv"
	}
	s.ndjson = format == "ndjson"
	if s.ndjson {
		r.unused(f.at, "delimiter", f.Delimiter != nil, csvOnly)
		r.unused(f.at, "header", f.Header != nil, csvOnly)
		r.unused(nil, "delimiter", r.config.Path != nil && r.config.Delimiter != nil, csvOnly)
		return
	}
	at := in(f.at, attribute("delimiter"))
	switch {
	case f.Delimiter != nil:
		delimiter = *f.Delimiter
	case r.config.Delimiter != nil:
		delimiter, at = *r.config.Delimiter, in(nil, attribute("delimiter"))
	}
	if len(delimiter) != 1 || delimiter[0] >= 0x7f || delimiter[0] < ' ' && delimiter != "\t" || delimiter == `"` {
		r.problem(at, "Invalid delimiter", "It must be one ASCII character other than a quote, such as \",\", \";\" or \"\\t\".")
		return
	}
	s.delimiter = delimiter[0]
}

// setting is an attribute of a time block with the place of the block it is from.
type setting[T any] struct {
	value *T
	at    []sdk.Step
}

// choose takes a file's own setting before that of the source.
func choose[T any](own, source *TimeConfig, f input, get func(*TimeConfig) *T) setting[T] {
	block := sdk.Step{Block: "time"}
	if own != nil && get(own) != nil {
		return setting[T]{get(own), in(f.at, block)}
	}
	if source != nil && get(source) != nil {
		return setting[T]{get(source), in(nil, block)}
	}
	return setting[T]{}
}

func (r *resolver) time(s *spec, f input) {
	own, source := f.Time, r.config.Time
	column := choose(own, source, f, func(t *TimeConfig) *string { return t.Column })
	unit := choose(own, source, f, func(t *TimeConfig) *string { return t.Unit })
	start := choose(own, source, f, func(t *TimeConfig) *time.Time { return t.Start })
	layout := choose(own, source, f, func(t *TimeConfig) *string { return t.Format })
	zone := choose(own, source, f, func(t *TimeConfig) *string { return t.Zone })

	if column.value == nil || *column.value == "" {
		r.problem(f.at, "Missing event time", "Add time { column = \"…\" } with the column that has the event time of the rows.")
	} else {
		s.timeColumn = *column.value
		if s.ndjson {
			path, err := jsonline.ParsePath(s.timeColumn)
			if err != nil {
				r.problem(in(column.at, attribute("column")), "Invalid path", "%v.", err)
			}
			s.timePath = path
		}
	}
	format := stamp.Format{Unit: "s"}
	if unit.value != nil {
		format.Unit = *unit.value
	}
	text := stamp.IsText(format.Unit)
	switch {
	case start.value != nil && text:
		r.problem(in(start.at, attribute("start")), "Unused setting", "It is added to numbers; unit %q is a full time.", format.Unit)
	case start.value != nil:
		format.Start = *start.value
	}
	switch {
	case layout.value != nil && format.Unit != stamp.Layout:
		r.problem(in(layout.at, attribute("format")), "Unused setting", "It is for unit \"layout\"; the unit is %q.", format.Unit)
		return
	case layout.value == nil && format.Unit == stamp.Layout:
		r.problem(in(unit.at, attribute("unit")), "Missing layout", "With unit \"layout\" set format, such as \"%%Y-%%m-%%d %%H:%%M:%%S\".")
		return
	case layout.value != nil:
		format.Layout = *layout.value
	}
	if zone.value != nil {
		if !text {
			r.problem(in(zone.at, attribute("timezone")), "Unused setting", "It is for times written as text; the unit is %q.", format.Unit)
			return
		}
		location, err := time.LoadLocation(*zone.value)
		if err != nil || *zone.value == "" {
			r.problem(in(zone.at, attribute("timezone")), "Unknown time zone", "This machine knows no zone %q; an example is \"Europe/Berlin\".", *zone.value)
			return
		}
		format.Zone = location
	}
	times, err := stamp.NewParser(format)
	if err != nil {
		at := in(layout.at, attribute("format"))
		switch {
		case format.Unit != stamp.Layout && start.value != nil:
			at = in(start.at, attribute("start"))
		case format.Unit != stamp.Layout:
			at = in(unit.at, attribute("unit"))
		}
		r.problem(at, "Invalid time", "%v.", err)
	}
	s.times = times
}
