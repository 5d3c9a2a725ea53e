// Package record cuts a stream of text into records: rows of a CSV file, or
// lines.
//
// Every byte of the stream belongs to one record or to a blank line, so what is
// read and what is refused add up. A record that cannot be read is returned with
// its problem and its line, and reading goes on with the next line. Memory is
// bounded by Limit, whatever the stream holds. A Mark tells where to go on later,
// exactly, in a stream with the same content.
//
// CSV is that of RFC 4180, with any delimiter, line ends \n or \r\n, and these
// additions: a quote inside a field that does not begin with one is text; a
// quoted field is kept as it is, its line ends too.
//
// A quote that is never closed would swallow what follows. Such a record is
// refused as its first line only, and the lines after it are read again, each for
// itself.
//
// A Reader belongs to one goroutine; what it returns is valid until its next use.
package record
