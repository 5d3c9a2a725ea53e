package e2e

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// flowAccount is what the program prints about a flow at its end.
type flowAccount struct {
	read, refused, accepted uint64
	tracks                  map[string]trackAccount
}

type trackAccount struct{ delivered, pending, lost uint64 }

// account reads the printed account of a pipeline, by flow.
func (h *host) account(pipeline string) map[string]flowAccount {
	h.t.Helper()
	out, err := parseAccount(h.stdout.String(), pipeline)
	require.Empty(h.t, err, "%s", clip(h.stdout.String()))
	return out
}

// parseAccount returns what is wrong with the text as well.
func parseAccount(text, pipeline string) (flows map[string]flowAccount, problem string) {
	_, text, ok := strings.Cut(text, "\npipeline "+pipeline+"\n")
	if !ok {
		return nil, "there is no account of pipeline " + pipeline
	}
	flows = map[string]flowAccount{}
	name := ""
	for i, line := range strings.Split(text, "\n") {
		fields := strings.Fields(line)
		switch {
		case i == 0 && strings.Contains(line, "no flows came in"):
			return flows, ""
		case i == 0:
			if strings.Join(fields, " ") != "flow read refused accepted destination delivered pending lost" {
				return nil, "unknown header of the account: " + line
			}
			continue
		case len(fields) < 4:
			return flows, ""
		}
		numbers := func(texts []string) (out []uint64, ok bool) {
			for _, text := range texts {
				n, err := strconv.ParseUint(strings.ReplaceAll(text, ",", ""), 10, 64)
				if err != nil {
					return nil, false
				}
				out = append(out, n)
			}
			return out, true
		}
		n := len(fields)
		track, ok := numbers(fields[n-3:])
		if !ok {
			return flows, "" // the table is over
		}
		if n >= 8 {
			total, ok := numbers(fields[n-7 : n-4])
			if !ok {
				return nil, "unreadable line of the account: " + line
			}
			name = strings.Join(fields[:n-7], " ")
			if _, twice := flows[name]; twice {
				return nil, "flow " + name + " stands twice in the account"
			}
			flows[name] = flowAccount{read: total[0], refused: total[1], accepted: total[2], tracks: map[string]trackAccount{}}
		}
		flows[name].tracks[fields[n-4]] = trackAccount{delivered: track[0], pending: track[1], lost: track[2]}
	}
	return flows, ""
}

// requireBalanced checks that everything that was read was refused or delivered to
// every destination, and returns the rows that were read.
func (h *host) requireBalanced(pipeline string) (read uint64) {
	h.t.Helper()
	for name, f := range h.account(pipeline) {
		require.Equal(h.t, f.read, f.refused+f.accepted, "flow %s: read = refused + accepted", name)
		require.NotEmpty(h.t, f.tracks, "flow %s", name)
		for track, a := range f.tracks {
			require.Equal(h.t, trackAccount{delivered: f.accepted}, a, "flow %s, %s", name, track)
		}
		read += f.read
	}
	return read
}

func TestParseAccount(t *testing.T) {
	flows, problem := parseAccount(`data directory: /x

pipeline one
           flow   read  refused  accepted     destination  delivered  pending  lost
            cpu  1,031        1     1,030   sift.loopback      1,030        0     0
                                            parquet.lake       1,000       29     1
  asset/a b c       2        0         2   sift.loopback          2        0     0
  refused of cpu: 1 row: not good
  parquet.lake wrote 1 file:
    /x/y.parquet

pipeline two
  no flows came in
`, "one")
	require.Empty(t, problem)
	assert.Equal(t, map[string]flowAccount{
		"cpu": {read: 1031, refused: 1, accepted: 1030, tracks: map[string]trackAccount{
			"sift.loopback": {delivered: 1030}, "parquet.lake": {1000, 29, 1},
		}},
		"asset/a b c": {read: 2, accepted: 2, tracks: map[string]trackAccount{"sift.loopback": {delivered: 2}}},
	}, flows)
	flows, problem = parseAccount("\npipeline two\n  no flows came in\n", "two")
	assert.Empty(t, problem)
	assert.Empty(t, flows)
	_, problem = parseAccount("\npipeline two\n", "one")
	assert.NotEmpty(t, problem)
}
