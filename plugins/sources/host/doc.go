// Package host is the source of this machine's own telemetry: processors, memory,
// disks, network, temperatures and fans, as far as the machine has them.
//
// Each group is a flow with its own period. The channels of a flow are those that
// the machine has when the source starts; one that is gone later has no value. The
// readings come from the gopsutil library and, for fans, from the kernel's hwmon
// files.
package host
