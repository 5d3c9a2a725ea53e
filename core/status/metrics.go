package status

import (
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"github.com/pipelined/pipelined/sdk"
)

// MetricFlows bounds the flows of a pipeline that have series of their own; the
// others share those with flow="other".
const MetricFlows = 100

// metricsFormat is what is written: the text form 0.0.4, which every reader takes.
func metricsFormat() expfmt.Format { return expfmt.NewFormat(expfmt.TypeTextPlain) }

// collector makes metrics of a report when it is asked for them. It keeps nothing.
type collector struct {
	report func() Report
}

// newRegistry returns a registry with everything that docs/metrics.md lists, and
// those of the Go runtime and the process.
func newRegistry(report func() Report) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collector{report},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return registry
}

// writeMetrics writes all metrics of a registry.
func writeMetrics(out io.Writer, registry prometheus.Gatherer) error {
	families, err := registry.Gather()
	if err != nil {
		return err
	}
	encoder := expfmt.NewEncoder(out, metricsFormat())
	for _, f := range families {
		if err := encoder.Encode(f); err != nil {
			return err
		}
	}
	return nil
}

// description is a metric as docs/metrics.md lists it.
type description struct {
	name, kind string
	labels     []string
	help       string
}

func (d description) desc() *prometheus.Desc {
	return prometheus.NewDesc(d.name, d.help, d.labels, nil)
}

// metric is one metric of a T. It has no sample where value returns NaN.
type metric[T any] struct {
	description
	value func(T) float64
}

// descriptions returns all metrics of a Report.
func descriptions() []description {
	return slices.Concat(
		describe(pipelineMetrics()), describe(flowMetrics()), describe(accountMetrics()),
		describe(trackMetrics()), describe(laneMetrics()), describe(backupMetrics()),
		[]description{buildInfo(), stateMetric(), lostMetric(), streamsMetric(), checkpointTime(), syncTime()},
	)
}

func describe[T any](metrics []metric[T]) []description {
	var out []description
	for _, m := range metrics {
		out = append(out, m.description)
	}
	return out
}

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range descriptions() {
		out <- d.desc()
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	report := c.report()
	send(out, buildInfo(), 1, report.Version)
	for _, p := range report.Pipelines {
		collectPipeline(out, p)
	}
}

func collectPipeline(out chan<- prometheus.Metric, p Pipeline) {
	sendAll(out, pipelineMetrics(), p, p.Name)
	for _, state := range States() {
		send(out, stateMetric(), truth(state == p.State), p.Name, string(state))
	}
	for _, f := range labelledFlows(p.Flows) {
		sendAll(out, flowMetrics(), f, p.Name, f.Name)
		for _, t := range f.Tracks {
			sendAll(out, accountMetrics(), t, p.Name, t.Track, f.Name)
		}
	}
	for i, t := range p.Tracks {
		sendAll(out, trackMetrics(), t, p.Name, t.Name)
		for reason, n := range lostByReason(p, i) {
			send(out, lostMetric(), float64(n), p.Name, t.Name, reason)
		}
		collectStreams(out, p.Name, t)
		collectLane(out, p.Name, t.Name, "live", t.Live)
		collectLane(out, p.Name, t.Name, "again", t.Again)
	}
	if p.Backup != nil {
		sendAll(out, backupMetrics(), *p.Backup, p.Name)
		sendDurations(out, syncTime(), p.Backup.Sync, p.Name)
	}
}

func collectLane(out chan<- prometheus.Metric, pipeline, track, name string, l Lane) {
	sendAll(out, laneMetrics(), l, pipeline, track, name)
	sendDurations(out, checkpointTime(), l.Checkpoint, pipeline, track, name)
}

// collectStreams counts ended streams by status. All codes of gRPC are always there.
func collectStreams(out chan<- prometheus.Metric, pipeline string, t Track) {
	const codes, other = 17, "other"
	counts := map[string]uint64{other: 0}
	for code := range uint32(codes) {
		counts[sdk.StatusName(code)] = 0
	}
	for name, n := range t.Streams {
		if _, known := counts[name]; !known {
			name = other
		}
		counts[name] += n
	}
	for name, n := range counts {
		send(out, streamsMetric(), float64(n), pipeline, t.Name, name)
	}
}

// lostByReason sums up what a track has lost, by reasons as labels hold them.
func lostByReason(p Pipeline, track int) map[string]uint64 {
	var sum map[string]uint64
	for _, f := range p.Flows {
		lost := map[string]uint64{}
		for reason, n := range f.Tracks[track].Lost {
			lost[valid(clip(reason))] += n
		}
		sum = sumOf(sum, lost)
	}
	return sum
}

// labelledFlows returns the flows as their label names them: those with the same
// name are one, and those beyond MetricFlows as well.
func labelledFlows(flows []Flow) []Flow {
	var out []Flow
	index := map[string]int{}
	for _, f := range flows {
		name := f.Name
		if f.Asset != "" {
			name = f.Asset + "/" + name
		}
		name = valid(name)
		if _, known := index[name]; !known && len(index) >= MetricFlows {
			name = OtherFlows
		}
		i, known := index[name]
		if !known {
			i = len(out)
			index[name] = i
			out = append(out, Flow{Name: name, Tracks: make([]FlowTrack, len(f.Tracks))})
			for j, t := range f.Tracks {
				out[i].Tracks[j].Track = t.Track
			}
		}
		out[i].add(f)
	}
	return out
}

func sendAll[T any](out chan<- prometheus.Metric, metrics []metric[T], of T, labels ...string) {
	for _, m := range metrics {
		if v := m.value(of); !math.IsNaN(v) {
			send(out, m.description, v, labels...)
		}
	}
}

func send(out chan<- prometheus.Metric, d description, value float64, labels ...string) {
	kind := prometheus.GaugeValue
	if d.kind == counter {
		kind = prometheus.CounterValue
	}
	m, err := prometheus.NewConstMetric(d.desc(), kind, value, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(d.desc(), err)
	}
	out <- m
}

func sendDurations(out chan<- prometheus.Metric, d description, durations Durations, labels ...string) {
	buckets := map[float64]uint64{}
	sum := uint64(0)
	for i, bound := range durations.Bounds {
		sum += durations.Counts[i]
		buckets[time.Duration(bound).Seconds()] = sum
	}
	m, err := prometheus.NewConstHistogram(d.desc(), durations.Count, time.Duration(durations.Sum).Seconds(), buckets, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(d.desc(), err)
	}
	out <- m
}

// valid replaces what a label cannot hold. Names that are the same after it share
// their series, so they are summed up behind it.
func valid(label string) string { return strings.ToValidUTF8(label, "\uFFFD") }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
