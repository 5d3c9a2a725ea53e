package serve

import (
	"io"
	"log/slog"
	"strings"

	"github.com/pipelined/pipelined/sdk/wire"
)

// newLogging returns a logger that writes lines as hclog does in JSON, which the
// host reads from standard error.
func newLogging(w io.Writer) wire.Logging {
	level := new(slog.LevelVar)
	handler := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: rename})
	return wire.Logging{Logger: slog.New(handler), Level: level}
}

func rename(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		a.Key = "@timestamp"
	case slog.MessageKey:
		a.Key = "@message"
	case slog.LevelKey:
		if level, ok := a.Value.Any().(slog.Level); ok {
			return slog.String("@level", strings.ToLower(level.String()))
		}
	}
	return a
}
