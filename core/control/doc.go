// Package control has the control bus of a pipeline: notices between its tasks.
//
// A notice says "look again"; what there is to see stays with its owner, and the
// answer to a stream is a direct call. Publishing never waits. What waits for a
// listener is bounded: notices of one kind and track become one, whose ids reach
// from the least to the greatest of them. So a slow listener may be told less often
// and of more ids than there were, but it is always told.
//
// The package starts no goroutines. Bus and Subscription may be used by several.
package control
