package registry

import (
	"slices"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/types/known/timestamppb"

	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"
)

// Ingested is what came in for a run.
type Ingested struct {
	Least, Greatest int64 // stamps in ns since the Unix epoch; none while Least > Greatest
	AssetIDs        []string
}

// Ingested widens runs, by id, to what came in for them. A run that is known to
// cover it is not written again.
func (s *Store) Ingested(all map[string]*Ingested) error {
	changes := false
	err := s.view(func(tx *bbolt.Tx) error {
		for id, in := range all {
			run := new(runsv2.Run)
			if err := loadRun(tx, id, run); err != nil {
				return err
			}
			changes = widen(run, in) || changes
		}
		return nil
	})
	if err != nil || !changes {
		return err
	}
	return s.update(func(tx *bbolt.Tx) error {
		for id, in := range all {
			run := new(runsv2.Run)
			if err := loadRun(tx, id, run); err != nil {
				return err
			}
			if !widen(run, in) {
				continue
			}
			if err := s.saveRun(tx, run); err != nil {
				return err
			}
		}
		return nil
	})
}

// widen reports whether the run changed.
func widen(run *runsv2.Run, in *Ingested) bool {
	if in.Least > in.Greatest {
		return false // no row was taken
	}
	changed := false
	if least := time.Unix(0, in.Least); run.StartTime == nil || least.Before(run.StartTime.AsTime()) {
		run.StartTime, changed = timestamppb.New(least), true
	}
	if greatest := time.Unix(0, in.Greatest); run.StopTime == nil || greatest.After(run.StopTime.AsTime()) {
		run.StopTime, changed = timestamppb.New(greatest), true
	}
	for _, id := range in.AssetIDs {
		if !slices.Contains(run.AssetIds, id) {
			run.AssetIds, changed = append(run.AssetIds, id), true
		}
	}
	return changed
}
