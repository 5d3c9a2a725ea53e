package status

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/pipeline"
	"github.com/pipelined/pipelined/core/telemetry"
)

func TestReportIsWhatThePipelinesSay(t *testing.T) {
	w := &world{}
	w.set(full(), calm("other"))
	_, client := startServer(t, w, nil)
	report, err := client.Report(limited(t))
	require.NoError(t, err)
	require.Len(t, report.Pipelines, 2)
	assert.Equal(t, Schema, report.Schema)
	assert.Equal(t, os.Getpid(), report.PID)
	assert.Nil(t, report.Delivered)
	p := report.Pipelines[0]
	assert.Equal(t, Stuck, p.State)
	assert.True(t, strings.HasPrefix(p.Sentence, "stuck: PERMISSION_DENIED: no since "), p.Sentence)

	// What comes through the socket is what was converted, but for the clock.
	wanted := convert(full(), time.Now())
	wanted.State, wanted.Sentence, wanted.phase, wanted.Tracks[0].usual = p.State, p.Sentence, "", 0
	for _, one := range []*Pipeline{&p, &wanted} {
		assert.InDelta(t, 3600, time.Duration(one.Elapsed).Seconds(), 60)
		one.Started, one.Elapsed, one.Backup.TroubleSince = time.Time{}, 0, time.Time{}
		for i := range one.Tracks {
			tr := &one.Tracks[i]
			assert.InDelta(t, 60, time.Duration(tr.Live.StreamElapsed).Seconds(), 30)
			tr.StuckSince, tr.Live.StreamElapsed, tr.Again.StreamElapsed = time.Time{}, 0, 0
			tr.Rates, tr.Drain = nil, nil
		}
	}
	assert.Equal(t, wanted, p)
}

func TestNamedPipelines(t *testing.T) {
	w := &world{}
	w.set(calm("a"), calm("b"), calm("c"))
	_, client := startServer(t, w, nil)
	report, err := client.Report(limited(t), "c", "a")
	require.NoError(t, err)
	require.Len(t, report.Pipelines, 2)
	assert.Equal(t, "a", report.Pipelines[0].Name)
	_, err = client.Report(limited(t), "a", "d")
	require.ErrorIs(t, err, ErrUnknownPipeline)
	assert.ErrorContains(t, err, `there is no pipeline "d"; there are: a, b, c`)
	_, err = client.Wait(limited(t), "d")
	require.ErrorIs(t, err, ErrUnknownPipeline)
}

func TestPaths(t *testing.T) {
	w := &world{}
	_, client := startServer(t, w, nil)
	for _, c := range []struct {
		name     string
		statuses []pipeline.Status
		path     string
		code     int
		text     string
	}{
		{"health", nil, "/healthz", 200, "ok\n"},
		{"nothing to do", nil, "/readyz", 200, "ready\n"},
		{"ready", []pipeline.Status{calm("a")}, "/readyz", 200, "ready\n"},
		{"finished", []pipeline.Status{{Name: "a", Phase: pipeline.Finished}}, "/readyz", 200, "ready\n"},
		{"starting", []pipeline.Status{{Name: "a", Phase: pipeline.Starting}, calm("b")}, "/readyz", 503, "a: starting\n"},
		{
			"two reasons",
			[]pipeline.Status{
				{Name: "a", Phase: pipeline.Draining},
				{Name: "b", Phase: pipeline.Finished, Err: io.ErrUnexpectedEOF},
			},
			"/readyz", 503, "a: finishing\nb: failed: unexpected EOF\n",
		},
		{
			"a full disk",
			[]pipeline.Status{{Name: "a", Phase: pipeline.Running, Backup: &pipeline.BackupStatus{Trouble: "no space left"}}},
			"/readyz", 503, "a: delivering; the backup takes nothing: no space left\n",
		},
		{"another wait", nil, "/status?wait=godot", 400, "wait=\"godot\": only \"delivered\" can be waited for\n"},
		{"another path", nil, "/debug/pprof/", 404, "404 page not found\n"},
		{"the root", nil, "/", 404, "404 page not found\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.set(c.statuses...)
			code, body, err := client.Get(limited(t), c.path)
			require.NoError(t, err)
			assert.Equal(t, c.text, string(body))
			assert.Equal(t, c.code, code)
		})
	}
}

func TestNothingCanBeChanged(t *testing.T) {
	_, client := startServer(t, &world{}, nil)
	for _, path := range []string{"/status", "/metrics", "/healthz", "/readyz"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
			request, err := http.NewRequestWithContext(limited(t), method, "http://pipelined"+path, strings.NewReader(strings.Repeat("x", 1<<16)))
			require.NoError(t, err)
			response, err := client.http.Do(request)
			require.NoError(t, err)
			assert.Equal(t, http.StatusMethodNotAllowed, response.StatusCode)
			require.NoError(t, response.Body.Close())
		}
	}
}

func TestHeadersAreBounded(t *testing.T) {
	_, client := startServer(t, &world{}, nil)
	request, err := http.NewRequestWithContext(limited(t), http.MethodGet, "http://pipelined/healthz", nil)
	require.NoError(t, err)
	request.Header.Set("Much", strings.Repeat("x", 64<<10))
	response, err := client.http.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	assert.Equal(t, http.StatusRequestHeaderFieldsTooLarge, response.StatusCode)
}

// What is not HTTP ends its own connection only.
func TestNotHTTP(t *testing.T) {
	s, client := startServer(t, &world{}, nil)
	conn, err := dial(limited(t), s.config.DataDir)
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("\x00\x01\x02 hello\r\n\r\n"))
	require.NoError(t, err)
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	assert.Contains(t, line, "400 Bad Request")
	_, _, err = client.Get(limited(t), "/healthz")
	require.NoError(t, err)
}

func TestMetricsOverTCP(t *testing.T) {
	w := &world{}
	w.set(calm("a"))
	s, _ := startServer(t, w, func(c *Config) { c.Metrics = "127.0.0.1:0" })
	get := func(path string) (int, string) {
		request, err := http.NewRequestWithContext(limited(t), http.MethodGet, "http://"+s.MetricsAddress.String()+path, nil)
		require.NoError(t, err)
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		response, err := transport.RoundTrip(request)
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(body)
	}
	code, body := get("/metrics")
	assert.Equal(t, http.StatusOK, code)
	assert.Contains(t, body, `pipelined_messages_delivered_total{flow="imu",pipeline="a",track="file.out"} 10`)
	for _, path := range []string{"/status", "/readyz", "/healthz"} {
		code, _ = get(path)
		assert.Equal(t, http.StatusNotFound, code, "only metrics are told to others")
	}
}

func TestMetricsAddressInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	_, err = Start(t.Context(), Config{
		DataDir: shortDir(t), Metrics: taken.Addr().String(), Pipelines: new(world).get, Logger: slog.New(slog.DiscardHandler),
	})
	require.ErrorContains(t, err, "address already in use")
}

// Without a socket the host works on.
func TestNoSocket(t *testing.T) {
	var log bytes.Buffer
	s, client := startServer(t, &world{}, func(c *Config) {
		require.NoError(t, os.Mkdir(filepath.Join(c.DataDir, SocketName), 0o700))
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	assert.Contains(t, log.String(), "it is not a socket")
	_, err := client.Report(limited(t))
	require.Error(t, err)
	s.Close()
	s.Close()
}

func TestCloseRemovesTheSocket(t *testing.T) {
	s, client := startServer(t, &world{}, nil)
	_, err := client.Report(limited(t))
	require.NoError(t, err)
	s.Close()
	assert.NoFileExists(t, filepath.Join(s.config.DataDir, SocketName))
	_, err = client.Report(limited(t))
	require.ErrorIs(t, err, ErrNotRunning)
}

func TestNobodyRuns(t *testing.T) {
	for name, dir := range map[string]string{
		"an empty directory": shortDir(t),
		"no directory":       "/nonexistent/data",
		"a file":             "/dev/null",
		"a long path":        "/" + strings.Repeat("nonexistent/", 20),
	} {
		t.Run(name, func(t *testing.T) {
			client := NewClient(dir)
			defer client.Close()
			_, err := client.Report(limited(t))
			require.ErrorIs(t, err, ErrNotRunning)
			assert.ErrorContains(t, err, dir)
		})
	}
}

// A host that ends without an answer, or answers nonsense.
func TestStrangeHost(t *testing.T) {
	for _, c := range []struct{ name, answer, problem string }{
		{"ends", "", "pipelined ended while it was asked"},
		{"ends within the answer", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "pipelined ended while it was asked"},
		{"no JSON", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "the answer is no status"},
		{"another schema", "HTTP/1.0 200 OK\r\n\r\n{\"schema\": 9, \"version\": \"2.0\" }", "pipelined 2.0 is running here, whose status has schema 9"},
		{"an error", "HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\nno\nreally", "answered 500: no"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := shortDir(t)
			l, err := listen(t.Context(), dir)
			require.NoError(t, err)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = http.ReadRequest(bufio.NewReader(conn))
					_, _ = conn.Write([]byte(c.answer))
					conn.Close()
				}
			}()
			client := NewClient(dir)
			_, err = client.Report(limited(t))
			assert.ErrorContains(t, err, c.problem)
			client.Close()
			require.NoError(t, l.Close())
			<-done
		})
	}
}

func TestWaitDelivered(t *testing.T) {
	pending := func(n uint64, oldest time.Duration) pipeline.Status {
		s := calm("a")
		s.Tracks[0].Pending, s.Tracks[0].OldestPending = n, oldest
		return s
	}
	atRisk := calm("a")
	atRisk.Flows[0].Received++
	// The age of what was stored before is not known: it is since this start at most.
	stored := pending(9, time.Nanosecond)
	stored.Flows = append(stored.Flows, telemetry.FlowTotals{
		Name: telemetry.StoredBefore, Tracks: []telemetry.TrackTotals{{Track: "file.out", Delivered: 1, Pending: 5}},
	})
	unbound := calm("a")
	unbound.Tracks[0].Unbound = []string{"imu: no"}
	finished := pending(5, time.Hour)
	finished.Phase = pipeline.Finished

	for _, c := range []struct {
		name          string
		before, after []pipeline.Status
		delivered     bool
	}{
		{"all is delivered", nil, []pipeline.Status{calm("a")}, true},
		{"confirmed later", []pipeline.Status{pending(5, time.Hour)}, []pipeline.Status{calm("a")}, true},
		{"only newer ones are pending", []pipeline.Status{pending(5, time.Hour)}, []pipeline.Status{pending(9, time.Nanosecond)}, true},
		{"received and not yet pending", []pipeline.Status{atRisk}, []pipeline.Status{calm("a")}, true},
		{"stored before", []pipeline.Status{stored}, []pipeline.Status{pending(4, time.Nanosecond)}, true},
		{"unbound flows", []pipeline.Status{unbound}, []pipeline.Status{calm("a")}, true},
		{"starting", []pipeline.Status{{Name: "a", Phase: pipeline.Starting}}, []pipeline.Status{calm("a")}, true},
		{"several", []pipeline.Status{calm("b"), pending(5, time.Hour)}, []pipeline.Status{calm("b"), calm("a")}, true},
		{"never", []pipeline.Status{pending(5, time.Hour)}, []pipeline.Status{finished}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := &world{}
			asked := make(chan struct{}, 100)
			w.set(c.before...)
			if c.before == nil {
				w.set(c.after...)
			}
			_, client := startServer(t, w, func(config *Config) {
				config.Pipelines = func() []pipeline.Status {
					select {
					case asked <- struct{}{}:
					default:
					}
					return w.get()
				}
			})
			type result struct {
				report Report
				err    error
			}
			results := make(chan result, 1)
			go func() {
				report, err := client.Wait(limited(t))
				results <- result{report, err}
			}()
			if c.before != nil {
				for range 4 { // by the sampler, the request, and while it waits
					<-asked
				}
				select {
				case <-results:
					require.Fail(t, "answered too early")
				default:
				}
				w.set(c.after...)
			}
			got := <-results
			require.NoError(t, got.err)
			require.NotNil(t, got.report.Delivered)
			assert.Equal(t, c.delivered, *got.report.Delivered)
		})
	}
}

// A host that ends well answers those who wait for it.
func TestWaitUntilTheHostEnds(t *testing.T) {
	busy := calm("a")
	busy.Tracks[0].Pending = 1
	w := &world{}
	w.set(busy)
	asked := make(chan struct{}, 10)
	s, client := startServer(t, w, func(c *Config) {
		c.Pipelines = func() []pipeline.Status {
			select {
			case asked <- struct{}{}:
			default:
			}
			return w.get()
		}
	})
	results := make(chan error, 1)
	go func() {
		report, err := client.Wait(limited(t))
		if err == nil && !*report.Delivered {
			err = fmt.Errorf("not delivered: %+v", report)
		}
		results <- err
	}()
	for range 4 {
		<-asked
	}
	w.set(calm("a"))
	s.Close()
	require.NoError(t, <-results)
}

func TestWaitIsGivenUp(t *testing.T) {
	busy := calm("a")
	busy.Tracks[0].Pending = 1
	w := &world{}
	w.set(busy)
	_, client := startServer(t, w, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := client.Wait(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.NotContains(t, err.Error(), "http://")
}
