// Package plugintest is a conformance kit: it starts any executable that claims
// to be a plugin and holds it to the contract. It needs nothing of a host.
//
// Run is for the tests of a plugin, whatever language it is written in; Check is
// the same for programs. Each check starts a process of its own, so a plugin that
// fails one is still held against the others. What the checks cannot know (an
// address to deliver to, messages that a transport takes) is in Options; checks
// that need what is not there are skipped, with the reason.
//
// Launch starts one process for tests and benchmarks of other kinds. Who launches
// a process closes it; Close joins everything that Launch has started.
package plugintest
