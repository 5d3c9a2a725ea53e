// Package plugintest is a conformance kit: it starts any executable that claims
// to be a plugin and holds it to the contract, as subtests. It needs nothing of a
// host.
package plugintest
