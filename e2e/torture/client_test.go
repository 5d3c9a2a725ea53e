package torture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	typev1 "github.com/pipelined/pipelined/proto/sift/common/type/v1"
	ingestv1 "github.com/pipelined/pipelined/proto/sift/ingest/v1"
	configsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
)

// client sends numbered rows to the source sift of the host, batch by batch, each in
// a stream of its own, and each again until it is answered with OK.
type client struct {
	address string
	rows    int
	rate    int
	pad     string
	cancel  context.CancelFunc
	done    chan struct{} // closed when all rows were answered with OK

	mu       sync.Mutex
	accepted int // rows answered with OK: those below this number
	refusals map[string]int
}

const clientBatch = 400

// answerTime is how long the reference client waits for an answer.
const answerTime = 10 * time.Second

func startClient(p plan, address string) *client {
	ctx, cancel := context.WithCancel(context.Background())
	c := &client{
		address: address, rows: p.rows, rate: p.rate, pad: strings.Repeat("x", p.pad), cancel: cancel,
		done: make(chan struct{}), refusals: map[string]int{},
	}
	go c.run(ctx)
	return c
}

// stop ends the client and waits for it.
func (c *client) stop() {
	c.cancel()
	<-c.done
}

func (c *client) finished() bool { return c.confirmed() == c.rows }

func (c *client) confirmed() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.accepted
}

func (c *client) run(ctx context.Context) {
	defer close(c.done)
	conn, err := grpc.NewClient("passthrough:///"+c.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		panic(err) // the options are wrong
	}
	defer conn.Close()
	began := time.Now()
	for at := 0; at < c.rows && ctx.Err() == nil; {
		n := min(clientBatch, c.rows-at)
		if err := c.deliver(ctx, conn, at, n); err != nil {
			c.mu.Lock()
			c.refusals[status.Code(err).String()]++
			c.mu.Unlock()
			wait(ctx, 30*time.Millisecond)
			continue
		}
		at += n
		c.mu.Lock()
		c.accepted = at
		c.mu.Unlock()
		wait(ctx, time.Until(began.Add(time.Duration(at)*time.Second/time.Duration(c.rate))))
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// deliver makes the client known and sends rows; nil means that they were answered
// with OK.
func (c *client) deliver(ctx context.Context, conn *grpc.ClientConn, at, n int) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	config, err := c.register(ctx, configsv2.NewIngestionConfigServiceClient(conn))
	if err != nil {
		return err
	}
	stream, err := ingestv1.NewIngestServiceClient(conn).IngestWithConfigDataStream(ctx)
	if err != nil {
		return err
	}
	for i := at; i < at+n; i++ {
		row := &ingestv1.IngestWithConfigDataStreamRequest{
			IngestionConfigId: config, Flow: flowName,
			Timestamp: &timestamppb.Timestamp{Seconds: 1_767_225_600, Nanos: int32(i)},
			ChannelValues: []*ingestv1.IngestWithConfigDataChannelValue{
				{Type: &ingestv1.IngestWithConfigDataChannelValue_Uint64{Uint64: uint64(i)}},
				{Type: &ingestv1.IngestWithConfigDataChannelValue_String_{String_: c.pad}},
			},
		}
		if err := stream.Send(row); err != nil {
			break // the answer says why
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

func (c *client) register(ctx context.Context, configs configsv2.IngestionConfigServiceClient) (string, error) {
	created, err := configs.CreateIngestionConfig(ctx, &configsv2.CreateIngestionConfigRequest{
		AssetName: "client", ClientKey: "client-v1", Flows: []*configsv2.FlowConfig{{
			Name: flowName, Channels: []*configsv2.ChannelConfig{
				{Name: "n", DataType: typev1.ChannelDataType_CHANNEL_DATA_TYPE_UINT_64},
				{Name: "pad", DataType: typev1.ChannelDataType_CHANNEL_DATA_TYPE_STRING},
			},
		}},
	})
	if err == nil {
		return created.GetIngestionConfig().GetIngestionConfigId(), nil
	}
	if status.Code(err) != codes.AlreadyExists {
		return "", err
	}
	list, err := configs.ListIngestionConfigs(ctx, &configsv2.ListIngestionConfigsRequest{Filter: "client_key == 'client-v1'", PageSize: 1})
	if err != nil {
		return "", err
	}
	if len(list.GetIngestionConfigs()) == 0 {
		return "", errors.New("the config is said to exist, and is not listed")
	}
	return list.GetIngestionConfigs()[0].GetIngestionConfigId(), nil
}

func (c *client) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("%d of %d rows answered with OK, others: %v", c.accepted, c.rows, c.refusals)
}
