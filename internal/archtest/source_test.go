package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// maxLines is the length at which a file is taken to have more than one duty.
const maxLines = 500

// A note of work to be done says where that work is written down.
var (
	note           = regexp.MustCompile(`\b(TODO|FIXME)\b`)
	referencedNote = regexp.MustCompile(`\b(TODO|FIXME)\([^)]+\): `)
)

// source is a Go file written by hand.
type source struct {
	path  string // from the root, with slashes
	lines int
	file  *ast.File
	fset  *token.FileSet
}

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

func (s source) at(pos token.Pos) string {
	return fmt.Sprintf("%s:%d", s.path, s.fset.Position(pos).Line)
}

func TestSources(t *testing.T) {
	folders := readTree(t, os.DirFS(root))
	require.NotEmpty(t, folders)
	for _, problem := range sourceProblems(folders) {
		t.Error(problem)
	}
}

// sourceProblems applies all rules to the sources of each folder.
func sourceProblems(folders map[string][]source) []string {
	var problems []string
	for folder, sources := range folders {
		for _, s := range sources {
			problems = append(problems, lengthProblems(s)...)
			problems = append(problems, initProblems(s)...)
			problems = append(problems, sleepProblems(s)...)
			problems = append(problems, noteProblems(s)...)
		}
		problems = append(problems, docProblems(folder, sources)...)
		problems = append(problems, leakProblems(folder, sources)...)
	}
	slices.Sort(problems)
	return problems
}

func lengthProblems(s source) []string {
	if s.isTest() || s.lines <= maxLines {
		return nil
	}
	return []string{fmt.Sprintf("%s has %d lines, more than %d; split it by duty", s.path, s.lines, maxLines)}
}

// initProblems finds init functions: what a program does at its start is
// written in main.
func initProblems(s source) []string {
	var problems []string
	for _, decl := range s.file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			problems = append(problems, s.at(f.Pos())+": func init; hand values over in main")
		}
	}
	return problems
}

// sleepProblems finds tests that sleep: they are slow on one machine and fail
// on another.
func sleepProblems(s source) []string {
	if !s.isTest() {
		return nil
	}
	var problems []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" && isIdent(sel.X, "time") {
			problems = append(problems, s.at(sel.Pos())+": time.Sleep in a test; wait for an event, or for a timer in a synctest bubble")
		}
		return true
	})
	return problems
}

func noteProblems(s source) []string {
	var problems []string
	for _, group := range s.file.Comments {
		for _, c := range group.List {
			if len(note.FindAllString(c.Text, -1)) > len(referencedNote.FindAllString(c.Text, -1)) {
				problems = append(problems, s.at(c.Pos())+": a note without a reference; write TODO(reference): text")
			}
		}
	}
	return problems
}

// docProblems wants the promises of a package in its doc.go.
func docProblems(folder string, sources []source) []string {
	for _, s := range sources {
		if path.Base(s.path) != "doc.go" {
			continue
		}
		want := "Package " + s.file.Name.Name + " "
		if s.file.Name.Name == "main" {
			want = "Command " + path.Base(folder) + " "
		}
		if !strings.HasPrefix(s.file.Doc.Text(), want) {
			return []string{fmt.Sprintf("%s: the comment must begin with %q", s.path, want)}
		}
		return nil
	}
	return []string{folder + ": no doc.go"}
}

// leakProblems wants the tests of a package that starts goroutines to look for
// goroutines left behind.
func leakProblems(folder string, sources []source) []string {
	if !matchesAny(folder, []string{"core/...", "sdk/...", "plugins/..."}) {
		return nil
	}
	starts := slices.IndexFunc(sources, func(s source) bool { return !s.isTest() && contains(s.file, startsGoroutine) })
	checked := slices.ContainsFunc(sources, func(s source) bool { return s.isTest() && contains(s.file, verifiesLeaks) })
	if starts < 0 || checked {
		return nil
	}
	return []string{fmt.Sprintf("%s: %s starts goroutines, but no test calls goleak.VerifyTestMain", folder, path.Base(sources[starts].path))}
}

// startsGoroutine knows the go statement and the Go methods of wait groups,
// which take a function literal or a name.
func startsGoroutine(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GoStmt:
		return true
	case *ast.CallExpr:
		sel, ok := n.Fun.(*ast.SelectorExpr)
		return ok && sel.Sel.Name == "Go" && len(n.Args) == 1
	default:
		return false
	}
}

func verifiesLeaks(n ast.Node) bool {
	sel, ok := n.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == "VerifyTestMain" && isIdent(sel.X, "goleak")
}

func contains(file *ast.File, is func(ast.Node) bool) bool {
	found := false
	ast.Inspect(file, func(n ast.Node) bool {
		found = found || n != nil && is(n)
		return !found
	})
	return found
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// readTree parses the hand-written Go files of a tree, by folder. Folders with
// generated files only are left out.
func readTree(t *testing.T, tree fs.FS) map[string][]source {
	t.Helper()
	folders := make(map[string][]source)
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && skipped(name):
			return fs.SkipDir
		case entry.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		s := source{path: name, lines: strings.Count(string(text), "\n"), fset: token.NewFileSet()}
		s.file, err = parser.ParseFile(s.fset, name, text, parser.ParseComments)
		if err != nil {
			return err
		}
		if !ast.IsGenerated(s.file) {
			folders[path.Dir(name)] = append(folders[path.Dir(name)], s)
		}
		return nil
	})
	require.NoError(t, err)
	return folders
}

// skipped tells the folders that the go command does not look into either,
// and what make builds.
func skipped(folder string) bool {
	base := path.Base(folder)
	return folder == "build" || base == "testdata" || base != "." && strings.ContainsRune("._", rune(base[0]))
}
