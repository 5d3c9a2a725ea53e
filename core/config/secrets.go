package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// secretNamespace begins the names of all functions that read secrets.
const secretNamespace = "secret::"

// secretMark is on every value that comes from a secret.
type secretMark struct{}

// secretMode says what the functions that read secrets give.
type secretMode uint8

const (
	// reveal: the secret, for the bodies of plugin blocks.
	reveal secretMode = iota
	// conceal: reads the secret but gives a value that is not known. All texts of
	// problems come from here.
	conceal
	// blind: reads nothing. Stands in where a missing secret is allowed.
	blind
)

// errSecretMissing is in every error of reading a secret.
var errSecretMissing = errors.New("secret is missing")

// secretError says why a secret cannot be read. The text has no part of it.
type secretError struct{ text string }

func (e *secretError) Error() string { return e.text }
func (e *secretError) Unwrap() error { return errSecretMissing }

func missing(format string, args ...any) error {
	return &secretError{fmt.Sprintf(format, args...)}
}

// secretFunction makes a function that reads a secret.
func (l *loader) secretFunction(mode secretMode, parameter string, read func(string) (string, error)) function.Function {
	hidden := cty.UnknownVal(cty.String).RefineNotNull().Mark(secretMark{})
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: parameter, Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if mode == blind {
				return hidden, nil
			}
			text, err := read(args[0].AsString())
			if err != nil {
				return cty.NilVal, err
			}
			l.secrets[text] = struct{}{}
			if mode == conceal {
				return hidden, nil
			}
			return cty.StringVal(text).Mark(secretMark{}), nil
		},
	})
}

func (l *loader) secretFromEnv(name string) (string, error) {
	text, ok := l.options.LookupEnv(name)
	if !ok {
		return "", missing("the environment variable %s is not set; set it for this process", quote(name))
	}
	if text == "" {
		return "", missing("the environment variable %s is empty", quote(name))
	}
	return text, nil
}

// secretFromFile reads a secret; one line ending at its end does not count.
func secretFromFile(name string) (string, error) {
	text, err := readFile(name, maxSecretBytes)
	if err != nil {
		return "", missing("%s", strings.TrimSuffix(sentence(err), "."))
	}
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	switch {
	case len(text) == 0:
		return "", missing("the file %s is empty", quote(name))
	case firstNonText(text) >= 0:
		return "", missing("the file %s is not text in UTF-8", quote(name))
	}
	return string(text), nil
}

// secretFromCredential reads a credential that systemd hands to the service.
func (l *loader) secretFromCredential(name string) (string, error) {
	const variable = "CREDENTIALS_DIRECTORY"
	dir, ok := l.options.LookupEnv(variable)
	switch {
	case !ok || dir == "":
		return "", missing("there are no credentials: $%s is not set; systemd sets it for units with LoadCredential= or SetCredential=", variable)
	case name != filepath.Base(name) || strings.HasPrefix(name, "."):
		return "", missing("%s is not the name of a credential: it is a file name without a directory", quote(name))
	}
	return secretFromFile(filepath.Join(dir, name))
}

// texts returns the text of every string in a value, for scrubbing.
func texts(v cty.Value) []string {
	v, _ = v.UnmarkDeep()
	var found []string
	_ = cty.Walk(v, func(_ cty.Path, part cty.Value) (bool, error) {
		if !part.IsNull() && part.IsKnown() && part.Type() == cty.String && part.AsString() != "" {
			found = append(found, part.AsString())
		}
		return true, nil
	})
	return found
}

// longestFirst sorts texts so that replacing them one after the other leaves no
// rest of one that contains another.
func longestFirst(texts []string) []string {
	slices.SortFunc(texts, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
	})
	return slices.Compact(texts)
}
