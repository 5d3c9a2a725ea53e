package pbfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/pipelined/pipelined/sdk/pbfs"
)

// A file of two chunks, written and read back.
func Example() {
	body := pbfs.AppendMessage(nil, []byte("first"))
	body = pbfs.AppendMessage(body, []byte("second"))

	var file bytes.Buffer
	header := pbfs.ChunkHeader(body) // header and body in two writes, without a copy
	file.Write(header[:])
	file.Write(body)
	file.Write(pbfs.AppendChunk(nil, pbfs.AppendMessage(nil, []byte("third")))) // or in one

	r := pbfs.NewReader(&file, pbfs.Limits{})
	for {
		c, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Printf("chunk at byte %d with %d messages\n", c.Offset, c.Count)
		for msg := range pbfs.Messages(c.Body) { // no error: the chunk was checked
			fmt.Printf("  %s\n", msg)
		}
	}
	// Output:
	// chunk at byte 0 with 2 messages
	//   first
	//   second
	// chunk at byte 31 with 1 messages
	//   third
}

// A damaged file: the scan goes on behind the damage.
func ExampleScanner() {
	var file []byte
	for _, msg := range []string{"first", "second", "third"} {
		file = pbfs.AppendChunk(file, pbfs.AppendMessage(nil, []byte(msg)))
	}
	file[40] ^= 1 // in the second chunk

	s := pbfs.NewScanner(bytes.NewReader(file), int64(len(file)), pbfs.Limits{})
	for {
		c, err := s.Next()
		if err == io.EOF {
			break
		}
		if hole, ok := errors.AsType[*pbfs.Hole](err); ok {
			fmt.Printf("lost: bytes %d to %d, %s\n", hole.From, hole.To, hole.Cause.Kind)
			continue
		}
		if err != nil {
			fmt.Println(err)
			break
		}
		for msg := range pbfs.Messages(c.Body) {
			fmt.Printf("byte %d: %s\n", c.Offset, msg)
		}
	}
	// Output:
	// byte 0: first
	// lost: bytes 21 to 43, wrong checksum
	// byte 43: third
}
