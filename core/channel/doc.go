// Package channel has the bounded queue between the tasks of a pipeline.
//
// A queue is bounded by a count of messages and by bytes. It blocks its writer
// when full; it never drops anything by itself. Its owner closes it once; what is
// in it can still be taken out.
package channel
