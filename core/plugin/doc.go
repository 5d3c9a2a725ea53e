// Package plugin finds, launches and stops plugin processes. It is the only user
// of go-plugin's client, and uses it for the handshake only; docs/adr/0003 says
// why.
//
// # What it promises
//
// A Catalog knows the plugins of the running binary and the executables in plugin
// directories. One that somebody other than root or the own user could replace is
// refused.
//
// A Launcher starts them. Start is bounded by a time and by its context. The
// process gets a clean environment, a private directory for its socket, a
// connection with mutual TLS, and the memory files of its regions. What it writes
// becomes log records, in bounded memory and without the secrets that it was
// configured with.
//
// A Process ends with Stop: drain, end of input, kill. Stop returns at its
// deadline, whatever the plugin does. The end of a process is known from the
// process itself, so nothing waits for what it left behind; that is killed with
// it, as far as it is in its process group. No plugin outlives its host: the
// kernel kills it when the host dies, however that happens.
//
// A plugin that has ended is not started again here.
//
// # Who owns what
//
// The caller of Launch owns the Process and calls Stop, also after it has ended by
// itself. It owns the regions and closes them after that. The Launcher owns the
// thread that forks and the directory of sockets, and outlives its processes: its
// Close kills what is left. Each process has goroutines that read its output, its
// control stream and wait for its end; all end with the process, and Stop joins
// them.
package plugin
