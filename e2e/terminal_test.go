package e2e

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/pipelined/pipelined/internal/sifttest"
)

// terminal is a pseudo-terminal; what is written to it is in its transcript.
type terminal struct {
	*transcript
	tty  *os.File
	read chan struct{} // closed when everything has been read
}

func openTerminal(t *testing.T, columns uint16) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("this machine has no pseudo-terminals: %v", err)
	}
	fd := int(master.Fd())
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}))
	term := &terminal{transcript: newTranscript(), tty: tty, read: make(chan struct{})}
	go func() {
		defer close(term.read)
		_, _ = io.Copy(term, master) // it fails when nobody holds the other side
	}()
	t.Cleanup(func() {
		tty.Close()
		<-term.read
		master.Close()
	})
	return term
}

// finish returns everything that was written, when the program has ended.
func (term *terminal) finish() string {
	term.tty.Close()
	<-term.read
	return term.String()
}

// On a terminal the progress is one block that is drawn again and again; lines that
// stay are above it.
func TestLiveProgress(t *testing.T) {
	t.Parallel()
	const columns = 60
	server := sifttest.New(t, sifttest.Options{})
	term := openTerminal(t, columns)
	h := start(t, options{stdout: term.tty}, "run", writeFile(t, "load.hcl", load{uri: server.URI()}.hcl()))
	redraw := regexp.MustCompile(`\x1b\[[12]A\x1b\[J`) // as many lines up as there were, the rest erased
	drawn := term.await(func(text string) bool { return len(redraw.FindAllString(text, -1)) >= 3 }, h.exited, patience)
	require.True(t, drawn, "%q", term.String())
	h.interrupt()
	h.requireExit(exitOK)
	text := term.finish()
	live, rest, ok := strings.Cut(text, "stopping; what was received")
	require.True(t, ok, "%q", text)
	for _, line := range strings.Split(live, "\n") {
		line = redraw.ReplaceAllString(strings.TrimSuffix(line, "\r"), "")
		if !strings.HasPrefix(line, "data directory") {
			assert.Less(t, utf8.RuneCountInString(line), columns, "%q: a longer line would take two", line)
		}
	}
	assert.Contains(t, live, "load             running")
	assert.Contains(t, live, "-> sift.live")
	assert.Regexp(t, `\x1b\[J\r?\npipeline load`, rest, "the account takes the place of the block")
}

// Without a terminal the progress is plain lines, now and then, without escape
// sequences.
func TestPlainProgress(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	h := load{uri: server.URI(), rate: "100"}.start(t)
	h.awaitOutput("rows read in 1 flow")
	h.interrupt()
	h.requireExit(exitOK)
	assert.Regexp(t, `(?m)^load +running +[0-9,]+ rows read in 1 flow, [0-9,]+ rows/s$`, h.stdout.String())
	assert.Regexp(t, `(?m)^  -> sift\.live +[0-9,]+ delivered, [0-9,]+ pending$`, h.stdout.String())
	assert.NotContains(t, h.all.String(), "\x1b")
}

// Diagnostics are in colour on a terminal, unless somebody does not want that.
func TestColours(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "wrong.hcl", "pipelin \"x\" {}\n")
	for _, env := range []string{"TERM=xterm", "NO_COLOR=1"} {
		term := openTerminal(t, 80)
		h := run(t, options{stderr: term.tty, env: []string{env}}, "validate", path)
		h.requireExit(exitConfig)
		text := term.finish()
		assert.Contains(t, text, "wrong.hcl:1:1")
		assert.Equal(t, env != "NO_COLOR=1", strings.Contains(text, "\x1b["), "%s: %q", env, text)
	}
}
