// Package torture kills the program as it is used, at random moments, and looks
// for every row afterwards: the real binary, real plugin processes, real files, and
// a server whose behaviour changes all the time.
//
// A scenario is made from a number, its seed: a pipeline, and a list of steps, each
// of which kills one process of the host in one phase (see Phase) with SIGKILL. The
// host is started again after each of them. At the end a run without disturbance has
// to deliver everything. Then every row, which is numbered at its source, is looked
// for at each destination and, where they are kept, in the backup files.
//
// What is checked:
//
//   - no row is lost: of a file or a generator all rows arrive, of a client all that
//     were answered with OK; of these also after each death of the host that they are
//     at the destination or in a file;
//   - the account that an orderly end prints is exact, and fits what arrived;
//   - exit codes mean what the documentation says;
//   - no process outlives the host.
//
// What is counted: rows that arrived twice, and the time from a start until rows
// arrive again.
//
// TestShort is a few scenarios and part of the usual tests. TestCampaign is the whole
// and runs only when it is asked for: make torture. A scenario is run again with
// -seed and -scenarios 1; the processes' timing is what differs then.
//
// There are no sleeps: steps wait for what can be seen from outside. Timers are only
// the random delays of kills and what the server does.
package torture
