package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/pipelined/pipelined/internal/sifttest"
)

// canary is a secret that must not be seen anywhere.
const canary = "canary-7f3a9c51e0"

// assertNoCanary looks for the secret in everything that the run has written.
func (h *host) assertNoCanary() {
	h.t.Helper()
	assert.NotContains(h.t, h.all.String(), canary)
	for _, dir := range []string{h.dataDir, h.tmp} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil //nolint:nilerr // it is gone
			}
			content, err := os.ReadFile(path)
			assert.NoError(h.t, err)
			assert.NotContains(h.t, string(content), canary, path)
			return nil
		})
		assert.NoError(h.t, err)
	}
}

// assertNoCanaryInProcesses looks for the secret where other users and tools see
// it. The host itself may have it in its environment.
func (h *host) assertNoCanaryInProcesses(inHost bool) {
	h.t.Helper()
	processes := processesOf(h.tmp)
	require.Greater(h.t, len(processes), 1)
	for _, p := range processes {
		for _, file := range []string{"cmdline", "environ"} {
			if file == "environ" && inHost && p.pid == h.pid() {
				continue
			}
			content, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(p.pid), file))
			require.NoError(h.t, err)
			assert.NotContains(h.t, string(content), canary, "%s of %s", file, p.command)
		}
	}
}

// A secret is in the destination's hands and nowhere else, at every level of the
// log, in both of its formats, whether all goes well or not.
func TestSecretsAreNotSeen(t *testing.T) {
	t.Parallel()
	echo := status.Error(codes.Unauthenticated, "the key "+canary+" has expired")
	for _, tc := range []struct {
		name   string
		server func() sifttest.Options
		code   int
	}{
		{"delivered", func() sifttest.Options { return sifttest.Options{Keys: []string{canary}} }, exitOK},
		{"refused", func() sifttest.Options { return sifttest.Options{Keys: []string{"another"}} }, exitUnavailable},
		{"shown by the destination when registering", func() sifttest.Options {
			return sifttest.Options{Intercept: func(context.Context, string, proto.Message) error { return echo }}
		}, exitUnavailable},
		{"shown by the destination in a stream", func() sifttest.Options {
			return sifttest.Options{Keys: []string{canary}}
		}, exitOK},
	} {
		for _, format := range []string{"text", "json"} {
			for level, source := range map[string]string{"debug": "file", "info": "env"} {
				t.Run(tc.name+"/"+format+"/"+level, func(t *testing.T) {
					t.Parallel()
					server := sifttest.New(t, tc.server())
					if tc.name == "shown by the destination in a stream" {
						server.Queue(sifttest.EndAfter(3, echo), sifttest.EndAfter(0, status.Error(codes.Internal, strings.Repeat("x", 1000)+canary)))
					}
					text := load{uri: server.URI(), rows: 2000}.hcl()
					o := options{}
					if source == "file" {
						text = strings.Replace(text, fmt.Sprintf("secret::env(%q)", apiKey), fmt.Sprintf("secret::file(%q)", writeFile(t, "key", canary+"\n")), 1)
					} else {
						o.env = []string{apiKey + "=" + canary}
					}
					h := start(t, o, "run", "--log-format", format, "--log-level", level, writeFile(t, "load.hcl", text))
					if tc.code == exitOK {
						server.Stream(t, 0).WaitCount(t, 1)
						h.assertNoCanaryInProcesses(source == "env")
					}
					h.requireExit(tc.code)
					h.assertNoCanary()
				})
			}
		}
	}
}

// The keys of a server are secrets, too.
func TestServerKeysAreNotSeen(t *testing.T) {
	t.Parallel()
	r := startReceiver(t, options{env: []string{apiKey + "=" + canary}})
	r.assertNoCanaryInProcesses(true)
	_, err := dialSift(t, r.address, canary+"x", false).startUp(limited(t), identity{asset: "rover", key: "v1"})
	assert.Equal(t, codes.Unauthenticated, status.Code(err))
	assert.NotContains(t, err.Error(), canary)
	s, err := dialSift(t, r.address, canary, false).startUp(limited(t), identity{asset: "rover", key: "v1"})
	require.NoError(t, err)
	require.NoError(t, s.send(limited(t)))
	r.finish()
	r.assertNoCanary()
}

// Texts of problems do not quote secrets, wherever they are misplaced.
func TestSecretsInWrongPlaces(t *testing.T) {
	t.Parallel()
	secret := fmt.Sprintf("secret::env(%q)", apiKey)
	for name, change := range map[string][2]string{
		"wrong type":        {"rows = 10", "rows = " + secret},
		"as an address":     {`"http://127.0.0.1:1"`, secret},
		"host's setting":    {`"stand"`, secret},
		"name of a plugin":  {`asset = "stand"`, `asset = "stand-${` + secret + `}"`},
		"in an expression":  {"rate = 10", "rate = 10 + " + secret},
		"as a key of a map": {`asset = "stand"`, `asset = { a = 1 }[` + secret + `]`},
		"unknown attribute": {"rate =", "rate = 10\n    unknown =" + secret + "\n    x ="},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, goodFile, change[0])
			path := writeFile(t, "wrong.hcl", strings.Replace(goodFile, change[0], change[1], 1))
			for _, format := range []string{"text", "json"} {
				h := run(t, options{env: []string{apiKey + "=" + canary}}, "run", "--log-format", format, path)
				if name == "as an address" { // its plugin sees the value only when it runs
					h.requireExit(exitUnavailable)
				} else {
					h.requireExit(exitConfig)
				}
				h.assertNoCanary()
			}
		})
	}
}
