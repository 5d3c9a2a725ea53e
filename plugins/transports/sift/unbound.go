package sift

import (
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pipelined/pipelined/sdk"
)

// Numbers of the fields of an ingest message that hold ids.
const (
	fieldConfigID = 1
	fieldRunID    = 5
)

// findUnbound returns the first message of a body with a placeholder for an id, or
// -1. The host says what a batch is bound to, so this is for hosts that err; it must
// cost next to nothing. The body must be one that countMessages has accepted.
func findUnbound(body []byte) int {
	for i := 0; len(body) > 0; i++ {
		length := binary.LittleEndian.Uint32(body)
		message := body[lengthBytes : lengthBytes+length]
		body = body[lengthBytes+length:]
		if suspicious(message) && hasPlaceholder(message) {
			return i
		}
	}
	return -1
}

// suspicious reports whether there may be a placeholder at one of the places where
// the encoder puts ids: the beginning, behind a tag and a length, and the end.
func suspicious(message []byte) bool {
	const front = 2
	n := len(message)
	return n >= front+sdk.BindingIDBytes &&
		(isPrefix(message[front:]) || isPrefix(message[n-sdk.BindingIDBytes:]))
}

func isPrefix(b []byte) bool {
	return len(b) >= len(sdk.UnboundPrefix) && string(b[:len(sdk.UnboundPrefix)]) == sdk.UnboundPrefix
}

// hasPlaceholder reads the message's fields: values that look like an id are data.
func hasPlaceholder(message []byte) bool {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return false // the destination will say so
		}
		message = message[n:]
		if kind == protowire.BytesType && (number == fieldConfigID || number == fieldRunID) {
			id, n := protowire.ConsumeBytes(message)
			if n < 0 {
				return false
			}
			if isPrefix(id) {
				return true
			}
			message = message[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return false
		}
		message = message[n:]
	}
	return false
}
