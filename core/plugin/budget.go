package plugin

import "strconv"

// minMemory is the least memory limit of a process, in bytes: below it a Go
// program spends its time collecting garbage.
const minMemory = 32 << 20

// Budget is what processes may use together. Plugins written in Go hold
// themselves to it; others see the variables and may.
type Budget struct {
	Procs  int   // processors at a time; 0 = all
	Memory int64 // bytes; 0 = no limit
}

// Split returns the share of one of n processes: at least one processor and
// 32 MiB, so that shares of a small budget may add up to more than it.
func (b Budget) Split(n int) Budget {
	n = max(n, 1)
	if b.Procs > 0 {
		b.Procs = (b.Procs + n - 1) / n
	}
	if b.Memory > 0 {
		b.Memory = max(b.Memory/int64(n), minMemory)
	}
	return b
}

func (b Budget) variables() map[string]string {
	v := map[string]string{}
	if b.Procs > 0 {
		v["GOMAXPROCS"] = strconv.Itoa(b.Procs)
	}
	if b.Memory > 0 {
		v["GOMEMLIMIT"] = strconv.FormatInt(b.Memory, 10)
	}
	return v
}
