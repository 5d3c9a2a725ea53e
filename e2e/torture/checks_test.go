package torture

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// checkExit checks what an orderly end says: the exit code and the account.
func (s *scenario) checkExit(st step, code int) {
	if code < 0 {
		return // killed
	}
	text := s.host.stdout.String()
	a, err := parseAccount(text)
	if err != nil && strings.Contains(text, "\npipeline torture\n") {
		s.problem("%v", err)
	}
	known := err == nil
	switch code {
	case exitOK:
		if !known {
			s.problem("exit code 0 without an account")
		}
		if known && (a.pending() > 0 || a.lost() > 0) {
			s.problem("exit code 0, and not everything is delivered: %+v", a)
		}
	case exitPending, exitUnavailable:
	case exitIO:
		if strings.Contains(s.host.all.String(), "is using this data directory") {
			s.result.locked++ // a process of the killed host is not gone yet
		} else if s.disk == nil {
			s.problem("exit code 74 with a good disk\n%s", clip(s.host.all.String(), 3000))
		}
	case exitFailure:
		// Without a backup, what a client sent and nobody confirmed is gone; it hears so.
		if s.plan.backup && len(s.plan.poison) == 0 {
			s.problem("exit code 1\n%s", clip(s.host.all.String(), 3000))
		}
	default:
		s.problem("exit code %d\n%s", code, clip(s.host.all.String(), 3000))
	}
	if st.victim != "" && st.victim != victimHost && st.phase != phaseShutdown && code != exitUnavailable && !s.complete() {
		s.note("exit code %d after %s was killed", code, st.victim)
	}
	if known {
		s.checkAccount(a)
	}
}

// checkAccount holds the printed account against itself and against what arrived.
func (s *scenario) checkAccount(a account) {
	if a.lost() > 0 && len(s.plan.poison) == 0 {
		s.problem("the account has %d lost rows: %+v", a.lost(), a)
	}
	if s.plan.backup && len(a.inexact) > 0 {
		s.problem("accepted is not delivered + pending + lost: %q", a.inexact)
	}
	s.rows.update()
	arrived := s.rows.total - s.host.before
	for name, t := range a.tracks {
		if name == "sift.live" && t.delivered > uint64(arrived) {
			s.problem("the account says that %d rows were delivered; %d arrived", t.delivered, arrived)
		}
	}
	if text := s.host.all.String(); strings.Contains(text, "the account is wrong") {
		s.problem("the account is not exact\n%s", clip(text, 3000))
	}
}

// checkNothingLeft checks that no process outlives its host.
func (s *scenario) checkNothingLeft() {
	if !until(patience/3, func() bool { return len(processesOf(s.tmp)) == 0 }) {
		s.problem("processes are left: %+v", processesOf(s.tmp))
	}
}

// checkAccepted checks that what was acknowledged to the client is at the destination
// or in a file.
func (s *scenario) checkAccepted() {
	if s.client == nil {
		return
	}
	accepted := s.client.confirmed() // first: what comes later is not asked for
	s.settle()
	held := s.held()
	var missing []int
	for n := range accepted {
		if !s.rows.has(n) && !held.has(n) && !s.weather.poison[uint64(n)] {
			missing = append(missing, n)
		}
	}
	if len(missing) > 0 {
		s.lost(missing, "rows that were answered with OK are neither at the destination nor in the backup")
	}
}

// held returns what is in the backup's files.
func (s *scenario) held() *tally {
	t := newTally(s.plan.rows)
	if s.plan.backup {
		if err := fileRows(s.backups(), t); err != nil {
			s.problem("%v", err)
		}
		s.checkOdd(t)
	}
	return t
}

func (s *scenario) checkOdd(t *tally) {
	if len(t.odd) > 0 {
		s.problem("%d messages are not of this scenario, the first: %v", len(t.odd), t.odd[0])
	}
}

func (s *scenario) lost(missing []int, what string) {
	s.result.lost(s.cell, len(missing))
	s.problem("%d %s: %s", len(missing), what, ranges(missing))
}

// ranges prints numbers in order.
func ranges(numbers []int) string {
	var parts []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		parts = append(parts, fmt.Sprintf("%d-%d", numbers[i], numbers[j]))
		i = j + 1
	}
	if len(parts) > 20 {
		parts = append(parts[:20], fmt.Sprintf("and %d more ranges", len(parts)-20))
	}
	return strings.Join(parts, " ")
}

// finish lets a host deliver everything without disturbance and looks for every row.
func (s *scenario) finish() {
	s.settle()
	s.weather.turn(healthy)
	if s.disk != nil {
		s.disk.free()
	}
	if s.host != nil && !s.host.hasEnded() {
		s.stopInOrder(true)
	}
	code := s.lastRun()
	for again := 0; code == exitPending && s.client != nil && again < 5; again++ {
		code = s.lastRun() // the drain timeout was too short for what was left
	}
	// Rows that were refused for good in the last run are lost.
	if code != exitOK && (code != exitFailure || len(s.plan.poison) == 0) {
		s.problem("the last run ended with %d\n%s", code, clip(s.host.all.String(), 4000))
	}
	s.checkExit(step{}, code)
	s.checkNothingLeft()
	s.settle()
	s.checkOdd(s.rows.tally)
	s.checkComplete("the destination", s.rows.tally)
	s.checkPoison()
	s.checkOthers()
	s.note("%d of %d rows arrived, %d duplicates", s.rows.distinct(), s.plan.rows, s.rows.duplicates())
}

// lastRun runs a host until the source has nothing more, and everything is delivered.
func (s *scenario) lastRun() int {
	s.note("the last run")
	s.start(true)
	if s.client != nil {
		listens := func() bool { return strings.Contains(s.host.all.String(), "listening for Sift clients") }
		if !until(3*patience, func() bool { return s.client.finished() && listens() || s.host.hasEnded() }) {
			s.problem("the client does not get rid of its rows: %s", s.client)
		}
		if !until(3*patience, func() bool { return s.host.hasEnded() || s.nothingWaits() }) {
			s.problem("rows that were stored are not delivered")
		}
		s.host.stop()
	}
	code, ok := s.host.wait(3 * patience)
	if !ok {
		s.problem("the last run does not end\n%s", clip(s.host.all.String(), 4000))
		s.host.kill(victimHost)
		code, _ = s.host.wait(patience)
	}
	s.note("it ended with %d", code)
	return code
}

// nothingWaits reports whether every row is where it belongs.
func (s *scenario) nothingWaits() bool {
	s.rows.update()
	return s.rows.distinct()+s.letters().distinct() >= s.plan.rows
}

// letters returns what is in the dead letter.
func (s *scenario) letters() *tally {
	t := newTally(s.plan.rows)
	if err := fileRows(s.outside(filepath.Join(s.at.data, "torture", "dead-letter")), t); err != nil {
		s.problem("%v", err)
	}
	return t
}

// checkPoison looks for the rows that the destination refuses, and for no others, in
// the dead letter.
func (s *scenario) checkPoison() {
	if !s.plan.backup {
		return
	}
	letters := s.letters()
	for n := range s.plan.rows {
		switch {
		case letters.has(n) && !s.weather.poison[uint64(n)]:
			s.problem("row %d is in the dead letter; nobody refused it", n)
		case s.weather.poison[uint64(n)] && s.rows.has(n):
			s.problem("row %d is at the destination, which refuses it", n)
		case s.weather.poison[uint64(n)] && !letters.has(n):
			s.lost([]int{n}, "rows that the destination refuses are not in the dead letter")
		}
	}
}

// checkOthers looks for every row in the files of other transports and in the backup,
// if it is kept.
func (s *scenario) checkOthers() {
	if slices.Contains(s.plan.others, "file") {
		t := newTally(s.plan.rows)
		if err := fileRows(s.at.files, t); err != nil {
			s.problem("%v", err)
		}
		s.checkOdd(t)
		s.checkComplete("the backup files of the second transport", t)
	}
	if slices.Contains(s.plan.others, "parquet") {
		t := newTally(s.plan.rows)
		if err := tableRows(s.at.tables, t); err != nil {
			s.problem("%v", err)
		}
		s.checkOdd(t)
		s.checkComplete("the Parquet files", t)
	}
	if s.plan.backup && s.plan.retain {
		t := s.held()
		s.note("%d rows were read twice from the source", t.duplicates())
		if n := s.plan.rows - t.distinct(); n > 0 {
			// A kill may come when rows are confirmed and not yet written.
			s.note("%d rows arrived without having been stored", n)
		}
	}
}

func (s *scenario) checkComplete(where string, t *tally) {
	var missing []int
	for n := range s.plan.rows {
		if !t.has(n) && !s.weather.poison[uint64(n)] {
			missing = append(missing, n)
		}
	}
	if len(missing) > 0 {
		held := s.held()
		kept := 0
		for _, n := range missing {
			if held.has(n) {
				kept++
			}
		}
		s.lost(missing, fmt.Sprintf("rows (%d of them in backup files) are not in %s", kept, where))
	}
}
