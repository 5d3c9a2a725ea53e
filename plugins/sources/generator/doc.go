// Package generator is the bundled source generator: made-up telemetry, for
// trying things out and as the load of benchmarks and loss tests.
//
// All values and stamps are functions of the configuration and the number of the
// row alone: row i of a channel is the same in every run with the same seed, from
// wherever the run began. Row i has the stamp start + i / rate, rounded down to
// ns. With a paced rate row i is emitted when i / rate has passed since the run
// began; a run that was held up catches up, so the rate does not drift.
//
// The source is replayable. Its position is the number of the next row and the
// start (u64 and i64 little-endian), so a run without a configured start goes on
// in the time of the first one. It honours rewinds until its last row; after that
// the run ends, and a new one can be given the position.
//
// Run works in the goroutine that called it; the package starts none.
package generator
