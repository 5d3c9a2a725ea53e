package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/internal/sifttest"
)

// usualAddress is where the ready pipeline files listen and send to.
const usualAddress = "127.0.0.1:50051"

// readyPipeline copies a ready pipeline file. Its copy uses another address, because
// the usual one may be taken.
func readyPipeline(t *testing.T, name, address string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repo, "pipelines", name, name+".hcl"))
	require.NoError(t, err)
	return writeFile(t, name+".hcl", strings.ReplaceAll(string(text), usualAddress, address))
}

// All ready pipeline files are in the standard layout and valid, and there is a test
// below that runs each.
func TestReadyPipelinesAreValid(t *testing.T) {
	t.Parallel()
	dirs, err := filepath.Glob(filepath.Join(repo, "pipelines", "*"))
	require.NoError(t, err)
	var names []string
	for _, dir := range dirs {
		names = append(names, filepath.Base(dir))
		args := []string{"validate", dir}
		if filepath.Base(dir) == "csv-flight" {
			args = []string{"validate", "-var", "path=" + writeFile(t, "flight.csv", "t,v\n0,1\n"), dir}
		}
		h := run(t, options{env: []string{"SIFT_API_KEY=a-key"}}, args...)
		h.requireExit(exitOK)
		assert.Empty(t, h.stderr.String(), dir)
		run(t, options{}, "fmt", "--check", dir).requireExit(exitOK)
	}
	assert.Equal(t, []string{"backup", "csv-flight", "file-backup", "quickstart", "receiver"}, names)
}

// The quickstart carries every row through both pipelines, and says where it is.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	h := run(t, options{}, "run", "--for", "2s", readyPipeline(t, "quickstart", freeAddress(t)))
	h.requireExit(exitOK)
	sent, received := h.requireBalanced("machine"), h.requireBalanced("receiver")
	assert.NotZero(t, sent)
	assert.Equal(t, sent, received)
	files := filesBelow(t, filepath.Join(h.dataDir, "quickstart", "parquet"), ".parquet")
	for _, file := range files {
		assert.Contains(t, h.stdout.String(), file)
	}
	for flow, account := range h.account("machine") {
		table := readTable(t, filepath.Join(h.dataDir, "quickstart", "parquet", "this-machine", flow))
		assert.Equal(t, account.read, uint64(len(table.rows)), flow)
	}
}

func TestReadyCSVFlight(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	flight := writeFile(t, "flight.csv", "t,altitude\n"+strings.Repeat("0,1.5\n", 100))
	h := run(t, options{env: []string{"SIFT_API_KEY=a-key"}}, "run", "-var", "path="+flight, "-var", "uri="+server.URI(),
		readyPipeline(t, "csv-flight", usualAddress))
	h.requireExit(exitOK)
	assert.Equal(t, uint64(100), h.requireBalanced("flight"))
	assert.Contains(t, h.account("flight"), "flight")
}

func TestReadyFileBackup(t *testing.T) {
	t.Parallel()
	h := run(t, options{}, "run", "--for", "1s", readyPipeline(t, "file-backup", usualAddress))
	h.requireExit(exitOK)
	assert.NotZero(t, h.requireBalanced("file_backup"))
	files := filesBelow(t, filepath.Join(h.dataDir, "file_backup", "files"), ".unbound")
	require.NotEmpty(t, files)
	run(t, options{}, append([]string{"backup", "verify"}, files...)...).requireExit(exitOK)
}

func TestReadyReceiver(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	receiver := start(t, options{}, "run", "--for", "1m", "-var", "listen="+address, readyPipeline(t, "receiver", usualAddress))
	receiver.awaitOutput("listening")
	flight := writeFile(t, "flight.csv", "t,altitude\n0,1.5\n0.1,2.5\n")
	sender := run(t, options{env: []string{"SIFT_API_KEY=a-key"}}, "run", "-var", "path="+flight, "-var", "uri=http://"+address,
		readyPipeline(t, "csv-flight", usualAddress))
	sender.requireExit(exitOK)
	receiver.interrupt()
	receiver.requireExit(exitOK)
	assert.Equal(t, uint64(2), receiver.requireBalanced("receiver"))
	table := readTable(t, filepath.Join(receiver.dataDir, "receiver", "parquet", "flight-replay", "flight"))
	assert.Len(t, table.rows, 2)
}

// Everything arrives, although the receiver comes late and the sender is killed before.
func TestReadyBackup(t *testing.T) {
	t.Parallel()
	const rows = 2_000
	address, data := freeAddress(t), filepath.Join(t.TempDir(), "data")
	args := []string{
		"run", "-var", "uri=http://" + address, "-var", fmt.Sprintf("rows=%d", rows), readyPipeline(t, "backup", usualAddress),
	}
	killed := start(t, options{dataDir: data}, args...)
	require.Eventually(t, func() bool {
		files, err := filepath.Glob(filepath.Join(data, "stand", "backups", "*.unbound"))
		return err == nil && len(files) > 0
	}, patience, pollInterval)
	killed.signal(syscall.SIGKILL)
	killed.wait()

	sender := start(t, options{dataDir: data}, args...)
	sender.awaitOutput("does not answer")
	receiver := start(t, options{}, "run", "-var", "listen="+address, readyPipeline(t, "receiver", usualAddress))
	sender.requireExit(exitOK)
	receiver.interrupt()
	receiver.requireExit(exitOK)

	numbers := map[value]bool{}
	table := readTable(t, filepath.Join(receiver.dataDir, "receiver", "parquet", "demo-stand", "stand"))
	for _, n := range table.column(t, "stand.row") {
		numbers[n] = true
	}
	for n := range int64(rows) {
		require.Contains(t, numbers, n)
	}
	assert.Empty(t, filesBelow(t, filepath.Join(data, "stand", "backups"), ""), "what is confirmed is deleted")
}
