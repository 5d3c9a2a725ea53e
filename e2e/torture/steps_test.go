package torture

import (
	"path/filepath"
	"time"
)

// step brings the host into the phase, kills, and looks at what is left.
func (s *scenario) step(st step) {
	s.crashLoop(st)
	if !s.bringAbout(st) {
		s.ended(st)
		return
	}
	if st.orderly {
		s.stopInOrder(true)
		return
	}
	s.host.pause(st.delay)
	s.settle()
	pid := s.killWhenThere(st)
	if pid == 0 {
		s.note("nothing was killed")
		s.ended(st)
		return
	}
	s.cell = cell{st.victim, st.phase}
	s.result.killed(s.cell)
	s.afterKill(st, pid)
}

// crashLoop kills the host again and again while it starts.
func (s *scenario) crashLoop(st step) {
	if st.loop == 0 {
		return
	}
	if s.host != nil && !s.host.hasEnded() {
		s.host.kill(victimHost)
		s.host.wait(patience)
	}
	if st.stay {
		s.weather.stop()
	} else {
		s.turn(healthy)
	}
	s.settle()
	s.cell = cell{victimHost, "crash loop"}
	longest := time.Duration(100+s.weather.chance(500)) * time.Millisecond
	for range st.loop {
		s.start(false)
		s.host.pause(time.Duration(s.weather.chance(int(longest))))
		if s.host.kill(victimHost) != 0 {
			s.result.killed(s.cell)
		}
		if code, ok := s.host.wait(patience); !ok {
			s.problem("a killed host does not end")
		} else if code >= 0 {
			s.checkExit(st, code)
		}
	}
	s.note("crash loop of %d is over", st.loop)
	s.checkAccepted()
}

// bringAbout brings the host into the phase; false if it ended instead.
func (s *scenario) bringAbout(st step) bool {
	if s.disk != nil && st.phase != phaseFull && !st.stay {
		s.disk.free()
	}
	if st.phase == phaseStart {
		if s.host != nil && !s.host.hasEnded() {
			s.stopInOrder(false)
		}
		if s.complete() {
			return false
		}
		if st.weather == healthy && st.stay && s.plan.backup {
			s.weather.stop()
		} else {
			s.turn(s.bearable(st.weather))
		}
		s.start(false)
		return true
	}
	if s.weatherIsFair() || !st.stay || !s.plan.backup {
		s.turn(healthy)
		if !s.recovered() {
			return false
		}
	} else {
		s.ensureHost() // in the weather that there was
	}
	switch st.phase {
	case phaseHealthy:
		s.turn(s.bearable(st.weather))
		if st.weather.takes() {
			return s.awaitRows()
		}
	case phaseOutage:
		s.outage(st)
	case phaseReingest:
		s.outage(st)
		if !s.backlog() {
			return false
		}
		s.turn(s.bearable(st.weather))
		if st.weather.takes() {
			return s.awaitRows()
		}
	case phaseRotation:
		return s.rotation(st)
	case phaseCheckpoint:
		m := st.weather
		if m != lateOK && m != slow {
			m = healthy
		}
		s.turn(m)
		before := s.weather.halfCloses.Load()
		return s.await("no checkpoint", func() bool { return s.weather.halfCloses.Load() > before })
	case phaseShutdown:
		s.turn(s.bearable(st.weather))
		s.host.stop()
	case phaseFull:
		return s.fullDisk(st)
	}
	return !s.host.hasEnded()
}

func (s *scenario) weatherIsFair() bool {
	s.weather.mu.Lock()
	defer s.weather.mu.Unlock()
	return !s.weather.down && s.weather.mode == healthy
}

// bearable replaces weather that ends a pipeline without a backup.
func (s *scenario) bearable(m mode) mode {
	if !s.plan.backup && (m == badKey || m == halfOpen || m == refusing) {
		return healthy
	}
	return m
}

func (s *scenario) outage(st step) {
	switch st.weather {
	case halfOpen, hanging, refusing, badKey, deaf:
		s.turn(st.weather)
	default:
		s.note("the destination listens no more")
		s.weather.stop()
	}
}

// backlog waits until there is something to be sent again.
func (s *scenario) backlog() bool {
	before := bytesBelow(s.backups())
	limit := time.Now().Add(2 * time.Second)
	return s.await("", func() bool { return bytesBelow(s.backups()) > before+20_000 || time.Now().After(limit) })
}

func (s *scenario) rotation(st step) bool {
	switch st.weather {
	case halfOpen, hanging, refusing, badKey, deaf:
		s.turn(st.weather)
	default:
		s.turn(healthy)
	}
	if !s.await("no directory for the backup", func() bool { return len(list(s.backups())) > 0 }) {
		return false
	}
	files, err := watch(s.backups())
	if err != nil {
		s.problem("%v", err)
		return false
	}
	defer files.close()
	if !files.wait(s.host, 5*time.Second) {
		s.note("no rotation in time")
	}
	return !s.host.hasEnded()
}

func (s *scenario) fullDisk(st step) bool {
	if s.disk == nil {
		return !s.host.hasEnded()
	}
	if st.weather.takes() {
		s.turn(st.weather)
	} else {
		s.outage(st)
	}
	if err := s.disk.fill(int64(s.weather.chance(200_000))); err != nil {
		s.problem("fill: %v", err)
	}
	s.note("the disk is full")
	return !s.host.hasEnded()
}

// killWhenThere kills the victim, as soon as there is one if the host was just
// started.
func (s *scenario) killWhenThere(st step) int {
	if st.victim != victimHost && st.phase == phaseStart {
		until(patience, func() bool { return s.host.hasEnded() || s.host.plugin(st.victim) != 0 })
	}
	return s.host.kill(st.victim)
}

// afterKill waits for the end of the host, or until it has replaced its plugin.
func (s *scenario) afterKill(st step, pid int) {
	if st.victim != victimHost {
		replaced := func() bool {
			now := s.host.plugin(st.victim)
			return now != 0 && now != pid
		}
		if !until(s.plan.drain+patience, func() bool { return s.host.hasEnded() || replaced() }) {
			s.problem("the host neither ends nor replaces %s", st.victim)
			s.host.kill(victimHost)
		}
		if !s.host.hasEnded() && replaced() {
			s.note("%s was replaced", st.victim)
			return
		}
	}
	code, ok := s.host.wait(patience)
	if !ok {
		s.problem("the host does not end after the kill of %s", st.victim)
		s.host.kill(victimHost)
		s.host.wait(patience)
		return
	}
	s.note("the host ended with %d", code)
	if st.victim != victimHost {
		s.checkExit(st, code)
	}
	s.checkNothingLeft()
	s.checkAccepted()
}

// ended notes a host that ended before it could be killed.
func (s *scenario) ended(st step) {
	if s.host == nil {
		return
	}
	if !s.host.hasEnded() {
		return
	}
	code := s.host.cmd.ProcessState.ExitCode()
	s.note("the host had ended by itself with %d", code)
	s.checkExit(st, code)
	s.checkNothingLeft()
	s.checkAccepted()
}

// stopInOrder sends SIGTERM and checks the end.
func (s *scenario) stopInOrder(checked bool) {
	s.host.stop()
	code, ok := s.host.wait(s.plan.drain + patience)
	if !ok {
		s.problem("SIGTERM does not end the host\n%s", clip(s.host.all.String(), 3000))
		s.host.kill(victimHost)
		s.host.wait(patience)
		return
	}
	s.note("stopped in order with %d", code)
	s.result.orderly++
	if code < 0 {
		return
	}
	s.checkExit(step{phase: phaseShutdown, orderly: checked}, code)
	s.checkNothingLeft()
	s.checkAccepted()
}

func list(dir string) []string {
	found, _ := filepath.Glob(filepath.Join(dir, "*"))
	return found
}
