package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
)

// What one stream may announce. It bounds what a plugin can make the host keep.
const (
	maxFlows             = 1 << 20
	maxFlowChannels      = 2 << 20 // of all flows together
	maxAnnouncementBytes = 128 << 20
)

func flowToPB(f *sdk.Flow) *pb.Flow {
	out := &pb.Flow{
		Name:               f.Name,
		StrictlyIncreasing: f.StrictlyIncreasing,
		Channels:           make([]*pb.Channel, len(f.Channels)),
	}
	if f.Origin != (sdk.Origin{}) {
		out.Origin = &pb.Origin{Asset: f.Origin.Asset, ClientKey: f.Origin.ClientKey, Run: f.Origin.Run}
	}
	for i := range f.Channels {
		out.Channels[i] = channelToPB(&f.Channels[i])
	}
	return out
}

func channelToPB(c *sdk.Channel) *pb.Channel {
	out := &pb.Channel{Name: c.Name, Type: pb.ChannelType(c.Type), Unit: c.Unit, Description: c.Description}
	for _, e := range c.Enum {
		out.EnumValues = append(out.EnumValues, &pb.EnumValue{Name: e.Name, Key: e.Key, IsSigned: e.Signed})
	}
	for _, e := range c.BitField {
		out.BitFieldElements = append(out.BitFieldElements,
			&pb.BitFieldElement{Name: e.Name, Index: e.Index, BitCount: e.BitCount})
	}
	return out
}

// flowFromPB returns a checked flow.
func flowFromPB(f *pb.Flow) (*sdk.Flow, error) {
	if len(f.GetChannels()) > sdk.MaxChannels {
		return nil, fmt.Errorf("flow %s has %d channels, the limit is %d",
			shorten(f.GetName()), len(f.GetChannels()), sdk.MaxChannels)
	}
	o := f.GetOrigin()
	out := &sdk.Flow{
		Origin:             sdk.Origin{Asset: o.GetAsset(), ClientKey: o.GetClientKey(), Run: o.GetRun()},
		Name:               f.GetName(),
		StrictlyIncreasing: f.GetStrictlyIncreasing(),
		Channels:           make([]sdk.Channel, len(f.GetChannels())),
	}
	for i, c := range f.GetChannels() {
		if c.GetType() < pb.ChannelType_CHANNEL_TYPE_UNSPECIFIED || c.GetType() > pb.ChannelType_CHANNEL_TYPE_BYTES {
			return nil, fmt.Errorf("channel %s has unknown type %d", shorten(c.GetName()), c.GetType())
		}
		out.Channels[i] = channelFromPB(c)
	}
	return out, out.Check()
}

func channelFromPB(c *pb.Channel) sdk.Channel {
	out := sdk.Channel{
		Name:        c.GetName(),
		Type:        sdk.ChannelType(c.GetType()),
		Unit:        c.GetUnit(),
		Description: c.GetDescription(),
	}
	for _, e := range c.GetEnumValues() {
		out.Enum = append(out.Enum, sdk.EnumValue{Name: e.GetName(), Key: e.GetKey(), Signed: e.GetIsSigned()})
	}
	for _, e := range c.GetBitFieldElements() {
		out.BitField = append(out.BitField,
			sdk.BitFieldElement{Name: e.GetName(), Index: e.GetIndex(), BitCount: e.GetBitCount()})
	}
	return out
}

// announcement makes the message that gives a flow its number.
func announcement(number uint32, f *sdk.Flow) (*pb.FlowAnnouncement, error) {
	fingerprint := f.Fingerprint()
	out := &pb.FlowAnnouncement{Number: number, Flow: flowToPB(f), Fingerprint: fingerprint[:]}
	if size := proto.Size(out); size > maxMessageBytes-64 {
		return nil, fmt.Errorf("definition of flow %s has %d bytes, the limit is %d", shorten(f.Name), size, maxMessageBytes-64)
	}
	return out, nil
}

// flowTable holds the flows of one stream by their numbers.
type flowTable struct {
	flows    []*sdk.Flow // number 1 first
	channels int
	bytes    int
}

// add checks an announcement from the other side and keeps its flow.
func (t *flowTable) add(a *pb.FlowAnnouncement) (*sdk.Flow, sdk.Fingerprint, error) {
	var none sdk.Fingerprint
	if want := uint32(len(t.flows) + 1); a.GetNumber() != want {
		return nil, none, fmt.Errorf("flow %s announced with number %d, want %d",
			shorten(a.GetFlow().GetName()), a.GetNumber(), want)
	}
	t.bytes += proto.Size(a)
	t.channels += len(a.GetFlow().GetChannels())
	if len(t.flows) >= maxFlows || t.channels > maxFlowChannels || t.bytes > maxAnnouncementBytes {
		return nil, none, fmt.Errorf("%d flows with %d channels in %d bytes announced, the limits are %d, %d and %d",
			len(t.flows)+1, t.channels, t.bytes, maxFlows, maxFlowChannels, maxAnnouncementBytes)
	}
	flow, err := flowFromPB(a.GetFlow())
	if err != nil {
		return nil, none, err
	}
	fingerprint := flow.Fingerprint()
	if string(a.GetFingerprint()) != string(fingerprint[:]) {
		return nil, none, fmt.Errorf("flow %s announced with fingerprint %x, its own is %s",
			shorten(flow.Name), a.GetFingerprint(), fingerprint)
	}
	t.flows = append(t.flows, flow)
	return flow, fingerprint, nil
}

// get returns the flow with a number that was announced.
func (t *flowTable) get(number uint32) (*sdk.Flow, error) {
	if number == 0 || int64(number) > int64(len(t.flows)) {
		return nil, fmt.Errorf("flow %d was not announced", number)
	}
	return t.flows[number-1], nil
}
