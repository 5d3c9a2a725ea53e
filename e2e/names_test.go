package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/pipelined/pipelined/internal/sifttest"
	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	"github.com/pipelined/pipelined/sdk/pbfs"
)

// quoted writes a text as HCL does.
func quoted(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f || !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return strings.NewReplacer("${", "$${", "%{", "%%{").Replace(b.String())
}

// Names of assets, keys, flows, channels and runs that are no good for paths,
// filters or terminals reach every destination as they are.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	const long = 10 << 10
	for what, name := range map[string]string{
		"path upwards":       "../../../e2e-escape",
		"absolute path":      "/tmp/e2e-escape",
		"dots":               "..",
		"quotes":             `it's "quoted" and \slashed\`,
		"filter":             `x' || client_key != '`,
		"blanks":             "  two  words ",
		"line ends":          "one\ntwo\r\nthree\tfour",
		"escape sequences":   "\x1b[31mred\x1b[0m\x07",
		"unicode":            "größe 温度 🚀 \u202etfel",
		"pattern":            "*?[a-z]{b,c}",
		"template":           "${data_dir} %{ if true }",
		"option":             "-rf",
		"hidden":             ".hidden",
		"column of the time": "time",
		"file":               "x.parquet",
		"comma and equals":   "a=b,c=d;e",
		"10 KB":              strings.Repeat("long ", long/5),
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			testName(t, name)
		})
	}
}

func testName(t *testing.T, name string) {
	outside := t.TempDir()
	data := filepath.Join(outside, "a", "b", "c", "d", "data")
	server := sifttest.New(t, sifttest.Options{})
	address := freeAddress(t)
	key := quoted(name)
	h := run(t, options{dataDir: data}, "run", writeFile(t, "names.hcl", fmt.Sprintf(`
pipeline "sender" {
  asset = %s
  run {
    name       = %s
    client_key = %s
  }
  source "generator" "names" {
    flow = %s
    rate = "max"
    rows = 100
    channel %s {
      type = "uint64"
      wave = "counter"
    }
  }
  encoder "ingestion_config" {
    client_key = %s
  }
  transport "sift" "stand_in" {
    uri           = %q
    api_key       = secret::env(%q)
    channel_names = "plain"
  }
  transport "sift" "receiver" {
    uri           = "http://%s"
    api_key       = secret::env(%q)
    channel_names = "plain"
  }
  transport "file" "disk" {
    dir           = "${data_dir}/files"
    channel_names = "plain"
  }
}
pipeline "receiver" {
  source "sift" "in" {
    listen = %q
    until  = pipeline.sender
  }
  transport "parquet" "lake" {
    dir = "${data_dir}/parquet"
  }
}
`, key, key, key, key, key, key, server.URI(), apiKey, address, apiKey, address)))
	h.requireExit(exitOK)

	// The stand-in has the names as they are.
	require.Len(t, server.Configs(), 1)
	config := server.Configs()[0]
	assert.Equal(t, name, config.GetClientKey())
	assert.Equal(t, name, server.Assets()[0].GetName())
	assert.Equal(t, name, server.Runs()[0].GetClientKey())
	flow := server.Flows(config.GetIngestionConfigId())[0]
	assert.Equal(t, name, flow.GetName())
	assert.Equal(t, name, flow.GetChannels()[0].GetName())
	assert.Len(t, server.Acknowledged(), 100)

	// So have the files of our own server, and those on disk.
	table := readTable(t, filepath.Join(data, "parquet", "*", "*"))
	assert.Len(t, table.rows, 100)
	assert.Equal(t, name, table.metadata["pipelined.asset"])
	assert.Equal(t, name, table.metadata["pipelined.client_key"])
	assert.Equal(t, name, table.metadata["pipelined.flow"])
	assert.Equal(t, name, table.metadata["pipelined.run"])
	if name == "time" {
		name = "time_1" // the column of the stamps has that name
	}
	assert.Equal(t, []string{"time", name}, table.columns)
	if name == "time_1" {
		name = "time"
	}
	messages := 0
	for _, file := range filesBelow(t, filepath.Join(data, "files"), "") {
		f, err := os.Open(file)
		require.NoError(t, err)
		reader := pbfs.NewReader(f, pbfs.Limits{})
		for {
			chunk, err := reader.Next()
			if err != nil {
				break
			}
			for message := range pbfs.Messages(chunk.Body) {
				var r ingestv1.IngestWithConfigDataStreamRequest
				require.NoError(t, proto.Unmarshal(message, &r))
				require.Equal(t, name, r.GetFlow())
				messages++
			}
		}
		f.Close()
	}
	assert.Equal(t, 100, messages)

	// Nothing was written anywhere else, and nothing hostile printed.
	err := filepath.WalkDir(outside, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasPrefix(path, data+"/") {
			assert.Fail(t, "a file outside", path)
		}
		return err
	})
	require.NoError(t, err)
	assert.NoFileExists(t, "/tmp/e2e-escape")
	for _, bad := range []string{"\x1b", "\x07", "\u202e"} {
		assert.NotContains(t, h.all.String(), bad)
	}
	for line := range strings.Lines(h.all.String()) {
		assert.Less(t, len(line), 4096, "lines that people can read")
	}
}

// Two names that are fine apart and too long together are refused by name, not cut.
func TestNamesTooLongTogether(t *testing.T) {
	t.Parallel()
	server := sifttest.New(t, sifttest.Options{})
	flow, channel := strings.Repeat("f", 10<<10), strings.Repeat("c", 10<<10)
	h := run(t, options{}, "run", writeFile(t, "names.hcl", fmt.Sprintf(`
pipeline "sender" {
  asset = "stand"
  source "generator" "names" {
    flow = %q
    rate = "max"
    rows = 100
    channel %q {}
  }
  encoder "ingestion_config" {}
  transport "sift" "live" {
    uri     = %q
    api_key = secret::env(%q)
  }
}
`, flow, channel, server.URI(), apiKey)))
	h.requireExit(exitUnavailable)
	last := lastLine(h.stderr.String())
	assert.Contains(t, last, "sift.live")
	assert.Contains(t, last, "has 20481 bytes, the limit is 16384")
	assert.Contains(t, last, "channel_names")
	assert.Less(t, len(last), 1000)
	assert.Empty(t, server.Configs())
}
