// Package pipeline builds pipelines from their parts and runs them.
//
// A Host runs several pipelines. A pipeline owns the goroutines of its stages:
// one that receives from each source, one that feeds the encoder, one that
// receives from it and gives ids, one for each track. Data flows
//
//	source → feeder → encoder → admitter → tracks
//
// and only forward; acknowledgements flow back when every track has confirmed.
// Every stage waits when the next one is full, so that nothing is ever dropped for
// lack of room.
//
// Consumers start first and producers stop first. Run returns when every goroutine
// has ended and every process is gone.
package pipeline
