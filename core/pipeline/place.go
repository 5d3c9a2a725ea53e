package pipeline

import (
	"path/filepath"

	"github.com/pipelined/pipelined/core/config"
)

// BackupPlace says where the backup of a pipeline lies, and what it is called in its
// state.
type BackupPlace struct {
	Dir      string   // of the segments
	StateDir string   // of indexes and journal
	Name     string   // with which names of segments begin
	Tracks   []string // of the transports, in their order
}

// PlaceOfBackup returns the place of a pipeline's backup; false if it has none.
func PlaceOfBackup(p *config.Pipeline, dataDir string) (BackupPlace, bool) {
	if p.Backup == nil {
		return BackupPlace{}, false
	}
	place := BackupPlace{
		Dir:      filepath.Clean(p.Backup.Dir),
		StateDir: filepath.Join(dataDir, p.Name, "state", "backup"),
		Name:     p.Name,
	}
	for _, t := range p.Transports {
		place.Tracks = append(place.Tracks, t.Plugin+"."+t.Label)
	}
	return place, true
}
