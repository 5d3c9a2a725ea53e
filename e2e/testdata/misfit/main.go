// Command pipelined-source-misfit is a third-party plugin that fails in a way that
// its block chooses. It is built in a module of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/pipelined/pipelined/sdk"
	"github.com/pipelined/pipelined/sdk/serve"
)

// Config is the body of the block.
type Config struct {
	Rows int    `config:"rows" doc:"Rows before it fails."`
	Fail string `config:"fail" allowed:"no,wait,exit,panic,error,child,session,deaf,babble" doc:"What it does then."`
}

func main() {
	serve.Main(sdk.NewSource(
		sdk.Info{Name: "misfit", Version: "0.1.0", Description: "Emits numbered rows, then fails."},
		sdk.SourceCapabilities{},
		Config{Rows: 100, Fail: "no"},
		func(s sdk.Settings, c Config) (sdk.Source, error) { return &misfit{s, c}, nil },
	))
}

type misfit struct {
	settings sdk.Settings
	config   Config
}

func flow() sdk.Flow {
	return sdk.Flow{Name: "load", Channels: []sdk.Channel{{Name: "n", Type: sdk.Uint64}}}
}

func (m *misfit) Discover(context.Context) (sdk.Discovery, error) {
	return sdk.Discovery{Flows: []sdk.Flow{flow()}, Finite: true}, nil
}

func (m *misfit) Run(ctx context.Context, out sdk.Output) error {
	f := flow()
	number, err := out.Announce(f)
	if err != nil {
		return err
	}
	rows := sdk.NewBuilder(&f)
	for n := range m.config.Rows {
		rows.Row(time.Now().UnixNano())
		rows.Uint64(0, uint64(n))
		if n%10 == 9 || n == m.config.Rows-1 {
			if _, err := out.Emit(ctx, number, rows, nil); err != nil {
				return err
			}
		}
	}
	return m.fail(ctx, out)
}

func (m *misfit) fail(ctx context.Context, out sdk.Output) error {
	fmt.Fprintln(os.Stderr, "misfit: all rows are out")
	switch m.config.Fail {
	case "wait":
		select {
		case <-out.Stopping():
		case <-ctx.Done():
		}
	case "exit":
		fmt.Fprintln(os.Stderr, "misfit: giving up")
		os.Exit(7)
	case "panic":
		panic("misfit: no idea")
	case "error":
		return errors.New("the sensor is gone")
	case "child", "session":
		child := exec.Command("sleep", "1000")
		child.Stdout, child.Stderr = os.Stderr, os.Stderr
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: m.config.Fail == "session"}
		if err := child.Start(); err != nil {
			return err
		}
		os.Exit(1)
	case "deaf":
		select {}
	case "babble":
		fmt.Println("this is no place for text")
		fmt.Fprintln(os.Stderr, strings.Repeat("x", 1<<20))
		fmt.Fprint(os.Stderr, "\x1b[31mred\x00\xff")
	}
	return nil
}

func (m *misfit) Shutdown(context.Context) error { return nil }
