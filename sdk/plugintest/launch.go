package plugintest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/pipelined/pipelined/sdk/shm"
	"github.com/pipelined/pipelined/sdk/wire"
)

const (
	firstFD      = 3 // of the files that a process inherits
	lineBytes    = 16 << 10
	stderrBytes  = 64 << 10
	farewellTime = 10 * time.Second // until a process that should end is killed
)

// Process says how the plugin is started.
type Process struct {
	Path string
	Args []string
	Env  []string // beside PATH, HOME, TMPDIR and what the handshake needs
}

// Launched is a running plugin process.
type Launched struct {
	cmd    *exec.Cmd
	dir    string // of its socket
	stdin  *os.File
	stdout *os.File
	stderr *tail
	conn   *grpc.ClientConn
	exited chan struct{} // closed when the process has been reaped
	tasks  sync.WaitGroup
	closed sync.Once
}

// Launch starts a plugin, reads its handshake and connects. The regions are
// inherited as descriptors 3, 4, …; they stay the caller's.
func Launch(ctx context.Context, p Process, regions ...*shm.Region) (*Launched, error) {
	cert, err := wire.NewCertificate()
	if err != nil {
		return nil, err
	}
	l, lines, err := spawn(p, []string{
		wire.HandshakeCookieKey + "=" + wire.HandshakeCookieValue,
		fmt.Sprintf("%s=%d", wire.EnvProtocolVersions, wire.ProtocolVersion),
		wire.EnvClientCert + "=" + wire.CertificatePEM(cert),
	}, regions...)
	if err != nil {
		return nil, err
	}
	handshake, err := l.handshake(ctx, lines)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	tlsConfig, err := wire.ClientTLS(cert, handshake.Certificate)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	options := append(wire.DialOptions(), grpc.WithTransportCredentials(credentials.NewTLS(tlsConfig)))
	if l.conn, err = grpc.NewClient("unix:"+handshake.Socket, options...); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// spawn starts the process. Its first line of output comes on the channel, which
// is closed if there is none.
func spawn(p Process, env []string, regions ...*shm.Region) (*Launched, <-chan string, error) {
	l := &Launched{exited: make(chan struct{}), stderr: &tail{}}
	var err error
	if l.dir, err = os.MkdirTemp("", "plugin"); err != nil {
		return nil, nil, err
	}
	l.cmd = exec.Command(p.Path, p.Args...)
	l.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.Getenv("TMPDIR"),
		wire.EnvSocketDir + "=" + l.dir,
	}, env...)
	l.cmd.Env = append(l.cmd.Env, p.Env...)
	l.cmd.Stderr = l.stderr
	l.cmd.WaitDelay = time.Second // a child of the plugin may hold its stderr
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	for i, r := range regions {
		l.cmd.ExtraFiles = append(l.cmd.ExtraFiles, r.Inherit(firstFD+i))
	}
	if err := l.start(); err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(l.dir))
	}
	lines := make(chan string, 1)
	l.tasks.Go(func() { readLine(l.stdout, lines) })
	l.tasks.Go(func() {
		defer close(l.exited)
		_ = l.cmd.Wait() // how it ended is in ProcessState
	})
	return l, lines, nil
}

func (l *Launched) start() error {
	childIn, stdin, err := os.Pipe()
	if err != nil {
		return err
	}
	stdout, childOut, err := os.Pipe()
	if err != nil {
		return errors.Join(err, childIn.Close(), stdin.Close())
	}
	l.cmd.Stdin, l.cmd.Stdout = childIn, childOut
	l.stdin, l.stdout = stdin, stdout
	err = l.cmd.Start()
	_, _ = childIn.Close(), childOut.Close()
	if err != nil {
		return errors.Join(fmt.Errorf("start the plugin: %w", err), stdin.Close(), stdout.Close())
	}
	return nil
}

// readLine passes on the first line and reads the rest, so that nobody who prints
// has to wait.
func readLine(from io.Reader, line chan<- string) {
	defer close(line)
	r := bufio.NewReaderSize(from, lineBytes)
	first, err := r.ReadSlice('\n')
	if len(first) > 0 {
		line <- string(first)
	}
	if err == nil || errors.Is(err, bufio.ErrBufferFull) {
		_, _ = io.Copy(io.Discard, r)
	}
}

func (l *Launched) handshake(ctx context.Context, lines <-chan string) (wire.Handshake, error) {
	select {
	case line, ok := <-lines:
		if !ok {
			<-l.exited
			return wire.Handshake{}, l.explain(errors.New("the plugin ended without a handshake"))
		}
		h, err := wire.ParseHandshake(line)
		if err != nil {
			return h, l.explain(err)
		}
		if h.Version != wire.ProtocolVersion {
			return h, fmt.Errorf("the plugin speaks version %d of the contract, not %d", h.Version, wire.ProtocolVersion)
		}
		return h, nil
	case <-ctx.Done():
		return wire.Handshake{}, l.explain(fmt.Errorf("no handshake: %w", context.Cause(ctx)))
	}
}

// explain adds what the plugin last wrote to its standard error.
func (l *Launched) explain(err error) error {
	if text := strings.TrimSpace(l.stderr.String()); text != "" {
		return fmt.Errorf("%w; its standard error ends with:\n%s", err, text)
	}
	return err
}

// Conn returns the connection to the plugin.
func (l *Launched) Conn() *grpc.ClientConn { return l.conn }

// Stderr returns the end of what the plugin wrote to its standard error.
func (l *Launched) Stderr() string { return l.stderr.String() }

// CloseStdin makes the plugin believe that its host is gone.
func (l *Launched) CloseStdin() error { return l.stdin.Close() }

// Signal sends a signal to the plugin.
func (l *Launched) Signal(s os.Signal) error { return l.cmd.Process.Signal(s) }

// Wait waits for the end of the process and returns its exit code, -1 if a signal
// ended it.
func (l *Launched) Wait(ctx context.Context) (code int, err error) {
	select {
	case <-l.exited:
		return l.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("the process has not ended: %w", context.Cause(ctx))
	}
}

// CPU returns the processor time that the process has used. It must have ended.
func (l *Launched) CPU() time.Duration {
	return l.cmd.ProcessState.UserTime() + l.cmd.ProcessState.SystemTime()
}

// Close ends the process, if need be by SIGKILL, and frees everything. It is an
// error if closing its standard input did not end it. It may be called twice.
func (l *Launched) Close() (err error) {
	l.closed.Do(func() { err = l.close() })
	return err
}

func (l *Launched) close() error {
	var errs []error
	if l.conn != nil {
		errs = append(errs, l.conn.Close())
	}
	_ = l.stdin.Close() // it may be closed already
	select {
	case <-l.exited:
	case <-time.After(farewellTime):
		errs = append(errs, fmt.Errorf("the plugin did not end within %s after its standard input did", farewellTime))
	}
	_ = syscall.Kill(-l.cmd.Process.Pid, syscall.SIGKILL) // also what it has started
	<-l.exited
	_ = l.stdout.Close()
	l.tasks.Wait()
	errs = append(errs, os.RemoveAll(l.dir))
	return errors.Join(errs...)
}

// tail keeps the end of what is written.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - stderrBytes; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
