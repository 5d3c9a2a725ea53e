package file

import (
	"fmt"
	"regexp"
	"time"

	"github.com/pipelined/pipelined/internal/outfile"
	"github.com/pipelined/pipelined/sdk"
)

// minFileSize keeps a mistaken unit from making millions of files.
const minFileSize = 64 << 10

// Config is the body of a transport "file" block.
type Config struct {
	Dir               string        `config:"dir,required,path_write" doc:"Directory of the files. It is made if it does not exist. No other transport of the same plugin may use it, or one inside of it."`
	MaxFileSize       sdk.Size      `config:"max_file_size" doc:"A file that would become larger than this is finished, and another one begun. Only a single batch may be larger."`
	MaxFileAge        time.Duration `config:"max_file_age" doc:"When messages come and their file is older than this, it is finished and another one begun. 0 = no limit. A checkpoint finishes all files in any case."`
	IngestionConfigID *string       `config:"ingestion_config_id" doc:"Id of the ingestion config that the pipeline's own messages carry, as the destination gave it. Needs run_id if the pipeline has a run. Without it messages carry the ids of the pipeline's other destination; if there is none, they carry placeholders and the names of the files end in .unbound."`
	RunID             *string       `config:"run_id" doc:"Id of the run that the pipeline's own messages carry. Needs ingestion_config_id."`
}

func defaultConfig() Config { return Config{MaxFileSize: 500 << 20} }

// Plugin returns the transport.
func Plugin() sdk.Plugin {
	info := sdk.Info{
		Name:    "file",
		Version: "1.0.0",
		Description: "Writes encoded messages to backup files (PBFS) below a directory, one file for each origin and " +
			"checkpoint. Files appear under their names when they are complete and on disk.",
	}
	caps := sdk.TransportCapabilities{Input: sdk.InputEncoded, Overlap: true}
	return sdk.NewTransport(info, caps, defaultConfig(), func(s sdk.Settings, c Config) (sdk.Transport, error) {
		return open(s, c, outfile.OS{}, time.Now)
	})
}

// Validate checks what the schema cannot say.
func (c *Config) Validate() []sdk.Diagnostic {
	var problems []sdk.Diagnostic
	report := func(summary, detail, attribute string) {
		problems = append(problems, sdk.Problem(summary, detail, attribute))
	}
	if c.Dir == "" {
		report("Empty directory", "Name the directory of the files.", "dir")
	}
	if c.MaxFileSize < minFileSize {
		report("File size too small", fmt.Sprintf("Files of at most %d bytes would be too many. The least size is 64KiB.",
			c.MaxFileSize), "max_file_size")
	}
	if c.MaxFileAge < 0 {
		report("Negative file age", "An age cannot be negative. 0 means that age does not matter.", "max_file_age")
	}
	checkID := func(id *string, attribute string) {
		if id == nil {
			return
		}
		if reason := checkID(*id); reason != "" {
			report("Invalid id", "It "+reason+". An id looks like 0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f.", attribute)
		}
	}
	checkID(c.IngestionConfigID, "ingestion_config_id")
	checkID(c.RunID, "run_id")
	if c.IngestionConfigID == nil && c.RunID != nil {
		report("Missing ingestion config id", "Messages carry the id of a run only beside that of an ingestion config. "+
			"Give ingestion_config_id too, or leave both out.", "run_id")
	}
	return problems
}

// checkID says what is wrong with an id; nothing if it is a UUID that a
// destination may have given.
func checkID(id string) string {
	switch {
	case len(id) != sdk.BindingIDBytes:
		return fmt.Sprintf("has %d characters instead of %d", len(id), sdk.BindingIDBytes)
	case !regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`).MatchString(id):
		return "is not a UUID"
	case sdk.IsPlaceholder(id):
		return "is a reserved placeholder, which no destination has"
	}
	return ""
}

// binding returns the ids of the configuration, or none.
func (c *Config) binding() sdk.Binding {
	var b sdk.Binding
	if c.IngestionConfigID != nil {
		b.ConfigID = *c.IngestionConfigID
	}
	if c.RunID != nil {
		b.RunID = *c.RunID
	}
	return b
}
