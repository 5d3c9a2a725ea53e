package pipeline

import (
	"github.com/pipelined/pipelined/core/config"
	"github.com/pipelined/pipelined/sdk"
)

// Registration describes flows of one origin to the destination of a transport, as
// its pipeline does.
func Registration(p *config.Pipeline, t *config.Transport, flows []sdk.Flow) sdk.Registration {
	origin := flows[0].Origin
	r := sdk.Registration{Asset: origin.Asset, ClientKey: origin.ClientKey}
	if origin.Run != "" {
		r.Run = sdk.Run{Name: origin.Run, ClientKey: origin.Run}
	}
	if origin == (sdk.Origin{}) {
		r.Asset, r.ClientKey, r.Run = p.Asset, clientKey(p), p.Run
		r.AssetTags, r.AssetMetadata = p.AssetTags, p.AssetMetadata
	}
	for _, f := range flows {
		r.Flows = append(r.Flows, visibleFlow(t, f))
	}
	return r
}

// visibleFlow returns a flow with the channel names that the destination shall see.
func visibleFlow(t *config.Transport, f sdk.Flow) sdk.Flow {
	qualified := t.ChannelNames == config.ChannelNamesQualified ||
		t.ChannelNames == config.ChannelNamesAuto && f.Origin == (sdk.Origin{}) &&
			t.Description.Transport.Input == sdk.InputEncoded
	if !qualified {
		return f
	}
	channels := make([]sdk.Channel, len(f.Channels))
	for i, c := range f.Channels {
		c.Name = f.Name + "." + c.Name
		channels[i] = c
	}
	f.Channels = channels
	return f
}
