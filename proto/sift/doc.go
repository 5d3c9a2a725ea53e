// Package sift holds no code: its folders describe the ingestion API of the
// Sift service, as far as telemetry is concerned, one folder for each proto
// package. Names and numbers are the service's and never change; the comments
// are ours. The tests here hold the descriptions against the facts in
// testdata/wire.txt and against known bytes.
//
// Not described: AssetService.DeleteAsset, whose messages are not known, and
// what later revisions of the service added to list the fields of filters.
package sift
