package plugin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/agext/levenshtein"

	"github.com/pipelined/pipelined/sdk"
)

// filePrefix begins the name of every third-party plugin's file.
const filePrefix = "pipelined-"

var (
	validName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	kinds     = [...]sdk.Kind{sdk.KindSource, sdk.KindEncoder, sdk.KindTransport, sdk.KindEvaluator}
)

// ID names a plugin.
type ID struct {
	Kind sdk.Kind
	Name string // lower_snake_case
}

// String returns kind and name, as in "source/csv".
func (id ID) String() string { return id.Kind.String() + "/" + id.Name }

// Spec says what to execute for a plugin.
type Spec struct {
	ID
	Bundled bool     // part of the running binary
	Path    string   // of the executable, for people
	Args    []string // after the program's name

	exec string // what is executed; empty: Path
}

// String returns the plugin's name and path, for error texts.
func (s Spec) String() string { return fmt.Sprintf("%s (%s)", s.ID, s.Path) }

// CatalogConfig says where plugins are.
type CatalogConfig struct {
	// Bundled plugins are run as `BINARY Verb KIND NAME`.
	Bundled []ID
	Verb    string
	// Dirs are the plugin directories, the first one with a plugin wins. Those
	// that do not exist and empty names are skipped.
	Dirs []string
}

// Entry is a plugin of the catalog.
type Entry struct {
	Spec
	Dir     string // plugin directory; empty for a bundled plugin
	Problem string // why it cannot be used, for a person; empty: it can
}

// Catalog holds the plugins that were there when it was made. It never changes.
type Catalog struct {
	entries  []Entry // of equal names the first counts
	problems []error
}

// NewCatalog reads the plugin directories. What is wrong with them is told by
// List and Problems.
func NewCatalog(config CatalogConfig) (*Catalog, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the running binary: %w", err)
	}
	c := &Catalog{}
	for _, id := range config.Bundled {
		c.add(Entry{Spec: Spec{
			ID: id, Bundled: true, Path: self, exec: selfExec(self),
			Args: []string{config.Verb, id.Kind.String(), id.Name},
		}})
	}
	var seen []string
	for _, dir := range config.Dirs {
		if dir == "" {
			continue
		}
		dir, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("plugin directory %s: %w", dir, err)
		}
		if slices.Contains(seen, dir) {
			continue
		}
		seen = append(seen, dir)
		if err := c.addDir(dir); err != nil {
			c.problems = append(c.problems, fmt.Errorf("plugin directory %w", err))
		}
	}
	return c, nil
}

// selfExec returns what to execute to get the running binary again. On Linux it
// is the binary itself, also after another version was put in its place.
func selfExec(self string) string {
	const exe = "/proc/self/exe"
	if runtime.GOOS == "linux" {
		if _, err := os.Stat(exe); err == nil {
			return exe
		}
	}
	return self
}

func (c *Catalog) addDir(dir string) error {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	dirErr := checkTrusted(dir)
	for _, file := range files {
		id, ok := parseFileName(file.Name())
		if !ok {
			continue
		}
		entry := Entry{Spec: Spec{ID: id, Path: filepath.Join(dir, file.Name())}, Dir: dir}
		switch {
		case dirErr != nil:
			entry.Problem = dirErr.Error()
		case !validName.MatchString(id.Name):
			entry.Problem = "its name is not in lower_snake_case"
		default:
			if err := checkExecutable(entry.Path); err != nil {
				entry.Problem = err.Error()
			}
		}
		c.add(entry)
	}
	return dirErr
}

func (c *Catalog) add(e Entry) {
	if first, ok := c.lookup(e.ID); ok && e.Problem == "" {
		e.Problem = "hidden by " + first.Path
		if first.Bundled {
			e.Problem = "the name belongs to a plugin that comes with pipelined"
		}
	}
	c.entries = append(c.entries, e)
}

func (c *Catalog) lookup(id ID) (Entry, bool) {
	for _, e := range c.entries {
		if e.ID == id {
			return e, true
		}
	}
	return Entry{}, false
}

// parseFileName splits pipelined-KIND-NAME. Files with other names are none of
// our business.
func parseFileName(file string) (ID, bool) {
	rest, ok := strings.CutPrefix(file, filePrefix)
	if !ok {
		return ID{}, false
	}
	kind, name, _ := strings.Cut(rest, "-")
	for _, k := range kinds {
		if k.String() == kind {
			return ID{k, name}, true
		}
	}
	return ID{}, false
}

// Find returns what to execute for a plugin, or a *NotFoundError, or a
// *RefusedError.
func (c *Catalog) Find(kind sdk.Kind, name string) (Spec, error) {
	e, ok := c.lookup(ID{kind, name})
	if !ok {
		return Spec{}, c.notFound(kind, name)
	}
	if e.Problem != "" {
		return Spec{}, &RefusedError{Spec: e.Spec, Reason: e.Problem}
	}
	return e.Spec, nil
}

// List returns everything that was found, in order of kind and name; of equal
// names the one that Find returns comes first.
func (c *Catalog) List() []Entry {
	entries := slices.Clone(c.entries)
	slices.SortStableFunc(entries, func(a, b Entry) int {
		if a.Kind != b.Kind {
			return int(a.Kind) - int(b.Kind)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return entries
}

// Problems returns what is wrong with whole plugin directories.
func (c *Catalog) Problems() []error { return slices.Clone(c.problems) }

func (c *Catalog) notFound(kind sdk.Kind, name string) *NotFoundError {
	e := &NotFoundError{ID: ID{kind, name}, Problems: c.Problems()}
	best := max(2, len(name)/3) + 1
	for _, entry := range c.List() {
		switch {
		case entry.Name == name:
			e.OtherKinds = append(e.OtherKinds, entry.Kind)
		case entry.Kind == kind && entry.Problem == "":
			e.Known = append(e.Known, entry.Name)
			if d := levenshtein.Distance(name, entry.Name, nil); d < best {
				best, e.Suggestion = d, entry.Name
			}
		}
	}
	return e
}

// NotFoundError says that no plugin has a name.
type NotFoundError struct {
	ID
	Known      []string // names of this kind, in order
	Suggestion string   // the known name that was probably meant, if any
	OtherKinds []sdk.Kind
	Problems   []error // plugin directories that could not be used
}

// Error names the plugin, the one that was probably meant, and all there are.
func (e *NotFoundError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no plugin provides the %s %q", e.Kind, e.Name)
	if e.Suggestion != "" {
		fmt.Fprintf(&b, "; did you mean %q?", e.Suggestion)
	}
	for _, k := range e.OtherKinds {
		fmt.Fprintf(&b, "; %q is the name of %s %s", e.Name, article(k), k)
	}
	if len(e.Known) > 0 {
		fmt.Fprintf(&b, "; installed: %s", strings.Join(e.Known, ", "))
	} else {
		fmt.Fprintf(&b, "; no %s is installed", e.Kind)
	}
	for _, problem := range e.Problems {
		fmt.Fprintf(&b, "; not used: %v", problem)
	}
	return b.String()
}

func article(k sdk.Kind) string {
	if k == sdk.KindEncoder || k == sdk.KindEvaluator {
		return "an"
	}
	return "a"
}

// RefusedError says why a plugin that was found is not used.
type RefusedError struct {
	Spec   Spec
	Reason string
}

// Error names the plugin and the reason.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("plugin %s is refused: %s", e.Spec, e.Reason)
}
