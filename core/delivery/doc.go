// Package delivery brings batches to a destination and finds out what has
// arrived.
//
// A Track is one destination's progress. It owns a queue of batches, the
// checkpoint machine and everything that is not confirmed; one goroutine, Run,
// does its work, a second one talks to the transport. A batch leaves the track
// only confirmed: a failed stream's batches are sent again, oldest first. When the
// queue or the memory for unconfirmed batches is full, Push waits.
//
// The track holds one reference on the batches that it was given and drops it
// when they are confirmed, or when Run has ended.
package delivery
