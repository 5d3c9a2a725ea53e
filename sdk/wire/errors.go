package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
)

// ErrContract is wrapped by errors that say how a plugin broke the contract.
var ErrContract = errors.New("plugin breaks the contract")

// maxFailureText bounds the message of a plugin's failure in bytes.
const maxFailureText = 8 << 10

// broken says what a plugin did against the contract.
func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrContract, fmt.Errorf(format, args...))
}

// failureToPB keeps what must survive the process border.
func failureToPB(err error) *pb.Failure {
	e := sdk.AsError(err)
	return &pb.Failure{
		Class:        pb.ErrorClass(e.Class),
		Code:         e.Code,
		Message:      cutText(e.Message, maxFailureText),
		RetryDelayNs: int64(e.Delay),
	}
}

func failureFromPB(f *pb.Failure) *sdk.Error {
	if f == nil {
		return nil
	}
	e := &sdk.Error{
		Class:   sdk.ClassRetry,
		Code:    f.GetCode(),
		Message: cutText(f.GetMessage(), maxFailureText),
		Delay:   max(0, time.Duration(f.GetRetryDelayNs())),
	}
	switch f.GetClass() {
	case pb.ErrorClass_ERROR_CLASS_PERMANENT:
		e.Class = sdk.ClassPermanent
	case pb.ErrorClass_ERROR_CLASS_DISCONNECTED:
		e.Class = sdk.ClassDisconnected
	}
	if e.Code == 0 { // OK is no failure
		e.Code = sdk.CodeUnknown
	}
	if e.Message == "" {
		e.Message = "the plugin gave no reason"
	}
	return e
}

// cutText shortens text to a number of bytes and makes it UTF-8, which protobuf
// insists on.
func cutText(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit] + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// toStatus makes the error of a call from an error of plugin code, which may hold
// a status of its own: that of the destination.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	code := codes.Unknown
	switch {
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	}
	failure := failureToPB(err)
	st, detailErr := status.New(code, failure.GetMessage()).WithDetails(failure)
	if detailErr != nil {
		return status.Error(code, failure.GetMessage())
	}
	return st.Err()
}

// fromStatus is the error of a call on the host side: an *sdk.Error if the plugin
// answered with one. io.EOF stays what it is: the end of a stream.
func fromStatus(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, detail := range st.Details() {
		if f, ok := detail.(*pb.Failure); ok {
			return failureFromPB(f)
		}
	}
	text := cutText(st.Message(), maxFailureText)
	switch st.Code() {
	case codes.Canceled:
		return fmt.Errorf("plugin call: %w: %s", context.Canceled, text)
	case codes.DeadlineExceeded:
		return fmt.Errorf("plugin call: %w: %s", context.DeadlineExceeded, text)
	case codes.InvalidArgument: // it does not like what the host says, and never will
		return sdk.Permanent(fmt.Errorf("plugin call: %s: %s", st.Code(), text))
	case codes.Unimplemented:
		return broken("it does not serve this call: %s", text)
	}
	return fmt.Errorf("plugin call: %s: %s", st.Code(), text)
}
