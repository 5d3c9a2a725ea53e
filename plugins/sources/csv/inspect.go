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
// nothing to tell it from, yet or at all; trouble says what a person should know
// about a file that is followed.
func inspect(ctx context.Context, s *spec, m memory, log *slog.Logger) (made *schema, trouble string, err error) {
	in, err := openStream(s)
	if s.follow && errors.Is(err, fs.ErrNotExist) {
		return nil, missing, nil
	}
	if err != nil {
		return nil, "", err
	}
	defer in.close()
	i := inspection{spec: s}
	if err := i.look(ctx, in, m); err != nil {
		return nil, "", err
	}
	made, err = i.finish(m, log)
	if made == nil && i.refused > 0 {
		trouble = fmt.Sprintf("has no row that can be read; %s", i.problem)
	}
	return made, trouble, err
}

// missing is the trouble with a file that is not there.
const missing = "is not there"

// inspection reads the first rows of a file.
type inspection struct {
	spec   *spec
	reader *record.Reader
	header []string   // as it stands in the file
	known  []inferred // what was found before
	table  *table     // nil as long as the number of columns is not known

	evidence      []evidence
	rows, refused int
	problem       string // of the first row that was refused
}

// look reads the header and the first rows.
func (i *inspection) look(ctx context.Context, in *stream, m memory) error {
	s := i.spec
	content, err := in.content(ctx, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", s.path, err)
	}
	i.reader = record.NewReader(content, s.delimiter, record.Start(), !s.follow)
	i.header, err = readHeader(i.reader, s)
	switch {
	case errors.Is(err, io.EOF) && s.follow:
		return nil
	case errors.Is(err, io.EOF) && s.header && !s.ndjson:
		return fmt.Errorf("%s ends before its header; without a header set header to false", s.path)
	case errors.Is(err, io.EOF) && s.skip > 0:
		return fmt.Errorf("%s ends before the %d lines that skip_lines says", s.path, s.skip)
	case err != nil && !errors.Is(err, io.EOF):
		return fmt.Errorf("%s: %w", s.path, err)
	}
	i.known = m.load(s, i.header)
	if err := i.begin(); err != nil {
		return err
	}
	return i.sample(ctx)
}

// begin prepares what rows are held against.
func (i *inspection) begin() error {
	if !i.spec.ndjson && i.header == nil {
		return nil // the first row tells
	}
	var err error
	if i.table, err = newTable(i.spec, i.header); err != nil || !i.spec.ndjson {
		return err
	}
	for _, k := range i.known {
		if path, err := jsonline.ParsePath(k.Column); err == nil {
			i.table.tree.AddLearned(path)
		}
	}
	if i.known == nil && !i.spec.onlyDeclared {
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
		i.row(rec)
	}
	if i.table != nil && i.table.tree != nil {
		i.table.tree.Learn(0)
	}
	if i.rows == 0 && (i.refused == sampleRows || i.refused > 0 && !i.spec.follow) {
		return fmt.Errorf("%s: none of the first %d rows can be read; %s", i.spec.path, i.refused, i.problem)
	}
	return nil
}

// row learns from a row.
func (i *inspection) row(rec *record.Record) {
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
func (i *inspection) finish(m memory, log *slog.Logger) (*schema, error) {
	if i.table == nil {
		return nil, nil
	}
	maker := schemaMaker{spec: i.spec, table: i.table, evidence: i.evidence, known: i.known}
	if i.rows == 0 && i.known == nil {
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
	if i.known == nil {
		if err := m.save(i.spec, i.header, maker.found); err != nil {
			return nil, err
		}
	}
	return &maker.schema, nil
}
