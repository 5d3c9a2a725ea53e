// Package checkpoint decides which message ids a destination has confirmed.
//
// A Set holds ids as ranges. A Machine follows the streams of one track: which
// ids it was told were handed to which stream, when a stream ends, and what its
// answer means. It is pure: events go in, actions come out; it has no clock and
// starts no goroutine. The owner calls it from one goroutine, carries the actions
// out in order and brings back what happened.
//
// A Bisection finds the messages that a destination refuses for good among those of
// streams that fail; it is as pure.
//
// A Machine promises: a confirmation counts whenever it arrives and is never undone; an
// answer confirms exactly the ids that were handed to its stream; ids of a stream
// that ended any other way become missing, once.
package checkpoint
