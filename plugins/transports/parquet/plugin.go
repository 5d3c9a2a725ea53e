package parquet

import (
	"fmt"
	"time"

	"github.com/pipelined/pipelined/internal/outfile"
	"github.com/pipelined/pipelined/sdk"
)

const version = "1.0.0"

// Bounds of row groups. Smaller ones compress badly, larger ones take too much
// memory of whoever reads them.
const (
	minRowGroup = 64 << 10
	maxRowGroup = 1 << 30
)

// Config is the body of a transport "parquet" block.
type Config struct {
	Dir          string   `config:"dir,required,path_write" doc:"Directory of the files. It is made if it does not exist. No other transport of the same plugin may use it, or one inside of it."`
	Compression  string   `config:"compression" allowed:"zstd,snappy,none" doc:"How pages are compressed."`
	MaxFileSize  sdk.Size `config:"max_file_size" doc:"A file that would become larger than this is finished, and another one begun. A checkpoint finishes all files in any case."`
	RowGroupSize sdk.Size `config:"row_group_size" doc:"Size of a row group as it lies in the file. About four times as much memory is used at most while files are written, whatever the number of flows."`
}

func defaultConfig() Config {
	return Config{Compression: "zstd", MaxFileSize: 500 << 20, RowGroupSize: 16 << 20}
}

// Plugin returns the transport.
func Plugin() sdk.Plugin {
	info := sdk.Info{
		Name:    "parquet",
		Version: version,
		Description: "Writes rows to Parquet files below a directory, one table for each flow, with the types of its " +
			"channels. Files appear under their names when they are complete and on disk.",
	}
	caps := sdk.TransportCapabilities{Input: sdk.InputRows, Overlap: true}
	return sdk.NewTransport(info, caps, defaultConfig(), func(s sdk.Settings, c Config) (sdk.Transport, error) {
		return open(s, c, outfile.OS{}, time.Now)
	})
}

// Validate checks what the schema cannot say.
func (c *Config) Validate() []sdk.Diagnostic {
	var problems []sdk.Diagnostic
	if c.Dir == "" {
		problems = append(problems, sdk.Problem("Empty directory", "Name the directory of the files.", "dir"))
	}
	switch {
	case c.RowGroupSize < minRowGroup || c.RowGroupSize > maxRowGroup:
		problems = append(problems, sdk.Problem("Row group size out of range",
			fmt.Sprintf("%d bytes are not possible: from 64KiB to 1GiB.", c.RowGroupSize), "row_group_size"))
	case c.MaxFileSize < c.RowGroupSize:
		problems = append(problems, sdk.Problem("File size too small",
			fmt.Sprintf("A file holds at least one row group, of %d bytes.", c.RowGroupSize), "max_file_size"))
	}
	return problems
}
