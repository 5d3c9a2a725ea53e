package main

import (
	ingestionconfig "github.com/pipelined/pipelined/plugins/encoders/ingestion_config"
	"github.com/pipelined/pipelined/plugins/sources/csv"
	"github.com/pipelined/pipelined/plugins/sources/generator"
	"github.com/pipelined/pipelined/plugins/sources/host"
	siftsource "github.com/pipelined/pipelined/plugins/sources/sift"
	"github.com/pipelined/pipelined/plugins/transports/file"
	"github.com/pipelined/pipelined/plugins/transports/parquet"
	sifttransport "github.com/pipelined/pipelined/plugins/transports/sift"
	"github.com/pipelined/pipelined/sdk"
)

// bundled returns the plugins that are part of this binary.
func bundled() []sdk.Plugin {
	return []sdk.Plugin{
		csv.Plugin(),
		generator.Plugin(),
		host.Plugin(),
		siftsource.Plugin(),
		ingestionconfig.Plugin(),
		file.Plugin(),
		parquet.Plugin(),
		sifttransport.Plugin(),
	}
}
