package sift

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/internal/sifttest"
	runsv2 "github.com/pipelined/pipelined/proto/sift/runs/v2"
	"github.com/pipelined/pipelined/sdk"
)

func TestBlankNames(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{})
	tr, _ := newTransport(t, server)
	for _, r := range []sdk.Registration{
		{Asset: " ", ClientKey: "k"},
		{Asset: "a", ClientKey: "\t"},
		{Asset: "a", ClientKey: "k", Run: sdk.Run{Name: "only a name"}},
		{Asset: "a", ClientKey: "k", Run: sdk.Run{ClientKey: "only a key"}},
		{Asset: "a", ClientKey: "k", Run: sdk.Run{Name: "n", ClientKey: "k", Metadata: []sdk.Metadata{{Name: "m", Value: 1}}}},
		{Asset: "a", ClientKey: "k", AssetMetadata: []sdk.Metadata{{Name: "m", Value: nil}}},
	} {
		_, err := tr.Register(t.Context(), r)
		requireFailure(t, err, sdk.ClassPermanent, invalidArgument)
	}
	assert.Empty(t, server.Runs())
}

func TestRuns(t *testing.T) {
	metadata := []sdk.Metadata{{Name: "number", Value: 1.5}, {Name: "flag", Value: true}, {Name: "text", Value: "t"}}
	full := sdk.Run{Name: "hotfire", ClientKey: "hotfire-1", Description: "d", Tags: []string{"a", "b"}, Metadata: metadata}
	var seen calls
	server := sifttest.New(t, sifttest.Options{Intercept: seen.intercept})
	tr, _ := newTransport(t, server)
	register := func(run sdk.Run) string {
		t.Helper()
		r := registration()
		r.Run = run
		got, err := tr.Register(t.Context(), r)
		require.NoError(t, err)
		return got.Binding.RunID
	}
	id := register(full)
	run := server.Runs()[0]
	assert.Equal(t, "hotfire", run.GetName())
	assert.Equal(t, "d", run.GetDescription())
	assert.Equal(t, []string{"a", "b"}, run.GetTags())
	assert.Len(t, run.GetMetadata(), 3)
	assert.Nil(t, run.GetStartTime())

	for _, same := range []sdk.Run{
		full,
		{ID: id},
		{Name: "hotfire", ClientKey: "hotfire-1"},
		{Name: "hotfire", ClientKey: "hotfire-1", Tags: []string{"b"}},
		{Name: "hotfire", ClientKey: "hotfire-1", Metadata: []sdk.Metadata{metadata[2], metadata[0], metadata[1]}},
	} {
		assert.Equal(t, id, register(same))
	}
	assert.Equal(t, 1, seen.count(createRun))
	assert.Zero(t, seen.count(updateRun), "nothing changed")

	for i, change := range []struct {
		run   sdk.Run
		check func(*runsv2.Run) bool
	}{
		{sdk.Run{Name: "renamed", ClientKey: "hotfire-1"}, func(r *runsv2.Run) bool { return r.GetName() == "renamed" && r.GetDescription() == "d" }},
		{sdk.Run{Name: "renamed", ClientKey: "hotfire-1", Description: "e"}, func(r *runsv2.Run) bool { return r.GetDescription() == "e" }},
		{sdk.Run{Name: "renamed", ClientKey: "hotfire-1", Tags: []string{"b", "c"}}, func(r *runsv2.Run) bool { return len(r.GetTags()) == 2 && r.GetTags()[1] == "c" }},
		{sdk.Run{Name: "renamed", ClientKey: "hotfire-1", Metadata: metadata[:1]}, func(r *runsv2.Run) bool { return len(r.GetMetadata()) == 1 && len(r.GetTags()) == 2 }},
		{sdk.Run{Name: "renamed", ClientKey: "hotfire-1", Metadata: []sdk.Metadata{{Name: "number", Value: "1.5"}}}, func(r *runsv2.Run) bool { return r.GetMetadata()[0].GetStringValue() == "1.5" }},
	} {
		assert.Equal(t, id, register(change.run))
		assert.Equal(t, i+1, seen.count(updateRun))
		assert.True(t, change.check(server.Runs()[0]), "change %d", i)
	}
	assert.Len(t, server.Runs(), 1)
}

func TestAssetProperties(t *testing.T) {
	var seen calls
	server := sifttest.New(t, sifttest.Options{Intercept: seen.intercept})
	tr, _ := newTransport(t, server)
	r := registration()
	r.AssetTags = []string{"b", "a"}
	r.AssetMetadata = []sdk.Metadata{{Name: "site", Value: "north"}}
	for range 2 {
		_, err := tr.Register(t.Context(), r)
		require.NoError(t, err)
	}
	assert.Equal(t, 1, seen.count(updateAsset))
	assert.Equal(t, []string{"b", "a"}, server.Assets()[0].GetTags())
	assert.Equal(t, "north", server.Assets()[0].GetMetadata()[0].GetStringValue())

	r.AssetTags = []string{"a"} // replaces
	_, err := tr.Register(t.Context(), r)
	require.NoError(t, err)
	assert.Equal(t, []string{"a"}, server.Assets()[0].GetTags())
	assert.Len(t, server.Assets()[0].GetMetadata(), 1)
}

// TestOtherIDs: ids need not have the usual length.
func TestOtherIDs(t *testing.T) {
	server := sifttest.New(t, sifttest.Options{NewID: func(kind string, n int) string { return fmt.Sprint(kind, n) }})
	tr, _ := newTransport(t, server)
	got, err := tr.Register(t.Context(), registration(testFlow("a", "x")))
	require.NoError(t, err)
	assert.Equal(t, "config1", got.Binding.ConfigID)
}
