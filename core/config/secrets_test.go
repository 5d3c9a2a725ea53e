package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// assertNoSecret looks for the secret and for what can be made of it in all forms
// that diagnostics are shown in.
func assertNoSecret(t testing.TB, file string, problems Diagnostics) {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, problems.Render(&out, 0, true))
	require.NoError(t, problems.Render(&out, 60, false))
	require.NoError(t, problems.RenderJSON(&out))
	fmt.Fprintf(&out, "%v %+v %#v", problems, problems, problems)
	text := strings.ToLower(out.String())
	for _, part := range []string{"hunter2", "tr0ub4dor", "rod4bu0rt", "2retnuh"} {
		if strings.Contains(text, part) {
			t.Errorf("%q is in the output of\n%s\n%s", part, file, out.String())
			return
		}
	}
}

// secretExpressions give a secret, or something made of one.
func secretExpressions() []string {
	return []string{
		`secret::env("SECRET")`,
		`"${secret::env("SECRET")}"`,
		`"Bearer ${local.token}"`,
		`local.token`,
		`var.token`,
		`upper(local.token)`,
		`split(".", local.token)[1]`,
		`local.parts`,
		`[local.token]`,
		`{ a = local.token }`,
		`{ (local.token) = 1 }`,
		`[for c in local.parts : c][0]`,
		`{ for c in local.parts : c => c }`,
		`local.token == "x" ? 1 : local.token`,
		`local.list[0]`,
		`local.object.deep[0].token`,
		`jsonencode({ (local.token) = [local.token] })`,
		`try_unknown(local.token)`,
		`secret::file("SECRETFILE")`,
		`secret::credential("api")`,
		`trimprefix(secret::env("SECRET"), "x")`,
		`<<EOT
${local.token}
EOT
`,
		`"%{if local.token == "x"}${local.token}%{else}${local.token}%{endif}"`,
		`"%{for c in local.parts}${c}%{endfor}"`,
	}
}

const secretPrelude = `
variable "token" {
  sensitive = true
}
locals {
  token  = secret::env("SECRET")
  parts  = split(".", local.token)
  list   = ["a", local.token]
  object = { deep = [{ token = local.token }] }
}
`

// secretPlaces are pipelines with @ in a place that an error may quote.
func secretPlaces() []string {
	inSource := func(body string) string {
		return "pipeline \"p\" {\n  source \"csv\" \"in\" {\n    path = \"/x\"\n    " + body + "\n  }\n  transport \"parquet\" \"out\" {\n    dir = \"/lake\"\n  }\n}\n"
	}
	inPipeline := func(body string) string {
		return "pipeline \"p\" {\n  " + body + "\n  source \"host\" \"in\" {}\n  transport \"parquet\" \"out\" {\n    dir = \"/lake\"\n  }\n}\n"
	}
	var places []string
	for _, attribute := range []string{
		"flow", "speed", "columns", "ports", "types", "scale", "follow", "period", "limit", "start", "query",
		"until", "idle_exit", "gather", "unknown", "fllow", "plugin", "time",
	} {
		places = append(places, inSource(attribute+" = @"))
	}
	for _, body := range []string{
		"columns = [@, 5]", "types = { a = @ }", "types = { (@) = \"bad\" }", "scale = { bad = @ }", "scale = { (@) = \"x\" }",
		"types = { a = \"double\", a = @ }", "query = \"BAD ${@}\"", "query = \"${@} BAD\"",
		"column \"bad\" {\n key = @\n }", "column \"bad\" {\n unit = @\n }", "column \"x\" {\n kee = @\n }",
		"time {\n column = @\n unit = @\n }", "plugin {\n env = { A = @ }\n }", "plugin {\n sandbox = @\n }",
	} {
		places = append(places, inSource(body))
	}
	for _, body := range []string{
		"asset = @", "asset_tags = [@]", "asset_metadata = { a = @ }", "asset_metadata = { (@) = null }", "drain_timeout = @",
		"run {\n name = @\n metadata = { a = @ }\n }", "checkpoint {\n interval = @\n }", "retry {\n multiplier = @\n }",
		"queues {\n on_backup_lag = @\n ingestion = @\n }", "backup {\n dir = @\n sync = @\n }", "rules {\n memory = @\n }",
		"flow \"f\" {\n channel \"c\" {\n type = @\n enum = @\n }\n }",
		"rule \"r\" {\n channels = { a = @ }\n when = @\n }", "rule \"r\" {\n channels = @\n when = \"a\"\n }",
		"rule \"r\" {\n channels = { (@) = \"f.a\" }\n labels = { a = @ }\n late = @\n when = \"a\"\n }",
		"transport \"sift\" \"s\" {\n uri = @\n api_key = @\n }", "transport \"parquet\" \"s\" {\n dir = @\n flows = [@]\n }",
		"source \"sift\" \"s\" {\n listen = @\n }", "source \"sift\" \"s\" {\n keys = @\n }", "source \"generator\" \"g\" {\n rate = @\n every = @\n salt = @\n }",
	} {
		places = append(places, inPipeline(body))
	}
	good := inPipeline("")
	return append(
		places,
		"locals {\n x = @\n y = local.x.z + 1\n}\n"+good,
		"variable \"v\" {\n type = number\n default = @\n}\n"+good,
		"variable \"v\" {\n type = object({ a = bool })\n default = @\n}\n"+good,
		"variable \"v\" {\n default = @\n validation {\n condition = var.v == 1\n error_message = \"no\"\n }\n validation {\n condition = @\n error_message = @\n }\n}\n"+good,
		"variable \"v\" {\n sensitive = @\n description = @\n default = 1\n}\n"+good,
		"x = @\n"+good,
	)
}

// TestNoSecretInDiagnostics puts secrets into every place that an error may quote.
func TestNoSecretInDiagnostics(t *testing.T) {
	files := newSecretFiles(t)
	for i, place := range secretPlaces() {
		for j, secret := range secretExpressions() {
			if testing.Short() && (i+j)%8 != 0 {
				continue // a part of them is enough to find data races
			}
			files.check(t, secretPrelude+strings.ReplaceAll(place, "@", secret))
		}
	}
}

// TestNoSecretInFunctions calls every function with secrets in every place.
func TestNoSecretInFunctions(t *testing.T) {
	files := newSecretFiles(t)
	arguments := []string{`local.token`, `local.parts`, `"5"`, `{ a = local.token }`}
	for _, name := range functionNames() {
		var text strings.Builder
		text.WriteString(secretPrelude + "locals {\n")
		n := 0
		call := func(args ...string) {
			fmt.Fprintf(&text, "  x%d = %s(%s)\n", n, name, strings.Join(args, ", "))
			n++
		}
		for _, a := range arguments {
			call(a)
			for _, b := range arguments {
				call(a, b)
				call(a, b, "local.token")
			}
		}
		text.WriteString("}\n")
		// A few at a time: there is a limit of problems shown.
		files.check(t, text.String())
	}
}

// TestNoSecretInOperators uses secrets with every operator.
func TestNoSecretInOperators(t *testing.T) {
	files := newSecretFiles(t)
	for _, expr := range []string{
		"-@", "!@", "@ + 1", "1 - @", "@ * @", "@ / 0", "@ % 2", "@ && true", "@ || @", "@ < 1", "@ == 1", "@ ? 1 : 2", "true ? @ : [1]",
		"@.x", "@[0]", "@[\"x\"]", "@[*].x", "@.*.x", "{ a = 1 }[@]", "[1, 2][@]", "{ a = 1 }[@].x", "{ (@) = 1 }.x",
		"[for c in @ : c + 1]", "{ for c in @ : c => c if c }", "{ for c in [1, 2] : @ => c }", "[for k, v in @ : v[k]]",
		"[for c in [@] : c.d]", "[for c in [@] : { x = 1 }[c]]", "[for c in [@] : file(c)]", "{ for c in [@, @] : c => c }",
		"\"${[@]}\"", "\"${{ a = @ }}\"", "\"%{for c in @}${c.x}%{endfor}\"", "\"%{if @}x%{endif}\"", "env(@)", "secret::env(@)", "secret::file(@)",
		"[for c in [@] : secret::env(c)]", "[for c in [@] : secret::file(c)]", "upper(@...)", "upper([@]...)", "max([for c in [@] : c]...)",
		"secret::credential(@)", "formatdate(@, @)", "@(1)",
		"[upper(1, 2), file(@)]", "[upper(1, 2), [for c in [@] : env(c)]]", "{ a = @.x, b = env(@) }",
	} {
		var text strings.Builder
		for i, secret := range secretExpressions() {
			if !strings.HasPrefix(secret, "<<") { // a heredoc ends its line
				fmt.Fprintf(&text, "  x%d = %s\n", i, strings.ReplaceAll(expr, "@", secret))
				fmt.Fprintf(&text, "  y%d = %s\n", i, strings.ReplaceAll(expr, "@", "("+secret+")"))
			}
		}
		files.check(t, secretPrelude+"locals {\n"+text.String()+"}\n")
	}
}

// secretFiles loads many texts without a file for each.
type secretFiles struct {
	dir, name string
}

func newSecretFiles(t *testing.T) secretFiles {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "api"), []byte(theSecret+"\n"), 0o600))
	return secretFiles{dir, filepath.Join(dir, "test.hcl")}
}

func (s secretFiles) check(t *testing.T, text string) {
	t.Helper()
	text = strings.ReplaceAll(text, "SECRETFILE", filepath.Join(s.dir, "api"))
	require.NoError(t, os.WriteFile(s.name, []byte(text), 0o600))
	for _, lenient := range []bool{false, true} {
		o := testOptions()
		o.AllowMissingSecrets = lenient
		o.Variables = map[string]string{"token": theSecret}
		o.LookupEnv = func(name string) (string, bool) {
			if name == "CREDENTIALS_DIRECTORY" {
				return s.dir, true
			}
			v, ok := environment()[name]
			return v, ok
		}
		c, problems := Load(t.Context(), s.name, o)
		assertNoSecret(t, text, problems)
		if c != nil {
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v", c, c, c.Pipelines[0].Sources[0]), theSecret)
		}
	}
}

func TestSecretsReachThePlugin(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "api"), []byte(theSecret+"\r\n"), 0o600))
	lookup := func(name string) (string, bool) {
		v, ok := map[string]string{"SECRET": theSecret, "CREDENTIALS_DIRECTORY": dir}[name]
		return v, ok
	}
	for _, expr := range []string{
		`secret::env("SECRET")`, `secret::file("` + dir + `/api")`, `secret::credential("api")`, `var.token`,
		`"${local.token}"`, `[for c in [local.token] : c][0]`,
	} {
		c, problems := loadText(t, `
variable "token" {
  sensitive = true
}
locals {
  token = var.token
}
pipeline "p" {
  asset = "x"
  source "host" "in" {}
  encoder "ingestion_config" {}
  transport "sift" "out" {
    uri     = "https://x"
    api_key = `+expr+`
    note    = "see ${local.token}"
  }
}`, func(o *Options) { o.LookupEnv = lookup; o.Variables = map[string]string{"token": theSecret} })
		require.NotNil(t, c, "%s\n%s", expr, rendered(t, problems))
		assert.Equal(t, []string{"Secret where none is expected"}, summaries(problems), expr)
		body := c.Pipelines[0].Transports[0].Body
		assert.Equal(t, theSecret, body.Attributes["api_key"].String, expr)
		assert.Equal(t, SecretTexts{"see " + theSecret, theSecret}, c.Pipelines[0].Transports[0].Secrets, expr)
		assert.Equal(t, SecretTexts{"see " + theSecret, theSecret}, c.Secrets, expr)
	}
}

func TestValidatorIsNotToldSecrets(t *testing.T) {
	for _, expr := range []string{`secret::env("SECRET")`, `"in the open"`} {
		_, problems := loadText(t, `
pipeline "p" {
  source "csv" "in" {
    path  = "/x"
    query = "${secret::env("SECRET")} BAD"
    column "x" {
      key = `+expr+`
    }
  }
  transport "parquet" "out" {
    dir = "/lake"
  }
}`)
		assert.NotContains(t, rendered(t, problems), "I was told")
		assert.NotContains(t, rendered(t, problems), "BAD is bad")
	}
}

func TestMissingSecretsAllowed(t *testing.T) {
	c, problems := loadText(t, `
pipeline "p" {
  asset = "x"
  source "host" "in" {}
  encoder "ingestion_config" {}
  transport "sift" "out" {
    uri     = "https://x"
    api_key = trimspace(secret::env("NOT_SET"))
  }
}`, func(o *Options) { o.AllowMissingSecrets = true })
	require.NotNil(t, c, rendered(t, problems))
	assert.Equal(t, []string{"Missing secret"}, summaries(problems))
	assert.NotContains(t, c.Pipelines[0].Transports[0].Body.Attributes, "api_key")
	assert.Empty(t, c.Secrets)
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	for _, tc := range []struct{ name, path, want string }{
		{"empty", write("empty", "\n"), "is empty"},
		{"binary", write("binary", "\x00\x01"), "is not text"},
		{"too large", write("large", strings.Repeat("x", maxSecretBytes+1)), "too large"},
		{"missing", filepath.Join(dir, "no"), "does not exist"},
		{"device", "/dev/zero", "not a regular file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := secretFromFile(tc.path)
			require.ErrorIs(t, err, errSecretMissing)
			assert.Contains(t, err.Error(), tc.want)
		})
	}
	l := &loader{options: Options{LookupEnv: func(string) (string, bool) { return dir, true }}}
	for _, name := range []string{"../" + filepath.Base(dir) + "/empty", "/etc/passwd", "..", ".", "", "a/b"} {
		_, err := l.secretFromCredential(name)
		assert.ErrorIs(t, err, errSecretMissing, name)
	}
}
