package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// maxReason bounds a text from outside in a sentence, in runes.
const maxReason = 200

// judge returns how a pipeline is and says it in a sentence. Times are told in the
// zone of now.
func judge(p *Pipeline, now time.Time) (State, string) {
	switch {
	case p.Error != "":
		sentence := "failed: " + clip(p.Error)
		if p.phase != string(Finished) {
			sentence += "; what was received is being delivered"
		}
		return Failed, sentence
	case p.phase == string(Starting):
		return Starting, "starting" + startsAt(p)
	case p.phase == string(Finished):
		return Finished, "finished" + leftover(p)
	}
	state, sentence := worstTrack(p, now)
	if p.phase == phaseDraining {
		state, sentence = finishing(p, state, sentence)
	}
	return state, sentence + remarks(p, now)
}

// phaseDraining is what a pipeline says while it delivers what it has.
const phaseDraining = "draining"

// startsAt says what a starting pipeline waits for.
func startsAt(p *Pipeline) string {
	for _, t := range p.Tracks {
		if t.Waiting != "" {
			return fmt.Sprintf("; waiting for %s: %s", t.Name, clip(t.Waiting))
		}
	}
	return ""
}

func leftover(p *Pipeline) string {
	var most uint64
	for _, t := range p.Tracks {
		most = max(most, t.Pending)
	}
	if most == 0 {
		return ""
	}
	return fmt.Sprintf("; %s not delivered", were(most))
}

func finishing(p *Pipeline, state State, sentence string) (State, string) {
	if state == Stuck || state == Retrying || state == Waiting {
		return state, "finishing; " + sentence
	}
	var worst Track
	for _, t := range p.Tracks {
		if t.Pending > worst.Pending {
			worst = t
		}
	}
	if worst.Pending == 0 {
		return Finishing, "finishing"
	}
	return Finishing, fmt.Sprintf("finishing: %s left to deliver%s", messages(worst.Pending), toDrain(&worst))
}

// worstTrack is the state of the track that is worst off.
func worstTrack(p *Pipeline, now time.Time) (State, string) {
	worse := []State{Delivering, Behind, Retrying, Waiting, Stuck} // ascending
	state, sentence := Delivering, "delivering"
	for i := range p.Tracks {
		t := &p.Tracks[i]
		name := ""
		if len(p.Tracks) > 1 {
			name = t.Name
		}
		if s, text := judgeTrack(t, name, now); slices.Index(worse, s) > slices.Index(worse, state) {
			state, sentence = s, text
		}
	}
	return state, sentence
}

// judgeTrack says how a track is; name is empty when it is the only one.
func judgeTrack(t *Track, name string, now time.Time) (State, string) {
	of := func(verb, preposition string) string {
		if name == "" {
			return verb
		}
		return verb + preposition + name
	}
	switch {
	case !t.StuckSince.IsZero():
		reason := t.StuckReason
		if reason == "" {
			reason = t.LastError
		}
		return Stuck, fmt.Sprintf("%s: %s since %s", of("stuck", " at "), clip(reason), clock(t.StuckSince, now))
	case t.Waiting != "":
		return Waiting, fmt.Sprintf("waiting for %s: %s", t.Name, clip(t.Waiting))
	case t.OnDisk > 0 || time.Duration(t.OldestPending) > t.usual+time.Second:
		state, sentence := Behind, of("behind", " at ")+" by "+backlog(t)+toDrain(t)
		if t.LastError != "" {
			state, sentence = Retrying, sentence+"; retrying: "+clip(t.LastError)
		}
		return state, sentence
	case t.LastError != "":
		return Retrying, of("retrying", " at ") + ": " + clip(t.LastError)
	}
	return Delivering, "delivering"
}

// backlog is how far a track is behind, in time and in bytes.
func backlog(t *Track) string {
	var parts []string
	if t.OldestPending > 0 {
		parts = append(parts, span(time.Duration(t.OldestPending)))
	}
	if t.PendingBytes > 0 {
		parts = append(parts, humanize.Bytes(t.PendingBytes))
	} else {
		parts = append(parts, messages(t.Pending))
	}
	return strings.Join(parts, ", ")
}

func toDrain(t *Track) string {
	switch {
	case t.Drain != nil:
		return ", about " + span(time.Duration(*t.Drain)) + " to drain"
	case t.Rates != nil && time.Duration(t.Rates.Window) >= steadyWindow:
		return ", not getting less"
	}
	return ""
}

// remarks are what else somebody should know.
func remarks(p *Pipeline, now time.Time) string {
	var out []string
	if b := p.Backup; b != nil {
		switch {
		case b.Trouble != "" && b.TroubleSince.IsZero():
			out = append(out, "the backup takes nothing: "+clip(b.Trouble))
		case b.Trouble != "":
			out = append(out, fmt.Sprintf("the backup takes nothing since %s: %s", clock(b.TroubleSince, now), clip(b.Trouble)))
		case b.Full:
			out = append(out, "the backup is full")
		case b.Lagging:
			out = append(out, fmt.Sprintf("the disk is slow: %s wait for it, the oldest for %s",
				humanize.IBytes(uint64(b.WaitingBytes)), span(time.Duration(b.OldestWaiting))))
		}
	}
	for _, t := range p.Tracks {
		if n := len(t.Unbound); n > 0 {
			out = append(out, fmt.Sprintf("%s wait at %s: %s", flows(n), t.Name, clip(t.Unbound[0])))
		}
	}
	lost := uint64(0)
	for _, t := range p.Tracks {
		lost += t.Lost
	}
	if lost > 0 {
		out = append(out, were(lost)+" lost")
	}
	if len(out) == 0 {
		return ""
	}
	return "; " + strings.Join(out, "; ")
}

func messages(n uint64) string {
	if n == 1 {
		return "1 message"
	}
	return humanize.Comma(int64(n)) + " messages"
}

func were(n uint64) string {
	if n == 1 {
		return "1 message was"
	}
	return messages(n) + " were"
}

func flows(n int) string {
	if n == 1 {
		return "1 flow has to"
	}
	return fmt.Sprintf("%d flows have to", n)
}

// clock is a time of the day, with the date unless it is today's.
func clock(t, now time.Time) string {
	t = t.In(now.Location())
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format("15:04")
	}
	return t.Format("2006-01-02 15:04")
}

// span is a duration in at most two units.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	two := func(big time.Duration, bigName string, small time.Duration, smallName string) string {
		if rest := d % big / small; rest > 0 {
			return fmt.Sprintf("%d %s %d %s", d/big, bigName, rest, smallName)
		}
		return fmt.Sprintf("%d %s", d/big, bigName)
	}
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(1, d/time.Second))
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < day:
		return two(time.Hour, "h", time.Minute, "min")
	}
	return two(day, "d", time.Hour, "h")
}

func clip(text string) string {
	n := 0
	for i := range text {
		if n++; n > maxReason {
			return text[:i] + "…"
		}
	}
	return text
}
