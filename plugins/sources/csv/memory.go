package csv

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/pipelined/pipelined/sdk"
)

// memory keeps the types that were found for files that are followed: when they
// are looked at again, other rows may be there, but a flow cannot change.
type memory struct {
	dir string // empty: nothing is kept
}

// inferred is the type that was found for a column.
type inferred struct {
	Column string          `json:"column"` // name, or the path in NDJSON
	Type   sdk.ChannelType `json:"type"`   // 0: it is no channel
}

// remembered is the content of a file of the memory.
type remembered struct {
	Path   string     `json:"path"`
	Header []string   `json:"header"`
	Types  []inferred `json:"types"`
}

func (m memory) file(s *spec) string {
	sum := fnv.New64a()
	sum.Write([]byte(s.flow))
	return filepath.Join(m.dir, fmt.Sprintf("types-%016x.json", sum.Sum64()))
}

// load returns what was kept for a file with the same header; nil: nothing. What
// cannot be read counts as nothing: it is found again.
func (m memory) load(s *spec, header []string) []inferred {
	if m.dir == "" || !s.follow {
		return nil
	}
	raw, err := os.ReadFile(m.file(s))
	if err != nil {
		return nil
	}
	var r remembered
	if json.Unmarshal(raw, &r) != nil || r.Path != s.path || !slices.Equal(r.Header, header) {
		return nil
	}
	return r.Types
}

// save keeps what was found. The file appears whole or not at all.
func (m memory) save(s *spec, header []string, types []inferred) error {
	if m.dir == "" || !s.follow {
		return nil
	}
	raw, err := json.Marshal(remembered{s.path, header, types})
	if err != nil {
		return err
	}
	err = m.write(m.file(s), raw)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the state directory is gone: %w", err)
	}
	return err
}

func (m memory) write(name string, raw []byte) error {
	temporary, err := os.CreateTemp(m.dir, "types-*.tmp")
	if err != nil {
		return err
	}
	_, err = temporary.Write(raw)
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return nil
}
