package plugin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/serve"
	"github.com/pipelined/pipelined/sdk/wire"
)

// testSecret is what the test plugins spill.
const testSecret = `s3cr3t "value"`

// testPlugins are the mains of plugins that behave and misbehave. They run in
// processes of their own and return their exit status.
func testPlugins() map[string]func(p *testPlugin) int {
	return map[string]func(p *testPlugin) int{
		"good":   func(p *testPlugin) int { return p.serve() },
		"silent": func(*testPlugin) int { return forever() },
		"exits": func(*testPlugin) int {
			fmt.Fprintln(os.Stderr, "no such device: /dev/ttyS9")
			return 3
		},
		"exits_quietly": func(*testPlugin) int { return 0 },
		"panics":        func(*testPlugin) int { panic("oh no " + testSecret) },
		"terminated": func(*testPlugin) int {
			_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
			return forever()
		},
		"killed": func(*testPlugin) int {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			return forever()
		},
		"junk": func(*testPlugin) int {
			fmt.Println("Usage: junk [options] --password " + testSecret)
			return forever()
		},
		"junk_and_out": func(*testPlugin) int {
			fmt.Println("hello")
			return 6
		},
		"endless_junk": func(*testPlugin) int {
			flood(os.Stdout, strings.Repeat("j", 4096))
			return 0
		},
		"closes_stdout": func(*testPlugin) int {
			_ = os.Stdout.Close()
			return forever()
		},
		"newer":  func(p *testPlugin) int { return p.say("1|2|unix|" + p.socket() + "|grpc|" + p.base64()) },
		"older":  func(p *testPlugin) int { return p.say("1|0|unix|" + p.socket() + "|grpc|" + p.base64()) },
		"netrpc": func(p *testPlugin) int { return p.say("1|1|unix|" + p.socket() + "|netrpc|" + p.base64()) },
		"core2":  func(p *testPlugin) int { return p.say("2|1|unix|" + p.socket() + "|grpc|" + p.base64()) },
		"bare":   func(p *testPlugin) int { return p.say("1|1|unix|" + p.socket() + "|grpc|") },
		"elsewhere": func(p *testPlugin) int {
			return p.say("1|1|unix|/run/other.sock|grpc|" + p.base64())
		},
		"escapes": func(p *testPlugin) int {
			return p.say("1|1|unix|" + filepath.Dir(p.socket()) + "/../../x.sock|grpc|" + p.base64())
		},
		"nobody_there": func(p *testPlugin) int { return p.say("1|1|unix|" + p.socket() + "|grpc|" + p.base64()) },
		"other_key": func(p *testPlugin) int {
			p.cert = newCert() // the handshake has the first one
			return p.serve()
		},
		"misnamed": func(p *testPlugin) int {
			p.name = "somebody_else"
			return p.serve()
		},
		"mute": func(p *testPlugin) int { // answers no call
			p.describe = func() *pb.DescribeResponse { select {} }
			return p.serve()
		},
		"dies_describing": func(p *testPlugin) int {
			p.describe = func() *pb.DescribeResponse {
				fmt.Fprintln(os.Stderr, "about to die")
				os.Exit(7)
				return nil
			}
			return p.serve()
		},
		"env": func(p *testPlugin) int {
			p.description = strings.Join(os.Environ(), "\x00")
			return p.serve()
		},
		"endless_line": func(p *testPlugin) int {
			go flood(os.Stderr, strings.Repeat("x", 64<<10))
			return p.serve()
		},
		"floods": func(p *testPlugin) int {
			go flood(os.Stderr, strings.Repeat("flood\n", 1000))
			return p.serve()
		},
		"spills": func(p *testPlugin) int {
			fmt.Fprintf(os.Stderr, "connecting with %s\nquoted %q\n{\"@level\":\"info\",\"@message\":\"m\",\"key\":%q}\n", testSecret, testSecret, testSecret)
			p.greet = append(p.greet, healthResponse(pb.Health_STATE_FAILING, "bad key "+testSecret))
			return p.serve()
		},
		"prints": func(p *testPlugin) int { // to stdout, after the handshake
			p.ready = func() { fmt.Println("a stray line") }
			return p.serve()
		},
		"deaf": func(p *testPlugin) int { // to drain and to the end of stdin
			p.drain = func() bool { return false }
			p.stdin = func() { select {} }
			return p.serve()
		},
		"stays": func(p *testPlugin) int { // drains but does not end
			p.stdin = func() { select {} }
			p.released = func() { select {} }
			return p.serve()
		},
		"slow_end": func(p *testPlugin) int { // has work left when it has drained
			p.released = func() {
				<-time.After(stopGrace + 200*time.Millisecond)
				fmt.Fprintln(os.Stderr, "flushed")
			}
			return p.serve()
		},
		"dies_draining": func(p *testPlugin) int {
			p.drain = func() bool {
				fmt.Fprintln(os.Stderr, "cannot flush")
				os.Exit(9)
				return false
			}
			return p.serve()
		},
		"fails_at_end": func(p *testPlugin) int {
			p.serve()
			return 5
		},
		"hasty": func(p *testPlugin) int { // has drained before it was asked, and flutters
			p.greet = append(p.greet, &pb.ControlResponse{Response: &pb.ControlResponse_Drained{Drained: &pb.Drained{}}})
			for i := range 1000 {
				p.greet = append(p.greet, healthResponse(pb.Health_State(1+i%2), fmt.Sprint(i)))
			}
			p.drain = func() bool { return false }
			return p.serve()
		},
		"liar": func(p *testPlugin) int { // answers pings with other nonces
			p.pong = func(nonce uint64) uint64 { return nonce + 1 }
			return p.serve()
		},
		// A plugin with a child of its own that goes on holding its output, in the
		// plugin's group or in one of its own, and also its input.
		"orphan": func(p *testPlugin) int {
			fmt.Fprintln(os.Stderr, "orphan", startOrphan(false, nil))
			return 4
		},
		"far_orphan": func(p *testPlugin) int {
			fmt.Fprintln(os.Stderr, "orphan", startOrphan(true, nil))
			return 4
		},
		"family": func(p *testPlugin) int {
			p.description = fmt.Sprint(startOrphan(false, os.Stdin))
			return p.serve()
		},
		"far_family": func(p *testPlugin) int {
			p.description = fmt.Sprint(startOrphan(true, nil))
			return p.serve()
		},
		"hermit": func(p *testPlugin) int { // hears nothing of its host's end, and leaves its group
			p.description = "0"
			p.stdin = func() {
				_ = os.Stdin.Close()
				select {}
			}
			p.released = func() { select {} }
			p.drain = func() bool { return false }
			group, err := syscall.Getpgid(os.Getppid())
			if err == nil {
				err = syscall.Setpgid(0, group)
			}
			if err != nil {
				panic(err)
			}
			return p.serve()
		},
		"served": func(*testPlugin) int {
			serve.Main(servedSource())
			return 0
		},
		"orphaned": func(*testPlugin) int { return forever() },
	}
}

func runTestPlugin(name string) int {
	main, ok := testPlugins()[name]
	if !ok {
		fmt.Fprintln(os.Stderr, "no such test plugin:", name)
		return 64
	}
	return main(newTestPlugin(name))
}

// servedSource is a plugin as its author writes it.
func servedSource() sdk.Plugin {
	info := sdk.Info{Name: "served", Version: "1", Description: "a test plugin"}
	return sdk.NewSource(info, sdk.SourceCapabilities{Replayable: true}, struct{}{},
		func(s sdk.Settings, _ struct{}) (sdk.Source, error) {
			s.Logger.Debug("opened")
			return &source{log: s.Logger}, nil
		})
}

type source struct{ log *slog.Logger }

func (s *source) Discover(context.Context) (sdk.Discovery, error) { return sdk.Discovery{}, nil }
func (s *source) Run(context.Context, sdk.Output) error           { return nil }

func (s *source) Shutdown(context.Context) error {
	s.log.Info("shut down", "flushed", true)
	return nil
}

// forever waits to be killed. It ends by itself long after any test, should one
// leave it behind.
func forever() int {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT)
	<-time.After(2 * time.Minute)
	return 0
}

func flood(to io.Writer, text string) {
	for {
		if _, err := io.WriteString(to, text); err != nil {
			return
		}
	}
}

// startOrphan starts a child of the plugin that holds its stderr, and returns the
// child's process id.
func startOrphan(ownSession bool, stdin *os.File) int {
	cmd := exec.Command("/proc/self/exe", testVerb, "source", "orphaned")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if stdin != nil {
		cmd.Stdin = stdin
	}
	if ownSession {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	return cmd.Process.Pid
}

// testPlugin serves the part of the contract that this package uses, with places
// to go wrong.
type testPlugin struct {
	pb.UnimplementedPluginServiceServer

	name        string
	description string
	cert        tls.Certificate
	said        tls.Certificate       // the certificate of the handshake
	greet       []*pb.ControlResponse // sent at once

	ready    func()
	describe func() *pb.DescribeResponse
	pong     func(nonce uint64) uint64
	drain    func() bool
	stdin    func() // returns at the end of stdin
	released func() // called when the host has closed the control stream

	end     chan struct{}
	endOnce sync.Once
}

func newCert() tls.Certificate {
	cert, err := wire.NewCertificate()
	if err != nil {
		panic(err)
	}
	return cert
}

func newTestPlugin(name string) *testPlugin {
	p := &testPlugin{
		name: name, description: "a test plugin", cert: newCert(),
		ready:    func() {},
		pong:     func(nonce uint64) uint64 { return nonce },
		drain:    func() bool { return true },
		stdin:    func() { _, _ = io.Copy(io.Discard, os.Stdin) },
		released: func() {},
		end:      make(chan struct{}),
	}
	p.said = p.cert
	return p
}

func (p *testPlugin) socket() string { return filepath.Join(os.Getenv(wire.EnvSocketDir), "s") }

func (p *testPlugin) base64() string {
	line := wire.Handshake{Certificate: p.said.Certificate[0]}.String()
	return strings.Split(line, "|")[5]
}

// say prints a handshake line and does nothing more.
func (p *testPlugin) say(line string) int {
	fmt.Println(line)
	return forever()
}

func (p *testPlugin) serve() int {
	config, err := wire.ServerTLS(p.cert, os.Getenv(wire.EnvClientCert))
	if err != nil {
		panic(err)
	}
	listener, err := net.Listen("unix", p.socket())
	if err != nil {
		panic(err)
	}
	server := grpc.NewServer(append(wire.ServerOptions(), grpc.Creds(credentials.NewTLS(config)))...)
	pb.RegisterPluginServiceServer(server, p)
	go func() { _ = server.Serve(listener) }()
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM)
	fmt.Println(wire.Handshake{Version: wire.ProtocolVersion, Socket: p.socket(), Certificate: p.said.Certificate[0]})
	p.ready()
	go func() {
		p.stdin()
		p.finish()
	}()
	<-p.end
	return 0
}

func healthResponse(state pb.Health_State, reason string) *pb.ControlResponse {
	return &pb.ControlResponse{Response: &pb.ControlResponse_Health{Health: &pb.Health{State: state, Reason: reason, Code: 16}}}
}

func (p *testPlugin) finish() { p.endOnce.Do(func() { close(p.end) }) }

func (p *testPlugin) Describe(context.Context, *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	if p.describe != nil {
		return p.describe(), nil
	}
	return &pb.DescribeResponse{
		Kind: pb.Kind_KIND_SOURCE, Name: p.name, Version: "1", Description: p.description, Config: &pb.ConfigSchema{},
		Capabilities: &pb.DescribeResponse_Source{Source: &pb.SourceCapabilities{Replayable: true}},
	}, nil
}

func (p *testPlugin) Control(stream grpc.BidiStreamingServer[pb.ControlRequest, pb.ControlResponse]) error {
	for _, m := range p.greet {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			p.released()
			p.finish()
			return nil
		}
		if err != nil {
			return err
		}
		switch r := m.GetRequest().(type) {
		case *pb.ControlRequest_Ping:
			pong := &pb.Pong{Nonce: p.pong(r.Ping.GetNonce())}
			err = stream.Send(&pb.ControlResponse{Response: &pb.ControlResponse_Pong{Pong: pong}})
		case *pb.ControlRequest_Drain:
			if p.drain() {
				err = stream.Send(&pb.ControlResponse{Response: &pb.ControlResponse_Drained{Drained: &pb.Drained{}}})
			}
		}
		if err != nil {
			return err
		}
	}
}
