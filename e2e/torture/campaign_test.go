package torture

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
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
	t.Log("\n" + all.text())
}

// TestCampaign is the whole; how it goes is in a file after each scenario.
func TestCampaign(t *testing.T) {
	if *flagKills == 0 && *flagScenarios == 0 {
		t.Skip("runs when it is asked for: make torture")
	}
	all := newTotal()
	campaign(t, all, func(n int) bool {
		if *flagReport != "" {
			assert.NoError(t, os.WriteFile(*flagReport, []byte(all.text()), 0o644))
		}
		if *flagScenarios > 0 {
			return n < *flagScenarios
		}
		return all.killed() < *flagKills && all.failed() < 10
	})
	t.Log("\n" + all.text())
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
