package plugintest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"syscall"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/shm"
	"github.com/pipelined/pipelined/sdk/wire"
)

// processChecks are for plugins of every kind.
func processChecks() []check {
	return []check{
		{"health", checkHealth},
		{"describe", checkDescribe},
		{"schema", func(_ context.Context, k *kit) error { return checkSchema(k.description.Schema) }},
		{"validate nothing", checkValidateNothing},
		{"validate", checkValidate},
		{"configure", checkConfigure},
		{"work without configuration", checkUnconfigured},
		{"ping", checkPing},
		{"signals", checkSignals},
		{"drain", checkDrain},
		{"host gone", checkHostGone},
		{"started by hand", checkByHand},
		{"other version", checkOtherVersion},
	}
}

// with runs f with a process that is not configured.
func (k *kit) with(ctx context.Context, f func(*Launched) error, regions ...*shm.Region) error {
	l, err := Launch(ctx, k.process, regions...)
	if err != nil {
		return err
	}
	if err := f(l); err != nil {
		if !errors.Is(err, errSkipped) {
			err = l.explain(err)
		}
		return errors.Join(err, l.Close())
	}
	return l.Close()
}

// configured runs f with a process that has its configuration.
func (k *kit) configured(ctx context.Context, f func(*Launched) error, regions ...*shm.Region) error {
	return k.with(ctx, func(l *Launched) error {
		if err := k.configure(ctx, l, regions...); err != nil {
			return err
		}
		return f(l)
	}, regions...)
}

func (k *kit) configure(ctx context.Context, l *Launched, regions ...*shm.Region) error {
	diags, err := wire.Configure(ctx, l.Conn(), wire.ConfigureArgs{
		Pipeline: "conformance", Name: "subject", Asset: "bench", StateDir: l.dir,
		Body: k.body, Regions: regions,
	})
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	return firstError("configure", diags)
}

func firstError(call string, diags []sdk.Diagnostic) error {
	for _, d := range diags {
		if d.Severity == sdk.SeverityError {
			return fmt.Errorf("%s: %s: %s", call, d.Summary, d.Detail)
		}
	}
	return nil
}

func checkHealth(ctx context.Context, k *kit) error {
	return k.with(ctx, func(l *Launched) error {
		res, err := grpc_health_v1.NewHealthClient(l.Conn()).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: wire.HealthService})
		if err != nil {
			return fmt.Errorf("health of service %q: %w", wire.HealthService, err)
		}
		if res.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			return fmt.Errorf("health of service %q is %s", wire.HealthService, res.GetStatus())
		}
		return nil
	})
}

func checkDescribe(ctx context.Context, k *kit) error {
	if !lowerSnake.MatchString(k.description.Info.Name) {
		return fmt.Errorf("name %q is not lower_snake_case", k.description.Info.Name)
	}
	if k.description.Info.Version == "" {
		return errors.New("it has no version")
	}
	return k.configured(ctx, func(l *Launched) error {
		again, err := wire.Describe(ctx, l.Conn())
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(k.description, again) {
			return errors.New("once configured, and in another process, it describes itself in another way")
		}
		return nil
	})
}

// checkValidateNothing wants a list of what is missing, not a failure.
func checkValidateNothing(ctx context.Context, k *kit) error {
	return k.with(ctx, func(l *Launched) error {
		diags, err := wire.Validate(ctx, l.Conn(), sdk.Body{})
		if err != nil {
			return fmt.Errorf("validate an empty configuration: %w", err)
		}
		for _, a := range k.description.Schema.Attributes {
			if a.Required && !a.Sensitive && !names(diags, sdk.Step{Attribute: a.Name}) {
				return fmt.Errorf("the required attribute %q is missing, and no diagnostic names it", a.Name)
			}
		}
		return nil
	})
}

func names(diags []sdk.Diagnostic, step sdk.Step) bool {
	for _, d := range diags {
		if d.Severity == sdk.SeverityError && len(d.Path) == 1 && d.Path[0] == step {
			return true
		}
	}
	return false
}

func checkValidate(ctx context.Context, k *kit) error {
	return k.with(ctx, func(l *Launched) error {
		diags, err := wire.Validate(ctx, l.Conn(), k.body)
		if err != nil {
			return fmt.Errorf("validate: %w", err)
		}
		return firstError("validate", diags)
	})
}

func checkConfigure(ctx context.Context, k *kit) error {
	return k.configured(ctx, func(l *Launched) error {
		if k.configure(ctx, l) == nil {
			return errors.New("it can be configured twice")
		}
		_, err := wire.Metrics(ctx, l.Conn())
		return err
	})
}

// checkUnconfigured wants an error for work that comes too early, and a plugin that
// still lives.
func checkUnconfigured(ctx context.Context, k *kit) error {
	return k.with(ctx, func(l *Launched) error {
		if k.workOnce(ctx, l) == nil {
			return errors.New("it works without configuration")
		}
		_, err := wire.Describe(ctx, l.Conn())
		return err
	})
}

// workOnce begins the kind's main call and returns how that ends.
func (k *kit) workOnce(ctx context.Context, l *Launched) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var err error
	switch k.description.Kind {
	case sdk.KindSource:
		_, err = wire.Discover(ctx, l.Conn())
	case sdk.KindEncoder:
		var s *wire.EncoderStream
		if s, err = wire.OpenEncoder(ctx, l.Conn(), wire.StreamRegions{}); err == nil {
			_ = s.CloseSend()
			_, err = s.Recv()
		}
	case sdk.KindTransport:
		var s *wire.DeliverStream
		if s, err = wire.OpenDeliver(ctx, l.Conn(), nil); err == nil {
			_ = s.CloseSend()
			_, err = s.Recv()
		}
	default:
		return skip("plugins of kind %s do not work yet", k.description.Kind)
	}
	if err == io.EOF {
		return nil
	}
	return err
}

func ping(c *wire.Control, nonce uint64) error {
	if err := c.Ping(nonce); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	for {
		event, err := c.Recv()
		if err != nil {
			return fmt.Errorf("ping %d has no answer: %w", nonce, err)
		}
		if pong, ok := event.(wire.Pong); ok {
			if pong.Nonce != nonce {
				return fmt.Errorf("ping %d was answered with %d", nonce, pong.Nonce)
			}
			return nil
		}
	}
}

func checkPing(ctx context.Context, k *kit) error {
	return k.configured(ctx, func(l *Launched) error {
		c, err := wire.OpenControl(ctx, l.Conn())
		if err != nil {
			return err
		}
		for nonce := range uint64(20) {
			if err := ping(c, nonce<<40+nonce); err != nil {
				return err
			}
		}
		return nil
	})
}

func checkSignals(ctx context.Context, k *kit) error {
	return k.configured(ctx, func(l *Launched) error {
		c, err := wire.OpenControl(ctx, l.Conn())
		if err != nil {
			return err
		}
		for i, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGINT} {
			if err := l.Signal(s); err != nil {
				return fmt.Errorf("send %s: %w", s, err)
			}
			// The answer needs several threads to run: one of them handles the signal.
			for n := range uint64(20) {
				if err := ping(c, uint64(i)<<32+n); err != nil {
					return fmt.Errorf("after %s: %w", s, err)
				}
			}
		}
		return nil
	})
}

// checkDrain ends a plugin as a host does.
func checkDrain(ctx context.Context, k *kit) error {
	return k.configured(ctx, func(l *Launched) error {
		c, err := wire.OpenControl(ctx, l.Conn())
		if err != nil {
			return err
		}
		if err := c.Drain(k.options.Timeout); err != nil {
			return fmt.Errorf("drain: %w", err)
		}
		for {
			event, err := c.Recv()
			if err != nil {
				return fmt.Errorf("drain has no answer: %w", err)
			}
			if _, ok := event.(wire.Drained); ok {
				break
			}
		}
		if err := ping(c, 1); err != nil {
			return fmt.Errorf("once drained: %w", err)
		}
		if err := c.CloseSend(); err != nil {
			return err
		}
		code, err := l.Wait(ctx)
		if err != nil {
			return fmt.Errorf("drained, and the host has closed the control stream: %w", err)
		}
		if code != 0 {
			return fmt.Errorf("exit code %d after a drain", code)
		}
		return nil
	})
}

func checkHostGone(ctx context.Context, k *kit) error {
	return k.configured(ctx, func(l *Launched) error {
		if err := l.CloseStdin(); err != nil {
			return err
		}
		begin := time.Now()
		if _, err := l.Wait(ctx); err != nil {
			return fmt.Errorf("its standard input has ended: %w", err)
		}
		if took := time.Since(begin); took > 5*time.Second {
			return fmt.Errorf("it ended %s after its standard input", took)
		}
		return nil
	})
}

// checkByHand starts the file without a host: it must say something and end.
func checkByHand(ctx context.Context, k *kit) error {
	l, _, err := spawn(k.process, nil)
	if err != nil {
		return err
	}
	code, err := l.Wait(ctx)
	closeErr := l.Close()
	switch {
	case err != nil:
		return err
	case code == 0:
		return errors.New("exit code 0")
	case l.Stderr() == "":
		return errors.New("it does not say what it is")
	}
	return closeErr
}

// checkOtherVersion offers a version that does not exist. The plugin ends, or
// names its own.
func checkOtherVersion(ctx context.Context, k *kit) error {
	cert, err := wire.NewCertificate()
	if err != nil {
		return err
	}
	l, lines, err := spawn(k.process, []string{
		wire.HandshakeCookieKey + "=" + wire.HandshakeCookieValue,
		wire.EnvProtocolVersions + "=65000",
		wire.EnvClientCert + "=" + wire.CertificatePEM(cert),
	})
	if err != nil {
		return err
	}
	defer l.Close()
	select {
	case line, ok := <-lines:
		if !ok {
			break
		}
		if h, err := wire.ParseHandshake(line); err != nil || h.Version == 65000 {
			return fmt.Errorf("it agreed to a version that does not exist: %w", err)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if code, err := l.Wait(ctx); err != nil || code == 0 || l.Stderr() == "" {
		return fmt.Errorf("exit code %d and no word of why: %w", code, err)
	}
	return nil
}
