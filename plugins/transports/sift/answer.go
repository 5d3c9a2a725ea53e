package sift

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/pipelined/pipelined/plugins/transports/sift/h2"
	"github.com/pipelined/pipelined/sdk"
)

const (
	maxText  = 1 << 10   // of what a destination says, as far as it is passed on
	maxDelay = time.Hour // that a destination may ask for
)

// grpcStatus returns the status of a response: in the trailers, or in the headers
// if they are all there is.
func grpcStatus(r h2.Response) string { return field(lastBlock(r), "grpc-status") }

func lastBlock(r h2.Response) []hpack.HeaderField {
	if r.Trailers != nil {
		return r.Trailers
	}
	return r.Headers
}

// judge says what a complete response means: nil is the answer OK.
func judge(r h2.Response) error {
	status, contentType, answer := field(r.Headers, ":status"), field(r.Headers, "content-type"), grpcStatus(r)
	switch {
	case r.Headers != nil && answer == "" && (status != "200" || !strings.HasPrefix(contentType, "application/grpc")):
		return failure(httpCode(status), fmt.Sprintf("no answer of a gRPC service: HTTP status %s, content type %q, %.200q",
			clip(status), clip(contentType), r.Body), nil)
	case r.Err != nil:
		return streamFailure(r.Err)
	case answer == "":
		return failure(codes.Unknown, "the destination ended the stream without a status", nil)
	}
	code, err := strconv.ParseUint(answer, 10, 32)
	if err != nil || code > uint64(codes.Unauthenticated) {
		return failure(codes.Unknown, fmt.Sprintf("the destination ended the stream with the status %q", clip(answer)), nil)
	}
	if code != uint64(codes.OK) {
		return failure(codes.Code(code), clip(percentDecode(field(lastBlock(r), "grpc-message"))),
			retryInfo(field(lastBlock(r), "grpc-status-details-bin")))
	}
	return oneMessage(r.Body)
}

// oneMessage checks that the body is one gRPC message. What is in it does not
// matter: it is empty today.
func oneMessage(body []byte) error {
	const prefix = 5
	if len(body) >= prefix && body[0] <= 1 && int(binary.BigEndian.Uint32(body[1:])) == len(body)-prefix {
		return nil
	}
	return failure(codes.Internal, fmt.Sprintf("the destination said OK without the message that belongs to it (%d bytes)", len(body)), nil)
}

// streamFailure classifies how a stream ended without an answer.
func streamFailure(err error) error {
	var reset *h2.ResetError
	var protocol *h2.ProtocolError
	switch {
	case errors.Is(err, h2.ErrReset):
		return failure(codes.Canceled, err.Error(), nil)
	case errors.As(err, &reset):
		return failure(resetCode(reset.Code), reset.Error(), nil)
	case errors.As(err, &protocol):
		return failure(codes.Internal, protocol.Error(), nil)
	default: // GOAWAY, or the connection is gone
		return failure(codes.Unavailable, "connection lost: "+err.Error(), nil)
	}
}

// resetCode and httpCode map codes as the gRPC specification does.
func resetCode(code http2.ErrCode) codes.Code {
	switch code {
	case http2.ErrCodeRefusedStream:
		return codes.Unavailable
	case http2.ErrCodeCancel:
		return codes.Canceled
	case http2.ErrCodeEnhanceYourCalm:
		return codes.ResourceExhausted
	case http2.ErrCodeInadequateSecurity:
		return codes.PermissionDenied
	default:
		return codes.Internal
	}
}

func httpCode(status string) codes.Code {
	switch status {
	case "400":
		return codes.Internal
	case "401":
		return codes.Unauthenticated
	case "403":
		return codes.PermissionDenied
	case "404":
		return codes.Unimplemented
	case "429", "502", "503", "504":
		return codes.Unavailable
	default:
		return codes.Unknown
	}
}

// failure makes the error of a gRPC status. RetryInfo counts for rate limits
// only.
func failure(code codes.Code, message string, retry *errdetails.RetryInfo) *sdk.Error {
	e := &sdk.Error{Class: classOf(code), Code: uint32(code), Message: message}
	if message == "" {
		e.Message = "the destination gave no reason"
	}
	if code == codes.ResourceExhausted && retry != nil {
		e.Delay = min(max(retry.GetRetryDelay().AsDuration(), 0), maxDelay)
	}
	return e
}

// classOf says what a code means for trying again. RESOURCE_EXHAUSTED is never
// permanent: not every destination says when its limit is one of rate.
func classOf(code codes.Code) sdk.Class {
	switch code {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
		codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented, codes.Unauthenticated:
		return sdk.ClassPermanent
	case codes.Unavailable:
		return sdk.ClassDisconnected
	default:
		return sdk.ClassRetry
	}
}

// retryInfo finds the detail in a status as trailers carry it, base64 with or
// without padding. What cannot be read is left out.
func retryInfo(details string) *errdetails.RetryInfo {
	if details == "" {
		return nil
	}
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(details, "="))
	if err != nil {
		return nil
	}
	var status statuspb.Status
	if proto.Unmarshal(raw, &status) != nil {
		return nil
	}
	for _, detail := range status.GetDetails() {
		info := new(errdetails.RetryInfo)
		if detail.MessageIs(info) && detail.UnmarshalTo(info) == nil {
			return info
		}
	}
	return nil
}

// field returns the first value of a header.
func field(fields []hpack.HeaderField, name string) string {
	for _, f := range fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// percentDecode undoes the encoding of grpc-message; what is not encoded
// properly stays as it is.
func percentDecode(text string) string {
	if !strings.Contains(text, "%") {
		return text
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) {
			if b, err := strconv.ParseUint(text[i+1:i+3], 16, 8); err == nil {
				out = append(out, byte(b))
				i += 2
				continue
			}
		}
		out = append(out, text[i])
	}
	return string(out)
}

// clip makes a destination's text short and valid.
func clip(text string) string {
	if len(text) > maxText {
		text = text[:maxText] + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
