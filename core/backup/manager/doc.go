// Package manager has the tasks that keep the backup of a pipeline: one that writes
// what is pushed, one that syncs, one that writes down what tracks have confirmed, and
// one that lets go of what all have confirmed before it was stored.
//
// It promises, whatever the disk does:
//   - A batch is Safe exactly once: when it is durable (mode Rotate: written), or all
//     tracks have confirmed it, or it was reported as lost. Durable batches become safe
//     in the order in which they were written. What is not safe when Run ends is not
//     said to be.
//   - The payload of a batch is kept until it is safe, and can be read: see Tail.
//   - A disk that does not answer delays durability and nothing else: Push (unless it
//     is told to block), Confirm, Missing, Tail, State and Lagging wait for no disk.
//   - A disk that is full or fails is tried again until it works. Everything stays in
//     order meanwhile; what all tracks have confirmed is let go of.
//   - The cursor of a source never stands behind a batch that is not durable,
//     confirmed or lost.
//
// The manager owns its goroutines, which live as long as Run; the backup belongs to
// its caller, who closes it after Run. Nobody else may append to the backup or sync it
// meanwhile, but its other methods may be called. The payload of a batch belongs to
// the batch; the manager holds a reference. Batch's methods and Settings.Lost and Full
// are called without any lock held, except Confirmed, which must not call back.
package manager
