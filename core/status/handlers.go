package status

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pipelined/pipelined/core/telemetry"
)

// waitInterval is how often the server looks whether what somebody waits for is true.
const waitInterval = 100 * time.Millisecond

// WaitDelivered is the value of the parameter wait: the answer comes when everything
// is delivered that was received before the question, or cannot be any more.
const WaitDelivered = "delivered"

func (s *Server) everything() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /status", s.status)
	return withoutBody(mux)
}

func (s *Server) metricsOnly() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", s.metrics)
	return withoutBody(mux)
}

// withoutBody reads no body of a request.
func withoutBody(h http.Handler) http.Handler { return http.MaxBytesHandler(h, 0) }

func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	var text bytes.Buffer
	if err := writeMetrics(&text, s.registry); err != nil {
		s.config.Logger.Warn("metrics cannot be told", "error", err)
		http.Error(w, "metrics cannot be told; the log says why", http.StatusInternalServerError)
		return
	}
	answer(w, http.StatusOK, string(metricsFormat()), text.Bytes())
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, plainText, []byte("ok\n"))
}

const plainText = "text/plain; charset=utf-8"

// readyz says whether all pipelines do what they should, and else why not.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	var reasons []string
	for _, p := range s.report().Pipelines {
		if !ready(p) {
			reasons = append(reasons, fmt.Sprintf("%s: %s", p.Name, p.Sentence))
		}
	}
	if len(reasons) > 0 {
		answer(w, http.StatusServiceUnavailable, plainText, []byte(strings.Join(reasons, "\n")+"\n"))
		return
	}
	answer(w, http.StatusOK, plainText, []byte("ready\n"))
}

// ready reports whether a pipeline takes data, or has done so to the end.
func ready(p Pipeline) bool {
	switch p.State {
	case Delivering, Behind, Retrying:
		return p.Backup == nil || p.Backup.Trouble == ""
	case Waiting: // for the destination of new flows; the others go on
		return p.Backup != nil && p.Backup.Trouble == ""
	case Finished:
		return true
	}
	return false
}

// status answers with the report, on some pipelines if they are named. With
// wait=delivered the answer comes when all of them have delivered.
func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	names, wait := query["pipeline"], query.Get("wait")
	if wait != "" && wait != WaitDelivered {
		http.Error(w, fmt.Sprintf("wait=%q: only %q can be waited for", wait, WaitDelivered), http.StatusBadRequest)
		return
	}
	report := s.report()
	if unknown := report.unknown(names); unknown != "" {
		http.Error(w, unknown, http.StatusNotFound)
		return
	}
	if wait != "" {
		if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil {
			s.config.Logger.Debug("a connection without deadlines", "error", err)
		}
		report = s.awaitDelivered(r, names)
	}
	report.keep(names)
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, http.StatusOK, "application/json", append(text, '\n'))
}

// awaitDelivered returns the report once it answers whether all is delivered.
func (s *Server) awaitDelivered(r *http.Request, names []string) Report {
	began := time.Now()
	ticker := time.NewTicker(waitInterval)
	defer ticker.Stop()
	for last := false; ; {
		report := s.report()
		report.keep(names)
		delivered, final := progressOf(report, report.Time.Sub(began))
		report.Delivered = &delivered
		if delivered || final || last {
			return report
		}
		select {
		case <-ticker.C:
		case <-s.closing:
			last = true // the host has ended; once more, for how it did
		case <-r.Context().Done():
			return report
		}
	}
}

// progressOf says whether everything is delivered that was received more than this
// time ago, and whether that will not change any more.
func progressOf(r Report, ago time.Duration) (delivered, final bool) {
	delivered, final = true, true
	for _, p := range r.Pipelines {
		delivered = delivered && p.hasDelivered(ago)
		final = final && p.phase == string(Finished)
	}
	return delivered, final
}

func (p *Pipeline) hasDelivered(ago time.Duration) bool {
	if p.phase == string(Starting) {
		return false
	}
	none := func(messages uint64, oldest Seconds) bool {
		return messages == 0 || oldest > 0 && time.Duration(oldest) < ago
	}
	for i, t := range p.Tracks {
		// What an earlier run left is older than any question, whatever age it is told with.
		if !none(t.Pending, t.OldestPending) || len(t.Unbound) > 0 || p.storedBefore(i) > 0 {
			return false
		}
	}
	return none(max(p.AtRisk.Messages, p.open()), p.AtRisk.Oldest)
}

// storedBefore counts what an earlier run has left for a track.
func (p *Pipeline) storedBefore(track int) uint64 {
	n := uint64(0)
	for _, f := range p.Flows {
		if f.Name == telemetry.StoredBefore {
			n += f.Tracks[track].Pending
		}
	}
	return n
}

// open counts what was received and is neither accepted nor refused.
func (p *Pipeline) open() uint64 {
	n := uint64(0)
	for _, f := range p.Flows {
		settled := f.Accepted
		for _, refused := range f.Refused {
			settled += refused
		}
		n += f.Received - min(f.Received, settled)
	}
	return n
}

// unknown returns a sentence on the names that no pipeline has; empty: there is none.
func (r *Report) unknown(names []string) string {
	var known []string
	for _, p := range r.Pipelines {
		known = append(known, p.Name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return fmt.Sprintf("there is no pipeline %.100q; there are: %s", name, strings.Join(known, ", "))
		}
	}
	return ""
}

// keep drops all pipelines but those with these names; none keeps all.
func (r *Report) keep(names []string) {
	if len(names) > 0 {
		r.Pipelines = slices.DeleteFunc(r.Pipelines, func(p Pipeline) bool { return !slices.Contains(names, p.Name) })
	}
}

func answer(w http.ResponseWriter, code int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(body) // nobody to tell if the client is gone
}
