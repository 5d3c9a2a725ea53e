package wire

import (
	"fmt"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc/codes"

	"github.com/pipelined/pipelined/sdk"
)

// guard calls plugin code. A panic becomes an error, and its stack a log line: the
// host shall hear from the call that failed, not of a lost connection.
func guard(log *slog.Logger, what string, call func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			log.Error("plugin code panicked", "in", what, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = &sdk.Error{
				Class:   sdk.ClassPermanent,
				Code:    uint32(codes.Internal),
				Message: fmt.Sprintf("plugin code panicked in %s: %v", what, r),
			}
		}
	}()
	return call()
}
