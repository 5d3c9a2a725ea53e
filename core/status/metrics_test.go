package status

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/core/pipeline"
	"github.com/pipelined/pipelined/core/telemetry"
)

// scrape returns the metrics of statuses as a reader of the text form finds them.
func scrape(t *testing.T, statuses ...pipeline.Status) (map[string]*dto.MetricFamily, string) {
	t.Helper()
	w := &world{}
	w.set(statuses...)
	_, client := startServer(t, w, nil)
	code, body, err := client.Get(limited(t), "/metrics")
	require.NoError(t, err)
	require.Equal(t, 200, code, string(body))
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	require.NoError(t, err)
	return families, string(body)
}

// value returns the sample of a metric with these labels, as in "pipeline=a,flow=b".
func value(t *testing.T, families map[string]*dto.MetricFamily, name, labels string) float64 {
	t.Helper()
	require.Contains(t, families, name)
	for _, m := range families[name].GetMetric() {
		var all []string
		for _, l := range m.GetLabel() {
			all = append(all, l.GetName()+"="+l.GetValue())
		}
		if strings.Join(all, ",") == labels {
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	require.Failf(t, "no sample", "%s{%s}: %v", name, labels, families[name])
	return 0
}

func TestMetrics(t *testing.T) {
	families, _ := scrape(t, full(), calm("other"))
	for _, d := range descriptions() {
		if d.name != "pipelined_message_rate" && d.name != "pipelined_byte_rate" && d.name != "pipelined_time_to_drain_seconds" {
			assert.Contains(t, families, d.name)
		}
	}
	for labels, wanted := range map[string]float64{
		"messages_received_total{flow=imu,pipeline=stand}":                                  100,
		"messages_received_total{flow=car/gps,pipeline=stand}":                              5,
		"messages_accepted_total{flow=imu,pipeline=stand}":                                  80,
		"messages_refused_total{flow=imu,pipeline=stand}":                                   7,
		"messages_dropped_by_source_total{flow=imu,pipeline=stand}":                         1,
		"messages_delivered_total{flow=imu,pipeline=stand,track=sift.main}":                 60,
		"messages_pending{flow=imu,pipeline=stand,track=sift.main}":                         18,
		"messages_filtered_total{flow=imu,pipeline=stand,track=sift.main}":                  1,
		"messages_lost_total{flow=imu,pipeline=stand,track=sift.main}":                      2,
		"messages_sent_total{lane=live,pipeline=stand,track=sift.main}":                     101,
		"messages_sent_total{lane=again,pipeline=stand,track=sift.main}":                    201,
		"checkpoint_count_total{lane=live,pipeline=stand,track=sift.main}":                  120,
		"checkpoint_timer_reached_count_total{lane=live,pipeline=stand,track=sift.main}":    103,
		"checkpoint_manually_reached_count_total{lane=live,pipeline=stand,track=sift.main}": 17,
		"checkpoint_failed_count_total{lane=live,pipeline=stand,track=sift.main}":           106,
		"grpc_status_counts_total{pipeline=stand,status=OK,track=sift.main}":                9,
		"grpc_status_counts_total{pipeline=stand,status=UNAVAILABLE,track=sift.main}":       4,
		"grpc_status_counts_total{pipeline=stand,status=DEADLINE_EXCEEDED,track=sift.main}": 2,
		"grpc_status_counts_total{pipeline=stand,status=PERMISSION_DENIED,track=sift.main}": 0,
		"grpc_status_counts_total{pipeline=stand,status=other,track=sift.main}":             1,
		"grpc_status_counts_total{pipeline=other,status=UNAVAILABLE,track=file.out}":        0,
		"oldest_pending_seconds{pipeline=stand,track=sift.main}":                            300,
		"ingestion_channel_depth{pipeline=stand,track=sift.main}":                           8,
		"backup_channel_depth{pipeline=stand}":                                              9,
		"backups_committed_message_id{pipeline=stand}":                                      950,
		"backups_rotations_total{pipeline=stand}":                                           33,
		"at_risk_messages{pipeline=stand}":                                                  13,
		"unaccounted_messages{pipeline=stand}":                                              3,
		"loaded_flows{pipeline=stand}":                                                      2,
		"state{pipeline=stand,state=stuck}":                                                 1,
		"state{pipeline=stand,state=delivering}":                                            0,
		"state{pipeline=other,state=delivering}":                                            1,
		"stuck{pipeline=stand,track=sift.main}":                                             1,
		"stuck{pipeline=other,track=file.out}":                                              0,
		"time_to_drain_seconds{pipeline=other,track=file.out}":                              0,
		"build_info{version=1.2.3}":                                                         1,
	} {
		name, rest, _ := strings.Cut(labels, "{")
		assert.InDelta(t, wanted, value(t, families, "pipelined_"+name, strings.TrimSuffix(rest, "}")), 1e-9, labels)
	}
	sync := families["pipelined_backups_sync_duration_seconds"].GetMetric()
	require.Len(t, sync, 1, "a pipeline without a backup has no series of it")
	h := sync[0].GetHistogram()
	assert.Equal(t, uint64(2), h.GetSampleCount())
	assert.InDelta(t, 60, h.GetSampleSum(), 0.01)
	require.Len(t, h.GetBucket(), 3)
	assert.Equal(t, []uint64{1, 1, 2}, []uint64{h.GetBucket()[0].GetCumulativeCount(), h.GetBucket()[1].GetCumulativeCount(), h.GetBucket()[2].GetCumulativeCount()})
	assert.Contains(t, families, "go_goroutines")
	assert.Contains(t, families, "process_start_time_seconds")
}

func TestMetricsAreWellFormed(t *testing.T) {
	_, text := scrape(t, full())
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	require.NoError(t, err)
	assert.Equal(t, []promlint.Problem{{ // the name that users know
		Metric: "pipelined_cur_retry_count", Text: `non-histogram and non-summary metrics should not have "_count" suffix`,
	}}, problems)
}

func TestSeriesOfFlowsAreBounded(t *testing.T) {
	s := pipeline.Status{Name: "p", Phase: pipeline.Running, Tracks: []pipeline.TrackStatus{{Name: "t"}}}
	const n = MaxFlows + 500
	for i := range n {
		s.Flows = append(s.Flows, telemetry.FlowTotals{
			Name: fmt.Sprint(i), Received: 2, Refused: map[string]uint64{fmt.Sprint("reason ", i): 1},
			Tracks: []telemetry.TrackTotals{{Track: "t", Delivered: 1}},
		})
	}
	families, _ := scrape(t, s)
	received := families["pipelined_messages_received_total"].GetMetric()
	assert.Len(t, received, MetricFlows+1)
	assert.InDelta(t, 2*(n-MetricFlows), value(t, families, "pipelined_messages_received_total", "flow=other,pipeline=p"), 0)
	assert.InDelta(t, n-MetricFlows, value(t, families, "pipelined_messages_refused_total", "flow=other,pipeline=p"), 0)
	assert.InDelta(t, n-MetricFlows, value(t, families, "pipelined_messages_delivered_total", "flow=other,pipeline=p,track=t"), 0)

	p := convert(s, time.Now())
	require.Len(t, p.Flows, MaxFlows+1)
	other := p.Flows[MaxFlows]
	assert.Equal(t, OtherFlows, other.Name)
	assert.Equal(t, uint64(1000), other.Received)
	assert.Equal(t, uint64(500), telemetry.Sum(other.Refused))
	assert.LessOrEqual(t, len(other.Refused), 101)
	assert.Equal(t, uint64(n), p.Tracks[0].Delivered)
}

// What an earlier run left is as old as this one at least.
func TestAgeOfWhatWasStoredBefore(t *testing.T) {
	now := time.Now()
	s := calm("p")
	s.Started = now.Add(-time.Hour)
	s.Tracks[0].Pending, s.Tracks[0].OldestPending = 5, time.Minute
	assert.Equal(t, Seconds(time.Minute), convert(s, now).Tracks[0].OldestPending)
	s.Flows = append(s.Flows, telemetry.FlowTotals{Name: telemetry.StoredBefore, Tracks: []telemetry.TrackTotals{{Track: "file.out", Pending: 1}}})
	assert.Equal(t, Seconds(time.Hour), convert(s, now).Tracks[0].OldestPending)
}

// Clients choose the names of their flows.
func TestHostileNames(t *testing.T) {
	s := calm("p")
	for _, name := range []string{"", "a\nb", `a"}\ 1`, "\xff\xfe", "ü", "other", "imu"} {
		s.Flows = append(s.Flows, telemetry.FlowTotals{Name: name, Received: 1, Tracks: []telemetry.TrackTotals{{Track: "file.out"}}})
	}
	families, _ := scrape(t, s)
	var names []string
	for _, m := range families["pipelined_messages_received_total"].GetMetric() {
		names = append(names, m.GetLabel()[0].GetValue())
	}
	assert.ElementsMatch(t, []string{"", "a\nb", `a"}\ 1`, "\uFFFD", "ü", "other", "imu"}, names)
	assert.InDelta(t, 11, value(t, families, "pipelined_messages_received_total", "flow=imu,pipeline=p"), 0, "flows of the same name are one")
}

// Two names that a label cannot tell apart are one series: two would be an error.
func TestNamesThatLabelsCannotHold(t *testing.T) {
	s := calm("p")
	for _, name := range []string{"\xff", "\xfe"} {
		s.Flows = append(s.Flows, telemetry.FlowTotals{
			Name: name, Received: 1,
			Tracks: []telemetry.TrackTotals{{Track: "file.out", Lost: map[string]uint64{"not good: " + name: 2}}},
		})
	}
	families, _ := scrape(t, s)
	assert.InDelta(t, 2, value(t, families, "pipelined_messages_received_total", "flow=\uFFFD,pipeline=p"), 0)
	assert.InDelta(t, 4, value(t, families, "pipelined_messages_lost_by_reason_total", "pipeline=p,reason=not good: \uFFFD,track=file.out"), 0)
}

func TestReasonsAreBounded(t *testing.T) {
	s := calm("p")
	lost := map[string]uint64{}
	for i := range 300 {
		lost[fmt.Sprint("reason ", i)] = 1
	}
	s.Flows[0].Tracks[0].Lost = lost
	families, _ := scrape(t, s)
	assert.LessOrEqual(t, len(families["pipelined_messages_lost_by_reason_total"].GetMetric()), 101)
	assert.InDelta(t, 300, value(t, families, "pipelined_messages_lost_total", "flow=imu,pipeline=p,track=file.out"), 0)
	assert.InDelta(t, 200, value(t, families, "pipelined_messages_lost_by_reason_total", "pipeline=p,reason=other,track=file.out"), 0)
}

// docs/metrics.md lists every metric, as it is.
func TestMetricsAreDocumented(t *testing.T) {
	documented := map[string]string{}
	for line := range strings.Lines(repoFile(t, "docs/metrics.md")) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) == 5 && strings.HasPrefix(cells[0], " `pipelined_") {
			for i, c := range cells {
				cells[i] = strings.Trim(c, " `")
				assert.NotEmpty(t, cells[i], line)
			}
			assert.NotContains(t, documented, cells[0])
			documented[cells[0]] = strings.Join([]string{cells[1], strings.ReplaceAll(cells[2], "`", ""), cells[4]}, " | ")
		}
	}
	coded := map[string]string{}
	for _, d := range descriptions() {
		assert.NotContains(t, coded, d.name)
		coded[d.name] = strings.Join([]string{d.kind, strings.Join(d.labels, ", "), d.help}, " | ")
	}
	assert.Equal(t, coded, documented, "%d and %d", len(coded), len(documented))
	text := repoFile(t, "docs/metrics.md")
	for _, name := range slices.Sorted(maps.Keys(coded)) {
		assert.Equal(t, 1, strings.Count(text, "\n| `"+name+"` |"), name)
	}
}

// docs/metrics.md names every field of the JSON form.
func TestStatusIsDocumented(t *testing.T) {
	text := repoFile(t, "docs/metrics.md")
	_, text, found := strings.Cut(text, "\n## Status as JSON\n")
	require.True(t, found)
	var check func(of reflect.Type)
	check = func(of reflect.Type) {
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct || of == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range of.NumField() {
			name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			if name == "" {
				continue // not exported
			}
			documented := strings.Contains(text, "`"+name+"`") || strings.Contains(text, "`"+name+"[]`")
			assert.True(t, documented, "%s of %s", name, of)
			check(of.Field(i).Type)
		}
	}
	check(reflect.TypeFor[Report]())
	for _, state := range States() {
		assert.Contains(t, text, "`"+string(state)+"`")
	}
}
