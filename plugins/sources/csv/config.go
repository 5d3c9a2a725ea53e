package csv

import (
	"time"

	"github.com/pipelined/pipelined/sdk"
)

// Config is what the user writes.
type Config struct {
	Path *string `config:"path,path_read,require_one_of=input" doc:"File to read, for a source with one file. Gzip is recognised by its content"`
	Flow *string `config:"flow" doc:"Name of the flow of path; by default the file's name without its extensions"`

	Format       *string  `config:"format" allowed:"csv,ndjson" doc:"By default from the extension: .csv and .tsv, or .ndjson, .jsonl and .json, each also with .gz"`
	Delimiter    *string  `config:"delimiter" doc:"Character between the fields of CSV, by default a comma, and a tab for .tsv"`
	Header       bool     `config:"header" doc:"The first row of CSV has the names of the columns. Without, they are column_1, column_2 and so on"`
	SkipLines    int      `config:"skip_lines" doc:"Lines before the header, or before the first row, that are not read"`
	Null         []string `config:"null" doc:"Texts that mean that there is no value"`
	OnlyDeclared bool     `config:"only_declared" doc:"Columns without a column block are left out"`

	Time    *TimeConfig    `config:"time" doc:"Where the event time of a row is. Needed for each file; a file may set what differs from the source"`
	Columns []ColumnConfig `config:"column" doc:"Declares a column that every file has"`
	Files   []FileConfig   `config:"file,require_one_of=input" doc:"One of several files, each with its own flow. Its settings win over those of the source"`

	Speed  sdk.NumberOr   `config:"speed" keywords:"max" doc:"Replays at this multiple of real speed, or as fast as it goes"`
	MaxGap *time.Duration `config:"max_gap" doc:"A longer pause between rows of a replay is cut to this; the rows keep their event time"`
	Rebase string         `config:"rebase" allowed:"off,now" doc:"With now, the event times of a replay are shifted so that the first row is now"`

	Follow bool          `config:"follow" doc:"Waits for more at the end of the files, like tail -F, until it is stopped"`
	Poll   time.Duration `config:"poll" doc:"How often followed files are looked at"`
}

// FileConfig is a file block. Settings that are left out are those of the source.
type FileConfig struct {
	Flow string `config:"flow,label"`
	Path string `config:"path,path_read,required" doc:"File to read"`

	Format       *string  `config:"format" allowed:"csv,ndjson" doc:"As in the source"`
	Delimiter    *string  `config:"delimiter" doc:"As in the source"`
	Header       *bool    `config:"header" doc:"As in the source"`
	SkipLines    *int     `config:"skip_lines" doc:"As in the source"`
	Null         []string `config:"null" doc:"As in the source"`
	OnlyDeclared *bool    `config:"only_declared" doc:"As in the source"`

	Time    *TimeConfig    `config:"time" doc:"Where the event time of a row is"`
	Columns []ColumnConfig `config:"column" doc:"Declares a column"`
}

// TimeConfig is a time block.
type TimeConfig struct {
	Column *string    `config:"column" doc:"Column with the event time, or its path in NDJSON. It is no channel unless it is declared as a column"`
	Unit   *string    `config:"unit" allowed:"s,ms,us,ns,min,h,rfc3339,layout" doc:"How it is written: a number in a unit (s by default), RFC 3339, or a layout"`
	Start  *time.Time `config:"start" doc:"Added to numbers that do not count from 1970; RFC 3339"`
	Format *string    `config:"format" doc:"For unit layout: as in strftime (%Y-%m-%d %H:%M:%S), or as in Go (2006-01-02 15:04:05)"`
	Zone   *string    `config:"timezone" doc:"Zone of times that name none, such as Europe/Berlin; UTC by default for layouts"`
}

// ColumnConfig is a column block.
type ColumnConfig struct {
	Name        string            `config:"name,label"`
	Type        *string           `config:"type" allowed:"double,float,int32,uint32,int64,uint64,bool,string,bytes,enum" doc:"Channel type; by default from the first rows"`
	Unit        string            `config:"unit" doc:"Unit of the channel"`
	Description string            `config:"description" doc:"What the channel is"`
	Channel     *string           `config:"channel" doc:"Name of the channel; by default that of the column"`
	Path        *string           `config:"path" doc:"Place in an NDJSON line, such as a.b, c[0].d or [\"key.with.dots\"]; by default the column's name"`
	Values      map[string]uint32 `config:"values" doc:"For type enum: the key of each name. A row may have the name or the key"`
	Ignore      bool              `config:"ignore" doc:"The column is left out"`
}

// maxFiles keeps positions below the limit of their size.
const maxFiles = 64

func defaultConfig() Config {
	return Config{
		Header: true,
		Null:   []string{""},
		Speed:  sdk.NumberOr{Number: 1},
		Rebase: "off",
		Poll:   100 * time.Millisecond,
	}
}
