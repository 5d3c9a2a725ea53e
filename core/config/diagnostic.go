package config

import (
	"github.com/hashicorp/hcl/v2"

	"github.com/pipelined/pipelined/sdk"
)

// Diagnostic is one problem of a configuration.
type Diagnostic struct {
	Severity sdk.Severity
	Summary  string // a few words
	Detail   string // sentences: what is wrong, what is allowed, what to do
	// Subject is the place, always set. A problem that is in no file, such as a
	// wrong -var option, has a range in a made-up file with the option's name.
	Subject hcl.Range
	Snippet Snippet
}

// Snippet is the source line that a diagnostic points at, with secrets masked.
type Snippet struct {
	Text       string // without line ending; empty = no source
	Start, End int    // marked part, as byte offsets in Text
}

// Diagnostics are problems in the order of files and positions.
type Diagnostics []Diagnostic

// HasErrors reports whether one of them is an error.
func (d Diagnostics) HasErrors() bool {
	for _, one := range d {
		if one.Severity == sdk.SeverityError {
			return true
		}
	}
	return false
}
