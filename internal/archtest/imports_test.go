package archtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	module = "github.com/pipelined/pipelined"
	root   = "../.."
)

// layer says what packages below a path may import from this module, besides
// their own unit (see unit). Patterns are those of the go command.
type layer struct {
	packages string
	imports  []string
}

// The packages of core that do the work of a pipeline. They do not know each
// other: core/pipeline puts them together.
var parts = []string{
	"core/backup/...",
	"core/channel/...",
	"core/checkpoint/...",
	"core/control/...",
	"core/delivery/...",
	"core/rules/...",
	"core/telemetry/...",
	"core/vfs/...",
	"core/watermark/...",
}

// What every package of core may use.
var ground = []string{
	"core/backoff/...",
	"core/channel/...",
	"core/control/...",
	"core/telemetry/...",
	"core/vfs/...",
	"sdk/...",
	"proto/pipelined/...",
	"internal/...",
}

// The first layer that matches a package counts.
var layers = []layer{
	{"cmd/...", []string{"core/...", "sdk/...", "plugins/...", "internal/..."}},

	{"core/status/...", slices.Concat(ground, []string{"core/pipeline/...", "core/delivery/..."})},
	{"core/pipeline/...", slices.Concat(ground, parts, []string{"core/config/...", "core/plugin/..."})},
	{"core/config/...", slices.Concat(ground, parts)},
	{"core/plugin/...", slices.Concat(ground, parts)},
	{"core/delivery/...", slices.Concat(ground, []string{"core/checkpoint/..."})},
	{"core/backup/...", slices.Concat(ground, []string{"core/checkpoint/..."})}, // for its sets of ids
	{"core/rules/...", slices.Concat(ground, []string{"core/watermark/..."})},
	{"core/...", ground},

	{"plugins/...", []string{"sdk/...", "proto/...", "internal/..."}},
	{"sdk/...", []string{"proto/...", "internal/..."}},
	{"internal/pbfsview/...", []string{"sdk/pbfs", "proto/..."}}, // for cmd, which has no wire types
	{"internal/...", []string{"proto/..."}},
	{"proto/...", nil},

	// Tests over the whole; other processes are all that they share with it.
	{"e2e/...", []string{"core/...", "sdk/...", "proto/...", "internal/..."}},
	{"pipelines/...", []string{"core/...", "sdk/...", "internal/..."}},
}

// restricted names the only users of packages that would spread otherwise.
var restricted = []struct {
	imported string
	users    []string
}{
	{module + "/plugins", []string{"cmd/pipelined", "plugins/..."}},
	{"github.com/hashicorp/go-plugin", []string{"core/plugin/...", "sdk/serve/...", "sdk/wire/...", "sdk/plugintest/..."}},
	{"github.com/hashicorp/go-hclog", []string{"core/plugin/...", "sdk/serve/...", "sdk/wire/...", "sdk/plugintest/..."}},
}

// goPackage is the part of the output of `go list -json` that the rules need.
type goPackage struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func TestImports(t *testing.T) {
	packages := goList(t)
	require.NotEmpty(t, packages)
	for _, problem := range importProblems(packages) {
		t.Error(problem)
	}
}

// importProblems returns a sentence for each import that the rules forbid.
// Tests are held to the same rules as what they test.
func importProblems(packages []goPackage) []string {
	var problems []string
	for _, p := range packages {
		from := strings.TrimPrefix(p.ImportPath, module+"/")
		imports := slices.Concat(p.Imports, p.TestImports, p.XTestImports)
		slices.Sort(imports)
		for _, imported := range slices.Compact(imports) {
			if problem := importProblem(from, imported); problem != "" {
				problems = append(problems, problem)
			}
		}
	}
	return problems
}

func importProblem(from, imported string) string {
	for _, r := range restricted {
		if within(imported, r.imported) && !matchesAny(from, r.users) {
			return fmt.Sprintf("%s imports %s; only %s may", from, imported, strings.Join(r.users, ", "))
		}
	}
	to, internal := strings.CutPrefix(imported, module+"/")
	if !internal || unit(from) == unit(to) {
		return ""
	}
	i := slices.IndexFunc(layers, func(l layer) bool { return matches(from, l.packages) })
	if i < 0 {
		return fmt.Sprintf("%s is in no layer; add one to archtest", from)
	}
	if !matchesAny(to, layers[i].imports) {
		return fmt.Sprintf("%s imports %s; %s may import %s", from, to, layers[i].packages, strings.Join(layers[i].imports, ", "))
	}
	return ""
}

// unit is the folder whose packages may import each other freely: a part of
// core, a plugin, a command; otherwise the whole top folder.
func unit(pkg string) string {
	depth := map[string]int{"cmd": 2, "core": 2, "plugins": 3}
	elements := strings.Split(pkg, "/")
	return path.Join(elements[:min(len(elements), max(1, depth[elements[0]]))]...)
}

func matchesAny(pkg string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pkg, pattern) })
}

// matches reports whether a pattern, with or without /... at its end, names a
// package.
func matches(pkg, pattern string) bool {
	folder, below := strings.CutSuffix(pattern, "/...")
	return pkg == folder || below && within(pkg, folder)
}

func within(pkg, folder string) bool {
	return pkg == folder || strings.HasPrefix(pkg, folder+"/")
}

func goList(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("go list: %v: %s", err, exit.Stderr)
	}
	require.NoError(t, err)

	var packages []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
}

// TestImportRules shows on made-up packages what the rules refuse.
func TestImportRules(t *testing.T) {
	const goPlugin = "github.com/hashicorp/go-plugin"
	for _, tc := range []struct {
		from, to string
		allowed  bool
	}{
		{"cmd/pipelined", "core/pipeline", true},
		{"cmd/pipelined", "core/config", true},
		{"cmd/pipelined", "plugins/sources/csv", true},
		{"cmd/other", "plugins/sources/csv", false},
		{"cmd/other", "cmd/pipelined", false},

		{"core/pipeline", "core/delivery", true},
		{"core/pipeline", "core/plugin", true},
		{"core/pipeline", "sdk/wire", true},
		{"core/pipeline", "plugins/sources/csv", false},
		{"core/pipeline", "cmd/pipelined", false},
		{"core/status", "core/pipeline", true},
		{"core/pipeline", "core/status", false},
		{"core/config", "core/telemetry", true},
		{"core/config", "core/plugin", false},
		{"core/config", "core/pipeline", false},
		{"core/plugin", "core/pipeline", false},
		{"core/plugin", "core/config", false},

		{"core/delivery", "core/checkpoint", true},
		{"core/checkpoint", "core/delivery", false},
		{"core/delivery", "core/backup", false},
		{"core/backup", "core/checkpoint", true},
		{"core/backup/manager", "core/checkpoint", true},
		{"core/backup", "core/delivery", false},
		{"core/checkpoint", "core/backup", false},
		{"core/backup", "core/vfs", true},
		{"core/backup", "core/pipeline", false},
		{"core/backup", "sdk/pbfs", true},
		{"core/rules", "core/watermark", true},
		{"core/rules", "core/rules/form", true},
		{"core/rules/form", "core/channel", true},
		{"core/rules/form", "core/checkpoint", false},
		{"core/watermark", "core/rules", false},
		{"core/new", "core/control", true},
		{"core/new", "core/delivery", false},
		{"core/delivery", "proto/pipelined/plugin/v1", true},
		{"core/delivery", "proto/sift/ingest/v1", false},

		{"sdk", "proto/pipelined/plugin/v1", true},
		{"sdk/wire", "sdk", true},
		{"sdk/pbfs", "core/vfs", false},
		{"sdk/serve", "plugins/sources/csv", false},
		{"sdk/plugintest", "cmd/pipelined", false},

		{"plugins/sources/csv", "sdk/serve", true},
		{"plugins/sources/csv", "plugins/sources/csv/parse", true},
		{"plugins/sources/csv/parse", "plugins/sources/csv", true},
		{"plugins/sources/csv", "plugins/sources/csvx", false},
		{"plugins/sources/sift", "plugins/transports/sift", false},
		{"plugins/sources/sift", "proto/sift/ingest/v1", true},
		{"plugins/sources/sift", "core/vfs", false},

		{"internal/archtest", "core/vfs", false},
		{"internal/pbfsview", "sdk/pbfs", true},
		{"internal/pbfsview", "sdk/wire", false},
		{"internal/outfile", "sdk/pbfs", false},
		{"proto/sift/ingest/v1", "proto/sift/common/type/v1", true},
		{"proto/pipelined/plugin/v1", "sdk", false},
		{"e2e", "plugins/sources/sift", false},
		{"strange", "sdk", false},

		{"core/plugin", goPlugin, true},
		{"core/plugin/runner", goPlugin + "/runner", true},
		{"sdk/serve", goPlugin, true},
		{"sdk", goPlugin, false},
		{"core/pipeline", goPlugin, false},
		{"plugins/sources/csv", goPlugin + "/runner", false},
		{"core/pipeline", "github.com/hashicorp/go-plugin-other", true},
		{"core/pipeline", "fmt", true},
	} {
		t.Run(tc.from+" imports "+tc.to, func(t *testing.T) {
			to := tc.to
			if top, _, _ := strings.Cut(to, "/"); top != "github.com" && top != "fmt" {
				to = module + "/" + to
			}
			for _, p := range []goPackage{
				{Imports: []string{to}},
				{TestImports: []string{to}},
				{XTestImports: []string{"fmt", to}},
			} {
				p.ImportPath = module + "/" + tc.from
				problems := importProblems([]goPackage{p})
				if tc.allowed {
					assert.Empty(t, problems)
				} else {
					require.Len(t, problems, 1)
					assert.Contains(t, problems[0], tc.from)
				}
			}
		})
	}
}
