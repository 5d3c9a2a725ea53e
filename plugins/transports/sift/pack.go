package sift

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/pipelined/pipelined/sdk"
)

const (
	// packBytes is how much is packed before it is written. It fits a processor's
	// cache, and is enough for a system call to be worth it.
	packBytes = 64 << 10
	// largeMessage is the size from which a message is written from where it is
	// instead of being copied.
	largeMessage = 16 << 10

	lengthBytes = 4 // before each message in an encoded body
)

// countMessages walks the length prefixes of an encoded body and returns the
// number of messages, or why the body cannot be sent.
func countMessages(body []byte) (int, error) {
	n := 0
	for at := 0; at < len(body); n++ {
		if len(body)-at < lengthBytes {
			return n, fmt.Errorf("message %d of the batch has no length: %d bytes are left", n+1, len(body)-at)
		}
		length := int64(binary.LittleEndian.Uint32(body[at:]))
		at += lengthBytes
		if length > maxMessageBytes {
			return n, fmt.Errorf("message %d of the batch has %d bytes; the destination takes at most %d", n+1, length, maxMessageBytes)
		}
		if length > int64(len(body)-at) {
			return n, fmt.Errorf("message %d of the batch has %d bytes, but only %d are left", n+1, length, len(body)-at)
		}
		at += int(length)
	}
	return n, nil
}

func unsendable(err error) error {
	return &sdk.Error{Class: sdk.ClassPermanent, Code: uint32(codes.InvalidArgument), Message: err.Error()}
}

// writer takes packed bytes; it does not keep them.
type writer interface {
	Write(ctx context.Context, p []byte) error
}

// packer turns encoded bodies into gRPC messages: a flag, the length in network
// order, the message. It is used by one stream at a time.
type packer struct {
	buf  []byte
	gzip *gzip.Writer // nil: messages go as they are
	zip  bytes.Buffer
}

func newPacker(compress bool) *packer {
	p := &packer{buf: make([]byte, 0, packBytes+largeMessage+16)}
	if compress {
		p.gzip, _ = gzip.NewWriterLevel(nil, gzip.BestSpeed) // fails for unknown levels only
	}
	return p
}

// send packs a body that countMessages has accepted and writes it. It returns
// how many bytes it wrote.
func (p *packer) send(ctx context.Context, w writer, body []byte) (int, error) {
	p.buf = p.buf[:0]
	total := 0
	flush := func(b []byte) error {
		total += len(b)
		return w.Write(ctx, b)
	}
	for len(body) > 0 {
		length := binary.LittleEndian.Uint32(body)
		flag, message := byte(0), body[lengthBytes:lengthBytes+length]
		body = body[lengthBytes+length:]
		if p.gzip != nil {
			flag, message = p.compress(message)
		}
		p.buf = append(p.buf, flag)
		p.buf = binary.BigEndian.AppendUint32(p.buf, uint32(len(message)))
		large := len(message) >= largeMessage
		if !large {
			p.buf = append(p.buf, message...)
		}
		if large || len(p.buf) >= packBytes {
			if err := flush(p.buf); err != nil {
				return total, err
			}
			p.buf = p.buf[:0]
		}
		if large {
			if err := flush(message); err != nil {
				return total, err
			}
		}
	}
	err := flush(p.buf)
	return total, err
}

// compress returns a message's flag and what is sent for it; the result is valid
// until the next call. What does not become smaller stays as it is.
func (p *packer) compress(message []byte) (byte, []byte) {
	p.zip.Reset()
	p.gzip.Reset(&p.zip)
	_, _ = p.gzip.Write(message) // a bytes.Buffer takes everything
	_ = p.gzip.Close()
	if p.zip.Len() >= len(message) {
		return 0, message
	}
	return 1, p.zip.Bytes()
}
