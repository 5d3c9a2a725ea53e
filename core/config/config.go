package config

import (
	"fmt"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/pipelined/pipelined/sdk"
)

// Config is a checked configuration: one file, or all files of a directory.
type Config struct {
	Dir     string   // absolute; `path.module` of the files
	DataDir string   // absolute; `data_dir` of the files
	Files   []string // as named in diagnostics, sorted
	// Pipelines in the order of the files.
	Pipelines []*Pipeline
	// Secrets are all secret values that were read, longest first, for scrubbing
	// what plugins print.
	Secrets SecretTexts
}

// SecretTexts are texts that must not be printed, and are not when a value that
// holds them is.
type SecretTexts []string

// Format prints how many there are, whatever the verb is.
func (s SecretTexts) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "(%s)", count(len(s), "secret")) }

// Pipeline is one pipeline block. Attributes that were left out have their
// defaults.
type Pipeline struct {
	Name  string
	Range hcl.Range // of the block's header

	Asset         string // empty: none given, and no transport needs one
	AssetTags     []string
	AssetMetadata []sdk.Metadata // sorted by name
	Run           sdk.Run        // the zero value: no run block
	DrainTimeout  time.Duration
	RunFor        time.Duration // it finishes after this time, unless the command says otherwise; 0 = never

	Sources    []*Source // at least one
	Encoder    *Encoder  // nil: all transports take rows
	Transports []*Transport

	Backup     *Backup // nil: live only
	Checkpoint Checkpoint
	Retry      Retry
	Queues     Queues
	Flows      []sdk.Flow // declared for dynamic sources
	Rules      []*Rule
	RuleLimits RuleLimits

	// DependsOn names the pipelines that end a source of this one (`until`), sorted.
	DependsOn []string
}

// PluginBlock is what the blocks of all plugin kinds have in common.
type PluginBlock struct {
	Kind   sdk.Kind
	Plugin string    // name of the plugin, the block's first label
	Label  string    // name of the block, unique among its kind in its pipeline
	Range  hcl.Range // of the block's header

	Description PluginDescription
	// Body fits the plugin's schema, defaults filled in, secrets in the clear.
	// With Options.AllowMissingSecrets, attributes whose secret is missing are
	// left out.
	Body sdk.Body
	// Secrets are the texts in Body that must not be printed, longest first.
	Secrets SecretTexts
	Host    HostSettings
}

// Format prints which block it is and never its body, whatever the verb is.
func (b PluginBlock) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "%s %q %q", b.Kind, b.Plugin, b.Label)
}

// Sandbox says how a plugin process is confined.
type Sandbox string

// The values of `sandbox`.
const (
	SandboxOn       Sandbox = "on"       // as far as this machine can
	SandboxRequired Sandbox = "required" // not started when a layer is missing
	SandboxOff      Sandbox = "off"
)

// HostSettings is the `plugin` block inside a plugin's block: what concerns its
// process and not its work.
type HostSettings struct {
	Sandbox Sandbox           `config:"sandbox" allowed:"on,required,off" doc:"How the process is confined; required: it is not started when a layer of the sandbox is missing"`
	Env     map[string]string `config:"env" doc:"Environment variables beside those that every plugin gets; no secrets"`
}

// Source is a source block.
type Source struct {
	PluginBlock
	Until      string // name of the pipeline whose end ends this source; empty = none
	UntilRange hcl.Range
	IdleExit   time.Duration // ends after this time without data; 0 = never
	Gather     time.Duration // at most one batch in this time after the first; 0 = each row at once
}

// Encoder is an encoder block. Its Label is the name of its plugin.
type Encoder struct {
	PluginBlock
}

// ChannelNames says how a destination sees the names of channels.
type ChannelNames string

// The values of `channel_names`.
const (
	// ChannelNamesAuto: not given; qualified for the pipeline's own flows, plain
	// for flows with an origin.
	ChannelNamesAuto      ChannelNames = ""
	ChannelNamesQualified ChannelNames = "qualified" // flow.channel
	ChannelNamesPlain     ChannelNames = "plain"
)

// Transport is a transport block: one track of its pipeline.
type Transport struct {
	PluginBlock
	Required     bool     // false: this track loses its oldest ids before it stops the others
	Flows        []string // patterns of flow names, see Takes; empty = all
	ChannelNames ChannelNames
	Checkpoint   Checkpoint // the pipeline's, with what the block overrides
	Retry        Retry
	Queues       TransportQueues
}

// Backup is the log on disk. Limits are 0 when left out: no limit.
type Backup struct {
	Dir          string   `config:"dir,required,path_write" doc:"Directory of the backup files, used by nothing else"`
	MaxFileSize  sdk.Size `config:"max_file_size" doc:"Size at which a file is finished and the next one begun"`
	MaxFileCount int      `config:"max_file_count" doc:"Number of files; reaching it forces a checkpoint. 0: no limit"`
	MaxDisk      sdk.Size `config:"max_disk" doc:"Bytes that all files together may take. 0: no limit"`
	MinFree      sdk.Size `config:"min_free" doc:"Bytes that stay free on the file system. 0: none"`
	OnFull       string   `config:"on_full" allowed:"block,drop_oldest,drop_newest" doc:"What happens at a limit; what is dropped is counted as lost, by range"`
	Retain       bool     `config:"retain" doc:"Keep files whose data is confirmed"`
	Sync         string   `config:"sync" doc:"Longest delay until data is on the disk, such as 1s; or always, or rotate (when a file is finished)"`

	// SyncDelay is what Sync says, as a duration; 0 for always and rotate.
	SyncDelay time.Duration
	Range     hcl.Range
}

// SetDefaults sets what a backup block may leave out.
func (b *Backup) SetDefaults() { *b = defaultBackup() }

// check finds what the schema cannot say, and reads Sync.
func (b *Backup) check() []sdk.Diagnostic {
	var problems []sdk.Diagnostic
	if b.Dir == "" {
		problems = append(problems, sdk.Problem("Empty text", `The attribute "dir" cannot be empty.`, "dir"))
	}
	if b.MaxFileSize < 1<<20 {
		problems = append(problems, sdk.Problem("Size too small", `The attribute "max_file_size" must be at least "1MiB".`, "max_file_size"))
	}
	if b.MaxDisk != 0 && b.MaxDisk < b.MaxFileSize {
		problems = append(problems, sdk.Problem("Contradicting sizes", "All files together, max_disk, may take less than one of them, max_file_size.", "max_disk"))
	}
	if b.MaxFileCount < 0 {
		problems = append(problems, sdk.Problem("Number too small", `The attribute "max_file_count" cannot be less than 0.`, "max_file_count"))
	}
	switch b.Sync {
	case "always", "rotate":
		return problems
	}
	d, err := parseDuration(b.Sync)
	if err != nil || d <= 0 {
		problems = append(problems, sdk.Problem("Invalid value", `The attribute "sync" is a duration above 0, such as "1s", or "always", or "rotate".`, "sync"))
	}
	b.SyncDelay = d
	return problems
}

// Checkpoint is a checkpoint block.
type Checkpoint struct {
	Interval time.Duration `config:"interval" doc:"Time between two checkpoints"`
	Timeout  time.Duration `config:"timeout" doc:"Time that the destination has for its answer"`
}

// Retry is a retry block: waits between attempts grow from Initial by
// Multiplier to Max.
type Retry struct {
	Initial    time.Duration `config:"initial" doc:"Wait before the second attempt"`
	Max        time.Duration `config:"max" doc:"Longest wait"`
	Multiplier float64       `config:"multiplier" doc:"Factor from one wait to the next"`
}

// OnBackupLag says what happens while the disk is slower than the data.
type OnBackupLag string

// The values of `on_backup_lag`.
const (
	LagStream OnBackupLag = "stream" // go on sending; unbacked data stays in memory until confirmed
	LagBlock  OnBackupLag = "block"  // intake waits
)

// Queues is a queues block of a pipeline.
type Queues struct {
	Ingestion   int         `config:"ingestion" doc:"Messages that may wait for each transport"`
	Backup      int         `config:"backup" doc:"Messages that may wait for the disk"`
	Control     int         `config:"control" doc:"Notices that may wait for a task of the host"`
	OnBackupLag OnBackupLag `config:"on_backup_lag" allowed:"stream,block" doc:"While the disk is slower than the data: stream goes on sending, block lets the sources wait"`
}

// TransportQueues is a queues block of a transport.
type TransportQueues struct {
	Ingestion int `config:"ingestion" doc:"Messages that may wait for this transport"`
}

// RuleLimits is the rules block: what holds for all rules of a pipeline.
type RuleLimits struct {
	FlushInterval time.Duration `config:"flush_interval" doc:"Watermarks are looked at with each batch, and at the latest after this time"`
	Memory        sdk.Size      `config:"memory" doc:"Bytes of samples that rules may keep in memory"`
	MaxJump       time.Duration `config:"max_jump" doc:"How far a stamp may run ahead before it counts as implausible"`
}
