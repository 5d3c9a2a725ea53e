package registry

import (
	"context"
	"strconv"

	"go.etcd.io/bbolt"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	assetsv1 "github.com/pipelined/pipelined/proto/sift/assets/v1"
	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"

	"github.com/pipelined/pipelined/plugins/sources/sift/filter"
)

// runService keeps runs.
type runService struct {
	runsv2.UnimplementedRunServiceServer
	store *Store
}

func loadRun(tx *bbolt.Tx, id string, into *runsv2.Run) error {
	ok, err := load(tx, runs, id, into)
	if err == nil && !ok {
		err = refuse(codes.NotFound, "there is no run %s", quote(id))
	}
	return err
}

// saveRun keeps a run with what follows from its times.
func (s *Store) saveRun(tx *bbolt.Tx, run *runsv2.Run) error {
	run.Duration = nil
	if run.StartTime != nil && run.StopTime != nil {
		length := run.StopTime.AsTime().Sub(run.StartTime.AsTime())
		if length < 0 {
			return refuse(codes.InvalidArgument, "stop_time is before start_time")
		}
		run.Duration = durationpb.New(length)
	}
	run.ModifiedDate = timestamppb.New(s.now())
	return save(tx, runs, run.GetRunId(), run)
}

// claimKey gives a client key to a run.
func claimKey(tx *bbolt.Tx, key, id string) error {
	if owner := tx.Bucket(runKeys).Get([]byte(key)); owner != nil && string(owner) != id {
		return refuse(codes.AlreadyExists, "there is a run with client key %s", quote(key))
	}
	return tx.Bucket(runKeys).Put([]byte(key), []byte(id))
}

func (s runService) GetRun(_ context.Context, in *runsv2.GetRunRequest) (*runsv2.GetRunResponse, error) {
	run := new(runsv2.Run)
	err := s.store.view(func(tx *bbolt.Tx) error { return loadRun(tx, in.GetRunId(), run) })
	if err != nil {
		return nil, err
	}
	return &runsv2.GetRunResponse{Run: run}, nil
}

func (s runService) CreateRun(_ context.Context, in *runsv2.CreateRunRequest) (*runsv2.CreateRunResponse, error) {
	run := &runsv2.Run{
		Name: in.GetName(), Description: in.GetDescription(), Tags: in.GetTags(), Metadata: in.GetMetadata(),
		StartTime: in.GetStartTime(), StopTime: in.GetStopTime(), OrganizationId: in.GetOrganizationId(),
	}
	if key := in.GetClientKey(); key != "" {
		run.ClientKey = proto.String(key)
	}
	if err := checkRun(run); err != nil {
		return nil, err
	}
	err := s.store.update(func(tx *bbolt.Tx) error {
		id, err := create(tx, runs)
		if err != nil {
			return err
		}
		if key := run.GetClientKey(); key != "" {
			if err := claimKey(tx, key, id); err != nil {
				return err
			}
		}
		run.RunId, run.CreatedDate = id, timestamppb.New(s.store.now())
		return s.store.saveRun(tx, run)
	})
	if err != nil {
		return nil, err
	}
	return &runsv2.CreateRunResponse{Run: run}, nil
}

func checkRun(run *runsv2.Run) error {
	if err := checkName("name", run.GetName()); err != nil {
		return err
	}
	if err := checkLength("client_key", run.GetClientKey()); err != nil {
		return err
	}
	if err := checkTags(run.GetTags()); err != nil {
		return err
	}
	if err := checkTime("start_time", run.StartTime); err != nil {
		return err
	}
	if err := checkTime("stop_time", run.StopTime); err != nil {
		return err
	}
	return checkMetadata(run.GetMetadata())
}

func (s runService) UpdateRun(_ context.Context, in *runsv2.UpdateRunRequest) (*runsv2.UpdateRunResponse, error) {
	paths := in.GetUpdateMask().GetPaths()
	if len(paths) == 0 {
		return nil, errNoMask(runMask)
	}
	run := new(runsv2.Run)
	err := s.store.update(func(tx *bbolt.Tx) error {
		if err := loadRun(tx, in.GetRun().GetRunId(), run); err != nil {
			return err
		}
		for _, path := range paths {
			if err := s.store.setRun(tx, run, in.GetRun(), path); err != nil {
				return err
			}
		}
		if err := checkRun(run); err != nil {
			return err
		}
		return s.store.saveRun(tx, run)
	})
	if err != nil {
		return nil, err
	}
	return &runsv2.UpdateRunResponse{Run: run}, nil
}

const runMask = "name, description, start_time, stop_time, is_pinned, client_key, tags, is_archived, metadata"

// setRun takes one field over.
func (s *Store) setRun(tx *bbolt.Tx, run, from *runsv2.Run, path string) error {
	switch path {
	case "name":
		run.Name = from.GetName()
	case "description":
		run.Description = from.GetDescription()
	case "start_time":
		run.StartTime = from.StartTime
	case "stop_time":
		run.StopTime = from.StopTime
	case "is_pinned":
		run.IsPinned = from.GetIsPinned()
	case "tags":
		run.Tags = from.GetTags()
	case "metadata":
		run.Metadata = from.GetMetadata()
	case "is_archived":
		run.ArchivedDate, run.IsArchived = s.archived(run.ArchivedDate, from.GetIsArchived()), from.GetIsArchived()
	case "client_key":
		return setRunKey(tx, run, from.GetClientKey())
	default:
		return errMaskPath(path, runMask)
	}
	return nil
}

// setRunKey sets the client key, which is possible once.
func setRunKey(tx *bbolt.Tx, run *runsv2.Run, key string) error {
	if run.GetClientKey() == key {
		return nil
	}
	if run.GetClientKey() != "" {
		return refuse(codes.InvalidArgument, "the run has the client key %s, which cannot change", quote(run.GetClientKey()))
	}
	if err := checkName("client_key", key); err != nil {
		return err
	}
	run.ClientKey = proto.String(key)
	return claimKey(tx, key, run.GetRunId())
}

func (s runService) StopRun(_ context.Context, in *runsv2.StopRunRequest) (*runsv2.StopRunResponse, error) {
	err := s.store.update(func(tx *bbolt.Tx) error {
		run := new(runsv2.Run)
		if err := loadRun(tx, in.GetRunId(), run); err != nil {
			return err
		}
		now := timestamppb.New(s.store.now())
		if run.StartTime != nil && run.StartTime.AsTime().After(now.AsTime()) {
			now = run.StartTime // its data is stamped in the future
		}
		run.StopTime = now
		return s.store.saveRun(tx, run)
	})
	if err != nil {
		return nil, err
	}
	return &runsv2.StopRunResponse{}, nil
}

func (s runService) ListRuns(_ context.Context, in *runsv2.ListRunsRequest) (*runsv2.ListRunsResponse, error) {
	match, err := parseFilter(in.GetFilter(), runFields())
	if err != nil {
		return nil, err
	}
	page, err := newPage(in.GetPageSize(), in.GetPageToken(), "runs", in.GetFilter(), in.GetOrderBy())
	if err != nil {
		return nil, err
	}
	var all []*runsv2.Run
	err = s.store.view(func(tx *bbolt.Tx) error {
		return each(tx, runs, func(run *runsv2.Run) {
			if match.Match(func(field string) []string { return runField(tx, run, field) }) {
				all = append(all, run)
			}
		})
	})
	if err != nil {
		return nil, err
	}
	if err := sortBy(all, in.GetOrderBy(), runOrder(), (*runsv2.Run).GetRunId); err != nil {
		return nil, err
	}
	items, next, err := cut(page, all, (*runsv2.Run).GetRunId)
	if err != nil {
		return nil, err
	}
	return &runsv2.ListRunsResponse{Runs: items, NextPageToken: next}, nil
}

func (runService) ValidateRunFilter(_ context.Context, in *runsv2.ValidateRunFilterRequest) (*runsv2.ValidateRunFilterResponse, error) {
	out := new(runsv2.ValidateRunFilterResponse)
	if _, err := filter.Parse(in.GetFilter(), runFields()); err != nil {
		out.ErrorMessage = err.Error()
	}
	return out, nil
}

func runFields() filter.Fields {
	return filter.Fields{
		"run_id": filter.String, "organization_id": filter.String, "client_key": filter.String,
		"name": filter.String, "description": filter.String, "is_archived": filter.Bool,
		"asset_id": filter.Strings, "asset_name": filter.Strings,
	}
}

func runField(tx *bbolt.Tx, run *runsv2.Run, field string) []string {
	switch field {
	case "run_id":
		return []string{run.GetRunId()}
	case "organization_id":
		return []string{run.GetOrganizationId()}
	case "client_key":
		return []string{run.GetClientKey()}
	case "name":
		return []string{run.GetName()}
	case "description":
		return []string{run.GetDescription()}
	case "asset_id":
		return run.GetAssetIds()
	case "asset_name":
		var names []string
		for _, id := range run.GetAssetIds() {
			asset := new(assetsv1.Asset)
			if ok, err := load(tx, assets, id, asset); ok && err == nil {
				names = append(names, asset.GetName())
			}
		}
		return names
	default:
		return []string{strconv.FormatBool(run.GetIsArchived())}
	}
}

func runOrder() comparers[*runsv2.Run] {
	return comparers[*runsv2.Run]{
		"name":          by((*runsv2.Run).GetName),
		"description":   by((*runsv2.Run).GetDescription),
		"client_key":    by((*runsv2.Run).GetClientKey),
		"created_date":  byTime((*runsv2.Run).GetCreatedDate),
		"modified_date": byTime((*runsv2.Run).GetModifiedDate),
		"start_time":    byTime((*runsv2.Run).GetStartTime),
		"stop_time":     byTime((*runsv2.Run).GetStopTime),
	}
}
