package sdk_test

import (
	"context"
	"fmt"
	"time"

	"github.com/pipelined/pipelined/sdk"
)

// thermometerConfig is what a user writes into the block of the source.
type thermometerConfig struct {
	Period time.Duration `config:"period" doc:"Time between two readings."`
	Unit   string        `config:"unit" allowed:"degC,K" doc:"Unit of the readings."`
}

// Validate checks what the tags cannot say.
func (c *thermometerConfig) Validate() []sdk.Diagnostic {
	if c.Period <= 0 {
		return []sdk.Diagnostic{sdk.Problem("Invalid period", "A period is longer than 0.", "period")}
	}
	return nil
}

type thermometer struct {
	settings sdk.Settings
	config   thermometerConfig
}

func (s *thermometer) flow() sdk.Flow {
	return sdk.Flow{Name: "room", Channels: []sdk.Channel{{Name: "temperature", Type: sdk.Double, Unit: s.config.Unit}}}
}

func (s *thermometer) Discover(context.Context) (sdk.Discovery, error) {
	return sdk.Discovery{Flows: []sdk.Flow{s.flow()}}, nil
}

// Run reads the thermometer until it is told to stop. The gatherer puts readings
// that come close together into one batch.
func (s *thermometer) Run(ctx context.Context, out sdk.Output) error {
	gather := sdk.NewGatherer(out, s.settings.Gather)
	room, err := gather.Announce(s.flow())
	if err != nil {
		return err
	}
	ticker := time.NewTicker(s.config.Period)
	defer ticker.Stop()
	for err == nil {
		select {
		case at := <-ticker.C:
			err = gather.Row(ctx, room, at.UnixNano(), nil, func(b *sdk.Builder) { b.Double(0, 21.5) })
		case <-out.Stopping():
			return gather.Close(ctx)
		}
	}
	return err
}

func (s *thermometer) Shutdown(context.Context) error { return nil }

// A plugin is a value. The main of its program hands it to package serve.
func Example() {
	plugin := sdk.NewSource(
		sdk.Info{Name: "thermometer", Version: "1.0.0", Description: "Reads a thermometer."},
		sdk.SourceCapabilities{},
		thermometerConfig{Period: time.Second, Unit: "degC"}, // the defaults
		func(settings sdk.Settings, c thermometerConfig) (sdk.Source, error) {
			return &thermometer{settings, c}, nil
		},
	)
	for _, a := range plugin.Schema.Attributes {
		fmt.Println(a.Name, "-", a.Description)
	}
	body := sdk.Body{Attributes: map[string]sdk.Value{"period": {Kind: sdk.KindInteger, Integer: -1}}}
	for _, d := range plugin.Validate(body) {
		fmt.Println(d.Path[0].Attribute, "-", d.Summary)
	}
	// Output:
	// period - Time between two readings.
	// unit - Unit of the readings.
	// period - Invalid period
}

// Rows are built one after the other and read by column.
func ExampleBuilder() {
	flow := &sdk.Flow{Name: "engine", Channels: []sdk.Channel{
		{Name: "chamber_temp", Type: sdk.Double, Unit: "degC"},
		{Name: "main_valve", Type: sdk.Bool},
	}}
	rows := sdk.NewBuilder(flow)
	rows.Row(1_000_000)
	rows.Double(0, 712.5)
	rows.Bool(1, true)
	rows.Row(2_000_000)
	rows.Double(0, 713.25) // the valve says nothing

	batch, err := sdk.ParseBatch(flow, rows.Append(nil))
	if err != nil {
		panic(err)
	}
	temp, valve := batch.Column(0), batch.Column(1)
	for row, at := range batch.Times() {
		fmt.Println(at, temp.Doubles()[row], valve.Valid(row))
	}
	// Output:
	// 1000000 712.5 true
	// 2000000 713.25 false
}
