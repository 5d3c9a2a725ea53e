package sift

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	metadatav1 "github.com/pipelined/pipelined/proto/sift/metadata/v1"
	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"
	"github.com/pipelined/pipelined/sdk"
)

// run returns the id of the run: of one that exists, or is made or brought up to
// date by its client key; empty for no run.
func (g *registrar) run(ctx context.Context, r sdk.Run) (string, error) {
	switch {
	case r.ID != "":
		answer, err := call(ctx, g, fmt.Sprintf("attach to run %.100q", r.ID), g.runs.GetRun, &runsv2.GetRunRequest{RunId: r.ID})
		return answer.GetRun().GetRunId(), err
	case r.Name == "" && r.ClientKey == "":
		return "", nil
	case strings.TrimSpace(r.Name) == "" || strings.TrimSpace(r.ClientKey) == "":
		return "", unsendable(errors.New("a run needs both name and client key, or an id"))
	}
	metadata, err := metadataValues(r.Metadata)
	if err != nil {
		return "", unsendable(fmt.Errorf("run metadata: %w", err))
	}
	run, err := g.findRun(ctx, r.ClientKey)
	if err != nil {
		return "", err
	}
	if run == nil {
		run, err = g.createRun(ctx, r, metadata)
		if codeOf(err) == codes.AlreadyExists { // somebody was faster
			run, err = g.findRun(ctx, r.ClientKey)
			if err == nil && run == nil {
				err = sdk.Retry(fmt.Errorf("find run: the destination has client key %.100q and does not list it", r.ClientKey), 0)
			}
		}
		if err != nil {
			return "", err
		}
	}
	return run.GetRunId(), g.updateRun(ctx, run, r, metadata)
}

// findRun returns nil if there is none.
func (g *registrar) findRun(ctx context.Context, clientKey string) (*runsv2.Run, error) {
	answer, err := call(ctx, g, "find run", g.runs.ListRuns, &runsv2.ListRunsRequest{
		Filter: equals("client_key", clientKey), PageSize: 10,
	})
	runs := answer.GetRuns()
	i := slices.IndexFunc(runs, func(r *runsv2.Run) bool { return r.GetClientKey() == clientKey })
	if err != nil || i < 0 {
		return nil, err
	}
	return runs[i], nil
}

func (g *registrar) createRun(ctx context.Context, r sdk.Run, metadata []*metadatav1.MetadataValue) (*runsv2.Run, error) {
	answer, err := call(ctx, g, "create run", g.runs.CreateRun, &runsv2.CreateRunRequest{
		Name: r.Name, Description: r.Description, Tags: r.Tags, ClientKey: &r.ClientKey, Metadata: metadata,
	})
	return answer.GetRun(), err
}

// updateRun changes what is given and differs.
func (g *registrar) updateRun(ctx context.Context, run *runsv2.Run, r sdk.Run, metadata []*metadatav1.MetadataValue) error {
	mask := new(fieldmaskpb.FieldMask)
	if run.GetName() != r.Name {
		run.Name = r.Name
		mask.Paths = append(mask.Paths, "name")
	}
	if r.Description != "" && run.GetDescription() != r.Description {
		run.Description = r.Description
		mask.Paths = append(mask.Paths, "description")
	}
	// Tags that somebody added there are left alone.
	lacks := func(tag string) bool { return !slices.Contains(run.GetTags(), tag) }
	if slices.ContainsFunc(r.Tags, lacks) {
		run.Tags = r.Tags
		mask.Paths = append(mask.Paths, "tags")
	}
	if len(metadata) > 0 && !sameMetadata(run.GetMetadata(), metadata) {
		run.Metadata = metadata
		mask.Paths = append(mask.Paths, "metadata")
	}
	if len(mask.Paths) == 0 {
		return nil
	}
	_, err := call(ctx, g, "update run", g.runs.UpdateRun, &runsv2.UpdateRunRequest{Run: run, UpdateMask: mask})
	return err
}
