package plugin

import (
	"fmt"
	"strings"
)

// StartError says why a plugin did not start.
type StartError struct {
	Spec   Spec
	Reason string   // without secrets
	Output []string // the last lines that it wrote, without secrets

	cause error
	ran   bool // there was a process
}

// Error names the plugin, its path, the reason and the plugin's last lines.
func (e *StartError) Error() string {
	text := fmt.Sprintf("plugin %s did not start: %s", e.Spec, e.Reason)
	if e.ran {
		text += outputText(e.Output)
	}
	return text
}

// Unwrap returns the error behind the reason. Its own text may hold secrets.
func (e *StartError) Unwrap() error { return e.cause }

// ExitError says how a plugin's process ended that nobody had asked to.
type ExitError struct {
	Spec   Spec
	Status string   // "exit status 2", "killed by signal: segmentation fault"
	Code   int      // exit status; -1 if a signal ended the process
	Output []string // the last lines that it wrote, without secrets
}

// Error names the plugin, its path, how it ended and its last lines.
func (e *ExitError) Error() string {
	return fmt.Sprintf("plugin %s ended: %s%s", e.Spec, e.Status, outputText(e.Output))
}

func outputText(lines []string) string {
	if len(lines) == 0 {
		return "; it wrote nothing"
	}
	return "; its last output:\n  | " + strings.Join(lines, "\n  | ")
}
