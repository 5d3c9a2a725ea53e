// Package sdk is what a plugin author imports: flows and their batches, the
// interfaces of the plugin kinds, typed configuration and errors.
//
// A plugin is a value of type Plugin, made by NewSource, NewEncoder or
// NewTransport from a typed configuration and a function that opens it. Its main
// hands that value to package serve. Nothing here starts a goroutine except
// Gatherer, which joins its own in Close.
//
// A Builder and a Batch belong to one goroutine at a time. An Output may be used
// by many.
package sdk
