package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
)

var (
	// ErrNotRunning is returned when no host listens to the socket.
	ErrNotRunning = errors.New("nobody is running here")
	// ErrUnknownPipeline is returned for a name that no pipeline of the host has.
	ErrUnknownPipeline = errors.New("unknown pipeline")
	// ErrGone is returned when the host ended without an answer.
	ErrGone = errors.New("pipelined ended while it was asked")
)

// maxAnswer bounds what a client reads, in bytes.
const maxAnswer = 256 << 20

// Client asks the host that uses a data directory.
type Client struct {
	dataDir string
	http    *http.Client
}

// NewClient returns a client. The caller closes it.
func NewClient(dataDir string) *Client {
	return &Client{dataDir: dataDir, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, dataDir) },
		Proxy:       nil,
	}}}
}

// Close closes the client's connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Report asks how these pipelines are; none means all.
func (c *Client) Report(ctx context.Context, pipelines ...string) (Report, error) {
	return c.report(ctx, url.Values{"pipeline": pipelines})
}

// Wait asks the same, but the answer comes only when these pipelines have delivered
// everything that they had received before, or will never do so: then Delivered of
// the report is false.
func (c *Client) Wait(ctx context.Context, pipelines ...string) (Report, error) {
	return c.report(ctx, url.Values{"pipeline": pipelines, "wait": {WaitDelivered}})
}

func (c *Client) report(ctx context.Context, query url.Values) (Report, error) {
	code, body, err := c.Get(ctx, "/status?"+query.Encode())
	if err != nil {
		return Report{}, err
	}
	switch code {
	case http.StatusOK:
	case http.StatusNotFound:
		return Report{}, fmt.Errorf("%w: %s", ErrUnknownPipeline, firstLine(body))
	default:
		return Report{}, fmt.Errorf("pipelined with data directory %s answered %d: %s", c.dataDir, code, firstLine(body))
	}
	var r Report
	if err := json.Unmarshal(body, &r); err != nil {
		return Report{}, fmt.Errorf("the answer is no status: %w", err)
	}
	if r.Schema != Schema {
		return Report{}, fmt.Errorf("pipelined %s is running here, whose status has schema %d; this one reads %d", r.Version, r.Schema, Schema)
	}
	return r, nil
}

// Get asks for a path, such as "/metrics".
func (c *Client) Get(ctx context.Context, path string) (code int, body []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://pipelined"+path, nil)
	if err != nil {
		return 0, nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, nil, c.explain(err)
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return 0, nil, c.explain(err)
	case len(body) > maxAnswer:
		return 0, nil, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	return response.StatusCode, body, nil
}

// explain says what an error of a request means.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: no pipelined uses %s, nobody answers at %s; 'pipelined run' starts one",
			ErrNotRunning, c.dataDir, filepath.Join(c.dataDir, SocketName))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return ErrGone
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // without the made-up address
	}
	return fmt.Errorf("asking pipelined with data directory %s: %w", c.dataDir, err)
}

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(string(text), "\n")
	return clip(line)
}
