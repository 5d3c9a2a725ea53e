// Package h2 is the client's side of one HTTP/2 connection (RFC 9113), made for
// long uploads with short answers. Frames and header compression are those of
// golang.org/x/net/http2; this package adds what a checkpoint needs and general
// HTTP clients do not offer:
//
//   - Stream.Write copies into one buffer for the whole connection and returns;
//     a second buffer is being written meanwhile, so many small writes become few
//     system calls, and a single one leaves at once.
//   - Stream.Fence tells exactly whether the peer had ended the stream before it
//     had read everything that was written: frames are judged in the order in
//     which they came.
//   - A connection from which nothing comes is asked with a PING, and given up
//     when that is not answered.
//
// Everything that a peer can send is bounded: header lists, bodies, frames, and
// the frames that wait to be written in answer.
//
// A Conn owns two goroutines, a reader and a writer; Close joins them. Whoever
// made the Conn calls Close, also when it has failed by itself. Conn and Stream
// may be used from many goroutines, but only one at a time writes to a stream.
package h2
