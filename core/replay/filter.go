package replay

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Filter says which messages are sent. The zero value takes all.
type Filter struct {
	Flows        []string  // empty: all
	Since, Until time.Time // at or after, and before; zero: no limit
}

// takes reports whether a message is sent. One without a time is not, if there is a
// limit of time.
func (f *Filter) takes(h *header) bool {
	if len(f.Flows) > 0 && !slices.Contains(f.Flows, string(h.flow)) {
		return false
	}
	if f.Since.IsZero() && f.Until.IsZero() {
		return true
	}
	t, ok := h.time()
	return ok && !t.Before(f.Since) && (f.Until.IsZero() || t.Before(f.Until))
}

// key tells filters apart: progress with one says nothing about others, except
// that of the empty one.
func (f *Filter) key() string {
	var parts []string
	if !f.Since.IsZero() {
		parts = append(parts, "since "+f.Since.UTC().Format(time.RFC3339Nano))
	}
	if !f.Until.IsZero() {
		parts = append(parts, "until "+f.Until.UTC().Format(time.RFC3339Nano))
	}
	for _, flow := range slices.Sorted(slices.Values(f.Flows)) {
		parts = append(parts, fmt.Sprintf("flow %q", flow))
	}
	return strings.Join(parts, ", ")
}
