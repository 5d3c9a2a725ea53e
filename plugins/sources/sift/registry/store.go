package registry

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	assetsv1 "github.com/pipelined/pipelined/proto/sift/assets/v1"
	configsv2 "github.com/pipelined/pipelined/proto/sift/ingestion_configs/v2"
	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"
)

// FileName is the name of the database in its directory.
const FileName = "registry.db"

// Bounds of what is kept.
const (
	MaxRecords     = 100_000 // assets, configs and runs, each
	MaxFlows       = 10_000  // of one config
	MaxRecordBytes = 256 << 10
)

// Buckets of the database. An id is a UUID, a number 8 big-endian bytes.
var (
	assets     = []byte("assets")      // id → Asset
	assetNames = []byte("asset_names") // name → id
	configs    = []byte("configs")     // id → IngestionConfig
	configKeys = []byte("config_keys") // client key → id
	flows      = []byte("flows")       // id of a config → number → FlowConfig
	flowNames  = []byte("flow_names")  // id of a config → name → number
	runs       = []byte("runs")        // id → Run
	runKeys    = []byte("run_keys")    // client key → id
)

// Store is the registry of one server.
type Store struct {
	db  *bbolt.DB
	now func() time.Time
}

// Open opens the database in dir, or makes it. It may grow to maxBytes.
func Open(dir string, maxBytes int64) (*Store, error) {
	path := filepath.Join(dir, FileName)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:      time.Second,
		FreelistType: bbolt.FreelistMapType,
		MaxSize:      int(maxBytes),
	})
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, fmt.Errorf("open registry %s: another process uses it", path)
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrChecksum), errors.Is(err, bbolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("open registry %s: %w; move the file away, clients register again by themselves", path, err)
	case err != nil:
		return nil, fmt.Errorf("open registry: %w", err)
	}
	s := &Store{db: db, now: time.Now}
	if err := s.prepare(path); err != nil {
		return nil, errors.Join(fmt.Errorf("open registry %s: %w", path, err), db.Close())
	}
	return s, nil
}

func (s *Store) prepare(path string) error {
	// An older file may have been copied here with other rights.
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{assets, assetNames, configs, configKeys, flows, flowNames, runs, runKeys} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
}

// Close closes the database; calls must not follow.
func (s *Store) Close() error { return s.db.Close() }

// Register adds the services to a server.
func (s *Store) Register(server grpc.ServiceRegistrar) {
	assetsv1.RegisterAssetServiceServer(server, assetService{store: s})
	configsv2.RegisterIngestionConfigServiceServer(server, configService{store: s})
	runsv2.RegisterRunServiceServer(server, runService{store: s})
}

// view and update run a transaction. Errors without a status get one.
func (s *Store) view(do func(*bbolt.Tx) error) error { return withStatus(s.db.View(do)) }

func (s *Store) update(do func(*bbolt.Tx) error) error { return withStatus(s.db.Update(do)) }

func withStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	if errors.Is(err, bbolterrors.ErrMaxSizeReached) {
		return status.Error(codes.ResourceExhausted, "the registry is full; raise max_state of the source")
	}
	return refuse(codes.Internal, "registry: %v", err)
}

// refuse makes a status whose text fits into the trailer of a response.
func refuse(code codes.Code, format string, args ...any) error {
	return status.Error(code, clip(fmt.Sprintf(format, args...), 1024))
}

// quote shows a name in a message for people.
func quote(name string) string { return fmt.Sprintf("%q", clip(name, 100)) }

// load reads the record with an id; it reports whether there is one.
func load(tx *bbolt.Tx, bucket []byte, id string, into proto.Message) (bool, error) {
	raw := tx.Bucket(bucket).Get([]byte(id))
	if id == "" || raw == nil {
		return false, nil
	}
	return true, proto.Unmarshal(raw, into)
}

// create keeps a new record of a kind under a new id, which it returns; the
// record must hold it already when it is given to save.
func create(tx *bbolt.Tx, bucket []byte) (string, error) {
	n, err := tx.Bucket(bucket).NextSequence()
	if err != nil {
		return "", err
	}
	if n > MaxRecords {
		return "", refuse(codes.ResourceExhausted, "there are %d %s; no more are kept", MaxRecords, bucket)
	}
	id, err := uuid.NewV7()
	return id.String(), err
}

// save keeps a record under its id.
func save(tx *bbolt.Tx, bucket []byte, id string, record proto.Message) error {
	raw, err := proto.Marshal(record)
	if err != nil {
		return err
	}
	if len(raw) > MaxRecordBytes {
		return refuse(codes.InvalidArgument, "the record has %d bytes, the limit is %d", len(raw), MaxRecordBytes)
	}
	return tx.Bucket(bucket).Put([]byte(id), raw)
}

// each reads all records of a bucket in the order of their ids.
func each[M any, P interface {
	*M
	proto.Message
}](tx *bbolt.Tx, bucket []byte, do func(P)) error {
	return tx.Bucket(bucket).ForEach(func(_, raw []byte) error {
		record := P(new(M))
		if err := proto.Unmarshal(raw, record); err != nil {
			return err
		}
		do(record)
		return nil
	})
}
