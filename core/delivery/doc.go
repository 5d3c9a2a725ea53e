// Package delivery brings batches to a destination and finds out what has
// arrived.
//
// A Track is one destination's progress. Its live lane sends what is pushed. A lane
// is a queue, a checkpoint machine and one call of the transport; one goroutine does
// its work, a second one talks to the transport.
//
// Without a Store a batch stays in the lane, in memory, until it is confirmed: a failed
// stream's batches are sent again, oldest first. When the queue or the memory for
// unconfirmed batches is full, Push waits.
//
// With a Store the track keeps ids only. A batch is given back when the transport has
// it, Push never waits, and a full queue lets go of its oldest batch. What the store
// has, the track has not confirmed and no lane owns is missing. The feeder reads that
// from the store and sends it through a second lane; it finds single messages that the
// destination refuses by halving, and has them buried. Every id of the store is settled
// by every track: confirmed, filtered or lost, once each.
//
// A lane holds one reference on the batches in its queue, and on those that it keeps; it
// drops them when they are confirmed or given up, or when Run has ended. Run joins all
// goroutines. Store, bus and account belong to the caller.
package delivery
