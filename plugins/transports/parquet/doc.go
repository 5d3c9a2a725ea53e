// Package parquet is the bundled transport parquet: rows as Parquet files, one
// table for each flow.
//
// # Tables
//
// A flow is a table, and a table is a directory of files with one schema:
//
//	<dir>/<flow>/[<run>-]<client key>-<µs since the Unix epoch>.parquet           the pipeline's own flows
//	<dir>/<asset>/<flow>/[<run>-]<client key>-<µs since the Unix epoch>.parquet   flows that came in for a client
//
// The time is that of the file's beginning; if there is a file of that name, the
// next microsecond is taken. Names of assets and flows are left as they are if
// they consist of letters, digits, "_", "-" and "." and begin with a letter or
// digit. In others everything else becomes "_", and "-" with 24 hexadecimal digits
// of a hash of the name comes behind, so different names have different
// directories. Run and client key in the name of a file are for people; exact
// names are in the metadata. Only where clients with different keys use the same
// asset and flow name do their files lie in one directory, which may then have
// several schemas; the keys in the names of the files tell them apart.
//
// # Columns
//
// The first column is time: the stamps as TIMESTAMP(ns, UTC), never null. Then come
// the flow's channels in their order, under their names. A channel called "time"
// becomes "time_1", or the next such name that is free. A row without a value for a
// channel has null there.
//
//	channel      Parquet                        Arrow, pandas    DuckDB
//	double       DOUBLE                         double           DOUBLE
//	float        FLOAT                          float            FLOAT
//	string       BYTE_ARRAY, STRING             string           VARCHAR
//	enum         BYTE_ARRAY, STRING, dictionary string           VARCHAR
//	bit_field    BYTE_ARRAY                     binary           BLOB
//	bool         BOOLEAN                        bool             BOOLEAN
//	int32        INT32, INT(32, signed)         int32            INTEGER
//	uint32       INT32, INT(32, unsigned)       uint32           UINTEGER
//	int64        INT64, INT(64, signed)         int64            BIGINT
//	uint64       INT64, INT(64, unsigned)       uint64           UBIGINT
//	bytes        BYTE_ARRAY                     binary           BLOB
//
// Numbers keep all their bits, NaN and -0 too. An enum is stored as its name; a key
// that has no name, or shares it with another key, or whose name consists of
// digits, is stored as its digits, so different keys stay different. Bit fields are
// little-endian bytes. In strings that are not UTF-8, which readers refuse, the
// wrong bytes become U+FFFD, and the log says so.
//
// What readers make of stamps: DuckDB has only µs for times with a zone and cuts
// the rest off; pandas takes the least int64 for a missing time.
//
// # Metadata
//
// Each file has these keys; those without a value are left out:
//
//	pipelined.format      version of these keys: 1
//	pipelined.pipeline    name of the pipeline
//	pipelined.asset, pipelined.client_key, pipelined.run, pipelined.flow
//	pipelined.channels    JSON, a list with an object for each channel, in order:
//	                      column, channel, type, and if they are known: unit,
//	                      description, enum (a list of key, name), bit_field
//	                      (a list of name, index of the first bit, bit_count)
//
// # Confirmation
//
// A stream is confirmed when all its files are on disk under their final names.
// Until then they lie in the hidden directory <dir>/.pipelined-<16 hexadecimal
// digits>.tmp (package outfile). A file is finished when max_file_size is reached,
// and with each stream, that is with each checkpoint. A stream that fails or is
// aborted leaves nothing behind; the host sends its rows again. A flow without rows
// makes no file.
//
// # Memory
//
// Rows of a flow wait as they came until there are 256 KiB of them, then they are
// turned into columns. So a flow with few rows takes little memory, and none of the
// at most 64 files that are being written. What a stream holds in memory is at most
// four times row_group_size and 36 KB for each channel of the widest flow; beyond
// that row groups are written early, and files ended, those of flows that have been
// silent for longest first. The estimate does not know the memory of compression,
// which is a few MB.
package parquet
