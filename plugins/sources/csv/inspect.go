package csv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"

	"github.com/pipelined/pipelined/plugins/sources/csv/jsonline"
	"github.com/pipelined/pipelined/plugins/sources/csv/record"
	"github.com/pipelined/pipelined/sdk"
)

// How much of a file is looked at to find the types of its columns.
const (
	sampleRows  = 1000
	sampleBytes = 16 << 20
)

// inspect returns the schema of a file from its first rows. It is nil if there is
// nothing to tell it from, yet or at all.
func inspect(ctx context.Context, s *spec, m memory, log *slog.Logger) (*schema, error) {
	in, err := openStream(s)
	if s.follow && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer in.close()
	content, err := in.content(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	i := inspection{spec: s, reader: record.NewReader(content, s.delimiter, record.Start(), !s.follow)}
	header, err := readHeader(i.reader, s)
	i.header = header
	switch {
	case errors.Is(err, io.EOF) && s.follow:
		return nil, nil
	case errors.Is(err, io.EOF) && s.header && !s.ndjson:
		return nil, fmt.Errorf("%s ends before its header; without a header set header to false", s.path)
	case errors.Is(err, io.EOF) && s.skip > 0:
		return nil, fmt.Errorf("%s ends before the %d lines that skip_lines says", s.path, s.skip)
	case err != nil && !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	known := m.load(s, header)
	if err := i.begin(known); err != nil {
		return nil, err
	}
	if err := i.sample(ctx); err != nil {
		return nil, err
	}
	return i.finish(m, known, log)
}

// inspection reads the first rows of a file.
type inspection struct {
	spec   *spec
	reader *record.Reader
	header []string // as it stands in the file
	table  *table   // nil as long as the number of columns is not known

	evidence      []evidence
	rows, refused int
	problem       string // of the first row that was refused
}

// begin prepares what rows are held against.
func (i *inspection) begin(known []inferred) error {
	if !i.spec.ndjson && i.header == nil {
		return nil // the first row tells
	}
	var err error
	if i.table, err = newTable(i.spec, i.header); err != nil || !i.spec.ndjson {
		return err
	}
	for _, k := range known {
		if path, err := jsonline.ParsePath(k.Column); err == nil {
			i.table.tree.AddLearned(path)
		}
	}
	if known == nil && !i.spec.onlyDeclared {
		i.table.tree.Learn(sdk.MaxChannels)
	}
	return nil
}

func (i *inspection) sample(ctx context.Context) error {
	bytes := 0
	for i.rows+i.refused < sampleRows && bytes < sampleBytes {
		rec, err := i.reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && i.rows > 0 && ctx.Err() == nil {
			break // what can be read is read later, and then the error is met again
		}
		if err != nil {
			return fmt.Errorf("%s: %w", i.spec.path, err)
		}
		bytes += len(rec.Text)
		if i.table == nil && rec.Problem == "" {
			if i.table, err = newTable(i.spec, numbered(len(rec.Fields))); err != nil {
				return err
			}
		}
		i.look(rec)
	}
	if i.table != nil && i.table.tree != nil {
		i.table.tree.Learn(0)
	}
	if i.rows == 0 && (i.refused == sampleRows || i.refused > 0 && !i.spec.follow) {
		return fmt.Errorf("%s: none of the first %d rows can be read; %s", i.spec.path, i.refused, i.problem)
	}
	return nil
}

// look learns from a row.
func (i *inspection) look(rec *record.Record) {
	m := &misfit{string(rec.Problem), excerpt(rec.Text)}
	if i.table != nil {
		_, m = i.table.split(rec)
	}
	if m != nil {
		i.refused++
		if i.problem == "" {
			i.problem = fmt.Sprintf("line %d: %v", rec.Line, m)
		}
		return
	}
	i.rows++
	for field, text := range i.table.values {
		if field == len(i.evidence) {
			i.evidence = append(i.evidence, evidence{})
		}
		if text == nil || i.spec.isNull(trim(text)) {
			continue
		}
		if i.table.parsed == nil {
			i.evidence[field].add(text)
		} else {
			i.evidence[field].addJSON(i.table.parsed[field])
		}
	}
}

// finish makes the schema if its types are known.
func (i *inspection) finish(m memory, known []inferred, log *slog.Logger) (*schema, error) {
	if i.table == nil {
		return nil, nil
	}
	maker := schemaMaker{spec: i.spec, table: i.table, evidence: i.evidence, known: known}
	if i.rows == 0 && known == nil {
		// Without rows only declarations tell the types.
		if i.spec.ndjson && !i.spec.onlyDeclared {
			return nil, nil
		}
		if err := maker.make(); err != nil || len(maker.unsure) > 0 {
			return nil, err
		}
		return &maker.schema, nil
	}
	if err := maker.make(); err != nil {
		return nil, err
	}
	maker.report(log)
	if known == nil {
		if err := m.save(i.spec, i.header, maker.found); err != nil {
			return nil, err
		}
	}
	return &maker.schema, nil
}
