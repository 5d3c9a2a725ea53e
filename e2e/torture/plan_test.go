package torture

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Victims: the host, or the kind and name of a plugin as its arguments say them.
const (
	victimHost      = "host"
	victimTransport = "transport sift"
	victimEncoder   = "encoder ingestion_config"
)

// Phase says what goes on when a process is killed.
type Phase string

// The phases.
const (
	phaseStart      Phase = "start"        // a moment after it was started
	phaseHealthy    Phase = "healthy"      // rows arrive
	phaseOutage     Phase = "outage"       // the destination does not listen, or does not answer
	phaseReingest   Phase = "re-ingestion" // the destination is back and takes what was left
	phaseRotation   Phase = "rotation"     // a backup file was begun or deleted just now
	phaseCheckpoint Phase = "checkpoint"   // the destination has read the end of a stream
	phaseShutdown   Phase = "shutdown"     // after SIGTERM
	phaseFull       Phase = "full disk"    // nothing can be written
)

// Kinds of sources.
const (
	sourceCSV       = "csv"
	sourceGenerator = "generator"
	sourceClient    = "sift" // a client of the harness
)

// plan is a scenario before it runs.
type plan struct {
	seed     uint64
	source   string
	rows     int
	rate     int // rows per second
	pad      int // bytes of a row besides its number
	others   []string
	backup   bool
	sync     string
	fileSize string
	files    int // max_file_count
	retain   bool
	interval time.Duration
	timeout  time.Duration
	drain    time.Duration
	queue    int
	lag      string
	run      bool
	disk     int // bytes of a file system of its own; 0: none
	poison   []uint64
	steps    []step
}

// step kills one process in one phase; or it only stops the host in order.
type step struct {
	victim  string
	phase   Phase
	weather mode
	delay   time.Duration
	loop    int  // kills of the host while it starts, before the step
	orderly bool // SIGTERM and no kill
	stay    bool // what the destination does in an outage goes on during the next start
}

func (s step) String() string {
	if s.orderly {
		return fmt.Sprintf("orderly stop, %s", s.weather)
	}
	return fmt.Sprintf("kill %s in %s after %s, %s, loop %d", s.victim, s.phase, s.delay, s.weather, s.loop)
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// makePlan makes a scenario with about so many kills. Without backup, phases and
// weather are only those that a live pipeline survives.
func makePlan(seed uint64, kills int, backup bool) plan {
	r := rand.New(rand.NewPCG(seed, 1))
	p := plan{
		seed:     seed,
		source:   pick(r, sourceCSV, sourceGenerator, sourceClient),
		rate:     pick(r, 300, 1000, 3000, 8000),
		pad:      pick(r, 0, 100, 400, 1000),
		backup:   backup,
		sync:     pick(r, "rotate", "always", "10ms", "200ms", "1s"),
		fileSize: pick(r, "1MiB", "1MiB", "2MiB"),
		files:    pick(r, 0, 0, 3, 20),
		retain:   r.IntN(4) == 0,
		interval: pick(r, time.Second, 1500*time.Millisecond, 3*time.Second),
		timeout:  pick(r, 500*time.Millisecond, 2*time.Second),
		drain:    pick(r, time.Second, 4*time.Second),
		queue:    pick(r, 500, 5000, 102400),
		lag:      pick(r, "stream", "block"),
		run:      r.IntN(4) == 0,
	}
	switch r.IntN(6) {
	case 0:
		p.others = []string{"file"}
	case 1:
		p.others = []string{"parquet"}
	}
	if backup && r.IntN(6) == 0 {
		p.disk = 48 << 20
		p.retain = false
	}
	for n := 0; n < kills; {
		s := makeStep(r, p)
		p.steps = append(p.steps, s)
		n += s.kills()
	}
	// Enough for the whole scenario, and not more than fits the memory.
	p.rows = min(p.rate*len(p.steps), 24<<20/(200+p.pad))
	if backup && r.IntN(6) == 0 {
		for range 1 + r.IntN(3) {
			p.poison = append(p.poison, uint64(r.IntN(p.rows)))
		}
	}
	return p
}

func (s step) kills() int {
	if s.orderly {
		return 0
	}
	return 1 + s.loop
}

func makeStep(r *rand.Rand, p plan) step {
	s := step{
		victim:  pick(r, victimHost, victimHost, victimHost, "source "+p.source, victimEncoder, victimTransport),
		phase:   pick(r, phaseStart, phaseHealthy, phaseOutage, phaseReingest, phaseRotation, phaseCheckpoint, phaseShutdown),
		weather: pick(r, modes...),
		stay:    r.IntN(2) == 0,
		orderly: r.IntN(8) == 0,
	}
	if !p.backup && (s.phase == phaseOutage || s.phase == phaseReingest || s.phase == phaseRotation) {
		s.phase = phaseHealthy
	}
	if p.disk > 0 && r.IntN(2) == 0 {
		s.phase = phaseFull
	}
	switch s.phase {
	case phaseStart:
		s.delay = within(r, 50, 300, 1000)
	case phaseHealthy, phaseOutage, phaseFull:
		s.delay = within(r, 20, 300, 1500)
	case phaseReingest, phaseShutdown:
		s.delay = within(r, 10, 100, 600)
	case phaseRotation, phaseCheckpoint:
		s.delay = within(r, 1, 5, 30)
	}
	if !s.orderly && r.IntN(12) == 0 {
		s.loop = r.IntN(60)
	}
	return s
}

// within returns a random time below one of the given numbers of ms.
func within(r *rand.Rand, ms ...int) time.Duration {
	return time.Duration(r.Int64N(int64(pick(r, ms...)) * int64(time.Millisecond)))
}

// places are where a scenario lives, as its host sees them.
type places struct {
	data   string // the data directory; also for the backup
	input  string // the CSV file
	uri    string // of the server
	listen string // of the source sift
	files  string // of the transport file
	tables string // of the transport parquet
}

// hcl returns the pipeline. hurried is for the last run, in which nothing waits for
// the time of rows.
func (p plan) hcl(at places, hurried bool) string {
	var b strings.Builder
	w := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	w(`pipeline "torture" {`)
	w(`  asset = "stand"`)
	w(`  drain_timeout = %q`, p.drain)
	p.writeSource(w, at, hurried)
	w(`  encoder "ingestion_config" {`)
	w(`    client_key = "stand-v1"`)
	w(`  }`)
	w(`  transport "sift" "live" {`)
	w(`    uri     = %q`, at.uri)
	w(`    api_key = secret::env(%q)`, apiKey)
	w(`    keepalive = "1s"`)
	w(`  }`)
	for _, other := range p.others {
		dir := at.files
		if other == "parquet" {
			dir = at.tables
		}
		w(`  transport %q "second" {`, other)
		w(`    dir = %q`, dir)
		w(`  }`)
	}
	if p.run {
		w(`  run {`)
		w(`    name = "run of torture"`)
		w(`    client_key = "run-1"`)
		w(`  }`)
	}
	if p.backup {
		w(`  backup {`)
		w(`    dir            = "${data_dir}/backups"`)
		w(`    max_file_size  = %q`, p.fileSize)
		if p.files > 0 {
			w(`    max_file_count = %d`, p.files)
		}
		w(`    retain         = %t`, p.retain)
		w(`    sync           = %q`, p.sync)
		w(`  }`)
	}
	w(`  checkpoint {`)
	w(`    interval = %q`, p.interval)
	w(`    timeout  = %q`, p.timeout)
	w(`  }`)
	w(`  retry {`)
	w(`    initial    = "20ms"`)
	w(`    max        = "300ms"`)
	w(`    multiplier = 3`)
	w(`  }`)
	w(`  queues {`)
	w(`    ingestion     = %d`, p.queue)
	w(`    backup        = %d`, p.queue)
	w(`    on_backup_lag = %q`, p.lag)
	w(`  }`)
	w(`}`)
	return b.String()
}

func (p plan) writeSource(w func(string, ...any), at places, hurried bool) {
	switch p.source {
	case sourceCSV:
		speed := "1"
		if hurried {
			speed = `"max"`
		}
		w(`  source "csv" "rows" {`)
		w(`    path  = %q`, at.input)
		w(`    flow  = %q`, flowName)
		w(`    speed = %s`, speed)
		w(`    time {`)
		w(`      column = "t"`)
		w(`      unit   = "ns"`)
		w(`    }`)
		w(`    column "n" {`)
		w(`      type = "uint64"`)
		w(`    }`)
		w(`  }`)
	case sourceGenerator:
		rate := fmt.Sprint(p.rate)
		if hurried {
			rate = `"max"`
		}
		w(`  source "generator" "rows" {`)
		w(`    flow  = %q`, flowName)
		w(`    rate  = %s`, rate)
		w(`    nominal_rate = %d`, p.rate)
		w(`    rows  = %d`, p.rows)
		w(`    start = "2026-01-01T00:00:00Z"`)
		w(`    batch = 500`)
		w(`    channel "n" {`)
		w(`      type = "uint64"`)
		w(`      wave = "counter"`)
		w(`    }`)
		for i := range p.pad / 12 {
			w(`    channel "c%d" {`, i)
			w(`      type = "double"`)
			w(`    }`)
		}
		w(`  }`)
	case sourceClient:
		w(`  source "sift" "in" {`)
		w(`    listen = %q`, at.listen)
		w(`  }`)
	}
}
