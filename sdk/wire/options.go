package wire

import (
	"google.golang.org/grpc"

	"github.com/pipelined/pipelined/sdk"
)

// Limits of messages and windows in bytes.
const (
	// A message is a payload and its header, or the announcement of a flow.
	maxMessageBytes = sdk.MaxPayloadBytes + 1<<20
	// Register and Discover carry many flows at once.
	maxFlowsBytes = 64 << 20

	// Windows are static: grpc-go would otherwise probe with a ping for each read.
	streamWindow = 1 << 20
	connWindow   = 2 << 20
	bufferBytes  = 64 << 10
)

// ServerOptions returns the gRPC options of a plugin's server, without its
// credentials.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxFlowsBytes),
		grpc.MaxSendMsgSize(maxFlowsBytes),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connWindow),
		grpc.ReadBufferSize(bufferBytes),
		grpc.WriteBufferSize(bufferBytes),
	}
}

// DialOptions returns the gRPC options of the host, without its credentials.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(maxMessageBytes),
			grpc.MaxCallSendMsgSize(maxFlowsBytes),
		),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(connWindow),
		grpc.WithReadBufferSize(bufferBytes),
		grpc.WithWriteBufferSize(bufferBytes),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		grpc.WithDisableRetry(),
	}
}
