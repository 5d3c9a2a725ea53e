package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "github.com/pipelined/pipelined/proto/pipelined/plugin/v1"
	"github.com/pipelined/pipelined/sdk"
)

// MarshalFlow returns a flow as bytes that outlive this process: the message Flow of
// the plugin contract.
func MarshalFlow(f *sdk.Flow) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(flowToPB(f))
}

// UnmarshalFlow is the inverse of MarshalFlow. The flow has been checked.
func UnmarshalFlow(data []byte) (*sdk.Flow, error) {
	m := new(pb.Flow)
	if err := proto.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("definition of a flow: %w", err)
	}
	f, err := flowFromPB(m)
	if err != nil {
		return nil, fmt.Errorf("definition of a flow: %w", err)
	}
	return f, nil
}
