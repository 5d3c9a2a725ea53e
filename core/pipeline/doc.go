// Package pipeline builds pipelines from their parts and runs them.
//
// A Host runs several pipelines. A pipeline owns the goroutines of its stages:
// one that receives from each source, one that feeds the encoder, one that
// receives from it and gives ids, those of each track, and those of the backup. Data
// flows
//
//	source → feeder → encoder → admitter → store and tracks
//
// and only forward; acknowledgements flow back when a batch is safe: with a backup when
// it is stored as its sync policy wants, without one when every track has confirmed it.
// Every stage waits when the next one is full. With a backup the tracks never are: what
// they cannot take is read from the store later, and intake waits for memory only.
//
// The pipeline opens the backup before it starts a process, and closes it after its
// tasks and all tracks have ended. Flows are made known to destinations in the
// background when there is a backup, before the first row when there is none.
//
// Consumers start first and producers stop first. Run returns when every goroutine
// has ended and every process is gone.
package pipeline
