// Package archtest holds the rules of the source tree that a compiler does not
// check: which package may import which (ARCHITECTURE.md tells why), and a few
// habits of CONTRIBUTING.md. It has no code besides its tests. Each rule is a
// pure function, tried on made-up trees that break it before it is applied to
// this one.
package archtest
