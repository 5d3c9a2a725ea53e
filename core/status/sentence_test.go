package status

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestSentences(t *testing.T) {
	now := time.Date(2026, 8, 1, 12, 30, 0, 0, time.FixedZone("there", 2*3600))
	at := func(hour, minute int) time.Time {
		return time.Date(2026, 8, 1, hour, minute, 59, 0, now.Location()).UTC()
	}
	min12, min4 := Seconds(12*time.Minute+50*time.Second), Seconds(4*time.Minute)
	track := func(change func(*Track)) Track {
		tr := Track{Name: "sift.main", usual: 70 * time.Second}
		change(&tr)
		return tr
	}
	calm := track(func(*Track) {})
	busy := track(func(tr *Track) { tr.Pending, tr.OldestPending = 5000, Seconds(60*time.Second) })
	behind := track(func(tr *Track) {
		tr.Pending, tr.PendingBytes, tr.OnDisk, tr.OldestPending, tr.Drain = 9_000_000, 3_140_000_000, 8_000_000, min12, &min4
	})
	growing := track(func(tr *Track) {
		tr.Pending, tr.OldestPending, tr.Rates = 12_345, Seconds(3*time.Hour+5*time.Minute), &Rates{Window: Seconds(time.Minute)}
	})
	stuck := track(func(tr *Track) {
		tr.Pending, tr.StuckSince, tr.StuckReason = 10, at(12, 3), "PERMISSION_DENIED"
	})
	retrying := track(func(tr *Track) { tr.LastError = "UNAVAILABLE: connection refused" })
	waiting := track(func(tr *Track) { tr.Waiting = "UNAVAILABLE: no route to host" })
	lost := track(func(tr *Track) { tr.Lost = 12_000 })
	unbound := track(func(tr *Track) { tr.Unbound = []string{"imu: channel x is a string there", "gps: …"} })
	other := func(tr Track) Track { tr.Name = "parquet.lake"; return tr }

	for _, c := range []struct {
		name   string
		p      Pipeline
		state  State
		wanted string
	}{
		{"all well", Pipeline{phase: "running", Tracks: []Track{calm}}, Delivering, "delivering"},
		{"no destination", Pipeline{phase: "running"}, Delivering, "delivering"},
		{"pending since the last checkpoint", Pipeline{phase: "running", Tracks: []Track{busy}}, Delivering, "delivering"},
		{"a backlog", Pipeline{phase: "running", Tracks: []Track{behind}}, Behind, "behind by 12 min, 3.1 GB, about 4 min to drain"},
		{"a backlog of one of two", Pipeline{phase: "running", Tracks: []Track{other(calm), behind}}, Behind, "behind at sift.main by 12 min, 3.1 GB, about 4 min to drain"},
		{"a backlog that grows", Pipeline{phase: "running", Tracks: []Track{growing}}, Behind, "behind by 3 h 5 min, 12,345 messages, not getting less"},
		{
			"a backlog of an outage",
			Pipeline{phase: "running", Tracks: []Track{track(func(tr *Track) {
				tr.Pending, tr.OnDisk, tr.LastError = 1, 1, "UNAVAILABLE: connection refused"
			})}},
			Retrying, "behind by 1 message; retrying: UNAVAILABLE: connection refused",
		},
		{"a failed stream", Pipeline{phase: "running", Tracks: []Track{retrying}}, Retrying, "retrying: UNAVAILABLE: connection refused"},
		{"a failed stream of one of two", Pipeline{phase: "running", Tracks: []Track{retrying, other(calm)}}, Retrying, "retrying at sift.main: UNAVAILABLE: connection refused"},
		{"stuck", Pipeline{phase: "running", Tracks: []Track{stuck}}, Stuck, "stuck: PERMISSION_DENIED since 12:03"},
		{"stuck since yesterday", Pipeline{phase: "running", Tracks: []Track{track(func(tr *Track) {
			tr.StuckSince, tr.LastError = at(12, 3).AddDate(0, 0, -1), "INVALID_ARGUMENT: no"
		})}}, Stuck, "stuck: INVALID_ARGUMENT: no since 2026-07-31 12:03"},
		{"the worst of several", Pipeline{phase: "running", Tracks: []Track{behind, other(stuck), retrying}}, Stuck, "stuck at parquet.lake: PERMISSION_DENIED since 12:03"},
		{"a destination that does not answer", Pipeline{phase: "running", Tracks: []Track{waiting}}, Waiting, "waiting for sift.main: UNAVAILABLE: no route to host"},
		{"starting", Pipeline{phase: "starting"}, Starting, "starting"},
		{"starting without the destination", Pipeline{phase: "starting", Tracks: []Track{waiting}}, Starting, "starting; waiting for sift.main: UNAVAILABLE: no route to host"},
		{"finishing", Pipeline{phase: "draining", Tracks: []Track{calm}}, Finishing, "finishing"},
		{"finishing with something left", Pipeline{phase: "draining", Tracks: []Track{busy, other(behind)}}, Finishing, "finishing: 9,000,000 messages left to deliver, about 4 min to drain"},
		{"finishing in vain", Pipeline{phase: "draining", Tracks: []Track{stuck}}, Stuck, "finishing; stuck: PERMISSION_DENIED since 12:03"},
		{"finished", Pipeline{phase: "finished", Tracks: []Track{calm}}, Finished, "finished"},
		{"finished with something left", Pipeline{phase: "finished", Tracks: []Track{busy, other(calm)}}, Finished, "finished; 5,000 messages were not delivered"},
		{"failed", Pipeline{phase: "finished", Error: "source csv.in: no such file"}, Failed, "failed: source csv.in: no such file"},
		{"failing", Pipeline{phase: "draining", Error: "source csv.in: crashed", Tracks: []Track{busy}}, Failed, "failed: source csv.in: crashed; what was received is being delivered"},
		{
			"a disk that is full",
			Pipeline{phase: "running", Tracks: []Track{calm}, Backup: &Backup{Full: true, Trouble: "no space left on device", TroubleSince: at(9, 0)}},
			Delivering, "delivering; the backup takes nothing since 09:00: no space left on device",
		},
		{"a backup that is full", Pipeline{phase: "running", Backup: &Backup{Full: true}}, Delivering, "delivering; the backup is full"},
		{
			"a disk that is slow",
			Pipeline{phase: "running", Backup: &Backup{Lagging: true, WaitingBytes: 12 << 20, OldestWaiting: Seconds(3 * time.Second)}},
			Delivering, "delivering; the disk is slow: 12 MiB wait for it, the oldest for 3 s",
		},
		{"flows that wait", Pipeline{phase: "running", Tracks: []Track{unbound}}, Delivering, "delivering; 2 flows have to wait at sift.main: imu: channel x is a string there"},
		{"losses", Pipeline{phase: "running", Tracks: []Track{lost}}, Delivering, "delivering; 12,000 messages were lost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			state, sentence := judge(&c.p, now)
			assert.Equal(t, c.wanted, sentence)
			assert.Equal(t, c.state, state)
			assert.Contains(t, States(), state)
		})
	}
}

func TestSentenceIsShort(t *testing.T) {
	p := Pipeline{phase: "running", Tracks: []Track{{LastError: strings.Repeat("é", 5000)}}}
	_, sentence := judge(&p, time.Now())
	assert.Equal(t, "retrying: "+strings.Repeat("é", maxReason)+"…", sentence)
}

func TestSpan(t *testing.T) {
	for wanted, d := range map[string]time.Duration{
		"1 s":        0,
		"59 s":       59*time.Second + 999*time.Millisecond,
		"1 min":      time.Minute,
		"59 min":     time.Hour - 1,
		"1 h":        time.Hour + 59*time.Second,
		"23 h 1 min": 23*time.Hour + time.Minute,
		"1 d":        24*time.Hour + time.Minute,
		"9 d 23 h":   10*24*time.Hour - 1,
	} {
		assert.Equal(t, wanted, span(d))
	}
}
