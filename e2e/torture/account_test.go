package torture

import (
	"fmt"
	"strconv"
	"strings"
)

// account is what an orderly end prints about the pipeline, over all its flows.
type account struct {
	read, refused uint64
	tracks        map[string]trackAccount
	inexact       []string // lines in which accepted is not delivered + pending + lost
}

type trackAccount struct{ delivered, pending, lost uint64 }

// columns of the table that are read, by their heading.
const (
	columnRead, columnRefused, columnTrack          = "read", "refused", "destination"
	columnAccepted                                  = "accepted"
	columnDelivered, columnPending, columnTrackLost = "delivered", "pending", "lost"
)

// parseAccount reads the printed table. Numbers stand right-aligned below the end of
// their headings, so that each is known by its place.
func parseAccount(text string) (account, error) {
	a := account{tracks: map[string]trackAccount{}}
	_, text, ok := strings.Cut(text, "\npipeline torture\n")
	if !ok {
		return a, fmt.Errorf("there is no account")
	}
	lines := strings.Split(text, "\n")
	if strings.Contains(lines[0], "no flows came in") {
		return a, nil
	}
	ends := map[string]int{}
	for i, end := 0, 0; i < len(strings.Fields(lines[0])); i++ {
		heading := strings.Fields(lines[0])[i]
		end = end + strings.Index(lines[0][end:], heading) + len(heading)
		ends[heading] = end
	}
	for _, heading := range []string{columnRead, columnRefused, columnAccepted, columnTrack, columnDelivered, columnPending, columnTrackLost} {
		if ends[heading] == 0 {
			return a, fmt.Errorf("the account has no column %q: %q", heading, lines[0])
		}
	}
	accepted, earlier := uint64(0), false // of the flow; whether it is what earlier runs left
	for _, line := range lines[1:] {
		track := wordBefore(line, ends[columnTrack])
		if len(line) < ends[columnTrackLost] || track == "" || strings.Contains(line, ": ") {
			break // the table is over; reasons follow
		}
		numbers := map[string]uint64{}
		for _, heading := range []string{columnRead, columnRefused, columnAccepted, columnDelivered, columnPending, columnTrackLost} {
			word := strings.ReplaceAll(wordBefore(line, ends[heading]), ",", "")
			if word == "" {
				continue // further tracks of a flow leave them out
			}
			n, err := strconv.ParseUint(word, 10, 64)
			if err != nil {
				return a, fmt.Errorf("account: %w: %q", err, line)
			}
			numbers[heading] = n
		}
		if n, first := numbers[columnAccepted]; first {
			accepted, earlier = n, strings.Contains(line, "(stored before")
		}
		if sum := numbers[columnDelivered] + numbers[columnPending] + numbers[columnTrackLost]; sum != accepted && !earlier {
			a.inexact = append(a.inexact, line)
		}
		a.read += numbers[columnRead]
		a.refused += numbers[columnRefused]
		t := a.tracks[track]
		t.delivered += numbers[columnDelivered]
		t.pending += numbers[columnPending]
		t.lost += numbers[columnTrackLost]
		a.tracks[track] = t
	}
	if len(a.tracks) == 0 {
		return a, fmt.Errorf("the account has no destination")
	}
	return a, nil
}

// wordBefore returns the word that ends at a place of a line; none if there is a
// space.
func wordBefore(line string, end int) string {
	if end > len(line) {
		return ""
	}
	return line[strings.LastIndexByte(line[:end], ' ')+1 : end]
}

// pending returns what the track sift.live has not delivered, and whether anything is
// pending anywhere.
func (a account) pending() (most uint64) {
	for _, t := range a.tracks {
		most = max(most, t.pending)
	}
	return most
}

func (a account) lost() (n uint64) {
	for _, t := range a.tracks {
		n += t.lost
	}
	return n
}
