// Package file is the bundled transport file: backup files of encoded messages
// as a destination.
//
// The files are PBFS files, as package pbfs and Sift's client library read them.
// Each batch becomes one chunk, with all its messages in it. A file holds the
// messages of one origin (the pipeline itself, or a client that streams in) and
// lies where pbfs.Path says:
//
//	<dir>/<asset>[/<run>]/<client key>-<µs since the Unix epoch>[.unbound]
//
// The names are those of the registration, the time is that of the file's
// beginning. If there is a file of that name, the next microsecond is taken.
//
// # Ids
//
// Messages carry the ids that ingestion_config_id and run_id name. Without these
// they carry what the host gave them. Files whose messages carry the reserved
// placeholder, because no destination has given ids yet, end in .unbound: they
// cannot be sent as they are.
//
// # Confirmation
//
// A stream is confirmed when all its files are on disk under their final names.
// Until then they lie in the hidden directory <dir>/.pipelined-<16 hexadecimal
// digits>.tmp (package outfile). A new file is begun when max_file_size or
// max_file_age is reached, and with each stream, that is with each checkpoint. A
// stream that fails or is aborted leaves nothing behind; the host sends its
// messages again. A stream without messages makes no file.
//
// The transport reads no message; it only makes sure that the lengths in a batch
// are right, because no reader could use the file otherwise.
package file
