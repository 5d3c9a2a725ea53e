package torture

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// killsOfScenario is about how many kills a scenario has.
const killsOfScenario = 12

// TestShort is the part of the campaign that belongs to the usual tests: scenarios
// until the time is over.
func TestShort(t *testing.T) {
	const most = 70 * time.Second
	began := time.Now()
	all := newTotal()
	campaign(t, all, func(n int) bool { return n < 40 && time.Since(began) < most })
	var b strings.Builder
	all.print(&b)
	t.Log("\n" + b.String())
}

// TestCampaign is the whole; it says how it went in a file.
func TestCampaign(t *testing.T) {
	if *flagKills == 0 && *flagScenarios == 0 {
		t.Skip("runs when it is asked for: make torture")
	}
	all := newTotal()
	campaign(t, all, func(n int) bool {
		if *flagScenarios > 0 {
			return n < *flagScenarios
		}
		return all.killed() < *flagKills && all.failed() < 10
	})
	var b strings.Builder
	all.print(&b)
	t.Log("\n" + b.String())
	if *flagReport != "" {
		require.NoError(t, os.WriteFile(*flagReport, []byte(b.String()), 0o644))
	}
}

// campaign runs scenarios, several at a time, while next says so of their number.
func campaign(t *testing.T, all *total, next func(n int) bool) {
	var number atomic.Int64
	var workers sync.WaitGroup
	for range *flagWorkers {
		workers.Go(func() {
			for {
				n := number.Add(1) - 1
				if !next(int(n)) {
					return
				}
				p := makePlan(*flagSeed+uint64(n), killsOfScenario, !*flagLive)
				t.Run(fmt.Sprint("seed ", p.seed), func(t *testing.T) {
					s := newScenario(t, p)
					defer func() { all.add(s.result) }()
					s.run()
				})
			}
		})
	}
	workers.Wait()
}
